//! The one program users run. All of it is in the library, where tests can reach it.

use std::process::ExitCode;

/// jemalloc, with threads of its own that give memory back: ten seconds after 27,000 streams on 3,000 connections had
/// closed, the node was at 50 MB; without those threads it stayed at 260 MB for as long as it idled, and the system's
/// allocator keeps more. In speed the two are equal here.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    quorate_node::cli::main()
}
