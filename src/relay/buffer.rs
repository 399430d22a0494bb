//! Memory for what is being read.
//!
//! Owns: the thread's buffer.
//! Must not know: what is read into it.

use std::cell::Cell;

/// The most that is read at once, in bytes.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;

/// The most that is read at once where a head is waited for, in bytes: it has
/// room in less, and of a large body behind it the less is copied.
pub(crate) const HEAD_BYTES: usize = 16 * 1024;

thread_local! {
    /// Taken out while it is in use, so that even a poll within a poll would
    /// only cost a second buffer.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends the thread's buffer, of [`BUFFER_BYTES`]; what is in it is garbage.
pub(crate) fn with_buffer<T>(borrow: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = BUFFER.take();
    buffer.resize(BUFFER_BYTES, 0);
    let result = borrow(&mut buffer);
    BUFFER.set(buffer);
    result
}
