//! Wiring: builds, starts, reloads, drains.
