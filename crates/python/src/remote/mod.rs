//! What the other side's objects are made of here: classes from shapes, exceptions, tracebacks.

pub(crate) mod class;
pub(crate) mod exception;
pub(crate) mod parts;
pub(crate) mod plain;
pub(crate) mod traceback;
