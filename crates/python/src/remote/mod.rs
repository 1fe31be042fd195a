//! Remote objects: what they do with operations, and what is made of what arrives.
pub(crate) mod class;
pub(crate) mod class_access;
pub(crate) mod controller;
pub(crate) mod exception;
pub(crate) mod traceback;
pub(crate) mod view;
