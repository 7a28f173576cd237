//! The `gumshoe-ingest` process.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gumshoe_runtime::main(gumshoe_ingest::run, gumshoe_ingest::migrate)
}
