//! Why two ends did not come together, in words for whoever tried.

use std::io;
use std::time::Duration;

/// Why a handshake failed. The text completes a sentence that begins with the peer's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The server has no room for another client.
    #[error("serves as many clients as it may: try again later, or raise its max_clients")]
    Busy,
    /// A certificate was not accepted, by either side.
    #[error("{0}")]
    Certificate(String),
    /// The stream ended.
    #[error("closed the connection during the handshake: is an objspace server there?")]
    Ended,
    /// The server is about to end.
    #[error("is shutting down")]
    GoingAway,
    /// The stream failed.
    #[error("broke the connection during the handshake: {0}")]
    Io(#[from] io::Error),
    /// The server has a key and this client none.
    #[error(
        "asks for a key: give it as key=, in the environment variable OBJSPACE_KEY, or in the file \
         that OBJSPACE_KEY_FILE names"
    )]
    KeyNeeded,
    /// A byte that means nothing.
    #[error("sent a handshake that makes no sense (code {0})")]
    Malformed(u8),
    /// The client has a key and this server none, so that it cannot prove who it is.
    #[error("has no key, and so cannot prove who it is: start it with the key, or connect without")]
    NoKeyThere,
    /// Something else than objspace.
    #[error("is no objspace server: it said {0:?}")]
    NotObjspace(String),
    /// Something that does not speak TLS, where TLS was expected.
    #[error("does not speak TLS: try tcp:// instead of tls://, if that may be")]
    NotTls,
    /// The waker woke the thread that waited.
    #[error("was given up")]
    GivenUp,
    /// It took too long.
    #[error("did not finish the handshake within {:.1} s: is an objspace server there?", .0.as_secs_f64())]
    Silent(Duration),
    /// The peer speaks TLS, where the plain protocol was expected.
    #[error("speaks TLS: write tls:// instead of tcp://")]
    SpeaksTls,
    /// TLS failed otherwise.
    #[error("could not agree on TLS with this side: {0}")]
    Tls(String),
    /// The server could not prove that it knows the key.
    #[error("could not prove that it knows the key: it is not the server that was meant")]
    Unproven,
    /// Another version.
    #[error(
        "speaks version {theirs} of {what} and this side version {ours}: install the same objspace \
         on both sides"
    )]
    Version {
        /// Of the handshake or of the protocol.
        what: &'static str,
        /// The peer's.
        theirs: u16,
        /// This side's.
        ours: u16,
    },
    /// The keys differ.
    #[error("refused this side's key: both sides need the same one")]
    WrongKey,
}

impl Failure {
    /// Whether one side did not believe the other to be who it should be.
    #[must_use]
    pub const fn is_authentication(&self) -> bool {
        matches!(
            self,
            Self::Certificate(_)
                | Self::KeyNeeded
                | Self::NoKeyThere
                | Self::Unproven
                | Self::WrongKey
        )
    }

    /// Whether the server may take this client later.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Busy | Self::Ended | Self::GoingAway | Self::Io(_) | Self::Silent(_)
        )
    }

    pub(crate) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io(error) => error.kind(),
            Self::Ended => io::ErrorKind::UnexpectedEof,
            Self::Silent(_) => io::ErrorKind::TimedOut,
            Self::GivenUp => io::ErrorKind::Interrupted,
            _ if self.is_authentication() => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::InvalidData,
        }
    }
}
