//! Pins: atomic, durable, shared.
