//! The only code of objspace that knows CPython's structs.
//!
//! - [`supported`]: whether the running interpreter is one whose structs are known;
//! - [`type_hook`]: `type(proxy)` answers the type that the proxy stands for;
//! - [`frames`]: frame and code objects for code that runs elsewhere;
//! - [`finish`]: a coroutine ends with a result that was computed elsewhere;
//! - [`lookahead`]: what the calling bytecode will do with the attribute it asks for;
//! - [`suspended`], [`awaitable`]: generators, coroutines and the like, taken apart and put together;
//! - [`still`]: the frames of tracebacks, read and made again;
//! - [`iterators`]: where iterators over lists and tuples are;
//! - [`observe`]: the instructions of code objects and the value stacks of frames that run;
//! - [`lifetimes`]: being told when objects are gone;
//! - [`clock`]: a cheap clock;
//! - [`extra`]: something of one's own in every code object;
//! - [`chain`]: running frames, captured and resumed.
//!
//! Everything here works on raw pointers of `pyo3-ffi` and is `unsafe` where it takes one. Two
//! rules hold for every such function and are not repeated: the calling thread is attached to the
//! interpreter (it holds the GIL), and object pointers are valid, borrowed references. A returned
//! object is a new reference; a null pointer means that a Python exception is set.
//!
//! The structs are those of one minor version, chosen when this crate is compiled. Call
//! [`supported`] once, at import, before anything else.

#[cfg(Py_GIL_DISABLED)]
compile_error!("objspace does not support free-threaded Python: its hooks rely on the GIL");

#[cfg(not(target_pointer_width = "64"))]
compile_error!("objspace knows the structs of 64-bit CPython only");

mod analysis;
mod bytecode;
mod effects;
mod layout;
mod needs;
mod sweep;
mod thread;
mod verify;
mod version;

pub mod awaitable;
pub mod chain;
pub mod clock;
pub mod extra;
pub mod fields;
pub mod finish;
pub mod frames;
pub mod iterators;
pub mod lifetimes;
pub mod lookahead;
pub mod observe;
pub mod owned;
pub mod still;
pub mod suspended;
pub mod type_dict;
pub mod type_hook;

pub use layout::CHECKS as LAYOUT_CHECKS;
pub use layout::MINOR;
pub use layout::OPCODE_CHECKS;
pub use thread::position;
#[doc(hidden)]
pub use verify::understands as verifies;
pub use version::supported;
