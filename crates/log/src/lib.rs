//! The log of the dump object space: what every operation of a program did to which objects.
//!
//! Data flows one way. A recorder appends machine words to a buffer ([`raw`]) and hands full
//! buffers to a [`Writer`], whose thread turns them into compressed blocks ([`encode`]) and appends
//! those to a file. A [`Log`] opens such a file, also one whose process was killed, and answers
//! questions ([`query`]) by reading only the blocks that their summaries name.
//!
//! Not here: Python, and how operations are seen. `docs/dump-format.md` is the format's norm.

#![forbid(unsafe_code)]

mod block;
mod bytes;
mod encode;
mod error;
mod kinds;
mod reader;
mod spans;
mod tables;
mod value;
mod writer;

pub mod query;
pub mod raw;

pub use block::{Block, Death, LateEnd, Object, OperationRow, Payload, Status};
pub use error::Error;
pub use kinds::Kind;
pub use reader::{BlockInfo, Log};
pub use tables::{Code, Note, Row, Site, Tables, Task, ThreadInfo};
pub use value::Value;
pub use writer::{Options, Retention, Statistics, Writer};

/// The version of the format that this crate writes, and the only one that it reads.
pub const VERSION: u32 = 1;
/// What a log begins with.
pub const MAGIC: [u8; 8] = *b"objdump\n";
