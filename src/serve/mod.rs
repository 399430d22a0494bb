//! One client connection, from first byte to last.
