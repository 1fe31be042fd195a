//! The Rust face of objspace: a Rust program that serves its values to Python (or Rust) programs
//! and drives their objects. Nothing is implemented yet: the crate fixes the name and the place,
//! and keeps the promise that a Rust peer needs no Python (it depends on `objspace-proto` and
//! `objspace-net` alone).
#![forbid(unsafe_code, unused_must_use)]
