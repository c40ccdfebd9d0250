//! The command line.

use std::process::ExitCode;

/// Runs the program: reads the arguments, does the command, answers with the exit code.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
