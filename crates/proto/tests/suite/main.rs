//! Tests of the crate from outside: every behaviour is a test name.

mod codec;
mod frames;
mod hostile;
mod lifecycle;
mod model;
mod support;
mod vectors;
