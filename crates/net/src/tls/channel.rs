//! A socket with TLS on it, under a [`Stream`](crate::Stream).
//!
//! What TLS has encrypted and the socket has not taken yet is written by whoever waits next, so
//! that nothing stays behind; what it has decrypted and nobody has read yet counts as readable.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use rustls::Connection;

use super::explain;
use crate::Waker;
use crate::stream::{Interest, Readiness, receive, send, wait};

/// The name under which TLS hands out a value that is the same on both ends only (RFC 9266).
const BINDING: &[u8] = b"EXPORTER-Channel-Binding";

#[derive(Debug)]
pub(crate) struct TlsChannel {
    fd: OwnedFd,
    connection: Mutex<Connection>,
    /// Wakes whoever waits when there is something to write that they do not know of.
    pending: Waker,
}

impl TlsChannel {
    pub(crate) fn new(fd: OwnedFd, connection: Connection) -> io::Result<Self> {
        Ok(Self {
            fd,
            connection: Mutex::new(connection),
            pending: Waker::new()?,
        })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the handshake of TLS as far as it goes now; true when it is done.
    pub(crate) fn greet(&self) -> io::Result<bool> {
        let mut connection = self.connection();
        self.flush(&mut connection)?;
        if connection.is_handshaking() {
            self.fill(&mut connection)?;
            self.flush(&mut connection)?;
        }
        Ok(!connection.is_handshaking() && !connection.wants_write())
    }

    /// A value that both ends of this connection know, and no other connection has.
    pub(crate) fn binding(&self) -> Result<Vec<u8>, rustls::Error> {
        self.connection()
            .export_keying_material(vec![0; 32], BINDING, None)
    }

    /// Whether the peer has shown a certificate (which was accepted, or there were no session).
    pub(crate) fn peer_has_certificate(&self) -> bool {
        self.connection()
            .peer_certificates()
            .is_some_and(|chain| !chain.is_empty())
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut connection = self.connection();
        loop {
            match connection.reader().read(buffer) {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The end without a farewell of TLS: the session has a farewell of its own.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(0)),
                Err(error) => return Err(error),
            }
            if !self.fill(&mut connection)? {
                self.flush(&mut connection)?;
                return Ok(None);
            }
        }
    }

    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        let mut connection = self.connection();
        self.flush(&mut connection)?;
        if connection.wants_write() {
            return Ok(None);
        }
        let count = connection.writer().write_vectored(slices)?;
        self.flush(&mut connection)?;
        if connection.wants_write() {
            self.pending.wake();
        }
        Ok((count > 0).then_some(count))
    }

    /// As [`Stream::wait`](crate::Stream::wait); may end with nothing set when the state of TLS
    /// has changed.
    pub(crate) fn wait(
        &self,
        interest: Interest,
        waker: Option<&Waker>,
        timeout: Option<Duration>,
    ) -> io::Result<Readiness> {
        let pending = {
            let mut connection = self.connection();
            let decrypted = connection
                .process_new_packets()
                .map_or(true, |state| state.plaintext_bytes_to_read() > 0);
            if interest.read && decrypted {
                return Ok(Readiness {
                    readable: true,
                    ..Readiness::default()
                });
            }
            self.pending.drain();
            connection.wants_write()
        };
        let wanted = Interest {
            write: interest.write || pending,
            ..interest
        };
        let fd = Some(self.fd.as_fd());
        let mut ready = wait(fd, fd, wanted, waker, Some(&self.pending), timeout)?;
        if ready.writable {
            let mut connection = self.connection();
            // A failure shows at the next read or write.
            let failed = self.flush(&mut connection).is_err();
            ready.writable = interest.write && (failed || !connection.wants_write());
            ready.readable |= failed && interest.read;
        }
        Ok(ready)
    }

    pub(crate) fn shutdown(&self) {
        let mut connection = self.connection();
        connection.send_close_notify();
        // A peer that is gone needs no farewell.
        let _ = self.flush(&mut connection);
        let _ = shutdown(&self.fd, Shutdown::Both);
    }

    /// Reads from the socket once; false if there is nothing.
    fn fill(&self, connection: &mut Connection) -> io::Result<bool> {
        match connection.read_tls(&mut Socket(self.fd.as_fd())) {
            Ok(count) => {
                if let Err(error) = connection.process_new_packets() {
                    // The peer should hear why.
                    let _ = self.flush(connection);
                    return Err(io::Error::other(explain(&error)));
                }
                if count == 0 && connection.is_handshaking() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes what is encrypted, as far as the socket takes it.
    fn flush(&self, connection: &mut Connection) -> io::Result<()> {
        while connection.wants_write() {
            match connection.write_tls(&mut Socket(self.fd.as_fd())) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The socket as rustls wants it.
struct Socket<'a>(BorrowedFd<'a>);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        receive(self.0, true, buffer)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        send(self.0, true, slices)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
