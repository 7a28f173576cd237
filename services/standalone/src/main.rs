//! The `gumshoe` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    gumshoe::main()
}
