//! Matches of detection rules as findings: one for each rule, actor and UTC day.
//!
//! Each commit writes a row for what its events say of a finding. These rows **add up**: counts are summed, times and severities are
//! minimum and maximum, entities are put together; what else a row says is that of its latest event. So the same records give the same
//! findings in whatever order and batches they come. A match with a level below medium, or of a rule that counts only if the operation
//! is new for the actor, is a mark in the event and no finding.

use std::collections::BTreeMap;

use gumshoe_detections::{Rule, RuleSet};
use gumshoe_model::{EntityKey, EntityType, Finding, Level, PRODUCT, RecordKind, Timestamp};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    extract::{Graph, Node, Text},
    made::Made,
};

/// What ids of such findings begin with: `gumshoe:rule:RULE:DAY:ACTOR`, the last as a hash.
pub(crate) const PREFIX: &str = "gumshoe:rule:";
/// The least level of a match that is a finding.
const LEAST: Level = Level::Medium;
/// Entities in a row at most; the actor, its role and address come first.
pub(crate) const MAX_ENTITIES: usize = 200;

/// Whether rows of a finding add up; of others the latest row counts.
pub(crate) fn adds_up(finding: &str) -> bool {
    finding.starts_with(PREFIX)
}

/// The rule and the day, as `2024-05-01`, in the id of a finding.
pub(crate) fn parts(finding: &str) -> Option<(&str, &str)> {
    let mut parts = finding.strip_prefix(PREFIX)?.split(':');
    Some((parts.next()?, parts.next()?))
}

/// Of the rules that an event is marked with, those whose matches may be findings.
pub(crate) fn told<'r>(rules: &'r RuleSet, marks: &str) -> Vec<&'r Rule> {
    let tells = |rule: &&Rule| !rule.only_if_new && rule.level >= LEAST && !matches!(rule.kind, RecordKind::GuardDuty | RecordKind::SecurityHub);
    marks.split(' ').filter(|id| !id.is_empty()).filter_map(|id| rules.get(id)).map(|rule| &**rule).filter(tells).collect()
}

/// How much a match matters, if it is a finding.
pub(crate) fn level(rule: &Rule, failed: bool) -> Option<Level> {
    Some(rule.level_if(failed)).filter(|level| *level >= LEAST)
}

/// What tells one finding from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key<'a> {
    pub(crate) rule: &'a str,
    pub(crate) actor: Node,
    /// Days since the epoch.
    pub(crate) day: i64,
}

/// What the events of a group say of a finding.
#[derive(Debug)]
pub(crate) struct Match<'a> {
    pub(crate) rule: &'a Rule,
    /// Its id.
    pub(crate) id: Text,
    pub(crate) level: Level,
    pub(crate) count: u64,
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// Time and id of the latest event.
    pub(crate) latest: (i64, &'a str),
    /// Of the latest event.
    pub(crate) account: Text,
    pub(crate) region: Text,
    /// The entities, and how near to the actor each is: 0 is the actor.
    pub(crate) entities: BTreeMap<(EntityType, Text), u8>,
}

/// One event that a rule matches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) level: Level,
    pub(crate) time: i64,
    pub(crate) end_time: i64,
    pub(crate) event: &'a str,
    pub(crate) account: Text,
    pub(crate) region: Text,
}

impl<'a> Match<'a> {
    pub(crate) fn new(rule: &'a Rule, id: Text, seen: &Seen<'a>) -> Self {
        let Seen { level, time, end_time, event, account, region } = *seen;
        Self { rule, id, level, count: 0, first: time, last: end_time, latest: (time, event), account, region, entities: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, seen: &Seen<'a>) {
        self.count += 1;
        self.level = self.level.max(seen.level);
        self.first = self.first.min(seen.time);
        self.last = self.last.max(seen.end_time);
        let place = (seen.time, seen.event);
        if place > self.latest {
            (self.latest, self.account, self.region) = (place, seen.account, seen.region);
        }
    }

    pub(crate) fn name(&mut self, entity: Node, rank: u8) {
        let known = self.entities.entry((entity.kind, entity.id)).or_insert(rank);
        *known = rank.min(*known);
    }
}

/// What a group says of findings of rules, by id.
pub(crate) fn made(graph: &Graph<'_>) -> Vec<Made> {
    let mut made: Vec<Made> = graph.matches.iter().map(|found| found.made(graph)).collect();
    made.sort_unstable_by(|one, other| one.finding.id.cmp(&other.finding.id));
    made
}

impl Match<'_> {
    fn made(&self, graph: &Graph<'_>) -> Made {
        let text = |text| graph.texts.get(text).to_owned();
        // The nearest first, then by name, so that the same are kept whatever came first.
        let mut ranked: Vec<(u8, EntityKey)> = self.entities.iter().map(|((kind, id), rank)| (*rank, EntityKey { kind: *kind, id: text(*id) })).collect();
        ranked.sort_unstable();
        ranked.truncate(MAX_ENTITIES);
        let entities: Vec<EntityKey> = ranked.into_iter().map(|(_, entity)| entity).collect();
        Made {
            finding: Finding {
                id: text(self.id).into(),
                finding_type: finding_type(self.rule, source(self.rule.kind)).into(),
                product: PRODUCT.into(),
                title: self.rule.title.clone().into(),
                description: description(self.rule).into(),
                severity: severity(self.level),
                count: self.count,
                first_seen: Timestamp(self.first),
                last_seen: Timestamp(self.last),
                updated: Timestamp(self.latest.0),
                archived: false,
            },
            account: text(self.account),
            region: text(self.region),
            event_id: self.latest.1.to_owned(),
            raw: record(self.rule, entities.first()),
            entities,
        }
    }
}

/// The id of a finding.
pub(crate) fn id(rule: &str, actor: EntityType, actor_id: &str, day: Timestamp) -> String {
    let actor = xxh3_128(format!("{actor}:{actor_id}").as_bytes());
    format!("{PREFIX}{rule}:{}:{actor:032x}", day.to_chrono().format("%Y-%m-%d"))
}

/// What records are called in types of findings.
fn source(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::CloudTrail => "CloudTrail",
        RecordKind::VpcFlow => "VPCFlow",
        RecordKind::EksAudit => "Kubernetes",
        RecordKind::GuardDuty | RecordKind::SecurityHub => "Finding",
    }
}

/// The type of a rule's findings, in GuardDuty's form: `DefenseEvasion:CloudTrail/ATrailWasStoppedOrDeleted`.
pub(crate) fn finding_type(rule: &Rule, source: &str) -> String {
    let tactic: String = rule.tactics.first().map_or("Detection", |tactic| tactic.as_str()).split_whitespace().map(capitalized).collect();
    let title: String = rule.title.split(|letter: char| !letter.is_alphanumeric()).map(capitalized).collect();
    format!("{tactic}:{source}/{title}")
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The severity of a level, from 0 to 10 in GuardDuty's bands.
pub(crate) fn severity(level: Level) -> f64 {
    level.score() / 10.0
}

/// What a rule says, in words.
pub(crate) fn description(rule: &Rule) -> String {
    let mut text = rule.description.clone();
    let tactics: Vec<&str> = rule.tactics.iter().map(|tactic| tactic.as_str()).collect();
    let techniques: Vec<&str> = rule.techniques.iter().map(gumshoe_detections::Technique::id).collect();
    for (what, list) in [("Tactics", tactics.join(", ")), ("Techniques", techniques.join(", ")), ("Benign if", rule.false_positives.join("; "))] {
        if !list.is_empty() {
            let space = if text.is_empty() { "" } else { " " };
            text.push_str(&format!("{space}{what}: {list}."));
        }
    }
    text
}

/// The finding as a document, for those who read a finding's record.
fn record(rule: &Rule, actor: Option<&EntityKey>) -> String {
    let mut document = document(rule);
    if let (Some(fields), Some(actor)) = (document.as_object_mut(), actor) {
        fields.insert("actor".to_owned(), serde_json::json!({ "type": actor.kind.as_str(), "id": actor.id }));
    }
    document.to_string()
}

/// What a rule says, as a document.
pub(crate) fn document(rule: &Rule) -> serde_json::Value {
    let tactics: Vec<_> = rule.tactics.iter().map(|tactic| serde_json::json!({ "id": tactic.id(), "name": tactic.as_str() })).collect();
    let techniques: Vec<&str> = rule.techniques.iter().map(gumshoe_detections::Technique::id).collect();
    serde_json::json!({
        "rule": {
            "id": rule.id,
            "title": rule.title,
            "level": rule.level.as_str(),
            "tactics": tactics,
            "techniques": techniques,
            "falsePositives": rule.false_positives,
            "references": rule.references,
        },
    })
}
