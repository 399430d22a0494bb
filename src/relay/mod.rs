//! The moving of a tunnel's bytes.
