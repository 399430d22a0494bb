//! Bytes to HTTP/1 messages and back, without I/O.
