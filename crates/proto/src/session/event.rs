//! What a frame meant: the values that [`crate::Session::handle_frame`] returns.

use crate::{
    AnswerId, CloseCode, ExportId, FetchKind, ImportId, Op, Outcome, QuestionId, Received,
};

/// What a frame meant. The host acts on it after it has let go of its lock.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<O> {
    /// Nothing for the host.
    None,
    /// The peer introduced itself; it speaks the same version.
    Hello(PeerHello),
    /// Perform an operation, then [`crate::Session::reply`].
    Call(IncomingCall),
    /// Hand something over, then [`crate::Session::reply`].
    Fetch(IncomingFetch),
    /// A request of this side ended.
    Reply {
        /// Which.
        question: QuestionId,
        /// How.
        outcome: Outcome,
        /// The result or the error.
        payload: Received,
    },
    /// The peer no longer waits for this answer; it is to be given nevertheless.
    Cancelled(AnswerId),
    /// The peer refers to these no longer: drop them outside the lock.
    Released(Vec<O>),
    /// The shape of a class of the peer.
    Shape {
        /// The class; this does not count as a reference.
        class: ImportId,
        /// Its shape.
        payload: Received,
    },
    /// The peer answered a ping.
    Ponged {
        /// Of the ping.
        token: u64,
    },
    /// The peer sends nothing more: call [`crate::Session::lost`] and close the stream.
    Closed {
        /// Why.
        code: CloseCode,
        /// In its words.
        reason: String,
    },
}

/// How the peer introduced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerHello {
    /// The version of the protocol, the same as this side's.
    pub version: u16,
    /// A program and its version, for people.
    pub agent: String,
    /// A random number: equal to this side's own if it is talking to itself.
    pub nonce: u64,
}

/// What a request of the peer is addressed to; it exists, the session has checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "as Target")]
pub enum IncomingTarget {
    /// The exported names.
    Root,
    /// An object: see [`crate::Session::exported`].
    Export(ExportId),
    /// The result of an earlier question of the peer: see [`crate::Session::answer_value`].
    Answer(u32),
}

/// A call of the peer.
#[derive(Debug)]
#[non_exhaustive]
pub struct IncomingCall {
    /// What to reply to.
    pub answer: AnswerId,
    /// The logical thread that calls.
    pub thread: u64,
    /// The question of this side in whose execution the peer calls: whoever waits for it performs
    /// the call.
    pub parent: Option<QuestionId>,
    /// The object.
    pub target: IncomingTarget,
    /// The operation.
    pub op: Op,
    /// Whether the result is to be kept with [`crate::Session::keep`].
    pub keep: bool,
    /// How many milliseconds the peer waits, if it said so.
    pub deadline: Option<u64>,
    /// The arguments. Finish reading them.
    pub payload: Received,
}

/// A fetch of the peer.
#[derive(Debug)]
#[non_exhaustive]
pub struct IncomingFetch {
    /// What to reply to.
    pub answer: AnswerId,
    /// The logical thread that asks.
    pub thread: u64,
    /// As of [`IncomingCall`].
    pub parent: Option<QuestionId>,
    /// The object.
    pub target: IncomingTarget,
    /// What about the object.
    pub what: FetchKind,
    /// As of [`IncomingCall`].
    pub deadline: Option<u64>,
    /// Further arguments. Finish reading them.
    pub payload: Received,
}
