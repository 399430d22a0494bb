//! Shutdown: begun, forced, all gone.
