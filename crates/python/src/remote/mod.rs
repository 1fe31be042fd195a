//! Remote objects: what they do with operations, and what is made here of what arrives: classes
//! from shapes, exceptions, tracebacks.

pub(crate) mod awaitable;
pub(crate) mod buffer;
pub(crate) mod chain;
pub(crate) mod class;
pub(crate) mod class_access;
pub(crate) mod contents;
pub(crate) mod controller;
pub(crate) mod copy_out;
pub(crate) mod dict_view;
pub(crate) mod exception;
pub(crate) mod frame_access;
pub(crate) mod operand;
pub(crate) mod parts;
pub(crate) mod plain;
pub(crate) mod read_ahead;
pub(crate) mod traceback;
pub(crate) mod view;
