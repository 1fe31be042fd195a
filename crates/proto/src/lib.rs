//! Wire values, the message codec and the session state machine of objspace.
//!
//! What it is not: it opens no socket, reads no clock, starts no thread, takes no lock and knows
//! no Python. Bytes come in through a [`Deframer`], frames go into [`Session::handle_frame`],
//! which answers with an [`Event`]; what is to be written waits in [`Session::poll_output`].
//! `docs/protocol.md` is the normative description of the bytes.
#![forbid(unsafe_code, unused_must_use)]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
    )
)]

mod codec;
mod error;
mod frame;
mod ids;
mod kinds;
mod limits;
pub mod message;
pub mod op;
mod session;

pub use codec::{
    ClassRef, Decoder, Encoder, IncomingClass, OutgoingClass, OwnedClass, References, Token, Value,
    tag,
};
pub use error::{
    DecodeError, DecodeErrorKind, Error, Limit, Misuse, PeerIncompatible, PeerMisbehaved,
};
pub use frame::{Attachment, Chunk, Deframer, Frame, Output, Payload, Received, Ticket};
pub use ids::{AnswerId, ExportId, ImportId, QuestionId};
pub use kinds::{CloseCode, FetchKind, Kind, StructKind};
pub use limits::Limits;
pub use message::{CallFlags, Message, Outcome, Target, VERSION};
pub use op::Op;
pub use session::{
    AnswerValue, Config, Event, Import, IncomingCall, IncomingFetch, IncomingTarget,
    OutgoingTarget, PeerHello, Session, Stats,
};
