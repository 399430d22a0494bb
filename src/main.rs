//! The `moorgate` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    moorgate::cli::main()
}
