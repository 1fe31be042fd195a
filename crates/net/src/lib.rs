//! Byte streams for objspace sessions: TCP, Unix sockets and pipes, and the URLs that name them.
#![forbid(unsafe_code, unused_must_use)]
