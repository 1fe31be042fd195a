//! Byte streams for objspace sessions: TCP, TLS, Unix sockets and pipes, the URLs that name them,
//! and the authenticated handshake that comes before a session.
//!
//! - [`Endpoint`]: what a URL such as `tcp://127.0.0.1:7000` names;
//! - [`connect`] and [`welcome`]: both ends of the handshake, with or without TLS and a shared key;
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
mod greet;
pub mod handshake;
mod listener;
mod stream;
mod tls;
mod waker;

pub use endpoint::{Endpoint, UrlError};
pub use error::Error;
pub use greet::{ClientSecurity, ServerSecurity, Welcomed, connect, greet, server_tls, welcome};
pub use listener::Listener;
pub use stream::{Interest, Readiness, Stream};
pub use tls::{TlsClient, TlsFiles, TlsServer};
pub use waker::Waker;
