//! Writes a lake of a year, to measure how it is read: `year LAKE_URL GRAPH_ARN EDGES SAMPLE_FILE`.
//!
//! Calls and flows of a few accounts, the busy ones far more often than the others, spread over everyone involved as the graph
//! service does it. Each day has a file of edges and, of what came late, a small one; the last day is still being written. One
//! address has a million edges. What to ask for is written to SAMPLE_FILE, as JSON.
#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a program to measure with, on one's own machine")]

mod tables;
mod world;

use std::{collections::BTreeMap, time::Instant};

use async_trait::async_trait;
use gumshoe_lake::{BatchCounts, Fence, Group, Lake, Layout};
use gumshoe_model::{Timestamp, time::MICROS_PER_DAY};
use serde_json::json;
use world::{Kind, Node, Random, World};

/// Days of history; the last one is 2026-06-30.
const DAYS: i64 = 365;
const LAST_DAY: i64 = 20_634;
/// Of the edges of a day, one in so many comes late.
const LATE: usize = 50;
/// Files of the last day: what an hour of commits and merges leaves.
const LAST_DAY_FILES: usize = 12;
/// Entities that are asked for.
const SAMPLE: usize = 4_000;

struct Alone;

#[async_trait]
impl Fence for Alone {
    async fn holds(&self) -> bool {
        true
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, arn, edges, sample] = arguments.as_slice() else { panic!("year LAKE_URL GRAPH_ARN EDGES SAMPLE_FILE") };
    let edges: u64 = edges.parse().unwrap();
    let lake = Lake::open(&serde_json::from_value(json!({ "url": url })).unwrap()).await.unwrap();
    let graph = lake.graph(&arn.parse().unwrap()).await.unwrap();
    let world = World::new(edges);
    let (start, mut written) = (Instant::now(), 0);
    // The day on which each entity was last seen.
    let mut seen: BTreeMap<Node, i64> = BTreeMap::new();
    for days in (0..DAYS).collect::<Vec<_>>().chunks(2) {
        let made: Vec<_> = days
            .iter()
            .map(|number| {
                let (number, world) = (*number, world);
                tokio::task::spawn_blocking(move || {
                    let day = LAST_DAY - DAYS + 1 + number;
                    let rows = world.day(number, usize::try_from(edges / DAYS.unsigned_abs()).unwrap());
                    let parts = if number == DAYS - 1 { LAST_DAY_FILES } else { LATE };
                    (number, tables::files(day, rows, parts, number == DAYS - 1))
                })
            })
            .collect();
        for day in made {
            let (number, (files, nodes, rows)) = day.await.unwrap();
            written += rows;
            seen.extend(nodes.into_iter().map(|node| (node, number)));
            let batches = vec![(format!("day-{number}"), BatchCounts { events: 1, ..BatchCounts::default() })];
            graph.commit(&graph.stage(Group { batches, files }).await.unwrap(), &gumshoe_lake::Alone).await.unwrap();
        }
    }
    let now = Timestamp(LAST_DAY * MICROS_PER_DAY + MICROS_PER_DAY / 2);
    graph.compact(Layout { target_file_bytes: 128 << 20, min_files: 8 }, now, &Alone).await.unwrap();

    let mut random = Random::new(1);
    let all: Vec<Node> = seen.keys().copied().filter(|node| *node != world::HUB).collect();
    let name = |node: Node| json!({ "type": node.kind.name(), "id": node.id() });
    let any: Vec<_> = (0..SAMPLE).map(|_| name(all[random.below(all.len() as u64) as usize])).collect();
    let busy: Vec<_> =
        [Kind::Account, Kind::Service, Kind::Role, Kind::Agent].iter().flat_map(|kind| (0..5).map(|number| name(Node { kind: *kind, number }))).collect();
    let sample = std::fs::write(sample, json!({ "edges": written, "any": any, "busy": busy, "hub": name(world::HUB) }).to_string());
    sample.unwrap();
    println!("{}", json!({ "edges": written, "entities": seen.len(), "seconds": start.elapsed().as_secs_f64() }));
}
