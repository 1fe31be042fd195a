//! Ending another thread's wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use crate::stream::{Interest, Readiness, wait};

/// Wakes a thread that waits in [`Stream::wait`](crate::Stream::wait) or
/// [`Listener::accept`](crate::Listener::accept).
///
/// A wake-up is a level, not an edge: it stays until [`drain`](Self::drain), so none is lost when
/// it comes before the wait. Many wake-ups before a drain are one.
#[derive(Debug)]
pub struct Waker {
    event: OwnedFd,
    /// Set from before the event is written until it is drained. While it is set another `wake`
    /// costs no system call.
    woken: AtomicBool,
}

impl Waker {
    /// A waker that is not woken.
    ///
    /// # Errors
    /// The process has no free file descriptor.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            event,
            woken: AtomicBool::new(false),
        })
    }

    /// Ends the wait of whoever waits with this waker, or will.
    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            // The counter cannot be full: it is written at most once per drain. A signal cannot
            // interrupt a non-blocking write.
            let written = rustix::io::write(&self.event, &1u64.to_ne_bytes());
            debug_assert!(written.is_ok(), "eventfd: {written:?}");
        }
    }

    /// Whether it is woken, without taking that back.
    pub fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    /// Waits until it is woken, the time is over or a signal arrives, and takes the wake-up back.
    ///
    /// # Errors
    /// The system is out of memory.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Readiness> {
        let readiness = wait(None, None, Interest::NONE, Some(self), None, timeout)?;
        if readiness.woken {
            self.drain();
        }
        Ok(readiness)
    }

    /// Takes the wake-up back, and says whether there was one. Look at what the wake-up was about
    /// *after* this call.
    pub fn drain(&self) -> bool {
        // The event is emptied before the flag: a `wake` in between finds the flag set, writes
        // nothing, and is answered by this very drain. A `wake` that has set the flag but not yet
        // written is answered too; its event stays behind and wakes once for nothing.
        let mut count = [0; 8];
        let emptied = rustix::io::read(&self.event, &mut count).is_ok();
        self.woken.swap(false, Ordering::AcqRel) || emptied
    }
}

impl AsFd for Waker {
    /// Readable while woken: for an event loop of one's own.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_wakes_are_one_and_stay_until_drained() {
        let waker = Waker::new().expect("waker");
        assert!(!waker.drain());
        waker.wake();
        waker.wake();
        assert!(waker.drain());
        assert!(!waker.drain());
        waker.wake();
        assert!(waker.drain());
    }
}
