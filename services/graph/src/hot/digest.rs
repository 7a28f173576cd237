//! What the risk of an entity is made of, apart from findings: a sum over its edges, in whatever order they come.
//!
//! A digest is begun at an hour, its *base*, and can be asked about scope times that start between the base and a week
//! later. Of every value it keeps the last hour before the base and the first one since: that is enough to say, of any of
//! these scope times, whether the value is new in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::record_batch::RecordBatch;
use gumshoe_behavior::{Baseline, Calls, Input, Kind, New, failures, newness};
use gumshoe_enrich::Places;
use gumshoe_model::{
    EntityType, Relation, Timestamp,
    time::{MICROS_PER_DAY, MICROS_PER_HOUR},
};

use crate::{
    activity::MAX_VALUES,
    rows::{Answer, Columns},
};

/// Hours of baseline before a scope time.
pub(crate) const BASELINE_HOURS: i64 = 45 * 24;
/// Days of it.
const BASELINE_DAYS: usize = 45;
/// How long after its base a scope time may start, in hours. INVARIANT: less than the baseline, or a value seen since the
/// base might be forgotten.
pub(crate) const HORIZON_HOURS: i64 = 7 * 24;
/// Operations with errors that are counted.
const MAX_FAILED: usize = 1_000;
/// Operations with errors that are shown.
const SHOWN_FAILED: usize = 10;

/// Columns of edges that a digest is made of.
pub(crate) const EDGE_COLUMNS: &[&str] = &[
    "entity_type",
    "entity_id",
    "hour",
    "side",
    "relation",
    "peer_type",
    "peer_id",
    "operation",
    "address",
    "country",
    "asn",
    "user_agent",
    "count",
    "errors",
    "last_time",
];
/// Columns of entities that a digest is made of.
pub(crate) const ENTITY_COLUMNS: &[&str] = &["entity_type", "entity_id", "account", "last_time"];

/// The first hour of the scope time that ends now: the last 24 hours, widened to whole ones.
pub(crate) fn scope_start(time: Timestamp) -> i64 {
    Timestamp((time.0 - MICROS_PER_DAY).max(0)).hour().0
}

/// Records of an hour that count as activity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Hourly {
    pub(crate) count: u64,
    pub(crate) errors: u64,
    /// The latest of them.
    pub(crate) last: i64,
}

/// When a value was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The last hour before the base.
    pub(crate) before: Option<i64>,
    /// The first hour since.
    pub(crate) since: Option<i64>,
    /// The last time since.
    pub(crate) last: i64,
}

/// Values of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Values {
    pub(crate) seen: HashMap<Box<str>, Seen>,
    /// There are more than can be kept.
    pub(crate) crowded: bool,
}

/// What an entity did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digest {
    /// Its first hour of scope.
    pub(crate) base: i64,
    /// Its account, as its latest record that names one says, and the time of that record.
    pub(crate) account: (i64, String),
    pub(crate) hours: BTreeMap<i64, Hourly>,
    /// Failed calls since the base, by operation and hour.
    pub(crate) failed: BTreeMap<String, BTreeMap<i64, u64>>,
    /// In the order of [`Kind::ALL`].
    pub(crate) values: [Values; 6],
}

impl Digest {
    /// Of an entity that is not known to have done anything, for scope times that start at `base` or later.
    pub(crate) fn new(base: i64) -> Self {
        Self { base, account: (i64::MIN, String::new()), hours: BTreeMap::new(), failed: BTreeMap::new(), values: Default::default() }
    }

    /// Whether a scope time that starts at that hour can be asked about.
    pub(crate) fn covers(&self, start: i64) -> bool {
        (self.base..=self.base + HORIZON_HOURS).contains(&start)
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let values = self.values.iter().flat_map(|values| values.seen.keys()).map(|text| text.len() + 64).sum::<usize>();
        let failed = self.failed.iter().map(|(operation, hours)| operation.len() + 64 + hours.len() * 16).sum::<usize>();
        512 + self.account.1.len() + self.hours.len() * 40 + values + failed
    }

    /// Adds rows of edges of the entity, which is of type `kind`.
    pub(crate) fn add_edges(&mut self, kind: EntityType, rows: &RecordBatch, places: &Places) -> Answer<()> {
        let columns = Columns(rows);
        let [sides, relations, peers] = [columns.texts("side")?, columns.texts("relation")?, columns.texts("peer_type")?];
        let peer_ids = columns.texts("peer_id")?;
        let [operations, addresses, countries, user_agents] =
            [columns.texts("operation")?, columns.texts("address")?, columns.texts("country")?, columns.texts("user_agent")?];
        let [hours, asns, counts, errors, lasts] =
            [columns.numbers("hour")?, columns.numbers("asn")?, columns.numbers("count")?, columns.numbers("errors")?, columns.numbers("last_time")?];
        for row in 0..columns.len() {
            let Ok(relation) = relations.get(row).parse() else { continue };
            if is_touch(kind, sides.get(row), relation, peers.get(row)) {
                let hour = hours.time(row).hour().0;
                if hour >= self.base - BASELINE_HOURS {
                    self.see(Kind::Resource, peer_ids.get(row), hour, lasts.get(row));
                }
                continue;
            }
            if !is_activity(kind, sides.get(row) == "out", relation, peers.get(row)) {
                continue;
            }
            let hour = hours.time(row).hour().0;
            if hour < self.base - BASELINE_HOURS {
                continue;
            }
            let (errors, last) = (errors.count(row), lasts.get(row));
            let sum = self.hours.entry(hour).or_default();
            *sum = Hourly { count: sum.count + counts.count(row), errors: sum.errors + errors, last: sum.last.max(last) };
            let operation = operations.get(row);
            if errors > 0 && hour >= self.base && !operation.is_empty() {
                self.fail(operation, hour, errors);
            }
            self.see(Kind::Operation, operation, hour, last);
            self.see(Kind::UserAgent, user_agents.get(row), hour, last);
            let address = addresses.get(row);
            if !address.is_empty() {
                self.see(Kind::Address, address, hour, last);
                let (country, asn) = place(places, address, countries.get(row), asns.get(row));
                self.see(Kind::Country, &country, hour, last);
                if asn != 0 {
                    self.see(Kind::Network, &format!("AS{asn}"), hour, last);
                }
            }
        }
        Ok(())
    }

    /// Adds rows of entities of the entity.
    pub(crate) fn add_entities(&mut self, rows: &RecordBatch) -> Answer<()> {
        let columns = Columns(rows);
        let (accounts, lasts) = (columns.texts("account")?, columns.numbers("last_time")?);
        for row in 0..columns.len() {
            let account = accounts.get(row);
            if !account.is_empty() && (self.account.0, self.account.1.as_str()) < (lasts.get(row), account) {
                self.account = (lasts.get(row), account.to_owned());
            }
        }
        Ok(())
    }

    fn fail(&mut self, operation: &str, hour: i64, errors: u64) {
        if let Some(hours) = self.failed.get_mut(operation) {
            *hours.entry(hour).or_default() += errors;
        } else if self.failed.len() < MAX_FAILED {
            self.failed.insert(operation.to_owned(), BTreeMap::from([(hour, errors)]));
        }
    }

    fn see(&mut self, kind: Kind, value: &str, hour: i64, last: i64) {
        let base = self.base;
        let Some(values) = self.values.get_mut(kind as usize).filter(|values| !values.crowded && !value.is_empty()) else { return };
        if !values.seen.contains_key(value) {
            if values.seen.len() == MAX_VALUES {
                *values = Values { seen: HashMap::new(), crowded: true };
                return;
            }
            values.seen.insert(value.into(), Seen { before: None, since: None, last: i64::MIN });
        }
        let Some(seen) = values.seen.get_mut(value) else { return };
        if hour < base {
            seen.before = seen.before.max(Some(hour));
        } else {
            seen.since = Some(seen.since.map_or(hour, |first| first.min(hour)));
            seen.last = seen.last.max(last);
        }
    }

    /// What is unusual in the 24 hours up to `time`. `days` have any record of the account in the baseline.
    pub(crate) fn facts(&self, time: Timestamp, days: u32) -> Vec<Input> {
        let (start, end) = (scope_start(time), time.hour().0 + 1);
        let (mut before, mut scope) = (Hourly::default(), Hourly::default());
        for (hour, sum) in self.hours.range(start - BASELINE_HOURS..end) {
            let total = if *hour < start { &mut before } else { &mut scope };
            *total = Hourly { count: total.count + sum.count, errors: total.errors + sum.errors, last: total.last.max(sum.last) };
        }
        let calls = |sum: Hourly| Calls { successes: sum.count.saturating_sub(sum.errors), failures: sum.errors };
        let baseline = Baseline { days, calls: calls(before) };
        let mut facts = Vec::new();
        if scope.count > 0 {
            facts.extend(failures(calls(scope), baseline, Timestamp(scope.last.min(time.0)), &self.failed_in(start, end)));
        }
        let mut values = Vec::new();
        for (kind, found) in Kind::ALL.into_iter().zip(&self.values) {
            let is_known = |seen: &Seen| seen.before.is_some_and(|hour| hour >= start - BASELINE_HOURS) || seen.since.is_some_and(|hour| hour < start);
            let is_seen = |seen: &Seen| seen.since.is_some_and(|hour| hour < end);
            let new = found.seen.iter().filter(|(_, seen)| is_seen(seen) && !is_known(seen));
            values.extend(new.map(|(value, seen)| New { kind, value: shown(kind, value), time: Timestamp(seen.last.min(time.0)) }));
        }
        facts.extend(newness(&values, baseline));
        facts
    }

    /// The kinds that have too many values for any to be news.
    pub(crate) fn crowded(&self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().zip(&self.values).filter(|(_, values)| values.crowded).map(|(kind, _)| kind)
    }

    /// The operations that failed most.
    fn failed_in(&self, start: i64, end: i64) -> Vec<String> {
        let mut failed: Vec<(u64, &String)> = self
            .failed
            .iter()
            .map(|(operation, hours)| (hours.range(start..end).map(|(_, errors)| *errors).sum(), operation))
            .filter(|(errors, _)| *errors > 0)
            .collect();
        failed.sort_by(|(one, left), (other, right)| other.cmp(one).then_with(|| left.cmp(right)));
        failed.into_iter().take(SHOWN_FAILED).map(|(_, operation)| shown(Kind::Operation, operation)).collect()
    }
}

/// A value as it is shown: `SERVICE OPERATION`.
fn shown(kind: Kind, value: &str) -> String {
    if kind == Kind::Operation { value.replacen('/', " ", 1) } else { value.to_owned() }
}

/// Country and network of an address: those of the time of its records, and today's where the edge has none.
fn place(places: &Places, address: &str, country: &str, asn: i64) -> (String, u32) {
    let asn = u32::try_from(asn).unwrap_or_default();
    if !country.is_empty() && asn != 0 {
        return (country.to_owned(), asn);
    }
    let today = address.parse().map(|address| places.lookup(address)).unwrap_or_default();
    let country = if country.is_empty() { today.country.as_deref().unwrap_or_default() } else { country };
    (country.to_owned(), if asn == 0 { today.asn.unwrap_or_default() } else { asn })
}

/// Whether a row of edges under a principal says that it touched a resource.
fn is_touch(kind: EntityType, side: &str, relation: Relation, peer: &str) -> bool {
    let principals = [EntityType::User, EntityType::Role, EntityType::RoleSession, EntityType::FederatedUser, EntityType::Root, EntityType::KubernetesSubject];
    relation == Relation::AffectedBy && side == "in" && principals.contains(&kind) && peer != EntityType::Finding.as_str()
}

/// Whether a row of edges under an entity is its activity; the others tie it to something that was counted already. As for
/// profiles: see `activity`.
fn is_activity(kind: EntityType, out: bool, relation: Relation, peer: &str) -> bool {
    let called = matches!(relation, Relation::Called | Relation::FailedToCall);
    let flow = matches!(relation, Relation::ConnectedTo | Relation::AcceptedFrom | Relation::RejectedFrom);
    match kind {
        EntityType::Account
        | EntityType::User
        | EntityType::Role
        | EntityType::RoleSession
        | EntityType::FederatedUser
        | EntityType::Root
        | EntityType::KubernetesSubject => out && called,
        EntityType::AwsService => called,
        EntityType::IpAddress => !out && (relation == Relation::Used || flow),
        EntityType::UserAgent | EntityType::AccessKey => !out && relation == Relation::Used,
        EntityType::NetworkInterface
        | EntityType::Ec2Instance
        | EntityType::S3Bucket
        | EntityType::Resource
        | EntityType::EksCluster
        | EntityType::Pod
        | EntityType::ContainerImage => {
            if out {
                flow || called || (relation == Relation::AffectedBy && peer != EntityType::Finding.as_str())
            } else {
                relation == Relation::Used
            }
        }
        EntityType::Finding => false,
    }
}

/// Hours with any record of an account, of which days of baseline are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Days {
    /// Scope times that start earlier cannot be asked about.
    pub(crate) base: i64,
    pub(crate) hours: BTreeSet<i64>,
}

/// Columns of events that days are made of.
pub(crate) const EVENT_COLUMNS: &[&str] = &["time", "account"];

impl Days {
    pub(crate) fn new(base: i64) -> Self {
        Self { base, hours: BTreeSet::new() }
    }

    /// Whether a scope time that starts at that hour can be asked about.
    pub(crate) fn covers(&self, start: i64) -> bool {
        self.base <= start
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn weight(&self) -> usize {
        256 + self.hours.len() * 16
    }

    /// Adds the rows of events that are of `account`.
    pub(crate) fn add_events(&mut self, account: &str, rows: &RecordBatch) -> Answer<()> {
        let columns = Columns(rows);
        let (times, accounts) = (columns.numbers("time")?, columns.texts("account")?);
        let mut latest = None;
        for row in 0..columns.len() {
            if accounts.get(row) != account {
                continue;
            }
            let hour = times.get(row).div_euclid(MICROS_PER_HOUR);
            // Neighbours are mostly of one hour.
            if latest.replace(hour) != Some(hour) && hour >= self.base - BASELINE_HOURS {
                self.hours.insert(hour);
            }
        }
        Ok(())
    }

    /// Days of the baseline before a scope time that have any record.
    pub(crate) fn before(&self, start: i64) -> u32 {
        let mut days: Vec<i64> = self.hours.range(start - BASELINE_HOURS..start).map(|hour| hour.div_euclid(24)).collect();
        days.dedup();
        at_most_baseline(days.len())
    }
}

/// Days of the baseline before a scope time for which `has_day` holds.
pub(crate) fn days_before(start: i64, has_day: impl Fn(i64) -> bool) -> u32 {
    let (first, last) = ((start - BASELINE_HOURS).div_euclid(24), (start - 1).div_euclid(24));
    at_most_baseline((first..=last).filter(|day| has_day(*day)).count())
}

/// A window that does not start at midnight touches a day more than it is long.
fn at_most_baseline(days: usize) -> u32 {
    u32::try_from(days.min(BASELINE_DAYS)).unwrap_or_default()
}
