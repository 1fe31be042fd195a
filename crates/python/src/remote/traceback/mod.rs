//! Tracebacks that cross a session: described as plain tuples here, real traceback and frame
//! objects there.
//!
//! [`describe`] turns a traceback into a tuple of *entries*, [`build`] turns entries into a chain of
//! real `traceback` objects over real frames. What a frame knows beyond its entry (locals, globals,
//! source text) is asked for when somebody looks, through an `access` callable:
//!
//! | call | answered with |
//! | --- | --- |
//! | `access("locals", frame)` | a tuple of `(name, value)` |
//! | `access("global", frame, name)` | the value, or `KeyError` |
//! | `access("source", frame)` | the text of the frame's file, or `None` |
//!
//! [`answer`] performs these on the side where the frame lives. Nothing is ever asked while a
//! traceback is built. `access` outlives the exception (the line cache keeps it until the source was
//! looked at, the frame it does not keep), so it should hold its session weakly.
//!
//! What this is not: no session, no encoding; the caller carries the tuples.

mod answer;
mod build;
mod describe;
mod locals;
mod shown;
mod source;

pub(crate) use answer::answer;
pub(crate) use build::{build, is_redacted};
pub(crate) use describe::describe;
pub(crate) use locals::RemoteLocals;
pub(crate) use shown::Shown;
pub(crate) use source::{SourceFile, Stamp, local_name, stamp_of, text_of};

/// Positions in an entry of a traceback.
pub(crate) mod entry {
    /// `str`: the file as its code names it (the last part only if redacted).
    pub(crate) const FILE: usize = 0;
    /// `str`: the function's name.
    pub(crate) const NAME: usize = 1;
    /// `str`: the function's qualified name.
    pub(crate) const QUALNAME: usize = 2;
    /// `int`: the first line of the function.
    pub(crate) const FIRST_LINE: usize = 3;
    /// `int`: the line that was running.
    pub(crate) const LINE: usize = 4;
    /// `int`: the offset of the instruction, in bytes.
    pub(crate) const INSTRUCTION: usize = 5;
    /// `(end line, column, end column)`, or `None`.
    pub(crate) const POSITION: usize = 6;
    /// `(positional, positional-only, keyword-only, *args and **kwargs flags, names)`, or `None`.
    pub(crate) const ARGUMENTS: usize = 7;
    /// `str` or `None`: the module's `__name__`.
    pub(crate) const MODULE: usize = 8;
    /// `(size, mtime in ns)` of the file, or `None`.
    pub(crate) const STAMP: usize = 9;
    /// The live frame, or `None` if redacted.
    pub(crate) const FRAME: usize = 10;
    /// How many there are.
    pub(crate) const LEN: usize = 11;
}
