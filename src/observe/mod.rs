//! Logs, metrics and access records.
