//! How fast CloudTrail files are only parsed, into the fields that the graph needs, by two threads: with sonic-rs and types made by
//! serde's derive, which is the limit that ingest is measured against, and with this crate's own reader.
//!
//! `parse sonic|records FILE…` prints one line of JSON: seconds, records, bytes.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark ends where it fails, and prints what it found")]

use std::{
    borrow::Cow,
    hint::black_box,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Instant,
};

use gumshoe_model::{DeadLetter, Event};
use gumshoe_records::{Options, Sink, Stop};
use serde::Deserialize;
use sonic_rs::LazyValue;

const THREADS: usize = 2;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File<'a> {
    #[serde(borrow)]
    records: Vec<Record<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Record<'a> {
    #[serde(borrow)]
    event_version: Cow<'a, str>,
    #[serde(borrow)]
    user_identity: Identity<'a>,
    #[serde(borrow)]
    event_time: Cow<'a, str>,
    #[serde(borrow)]
    event_source: Cow<'a, str>,
    #[serde(borrow)]
    event_name: Cow<'a, str>,
    #[serde(borrow)]
    aws_region: Cow<'a, str>,
    #[serde(borrow, rename = "sourceIPAddress")]
    source_address: Cow<'a, str>,
    #[serde(borrow)]
    user_agent: Cow<'a, str>,
    #[serde(borrow)]
    error_code: Cow<'a, str>,
    #[serde(borrow)]
    error_message: Cow<'a, str>,
    /// What names of these are resources depends on the operation: how they are looked at is not part of the limit.
    #[serde(borrow)]
    request_parameters: Option<LazyValue<'a>>,
    #[serde(borrow)]
    response_elements: Option<LazyValue<'a>>,
    #[serde(borrow)]
    resources: Option<LazyValue<'a>>,
    #[serde(borrow, rename = "eventID")]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    recipient_account_id: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Identity<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    principal_id: Cow<'a, str>,
    #[serde(borrow)]
    arn: Cow<'a, str>,
    #[serde(borrow)]
    account_id: Cow<'a, str>,
    #[serde(borrow)]
    access_key_id: Cow<'a, str>,
    #[serde(borrow)]
    user_name: Cow<'a, str>,
    #[serde(borrow)]
    invoked_by: Cow<'a, str>,
    #[serde(borrow)]
    session_context: Context<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Context<'a> {
    #[serde(borrow)]
    session_issuer: Issuer<'a>,
    #[serde(borrow)]
    source_identity: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Issuer<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    principal_id: Cow<'a, str>,
    #[serde(borrow)]
    arn: Cow<'a, str>,
    #[serde(borrow)]
    account_id: Cow<'a, str>,
    #[serde(borrow)]
    user_name: Cow<'a, str>,
}

struct Count(u64);

impl Sink for Count {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        black_box(event);
        self.0 += 1;
        Ok(())
    }

    fn dead_letter(&mut self, _: &DeadLetter<'_>) -> Result<(), Stop> {
        Ok(())
    }
}

fn sonic(bytes: &[u8]) -> u64 {
    let file: File<'_> = sonic_rs::from_slice(bytes).unwrap();
    black_box(&file);
    file.records.len() as u64
}

fn records(bytes: &[u8]) -> u64 {
    let mut count = Count(0);
    gumshoe_records::read(bytes, &Options::default(), &mut count).unwrap();
    count.0
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let parse = match arguments.next().as_deref() {
        Some("sonic") => sonic,
        Some("records") => records,
        _ => return println!("parse sonic|records FILE…"),
    };
    let paths: Vec<String> = arguments.collect();
    let (next, count, bytes) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut text = Vec::new();
                while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    text.clear();
                    std::io::Read::read_to_end(&mut std::fs::File::open(path).unwrap(), &mut text).unwrap();
                    count.fetch_add(parse(&text), Ordering::Relaxed);
                    bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
                }
            });
        }
    });
    println!(r#"{{"seconds": {}, "records": {}, "bytes": {}}}"#, start.elapsed().as_secs_f64(), count.into_inner(), bytes.into_inner());
}
