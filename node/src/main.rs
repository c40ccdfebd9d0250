//! The one program users run. All of it is in the library, where tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_node::cli::main()
}
