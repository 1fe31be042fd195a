//! One duplex byte stream over file descriptors.
//!
//! A stream blocks in [`Stream::wait`] only. Its methods take `&self` and may be called from
//! several threads at once; who may read, so that bytes stay in order, is the caller's business.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd, ioctl_fionbio};
use rustix::net::sockopt::{Timeout, set_socket_timeout, set_tcp_nodelay, socket_error};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrUnix,
    SocketFlags, SocketType, recv, sendmsg, shutdown, socket_with, socketpair,
};

use crate::tls::TlsChannel;
use crate::{Endpoint, Error, Waker};

/// The most slices one write takes (`IOV_MAX` of Linux); further ones wait for the next write.
const SLICES_MAX: usize = 1024;

/// How long [`Stream::read_soon`] waits at most.
const SOON: Duration = Duration::from_millis(4);

/// A duplex byte stream that never blocks but in [`wait`](Self::wait).
///
/// On sockets a vanished reader is an error ([`io::ErrorKind::BrokenPipe`]), never a signal. On
/// pipes the system offers no such choice: the process must ignore `SIGPIPE`, as both Python and
/// Rust programs do unless they were told otherwise.
#[derive(Debug)]
pub struct Stream {
    channel: Channel,
    peer: String,
}

#[derive(Debug)]
enum Channel {
    Socket {
        read: OwnedFd,
        /// Only where input and output are different descriptors.
        write: Option<OwnedFd>,
    },
    Tls(Box<TlsChannel>),
    /// A pipe knows no `shutdown`: its descriptors are closed when the last call that uses one has
    /// left, and `closing` makes those calls leave.
    Pipes {
        read: PipeEnd,
        write: PipeEnd,
        closed: AtomicBool,
        closing: Waker,
    },
}

#[derive(Debug)]
struct PipeEnd(Mutex<Option<Arc<Descriptor>>>);

#[derive(Debug)]
struct Descriptor {
    fd: OwnedFd,
    /// A socket among pipes (only one direction is a socket).
    socket: bool,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Bytes to read, or the end of the stream.
    pub read: bool,
    /// Room to write.
    pub write: bool,
}

impl Interest {
    /// Neither: wait for the waker and the time only.
    pub const NONE: Self = Self {
        read: false,
        write: false,
    };
    /// Bytes to read.
    pub const READ: Self = Self {
        read: true,
        write: false,
    };
    /// Both.
    pub const READ_WRITE: Self = Self {
        read: true,
        write: true,
    };
    /// Room to write.
    pub const WRITE: Self = Self {
        read: false,
        write: true,
    };
}

/// Why a wait ended. More than one field may be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Readiness {
    /// A read will not block. It may yield bytes, the end, or an error.
    pub readable: bool,
    /// A write will not block. It may take bytes or fail.
    pub writable: bool,
    /// The waker is awake; the caller drains it.
    pub woken: bool,
    /// The time is over and nothing happened.
    pub timed_out: bool,
    /// A signal arrived: run its handlers, then wait again.
    pub interrupted: bool,
}

impl Stream {
    /// Connects to an endpoint, within `timeout` if there is one. `stdio:` connects to this
    /// process's standard input and output. Looking up a host name is not covered by the timeout.
    ///
    /// # Errors
    /// [`Error::Connect`] with the system's reason: refused, timed out, no such file. A signal ends
    /// the attempt too ([`Error::is_interrupted`]): run its handlers and try again.
    ///
    /// What it connects to has not been greeted yet: see [`connect`](crate::connect).
    pub fn connect(endpoint: &Endpoint, timeout: Option<Duration>) -> Result<Self, Error> {
        let connected = match endpoint {
            Endpoint::Stdio => stdio(),
            Endpoint::Tcp { host, port } | Endpoint::Tls { host, port } => {
                connect_tcp(host, *port, timeout)
                    .map(|fd| Self::from_socket(fd, endpoint.to_string()))
            }
            Endpoint::Unix { path } => SocketAddrUnix::new(path)
                .map_err(io::Error::from)
                .and_then(|address| connect_unix(&address, timeout))
                .map(|fd| Self::from_socket(fd, endpoint.to_string())),
        };
        connected.map_err(|source| Error::Connect {
            endpoint: endpoint.clone(),
            source,
        })
    }

    /// Two streams joined in this process.
    ///
    /// # Errors
    /// The process has no free file descriptor.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((
            Self::from_socket(a, "pair:".to_owned()),
            Self::from_socket(b, "pair:".to_owned()),
        ))
    }

    /// A stream that reads from one descriptor and writes to another: the two pipes to a child
    /// process, or the two halves of a socket. Both become close-on-exec; pipes become non-blocking
    /// (which whoever shares them sees), sockets are left as they are.
    ///
    /// # Errors
    /// One of the two cannot be used for this, a directory for example.
    pub fn from_fds(read: OwnedFd, write: OwnedFd) -> io::Result<Self> {
        Self::from_named_fds(read, write, "pipe:".to_owned())
    }

    /// [`from_fds`](Self::from_fds) with a description of the peer for error messages.
    ///
    /// # Errors
    /// As [`from_fds`](Self::from_fds).
    pub fn from_named_fds(read: OwnedFd, write: OwnedFd, peer: String) -> io::Result<Self> {
        let (read_is_socket, write_is_socket) = (prepare(&read)?, prepare(&write)?);
        let channel = if read_is_socket && write_is_socket {
            Channel::Socket {
                read,
                write: Some(write),
            }
        } else {
            Channel::Pipes {
                read: PipeEnd::new(read, read_is_socket),
                write: PipeEnd::new(write, write_is_socket),
                closed: AtomicBool::new(false),
                closing: Waker::new()?,
            }
        };
        Ok(Self { channel, peer })
    }

    /// A connected socket.
    pub(crate) fn from_socket(fd: OwnedFd, peer: String) -> Self {
        // For `read_soon`, the only call that may wait: all others say that they must not.
        let timed = set_socket_timeout(&fd, Timeout::Recv, Some(SOON))
            .and_then(|()| ioctl_fionbio(&fd, false));
        if timed.is_err() {
            // Without that time it must never wait.
            let _ = ioctl_fionbio(&fd, true);
        }
        Self {
            channel: Channel::Socket {
                read: fd,
                write: None,
            },
            peer,
        }
    }

    /// The same stream with TLS on it; the handshake of TLS is still to come.
    pub(crate) fn over_tls(self, connection: rustls::Connection) -> io::Result<Self> {
        let Channel::Socket {
            read: fd,
            write: None,
        } = self.channel
        else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "TLS needs a socket",
            ));
        };
        Ok(Self {
            channel: Channel::Tls(Box::new(TlsChannel::new(fd, connection)?)),
            peer: self.peer,
        })
    }

    pub(crate) fn tls(&self) -> Option<&TlsChannel> {
        match &self.channel {
            Channel::Tls(tls) => Some(tls),
            _ => None,
        }
    }

    /// Reads what is there. `None`: nothing yet. `Some(0)`: the end, there will be no more.
    ///
    /// # Errors
    /// The connection broke; reading on will not help.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match &self.channel {
            Channel::Socket { read, .. } => receive(read.as_fd(), true, buffer),
            Channel::Tls(tls) => tls.try_read(buffer),
            Channel::Pipes { read, .. } => match read.get() {
                Some(end) => receive(end.fd.as_fd(), end.socket, buffer),
                None => Ok(Some(0)),
            },
        }
    }

    /// Reads what is there, or what comes within a few milliseconds if the stream can wait without
    /// a second system call (a plain socket). `None`: nothing yet. No waker ends this wait.
    ///
    /// # Errors
    /// As of [`try_read`](Self::try_read), and `Interrupted` by a signal.
    pub fn read_soon(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match &self.channel {
            Channel::Socket { read, write: None } => {
                match recv(read, &mut *buffer, RecvFlags::empty()) {
                    Ok((count, _)) => Ok(Some(count)),
                    Err(Errno::AGAIN) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
            _ => self.try_read(buffer),
        }
    }

    /// Writes as much of the slices as there is room for. `None`: no room at all.
    ///
    /// # Errors
    /// The connection broke; writing on will not help, though reading may still yield bytes.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        let slices = &slices[..slices.len().min(SLICES_MAX)];
        match &self.channel {
            Channel::Socket { read, write } => {
                send(write.as_ref().unwrap_or(read).as_fd(), true, slices)
            }
            Channel::Tls(tls) => tls.try_write_vectored(slices),
            Channel::Pipes { write, .. } => match write.get() {
                Some(end) => send(end.fd.as_fd(), end.socket, slices),
                None => Err(Errno::PIPE.into()),
            },
        }
    }

    /// Waits until something of `interest` is possible, the waker is woken, the time is over or a
    /// signal arrives: one system call. With TLS it may also end for nothing. Without interest, waker and timeout it waits for a signal.
    ///
    /// # Errors
    /// The system is out of memory.
    pub fn wait(
        &self,
        interest: Interest,
        waker: Option<&Waker>,
        timeout: Option<Duration>,
    ) -> io::Result<Readiness> {
        match &self.channel {
            Channel::Socket { read, write } => {
                let write = write.as_ref().unwrap_or(read).as_fd();
                wait(
                    Some(read.as_fd()),
                    Some(write),
                    interest,
                    waker,
                    None,
                    timeout,
                )
            }
            Channel::Tls(tls) => tls.wait(interest, waker, timeout),
            Channel::Pipes {
                read,
                write,
                closed,
                closing,
            } => {
                let (reader, writer) = (read.get(), write.get());
                let mut readiness = wait(
                    reader.as_ref().map(|end| end.fd.as_fd()),
                    writer.as_ref().map(|end| end.fd.as_fd()),
                    interest,
                    waker,
                    Some(closing),
                    timeout,
                )?;
                if closed.load(Ordering::Acquire) {
                    readiness.readable |= interest.read;
                    readiness.writable |= interest.write;
                }
                Ok(readiness)
            }
        }
    }

    /// Ends the stream in both directions: the peer reads its end, and so does every thread here,
    /// also one that waits now. Bytes already written still arrive. Again: no effect.
    pub fn shutdown(&self) {
        match &self.channel {
            Channel::Socket { read, write } => {
                // It fails only if the peer has already left.
                let _ = shutdown(read, Shutdown::Both);
                if let Some(write) = write {
                    let _ = shutdown(write, Shutdown::Both);
                }
            }
            Channel::Tls(tls) => tls.shutdown(),
            Channel::Pipes {
                read,
                write,
                closed,
                closing,
            } => {
                closed.store(true, Ordering::Release);
                read.close();
                write.close();
                closing.wake();
            }
        }
    }

    /// Who is at the other end, for error messages: `tcp://127.0.0.1:7000`.
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

impl PipeEnd {
    fn new(fd: OwnedFd, socket: bool) -> Self {
        Self(Mutex::new(Some(Arc::new(Descriptor { fd, socket }))))
    }

    fn get(&self) -> Option<Arc<Descriptor>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn close(&self) {
        let end = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(end) = end
            && end.socket
        {
            let _ = shutdown(&end.fd, Shutdown::Both);
        }
    }
}

/// `stdio:` as a stream of its own: the descriptors are duplicated, so that dropping the stream
/// does not close those of the process.
pub(crate) fn stdio() -> io::Result<Stream> {
    let read = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let write = fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    Stream::from_named_fds(read, write, "stdio:".to_owned())
}

/// Makes a descriptor fit for a stream and says whether it is a socket.
fn prepare(fd: &OwnedFd) -> io::Result<bool> {
    fcntl_setfd(fd, fcntl_getfd(fd)? | FdFlags::CLOEXEC)?;
    match FileType::from_raw_mode(fstat(fd)?.st_mode) {
        FileType::Socket => Ok(true),
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => {
            fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
            Ok(false)
        }
    }
}

pub(crate) fn receive(
    fd: BorrowedFd<'_>,
    socket: bool,
    buffer: &mut [u8],
) -> io::Result<Option<usize>> {
    loop {
        let result = if socket {
            recv(fd, &mut *buffer, RecvFlags::DONTWAIT).map(|(received, _)| received)
        } else {
            rustix::io::read(fd, &mut *buffer)
        };
        match result {
            Ok(count) => return Ok(Some(count)),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

pub(crate) fn send(
    fd: BorrowedFd<'_>,
    socket: bool,
    slices: &[IoSlice<'_>],
) -> io::Result<Option<usize>> {
    loop {
        let result = if socket {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            sendmsg(fd, slices, &mut SendAncillaryBuffer::default(), flags)
        } else {
            rustix::io::writev(fd, slices)
        };
        match result {
            Ok(count) => return Ok(Some(count)),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// One poll(2).
pub(crate) fn wait(
    read: Option<BorrowedFd<'_>>,
    write: Option<BorrowedFd<'_>>,
    interest: Interest,
    waker: Option<&Waker>,
    closing: Option<&Waker>,
    timeout: Option<Duration>,
) -> io::Result<Readiness> {
    // Descriptors without interest are left out: the system reports their hang-up unasked.
    let wanted = [
        read.filter(|_| interest.read).map(|fd| (fd, PollFlags::IN)),
        write
            .filter(|_| interest.write)
            .map(|fd| (fd, PollFlags::OUT)),
        waker.map(|waker| (waker.as_fd(), PollFlags::IN)),
        closing.map(|waker| (waker.as_fd(), PollFlags::IN)),
    ];
    let mut slots = [usize::MAX; 4];
    let mut fds = [const { None }; 4]
        .map(|_: Option<()>| PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::empty()));
    let mut count = 0;
    for (slot, wanted) in slots.iter_mut().zip(wanted) {
        if let Some((fd, flags)) = wanted {
            fds[count] = PollFd::from_borrowed_fd(fd, flags);
            *slot = count;
            count += 1;
        }
    }
    // A time too long for the system is no limit.
    let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
    match poll(&mut fds[..count], timeout.as_ref()) {
        Ok(0) => Ok(Readiness {
            timed_out: true,
            ..Readiness::default()
        }),
        Ok(_) => {
            let ready = |slot: usize| {
                fds[..count]
                    .get(slot)
                    .is_some_and(|fd| !fd.revents().is_empty())
            };
            Ok(Readiness {
                readable: ready(slots[0]),
                writable: ready(slots[1]),
                woken: ready(slots[2]),
                ..Readiness::default()
            })
        }
        Err(Errno::INTR) => Ok(Readiness {
            interrupted: true,
            ..Readiness::default()
        }),
        Err(error) => Err(error.into()),
    }
}

fn connect_tcp(host: &str, port: u16, timeout: Option<Duration>) -> io::Result<OwnedFd> {
    let deadline = timeout.and_then(|time| Instant::now().checked_add(time));
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for (tried, address) in addresses.iter().enumerate() {
        // The time left is shared fairly, so that one dead address does not eat all of it.
        let share = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let time =
            deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()) / share);
        match connect_address(*address, time) {
            Ok(fd) => return Ok(fd),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn connect_address(address: SocketAddr, timeout: Option<Duration>) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let fd = socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    match rustix::net::connect(&fd, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS | Errno::INTR) => {
            let readiness = wait(None, Some(fd.as_fd()), Interest::WRITE, None, None, timeout)?;
            if readiness.interrupted {
                return Err(Errno::INTR.into());
            }
            if readiness.timed_out {
                return Err(Errno::TIMEDOUT.into());
            }
            socket_error(&fd)??;
        }
        Err(error) => return Err(error.into()),
    }
    set_tcp_nodelay(&fd, true)?;
    Ok(fd)
}

pub(crate) fn connect_unix(
    address: &SocketAddrUnix,
    timeout: Option<Duration>,
) -> io::Result<OwnedFd> {
    let fd = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // A non-blocking connect would fail at once where the listener is busy; a blocking one waits
    // for it, at most for the socket's time to send. Zero would mean for ever.
    set_socket_timeout(
        &fd,
        Timeout::Send,
        timeout.map(|time| time.max(Duration::from_millis(1))),
    )?;
    match rustix::net::connect(&fd, address) {
        Ok(()) => Ok(fd),
        Err(Errno::AGAIN) => Err(Errno::TIMEDOUT.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::tcp_nodelay;

    use super::*;
    use crate::Listener;

    #[test]
    fn tcp_streams_send_small_messages_at_once() {
        let endpoint = Endpoint::parse("tcp://127.0.0.1:0").expect("url");
        let listener = Listener::bind(&endpoint).expect("bind");
        let here = Stream::connect(&listener.local(), None).expect("connect");
        let there = listener.accept(None).expect("accept").expect("stream");
        for stream in [here, there] {
            let Channel::Socket { read, write: None } = &stream.channel else {
                panic!("{stream:?}");
            };
            assert!(tcp_nodelay(read).expect("option"));
        }
    }
}
