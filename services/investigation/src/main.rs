//! The `gumshoe-investigation` process.

use std::process::ExitCode;

fn main() -> ExitCode {
    gumshoe_runtime::main(gumshoe_investigation::run, gumshoe_investigation::migrate)
}
