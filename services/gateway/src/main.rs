//! The `gumshoe-gateway` process.

use std::process::ExitCode;

fn main() -> ExitCode {
    gumshoe_runtime::main(gumshoe_gateway::run, gumshoe_gateway::migrate)
}
