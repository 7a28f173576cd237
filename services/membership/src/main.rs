//! The `gumshoe-membership` process.

use std::process::ExitCode;

fn main() -> ExitCode {
    gumshoe_runtime::main(gumshoe_membership::run, gumshoe_membership::migrate)
}
