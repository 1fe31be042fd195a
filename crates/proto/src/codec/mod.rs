//! Values as bytes: one tag byte, then what the tag says.
//!
//! A payload is a flat sequence of tokens; a container is a token that says how many of the
//! tokens after it (with what they contain) are its elements.

mod decode;
mod encode;
mod references;
pub mod tag;
mod token;
mod value;
pub(crate) mod varint;

pub use decode::Decoder;
pub use encode::Encoder;
pub use references::References;
pub use token::{ClassRef, IncomingClass, OutgoingClass, Token};
pub use value::{OwnedClass, Value};
