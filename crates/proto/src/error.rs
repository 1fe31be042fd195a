//! Errors that say whose fault it is.

use crate::{CloseCode, ExportId, ImportId, QuestionId};

/// Bytes that could not be decoded, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
#[non_exhaustive]
pub struct DecodeError {
    /// Counted from the start of what was being decoded (a message body or a payload).
    pub offset: usize,
    /// What is wrong there.
    pub kind: DecodeErrorKind,
}

/// What can be wrong with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The input ends inside a value.
    #[error("unexpected end of input")]
    UnexpectedEnd,
    /// No value starts with this byte.
    #[error("unknown tag {0:#04x}")]
    UnknownTag(u8),
    /// No message starts with this byte.
    #[error("unknown message type {0:#04x}")]
    UnknownMessage(u8),
    /// A field has a code that means nothing (of a target, a class, an outcome, …).
    #[error("unknown code {0:#04x}")]
    UnknownCode(u8),
    /// A variable-length integer does not fit its type or is longer than necessary.
    #[error("invalid variable-length integer")]
    InvalidVarint,
    /// A string is not UTF-8.
    #[error("invalid UTF-8")]
    InvalidUtf8,
    /// A container declares more elements than the input has bytes.
    #[error("a container declares more elements than the input has bytes")]
    CountExceedsInput,
    /// Something else was wanted here (a name, a single value).
    #[error("expected {0}")]
    Expected(&'static str),
    /// Bytes follow the end.
    #[error("unexpected bytes after the end")]
    TrailingBytes,
    /// A limit of the receiver.
    #[error("the limit of {what} ({limit}) is exceeded")]
    LimitExceeded {
        /// Which limit.
        what: Limit,
        /// Its value.
        limit: usize,
    },
}

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Limit {
    /// [`crate::Limits::depth`].
    #[error("nesting depth")]
    Depth,
    /// [`crate::Limits::message_size`].
    #[error("bytes of a message")]
    MessageSize,
    /// [`crate::Limits::container_len`].
    #[error("elements of a container")]
    ContainerLen,
    /// [`crate::Limits::attachments`].
    #[error("attachments of a message")]
    Attachments,
    /// [`crate::Limits::requests`].
    #[error("requests under way")]
    Requests,
    /// [`crate::Limits::references`].
    #[error("live references")]
    References,
}

/// What went wrong in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer sent bytes that cannot be decoded.
    #[error("malformed message from the peer: {0}")]
    Malformed(DecodeError),
    /// The peer sent a well-formed message that it had no right to send.
    #[error("the peer broke the protocol: {0}")]
    PeerMisbehaved(#[from] PeerMisbehaved),
    /// The peer speaks something else.
    #[error("the peer is not compatible: {0}")]
    PeerIncompatible(#[from] PeerIncompatible),
    /// Something is larger than this side allows (whether the peer or the host made it so).
    #[error("the limit of {what} ({limit}) is exceeded")]
    LimitExceeded {
        /// Which limit.
        what: Limit,
        /// Its value.
        limit: usize,
    },
    /// The host used the session wrongly.
    #[error("wrong use of a session: {0}")]
    Misuse(#[from] Misuse),
    /// The session has been closed by either side: nothing more can be sent.
    #[error("the session is closed")]
    Closed,
    /// A bug in this crate.
    #[error("internal error, please report it: {0}")]
    Internal(&'static str),
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        match error.kind {
            DecodeErrorKind::LimitExceeded { what, limit } => Self::LimitExceeded { what, limit },
            _ => Self::Malformed(error),
        }
    }
}

/// Deviations of a peer, one variant each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerMisbehaved {
    /// The first message was not a Hello.
    #[error("a message came before its Hello")]
    MessageBeforeHello,
    /// A second Hello.
    #[error("a second Hello came")]
    DuplicateHello,
    /// Something followed a Close.
    #[error("a message came after its Close")]
    MessageAfterClose,
    /// A reply to no question.
    #[error("it replied to question {0}, which is not open")]
    UnknownQuestion(u32),
    /// A second reply to a question whose answer is kept.
    #[error("it replied twice to question {0}")]
    DuplicateReply(u32),
    /// A question with the number of one that is still open.
    #[error("it reused the number of question {0}, which is still open")]
    DuplicateQuestion(u32),
    /// A reference to an answer that is not there (never asked, not to be kept, or finished).
    #[error("it refers to the answer of question {0}, which is not kept")]
    UnknownAnswer(u32),
    /// It finished an answer that is not kept.
    #[error("it finished question {0}, which is not kept")]
    UnknownFinished(u32),
    /// It finished an answer before it was given.
    #[error("it finished question {0} before the reply")]
    FinishedEarly(u32),
    /// A call nested in a question that this side does not have.
    #[error("it calls from inside question {0}, which is not open")]
    UnknownParent(u32),
    /// A reference to an object that this side never sent.
    #[error("it refers to object {}.{}, which was never sent to it", .0.slot(), .0.generation())]
    UnknownExport(ExportId),
    /// A reference to an object that it has released.
    #[error("it refers to object {}.{}, which it has released", .0.slot(), .0.generation())]
    StaleExport(ExportId),
    /// It released an object more often than it was sent.
    #[error("it released object {}.{} more often than it was sent", .0.slot(), .0.generation())]
    ReleasedTooOften(ExportId),
    /// A release of no references.
    #[error("it released object {}.{} zero times", .0.slot(), .0.generation())]
    EmptyRelease(ExportId),
    /// A pong that nobody asked for.
    #[error("a pong came without a ping")]
    UnexpectedPong,
    /// Pings whose pongs it does not take, as many as there may be requests.
    #[error("it sends pings and does not take the pongs")]
    TooManyPings,
    /// An attachment index beyond the attachments of the message.
    #[error("it refers to attachment {0}, which the message does not have")]
    UnknownAttachment(u32),
}

/// Ways in which two peers cannot talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerIncompatible {
    /// Another version of the protocol.
    #[error("it speaks version {theirs} of the protocol, this side version {ours}")]
    Version {
        /// The peer's.
        theirs: u16,
        /// This side's.
        ours: u16,
    },
}

/// Mistakes of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// No such question is open.
    #[error("question {} is not open", .0.number())]
    UnknownQuestion(QuestionId),
    /// The answer was given already, or never asked for.
    #[error("question {0} of the peer is not waiting for an answer")]
    UnknownAnswer(u32),
    /// No such import.
    #[error("object {}.{} of the peer is not imported", .0.slot(), .0.generation())]
    UnknownImport(ImportId),
    /// No such export.
    #[error("object {}.{} is not exported", .0.slot(), .0.generation())]
    UnknownExport(ExportId),
}

impl Error {
    /// The code to close with, or `None` if the peer need not hear of it.
    #[must_use]
    pub const fn close_code(&self) -> Option<CloseCode> {
        match self {
            Self::Malformed(_) => Some(CloseCode::MALFORMED),
            Self::PeerMisbehaved(_) => Some(CloseCode::MISBEHAVED),
            Self::PeerIncompatible(_) => Some(CloseCode::INCOMPATIBLE),
            Self::LimitExceeded { .. } => Some(CloseCode::LIMIT_EXCEEDED),
            Self::Internal(_) => Some(CloseCode::INTERNAL),
            Self::Misuse(_) | Self::Closed => None,
        }
    }
}
