//! Finding groups: findings that are one story, by the rare entities that they share.
//!
//! | module | holds |
//! |---|---|
//! | [`cluster`] | which findings are one story |
//! | [`reconcile`] | which group is which, so that ids stay |
//! | [`tactics`] | what findings are signs of |
//! | [`summary`] | a group in sentences and in the order of time |
//! | [`export`] | a group as Markdown, HTML, JSON and STIX |
//! | [`regroup`] | all of it in the background |

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use gumshoe_api::investigation::v1 as api;
use gumshoe_model::{EntityKey, EntityType, Invalid, Severity, Timestamp};
use serde::{Deserialize, Serialize};

pub mod cluster;
pub mod export;
pub mod reconcile;
pub mod regroup;
pub mod summary;
pub mod tactics;

use cluster::{Cluster, Degrees, Input};
use tactics::Catalog;

use crate::verdict::Kind;

/// A group's id: a UUID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(String);

impl GroupId {
    /// A new one; later ones sort after earlier ones.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for GroupId {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let id = uuid::Uuid::try_parse(value).map_err(|_| Invalid::new("group id", value, "expected a UUID"))?;
        Ok(Self(id.to_string()))
    }
}

/// What is to be done about a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// To be looked at.
    Open,
    /// Done with.
    Closed,
    /// Its findings are not tied any more.
    Dissolved,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Open, Self::Closed, Self::Dissolved];

    /// The name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Closed => "CLOSED",
            Self::Dissolved => "DISSOLVED",
        }
    }

    /// By its name in the store.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// As in messages.
    #[must_use]
    pub fn to_proto(self) -> api::FindingGroupStatus {
        match self {
            Self::Open => api::FindingGroupStatus::Open,
            Self::Closed => api::FindingGroupStatus::Closed,
            Self::Dissolved => api::FindingGroupStatus::Dissolved,
        }
    }

    /// Out of a message; `None` for unspecified or unknown numbers.
    #[must_use]
    pub fn from_proto(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.to_proto() as i32 == number)
    }
}

/// What ties a finding to another of its group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tie {
    /// The other finding.
    pub finding: String,
    /// Entities that both name, as `type:id`, those that weigh most first.
    pub entities: Vec<String>,
    /// How strong it is, to two digits.
    pub weight: f64,
}

/// A finding of a group, as of when the group last changed. Times are in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its ARN, or the id its product gives.
    pub id: String,
    /// Its type.
    pub finding_type: String,
    /// The product that said it.
    pub product: String,
    /// One line.
    pub title: String,
    /// 0 to 10.
    pub severity: f64,
    /// 12 digits, or empty.
    pub account: String,
    /// May be empty.
    pub region: String,
    /// How often it was seen.
    pub count: u64,
    /// When it was first seen.
    pub first: i64,
    /// When it was last seen.
    pub last: i64,
    /// When the detector last changed it.
    pub update: i64,
    /// Whether it is archived or resolved at its source.
    pub archived: bool,
    /// Entities that it names, as `type:id`.
    pub entities: Vec<String>,
    /// Tactics, by name, in the order of an attack.
    pub tactics: Vec<String>,
    /// Techniques, by id.
    pub techniques: Vec<String>,
    /// What ties it to others.
    pub ties: Vec<Tie>,
    /// The verdict in force; none for one that was reopened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Kind>,
}

/// An entity of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// As `type:id`.
    pub key: String,
    /// Findings of the group that name it.
    pub findings: usize,
    /// How many share it; 0 if that was not counted.
    pub degree: u64,
    /// Whether so many share it that it ties nothing.
    pub hub: bool,
    /// Whether it ties findings of the group.
    pub ties: bool,
}

impl Entity {
    /// What it is to the group, in words; empty if nothing.
    fn role(&self) -> &'static str {
        match (self.hub, self.ties) {
            (true, _) => "a hub: ties nothing",
            (false, true) => "ties findings",
            (false, false) => "",
        }
    }

    /// How many share it, in words; empty if that was not counted.
    fn shared_by(&self) -> String {
        if self.degree == 0 { String::new() } else { self.degree.to_string() }
    }
}

/// Something that a principal did for the first time in 45 days while the group's findings were active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// When first, in microseconds.
    pub time: i64,
    /// The principal, as `type:id`.
    pub entity: String,
    /// What kind of thing.
    pub kind: FactKind,
    /// The operation with its service, the country, the network or the user agent.
    pub value: String,
    /// How often.
    pub count: u64,
}

/// Kinds of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactKind {
    /// An operation was called.
    NewOperation,
    /// Calls came from a country.
    NewCountry,
    /// Calls came from a network.
    NewNetwork,
    /// A user agent was used.
    NewUserAgent,
}

/// All that a group holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Its findings, in the order of time.
    pub findings: Vec<Member>,
    /// Its entities, those that most findings name first.
    pub entities: Vec<Entity>,
    /// What its principals did, in the order of time.
    pub facts: Vec<Fact>,
}

/// A group in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// One line.
    pub title: String,
    /// The severity of the worst finding that was not dismissed, 0 to 10; 0 if all were.
    pub severity: f64,
    /// How much the findings say together, 0 to 100, and what makes it.
    pub score: Vec<(String, u32)>,
    /// When the first finding was first seen, in microseconds.
    pub first: i64,
    /// When the latest was last seen.
    pub last: i64,
    /// Tactics, by name, in the order of an attack.
    pub tactics: Vec<String>,
    /// Techniques, by id.
    pub techniques: Vec<String>,
    /// Findings by the name of their severity.
    pub by_severity: BTreeMap<String, u32>,
    /// Findings.
    pub findings: usize,
    /// Those that were judged false positives or benign: they make neither severity, score, tactics nor techniques.
    #[serde(default)]
    pub dismissed: usize,
    /// Entities.
    pub entities: usize,
    /// Accounts.
    pub accounts: Vec<String>,
}

/// A group as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// What is to be done about it.
    pub status: Status,
    /// What it is in short.
    pub overview: Overview,
    /// When it was made.
    pub create_time: Timestamp,
    /// When its findings last changed.
    pub update_time: Timestamp,
    /// Groups that were merged into it, by id.
    pub merged: Vec<GroupId>,
    /// The group that its findings were in before.
    pub split_from: Option<GroupId>,
}

/// A decision on a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The status from then on.
    pub status: Status,
    /// Why.
    pub note: String,
    /// Who decided.
    pub author: String,
    /// When.
    pub time: Timestamp,
}

/// The most points of the worst finding.
const WORST_POINTS: f64 = 60.0;
/// Points of each tactic, type of findings and account after the first, and the most that they make.
const TACTIC_POINTS: (u32, u32) = (6, 24);
const TYPE_POINTS: (u32, u32) = (2, 10);
const ACCOUNT_POINTS: (u32, u32) = (3, 6);

impl Body {
    /// A group of findings that were read, and of members that the graph has forgotten.
    #[must_use]
    pub fn new(read: &[Member], cluster: &Cluster, inputs: &[Input], degrees: &Degrees, forgotten: Vec<Member>) -> Self {
        let mut findings: Vec<Member> = cluster.findings.iter().filter_map(|place| read.get(*place).cloned()).chain(forgotten).collect();
        findings.sort_by(|one, other| (one.first, one.last, &one.id).cmp(&(other.first, other.last, &other.id)));
        let id = |place: usize| inputs.get(place).map(|input| input.id.clone()).unwrap_or_default();
        for tie in &cluster.ties {
            let (one, other) = (id(tie.one), id(tie.other));
            let entities: Vec<String> = tie.entities.iter().map(ToString::to_string).collect();
            let weight = (tie.weight * 100.0).round() / 100.0;
            for (from, to) in [(&one, &other), (&other, &one)] {
                if let Some(member) = findings.iter_mut().find(|member| member.id == *from) {
                    member.ties.push(Tie { finding: to.clone(), entities: entities.clone(), weight });
                }
            }
        }
        let mut named: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
        for member in &findings {
            for entity in &member.entities {
                named.entry(entity).or_default().0 += 1;
            }
            for entity in member.ties.iter().flat_map(|tie| &tie.entities) {
                named.entry(entity).or_default().1 = true;
            }
        }
        let mut entities: Vec<Entity> = named
            .into_iter()
            .map(|(key, (findings, ties))| {
                let entity: Option<EntityKey> = key.parse().ok();
                let degree = entity.as_ref().and_then(|entity| degrees.of(entity)).unwrap_or_default();
                let hub = entity.as_ref().is_some_and(|entity| degrees.is_hub(entity));
                Entity { key: key.to_owned(), findings, degree, hub, ties }
            })
            .collect();
        entities.sort_by(|one, other| other.findings.cmp(&one.findings).then_with(|| one.key.cmp(&other.key)));
        Self { findings, entities, facts: Vec::new() }
    }

    /// Whether another body says the same but for the facts, which are not read again then.
    #[must_use]
    pub fn same_findings(&self, other: &Self) -> bool {
        (&self.findings, &self.entities) == (&other.findings, &other.entities)
    }

    /// Entities of some types, those that most findings name first.
    pub fn entities_of(&self, kinds: &'static [EntityType]) -> impl Iterator<Item = (EntityKey, &Entity)> {
        let parsed = |entity: &'_ Entity| entity.key.parse::<EntityKey>().ok();
        self.entities.iter().filter_map(move |entity| parsed(entity).filter(|key| kinds.contains(&key.kind)).map(|key| (key, entity)))
    }

    /// The group in short.
    #[must_use]
    pub fn overview(&self) -> Overview {
        let ordered = |tactics: Vec<&String>| {
            gumshoe_detections::Tactic::ALL.iter().map(|tactic| tactic.as_str().to_owned()).filter(|name| tactics.contains(&name)).collect::<Vec<_>>()
        };
        let standing: Vec<&Member> = self.findings.iter().filter(|finding| !finding.is_dismissed()).collect();
        let tactics = ordered(standing.iter().flat_map(|finding| &finding.tactics).collect());
        let techniques = distinct(standing.iter().flat_map(|finding| finding.techniques.clone()));
        let types = distinct(standing.iter().map(|finding| finding.finding_type.as_str()));
        let account = |finding: &Member| Some(finding.account.clone()).filter(|account| !account.is_empty());
        let accounts = distinct(self.findings.iter().filter_map(account));
        let standing_accounts = distinct(standing.iter().filter_map(|finding| account(finding)));
        let mut by_severity = BTreeMap::new();
        for finding in &self.findings {
            *by_severity.entry(Severity::of_score(finding.severity).as_str().to_owned()).or_default() += 1;
        }
        let severity = standing.iter().map(|finding| finding.severity).fold(0.0, f64::max);
        Overview {
            title: summary::title(self, &tactics),
            severity,
            score: score(severity, tactics.len(), types.len(), standing_accounts.len()),
            first: self.findings.iter().map(|finding| finding.first).min().unwrap_or_default(),
            last: self.findings.iter().map(|finding| finding.last.max(finding.first)).max().unwrap_or_default(),
            tactics,
            techniques,
            by_severity,
            findings: self.findings.len(),
            dismissed: self.findings.len() - standing.len(),
            entities: self.entities.len(),
            accounts,
        }
    }
}

impl Overview {
    /// The sum of the score's parts.
    #[must_use]
    pub fn points(&self) -> u32 {
        self.score.iter().map(|(_, points)| points).sum()
    }

    /// The severity in a word.
    #[must_use]
    pub fn label(&self) -> Severity {
        Severity::of_score(self.severity)
    }
}

fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.collect::<BTreeSet<T>>().into_iter().collect()
}

/// The parts of a score; together at most 100.
fn score(severity: f64, tactics: usize, types: usize, accounts: usize) -> Vec<(String, u32)> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 60")]
    let worst = (severity.clamp(0.0, 10.0) * WORST_POINTS / 10.0).round() as u32;
    let further = |number: usize, (each, most): (u32, u32)| u32::try_from(number.saturating_sub(1)).unwrap_or(u32::MAX).saturating_mul(each).min(most);
    [
        (format!("the worst finding has severity {severity:.1}"), worst),
        (format!("{tactics} tactics"), further(tactics, TACTIC_POINTS)),
        (format!("{types} types of findings"), further(types, TYPE_POINTS)),
        (format!("{accounts} accounts"), further(accounts, ACCOUNT_POINTS)),
    ]
    .into_iter()
    .filter(|(_, points)| *points > 0)
    .collect()
}

impl Member {
    /// Adds the tactics and techniques that a catalog knows.
    #[must_use]
    pub fn with_signs(mut self, catalog: &Catalog) -> Self {
        let signs = catalog.signs(&self.product, &self.finding_type, &self.title);
        self.tactics = signs.tactics.iter().map(|tactic| tactic.as_str().to_owned()).collect();
        self.techniques = signs.techniques.into_iter().collect();
        self
    }

    /// Whether it was judged a false positive or benign.
    #[must_use]
    pub fn is_dismissed(&self) -> bool {
        self.verdict.is_some_and(Kind::dismisses)
    }

    /// The verdict in force; empty if there is none.
    fn verdict_in_words(&self) -> &'static str {
        self.verdict.map_or("", Kind::in_words)
    }

    /// As far as grouping goes.
    #[must_use]
    pub fn input(&self) -> Input {
        let mut entities: Vec<EntityKey> = self.entities.iter().filter_map(|entity| entity.parse().ok()).collect();
        entities.sort();
        entities.dedup();
        Input { id: self.id.clone(), first: Timestamp(self.first), last: Timestamp(self.last), entities }
    }
}

#[cfg(test)]
pub(crate) mod tests;
