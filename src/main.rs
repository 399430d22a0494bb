//! The `moorgate` command.

fn main() {}
