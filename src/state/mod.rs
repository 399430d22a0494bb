//! Live counters and snapshots: pools in force, exit loads, health.
