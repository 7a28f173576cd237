//! The `gumshoe-graph` process.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gumshoe_runtime::main(gumshoe_graph::run, gumshoe_graph::migrate)
}
