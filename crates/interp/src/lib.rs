//! The only code of objspace that knows CPython's structs: layouts per minor version, the hook of
//! `type(x)`, remote frames and a look at the caller's bytecode.
