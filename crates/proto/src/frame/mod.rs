//! Frames: how messages lie in a stream of bytes.
//!
//! `u32` (little-endian): length of the body; its top bit says that attachments follow. Then, if
//! so, `u32` count and for each attachment its `u64` length. Then the body, then the attachments.

mod deframer;
mod output;
mod payload;

pub use deframer::{Deframer, Frame};
pub use output::{Chunk, Output};
pub use payload::{Attachment, Payload, Received, Ticket};

/// In the length of a body: attachments follow.
const HAS_ATTACHMENTS: u32 = 1 << 31;
