//! Where streams come from.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, chmod, flock, lstat, open, unlink};
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with, bind, listen,
    socket_with,
};

use crate::stream::{connect_unix, stdio, wait};
use crate::{Endpoint, Error, Interest, Stream, Waker};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Accepts connections at an endpoint.
///
/// A connection to a `tls://` listener is a plain stream until [`welcome`](crate::welcome) has
/// greeted it.
///
/// A Unix listener makes its file with mode 0600 and removes it when dropped. A listener on
/// `stdio:` yields one stream, that of the process.
#[derive(Debug)]
pub struct Listener {
    local: Endpoint,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Stdio {
        taken: AtomicBool,
    },
    Tcp(OwnedFd),
    /// The file goes before the socket closes, or another process could replace it in between.
    Unix {
        _file: SocketFile,
        fd: OwnedFd,
    },
}

/// The file of a Unix listener; removed when dropped, if it is still the one that was made.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// A forked child holds a copy of the listener and must not remove the file of its parent.
    process: u32,
}

impl Listener {
    /// Starts to listen.
    ///
    /// # Errors
    /// [`Error::Listen`], with [`io::ErrorKind::AddrInUse`] where another listener lives. The file
    /// of a Unix listener that died is replaced; any other file there is left alone and an error.
    pub fn bind(endpoint: &Endpoint) -> Result<Self, Error> {
        Self::try_bind(endpoint).map_err(|source| Error::Listen {
            endpoint: endpoint.clone(),
            source,
        })
    }

    fn try_bind(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Stdio => Ok(Self {
                local: Endpoint::Stdio,
                source: Source::Stdio {
                    taken: AtomicBool::new(false),
                },
            }),
            Endpoint::Tcp { host, port } | Endpoint::Tls { host, port } => {
                let listener = TcpListener::bind((host.as_str(), *port))?;
                listener.set_nonblocking(true)?;
                Ok(Self {
                    local: endpoint.at(listener.local_addr()?),
                    source: Source::Tcp(listener.into()),
                })
            }
            Endpoint::Unix { path } => {
                let (fd, file) = bind_unix(path)?;
                Ok(Self {
                    local: endpoint.clone(),
                    source: Source::Unix { _file: file, fd },
                })
            }
        }
    }

    /// Waits for the next connection. `None`: the waker woke this thread.
    ///
    /// # Errors
    /// [`Error::Accept`]: a signal arrived ([`Error::is_interrupted`]; run its handlers and call
    /// again), or the system is short of descriptors or memory (wait a little, then call again).
    pub fn accept(&self, waker: Option<&Waker>) -> Result<Option<Stream>, Error> {
        self.try_accept(waker).map_err(|source| Error::Accept {
            endpoint: self.local.clone(),
            source,
        })
    }

    fn try_accept(&self, waker: Option<&Waker>) -> io::Result<Option<Stream>> {
        let fd = match &self.source {
            Source::Stdio { taken } => {
                if !taken.swap(true, Ordering::AcqRel) {
                    return stdio().map(Some);
                }
                None
            }
            Source::Tcp(fd) | Source::Unix { fd, .. } => Some(fd),
        };
        loop {
            // First the waker: a flood of connections must not keep it waiting.
            let interest = if fd.is_some() {
                Interest::READ
            } else {
                Interest::NONE
            };
            let readiness = wait(
                fd.map(AsFd::as_fd),
                None,
                interest,
                waker,
                None,
                None::<Duration>,
            )?;
            if readiness.interrupted {
                return Err(Errno::INTR.into());
            }
            if readiness.woken {
                return Ok(None);
            }
            let Some(fd) = fd else { continue };
            match acceptfrom_with(fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok((stream, address)) => {
                    let peer = match &self.source {
                        Source::Tcp(_) => {
                            // It fails only if the peer has left already, which a read will tell.
                            let _ = set_tcp_nodelay(&stream, true);
                            match address.and_then(|address| SocketAddr::try_from(address).ok()) {
                                Some(address) => self.local.at(address).to_string(),
                                None => "a peer without an address".to_owned(),
                            }
                        }
                        // The other side of a Unix socket has no name of its own.
                        _ => self.local.to_string(),
                    };
                    return Ok(Some(Stream::from_socket(stream, peer)));
                }
                Err(Errno::INTR) => return Err(Errno::INTR.into()),
                // Taken by another thread, or gone before it could be taken.
                Err(Errno::AGAIN | Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The endpoint that others connect to, with the port that the system chose.
    pub fn local(&self) -> Endpoint {
        self.local.clone()
    }
}

fn bind_unix(path: &Path) -> io::Result<(OwnedFd, SocketFile)> {
    let address = SocketAddrUnix::new(path)?;
    let fd = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    // Two processes that find the same stale file must not both replace it: the directory is
    // locked meanwhile. A file system that knows no locks is taken as it is.
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    let directory = open(
        parent,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    if let Ok(directory) = &directory {
        let _ = flock(directory, FlockOperation::LockExclusive);
    }
    match bind(&fd, &address) {
        Err(Errno::ADDRINUSE) => {
            remove_stale(path, &address)?;
            bind(&fd, &address)?;
        }
        other => other?,
    }
    // Nobody can connect before `listen`, so there is no moment at which others could.
    let stat = lstat(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: (stat.st_dev, stat.st_ino),
        process: std::process::id(),
    };
    chmod(path, Mode::RUSR | Mode::WUSR)?;
    listen(&fd, BACKLOG)?;
    Ok((fd, file))
}

/// Removes the socket of a listener that is no more.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> io::Result<()> {
    let stat = lstat(path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket is in the way",
        ));
    }
    match connect_unix(address, Some(Duration::from_millis(1))) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(unlink(path)?),
        // Somebody answers, or is too busy to.
        _ => Err(Errno::ADDRINUSE.into()),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = lstat(&self.path).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.identity);
        if ours && self.process == std::process::id() {
            let _ = unlink(&self.path);
        }
    }
}
