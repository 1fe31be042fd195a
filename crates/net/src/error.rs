//! What can go wrong before a stream exists. Errors *of* a stream are plain [`io::Error`]s.

use std::io;

use crate::handshake::Failure;
use crate::{Endpoint, UrlError};

/// Why there is no stream or no listener.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A listener could not take a connection.
    #[error("cannot accept a connection on {endpoint}: {source}")]
    Accept {
        /// Where it listens.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody answers at the other end, or not in time.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// Where to.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// The two ends did not come together.
    #[error("{peer} {failure}")]
    Handshake {
        /// The other end.
        peer: String,
        /// Why, in words that go on after its name.
        failure: Failure,
    },
    /// The endpoint cannot be listened on.
    #[error("cannot listen on {endpoint}: {source}")]
    Listen {
        /// Where.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// Certificates or keys cannot be used; the text names the file.
    #[error("{0}")]
    Tls(String),
    /// The URL itself is wrong.
    #[error(transparent)]
    Url(#[from] UrlError),
}

impl Error {
    /// The kind of the error, as [`io::Error::kind`] tells it.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Accept { source, .. }
            | Self::Connect { source, .. }
            | Self::Listen { source, .. } => source.kind(),
            Self::Handshake { failure, .. } => failure.kind(),
            Self::Tls(_) | Self::Url(_) => io::ErrorKind::InvalidInput,
        }
    }

    /// The system's error number, if it was the system that refused.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Accept { source, .. }
            | Self::Connect { source, .. }
            | Self::Listen { source, .. } => source.raw_os_error(),
            Self::Handshake {
                failure: Failure::Io(error),
                ..
            } => error.raw_os_error(),
            Self::Handshake { .. } | Self::Tls(_) | Self::Url(_) => None,
        }
    }

    /// Whether a signal ended the call: run its handlers, and call again.
    pub fn is_interrupted(&self) -> bool {
        self.kind() == io::ErrorKind::Interrupted
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}
