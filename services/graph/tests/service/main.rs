//! Every reading RPC on the real server: the good way and each reason to refuse, numbers checked against a recount.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod access;
mod administration;
mod analysis;
mod behavior;
mod cache;
mod chain;
mod events;
mod findings;
mod fixture;
mod hot;
mod maintenance;
mod neighbors;
mod orders;
mod places;
mod profile;
mod recount;
mod refuse;
mod replicas;
mod risk;
mod rules;
mod search;
mod statistics;
mod watch;
mod world;
