//! Wire values, the message codec and the session state machine of objspace.
//!
//! What it is not: it opens no socket, reads no clock, starts no thread and knows no Python.
#![forbid(unsafe_code, unused_must_use)]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

pub mod op;
pub use op::Op;
