//! The `gumshoe-graph` process, and with `scheduler` or `executor` as the first argument a part of its query engine.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(feature = "ballista")]
    {
        use gumshoe_graph::cluster;
        if let Some(code) = gumshoe_runtime::part("graph", cluster::schedule).or_else(|| gumshoe_runtime::part("graph", cluster::execute)) {
            return code;
        }
    }
    gumshoe_runtime::main(gumshoe_graph::run, gumshoe_graph::migrate)
}
