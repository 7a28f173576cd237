//! The `gumshoe-ingest` process.

use std::process::ExitCode;

fn main() -> ExitCode {
    gumshoe_runtime::main(gumshoe_ingest::run, gumshoe_ingest::migrate)
}
