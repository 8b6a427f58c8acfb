//! The `rookery` program. See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    rookery::run()
}
