//! The thin binary: arguments in, exit code out. Everything else is the library's.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Gives memory back to the system within seconds of a flood, which neither glibc's nor mimalloc's does without being asked
/// (`manual/performance`). `.cargo/config.toml` has its settings.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    sekisho::cli::main()
}
