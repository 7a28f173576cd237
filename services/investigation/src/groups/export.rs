//! A group as a document: Markdown, HTML, JSON, and a bundle of STIX 2.1.
//!
//! Documents number findings (F1) and entities (E1) in the order in which they list them; sentences cite by these.

use std::collections::HashMap;

use gumshoe_api::investigation::v1 as api;

use super::{
    Body, Decision, Group,
    summary::{self, Event, Sentence},
};

pub mod html;
pub mod json;
pub mod markdown;
pub mod stix;

/// A form of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Markdown.
    Markdown,
    /// HTML.
    Html,
    /// JSON.
    Json,
    /// STIX 2.1.
    Stix,
}

impl Format {
    /// Out of a message; `None` for unspecified or unknown numbers.
    #[must_use]
    pub fn from_proto(number: i32) -> Option<Self> {
        match api::FindingGroupFormat::try_from(number).ok()? {
            api::FindingGroupFormat::Unspecified => None,
            api::FindingGroupFormat::Markdown => Some(Self::Markdown),
            api::FindingGroupFormat::Html => Some(Self::Html),
            api::FindingGroupFormat::Json => Some(Self::Json),
            api::FindingGroupFormat::Stix => Some(Self::Stix),
        }
    }
}

/// All that a document tells.
#[derive(Debug)]
pub struct Document<'a> {
    /// The graph's ARN.
    pub graph: &'a str,
    /// The group in short.
    pub group: &'a Group,
    /// All that it holds.
    pub body: &'a Body,
    /// What was decided, latest first.
    pub decisions: &'a [Decision],
    /// What happened, in sentences.
    pub sentences: Vec<Sentence>,
    /// What happened, in the order of time.
    pub timeline: Vec<Event>,
    findings: HashMap<&'a str, usize>,
    entities: HashMap<&'a str, usize>,
}

impl<'a> Document<'a> {
    /// Puts a document together.
    #[must_use]
    pub fn new(graph: &'a str, group: &'a Group, body: &'a Body, decisions: &'a [Decision]) -> Self {
        Self {
            graph,
            group,
            body,
            decisions,
            sentences: summary::sentences(body, &group.overview),
            timeline: summary::timeline(body),
            findings: body.findings.iter().map(|finding| finding.id.as_str()).zip(1..).collect(),
            entities: body.entities.iter().map(|entity| entity.key.as_str()).zip(1..).collect(),
        }
    }

    /// The document's text.
    ///
    /// # Errors
    /// When it cannot be written as JSON, which does not happen.
    pub fn text(&self, format: Format) -> Result<String, serde_json::Error> {
        match format {
            Format::Markdown => Ok(markdown::write(self)),
            Format::Html => Ok(html::write(self)),
            Format::Json => serde_json::to_string_pretty(&json::write(self)),
            Format::Stix => serde_json::to_string_pretty(&stix::write(self)),
        }
    }

    /// What a sentence cites, by number: `F1`, `E2`, without those that are not listed.
    fn cited(&self, sentence: &Sentence) -> Vec<(char, usize)> {
        let number = |letter: char, numbers: &HashMap<&str, usize>, ids: &[String]| {
            let mut found: Vec<_> = ids.iter().filter_map(|id| numbers.get(id.as_str())).map(|number| (letter, *number)).collect();
            found.sort_unstable();
            found
        };
        [number('F', &self.findings, &sentence.findings), number('E', &self.entities, &sentence.entities)].concat()
    }

    /// What an event cites.
    fn cited_by(&self, event: &Event) -> Option<(char, usize)> {
        let finding = self.findings.get(event.finding.as_str()).map(|number| ('F', *number));
        finding.or_else(|| self.entities.get(event.entity.as_str()).map(|number| ('E', *number)))
    }

    /// What a document says of the whole group: name and value.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let (group, overview) = (self.group, &self.group.overview);
        let ids = |ids: &[super::GroupId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let parts: Vec<String> = overview.score.iter().map(|(reason, points)| format!("{points}: {reason}")).collect();
        [
            ("Group", group.id.to_string()),
            ("Graph", self.graph.to_owned()),
            ("Status", group.status.as_str().to_lowercase()),
            ("Dismissed", if overview.dismissed == 0 { String::new() } else { format!("{} of {} findings", overview.dismissed, overview.findings) }),
            ("Severity", format!("{:.1} {}", overview.severity, overview.label())),
            ("Score", format!("{} of 100 ({})", overview.points(), parts.join("; "))),
            ("Tactics", overview.tactics.join(" → ")),
            ("Techniques", overview.techniques.join(", ")),
            ("Time", format!("{} to {}", summary::time(overview.first), summary::time(overview.last))),
            ("Accounts", overview.accounts.join(", ")),
            ("Merged into it", ids(&group.merged)),
            ("Split from", group.split_from.as_ref().map(ToString::to_string).unwrap_or_default()),
            ("Last changed", summary::time(group.update_time.0)),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect()
    }
}

/// Numbers with runs of more than two drawn together: F1–F4, F7, E2.
fn ranges(cited: &[(char, usize)]) -> Vec<((char, usize), (char, usize))> {
    let mut ranges: Vec<((char, usize), (char, usize))> = Vec::new();
    for (letter, number) in cited {
        match ranges.last_mut() {
            Some((_, last)) if last.0 == *letter && last.1 + 1 == *number => last.1 = *number,
            _ => ranges.push(((*letter, *number), (*letter, *number))),
        }
    }
    ranges
}
