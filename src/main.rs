//! The thin binary: arguments in, exit code out. Everything else is the library's.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    sekisho::cli::main()
}
