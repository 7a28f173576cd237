//! Everything that a graph holds, as lines that two graphs of the same records have alike.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use gumshoe_api::{
    common::v1::RecordKind,
    graph::v1::{GetGraphStatisticsRequest, ListDeadLettersRequest, ListFindingsRequest, SearchEntitiesRequest, StreamEdgesRequest, StreamEventsRequest},
};
use gumshoe_testkit::Client;

use crate::LogFile;

/// Differing lines that are shown of each part.
const SHOWN: usize = 5;

/// A graph as text, in parts.
///
/// Left out is what no two runs have alike: when dead letters were met, and how many rows the edge table has before they
/// are summed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    parts: BTreeMap<&'static str, Vec<String>>,
}

impl Dump {
    /// Reads a graph to its end. Every event's text must be that of its source object at its offset.
    ///
    /// # Panics
    /// When a call fails, or a text is not there.
    pub async fn of(client: &Client, files: &[LogFile]) -> Self {
        let contents: HashMap<String, Bytes> = files.iter().map(|file| (base(&file.name).to_owned(), file.unpacked())).collect();
        assert_eq!(contents.len(), files.len(), "files are told apart by their last name");
        let parts = [
            ("edges", edges(client).await),
            ("entities", entities(client).await),
            ("events", events(client, &contents).await),
            ("findings", findings(client).await),
            ("dead letters", dead_letters(client).await),
            ("statistics", statistics(client).await),
        ];
        Self { parts: parts.into() }
    }

    /// Lines of one part.
    #[must_use]
    pub fn part(&self, name: &str) -> &[String] {
        self.parts.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The same without the ids that records got from their batch: those of formats without an identity of their own.
    #[must_use]
    pub fn without_given_ids(mut self) -> Self {
        for line in self.parts.get_mut("events").into_iter().flatten() {
            if let Some(rest) = line.strip_prefix("given ").and_then(|rest| rest.split_once(' ')) {
                *line = format!("given - {}", rest.1);
            }
        }
        self.parts.values_mut().for_each(|lines| lines.sort());
        self
    }

    /// Fails if another graph is not the same, and shows where.
    ///
    /// # Panics
    /// When they differ.
    pub fn assert_same(&self, other: &Self, what: &str) {
        let mut report = String::new();
        for (name, expected) in &self.parts {
            let actual = other.part(name);
            if expected.as_slice() == actual {
                continue;
            }
            report.push_str(&format!("{name}: {} lines expected, {} found\n", expected.len(), actual.len()));
            let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
            expected.iter().for_each(|line| *counts.entry(line).or_default() += 1);
            actual.iter().for_each(|line| *counts.entry(line).or_default() -= 1);
            for (line, count) in counts.iter().filter(|(_, count)| **count != 0).take(SHOWN) {
                let shown: String = line.chars().take(600).collect();
                report.push_str(&format!("  {}{}× {shown}\n", if *count > 0 { "missing " } else { "too many " }, count.abs()));
            }
            if counts.values().all(|count| *count == 0) {
                report.push_str("  the same lines in another order\n");
            }
        }
        assert!(report.is_empty(), "the graph differs: {what}\n{report}");
    }
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

async fn edges(client: &Client) -> Vec<String> {
    let mut stream = client.graph().stream_edges(StreamEdgesRequest { graph_arn: client.graph_arn.clone(), scope: None }).await.unwrap().into_inner();
    let mut lines = Vec::new();
    while let Some(some) = stream.message().await.unwrap() {
        lines.extend(some.edges.iter().map(|edge| format!("{edge:?}")));
    }
    lines
}

async fn entities(client: &Client) -> Vec<String> {
    let mut lines = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = SearchEntitiesRequest { graph_arn: client.graph_arn.clone(), text: "*".to_owned(), page_size: 1000, page_token, ..Default::default() };
        let page = client.graph().search_entities(request).await.unwrap().into_inner();
        lines.extend(page.entities.iter().map(|entity| format!("{entity:?}")));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return lines;
        }
    }
}

async fn events(client: &Client, contents: &HashMap<String, Bytes>) -> Vec<String> {
    let mut stream = client.graph().stream_events(StreamEventsRequest { graph_arn: client.graph_arn.clone(), filter: None }).await.unwrap().into_inner();
    let mut lines = Vec::new();
    while let Some(some) = stream.message().await.unwrap() {
        for mut event in some.events {
            let place = (base(&event.source_object).to_owned(), usize::try_from(event.offset).unwrap());
            let content = contents.get(&place.0).unwrap_or_else(|| panic!("event `{}` is from an unknown object `{}`", event.id, event.source_object));
            let there = content.get(place.1..place.1 + event.raw.len());
            assert_eq!(there, Some(event.raw.as_bytes()), "the text of event `{}` is not in `{}` at {}", event.id, place.0, place.1);
            // Of a record that came twice, either copy may have been the first.
            event.source_object.clear();
            event.offset = 0;
            let id = std::mem::take(&mut event.id);
            if event.kind() == RecordKind::VpcFlow {
                lines.push(format!("given {id} {place:?} {event:?}"));
            } else {
                lines.push(format!("own {id} {event:?}"));
            }
        }
    }
    lines.sort();
    lines
}

async fn findings(client: &Client) -> Vec<String> {
    let mut lines = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListFindingsRequest { graph_arn: client.graph_arn.clone(), include_archived: true, page_size: 1000, page_token, ..Default::default() };
        let page = client.graph().list_findings(request).await.unwrap().into_inner();
        lines.extend(page.findings.iter().map(|finding| format!("{finding:?}")));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return lines;
        }
    }
}

async fn dead_letters(client: &Client) -> Vec<String> {
    let mut lines = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListDeadLettersRequest { graph_arn: client.graph_arn.clone(), page_size: 1000, page_token, ..Default::default() };
        let page = client.graph().list_dead_letters(request).await.unwrap().into_inner();
        for mut letter in page.dead_letters {
            letter.time = None;
            letter.source_object = base(&letter.source_object).to_owned();
            lines.push(format!("{letter:?}"));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return lines;
        }
    }
}

async fn statistics(client: &Client) -> Vec<String> {
    let request = GetGraphStatisticsRequest { graph_arn: client.graph_arn.clone() };
    let statistics = client.graph().get_graph_statistics(request).await.unwrap().into_inner();
    let entities: BTreeMap<_, _> = statistics.entities.iter().collect();
    let mut lines: Vec<String> = statistics.kinds.iter().map(|kind| format!("{kind:?}")).collect();
    lines.extend(entities.iter().map(|(kind, count)| format!("{kind}: {count}")));
    lines.push(format!("findings: {}, dead letters: {}", statistics.findings, statistics.dead_letters));
    lines
}
