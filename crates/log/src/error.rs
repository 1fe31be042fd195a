//! What can be wrong with a log.

use std::io;

/// Why a log could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not a log.
    #[error("this is not a log of objspace dump")]
    NotALog,
    /// It is a log of another version of the format.
    #[error("this log has version {0} of the format, and this objspace reads version {version}", version = crate::VERSION)]
    Version(u32),
    /// The bytes of a block are not what was written.
    #[error("the log is damaged in block {block}: {what}")]
    Damaged {
        /// The number of the block, from zero.
        block: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A question about an operation or object that the log does not have.
    #[error("the log has no {what} {number}")]
    Missing {
        /// "operation", "object", …
        what: &'static str,
        /// Its number.
        number: u64,
    },
    /// What was handed over at once is more than a reader takes: a bug of objspace.
    #[error("a block of the log would be too large to be read; please report this")]
    TooLarge,
    /// The recorder handed over words that mean nothing: a bug of objspace.
    #[error("a record that the writer does not know (kind {0}); please report this")]
    Record(u64),
}
