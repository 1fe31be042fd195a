//! Byte streams for objspace sessions: TCP, Unix sockets and pipes, and the URLs that name them.
//!
//! - [`Endpoint`]: what a URL such as `tcp://127.0.0.1:7000` names;
//! - [`Listener`]: where streams come from;
//! - [`Stream`]: one duplex byte stream, never blocking but in [`Stream::wait`];
//! - [`Waker`]: ends the wait of another thread.
//!
//! Nothing here knows messages, and nothing starts a thread. Every call that can block takes a
//! waker, and every signal that arrives meanwhile is reported to the caller, who may have handlers
//! to run (Python has).
#![forbid(unsafe_code, unused_must_use)]

mod endpoint;
mod error;
mod listener;
mod stream;
mod waker;

pub use endpoint::{Endpoint, UrlError};
pub use error::Error;
pub use listener::Listener;
pub use stream::{Interest, Readiness, Stream};
pub use waker::Waker;
