//! Who is there: the handshake that precedes a session on every URL, and its shared key.

mod failure;
mod key;
mod machine;

pub use failure::Failure;
pub use key::Key;
pub use machine::{Admission, Handshake};
