//! Thread pickling: code that runs, and everything it holds on to, written to bytes and made again
//! elsewhere.
//!
//! The bytes are a pickle of protocol 5 behind a header. This package says how each kind of object is
//! reduced, and loads by functions that pickles name. CPython's own pickler writes it, but for what
//! `direct/` can write.
//!
//! | file | |
//! | --- | --- |
//! | `functions` | `dumps` and `loads` |
//! | `direct/` | writes and reads the most frequent objects without CPython's pickler, much faster |
//! | `stream` | the header: version, signature, checksum |
//! | `reducer` | `reducer_override` of a pickler, user-registered reducers |
//! | `maker` | the module of the functions that pickles name |
//! | `code`, `globals` | code and its global variables, by reference or by value |
//! | `objects/` | one file for each family of objects |
//! | `bounds` | that a pickle asks for no more memory than it can fill |
//! | `allow` | what a pickle may name while it is loaded |
//! | `explain` | the path to the object that could not be pickled |
//! | `install` | the same for plain `pickle` and `copy` |
//! | `hop` | what moving a coroutine asks of sessions and frames |
//! | `frames/` | suspended and running frames |

pub(crate) mod allow;
mod bounds;
pub(crate) mod code;
pub(crate) mod direct;
pub(crate) mod errors;
pub(crate) mod explain;
pub(crate) mod frames;
pub(crate) mod functions;
pub(crate) mod globals;
pub(crate) mod hop;
pub(crate) mod install;
pub(crate) mod maker;
pub(crate) mod objects;
pub(crate) mod reducer;
pub(crate) mod stream;
pub(crate) mod unpickler;

use pyo3::prelude::*;

/// Makes `objspace._pickles`.
pub(crate) fn register(py: Python<'_>) -> PyResult<()> {
    let makers = maker::create(py)?;
    code::register(&makers)?;
    globals::register(&makers)?;
    install::register(&makers)?;
    frames::register(&makers)?;
    objects::register(&makers)
}
