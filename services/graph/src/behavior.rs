//! What is unusual in some hours, of one entity or of all: the statistics of `gumshoe_behavior` on the edges of the lake.
//!
//! | module | holds |
//! |---|---|
//! | [`volume`] | calls by hour against the hours of 45 days |
//! | [`peers`] | operations and networks against what similar principals use |
//! | [`burst`] | bursts and lockstep of calls |
//! | [`flows`] | beacons, scans, data going out |
//! | [`travel`] | principals and sessions at two places |
//!
//! The same queries serve both: who asks about one entity names it, the sweep takes all that were active in its hours. Each runs in
//! the query engine, sorted by entity, so that of many entities one is in memory at a time.

use std::fmt::Write as _;

use gumshoe_behavior::{Anomaly, risk::Source};
use gumshoe_enrich::Places;
use gumshoe_lake::Snapshot;
use gumshoe_model::{EntityKey, EntityType, Hour, TimeWindow, Timestamp};
use gumshoe_runtime::status;

use crate::{
    rows::{self, Answer, Parameters},
    store::usual::Usual,
};

pub(crate) mod burst;
pub(crate) mod flows;
pub(crate) mod peers;
pub(crate) mod travel;
pub(crate) mod volume;

/// Hours of baseline.
pub(crate) const BASELINE_HOURS: i64 = 45 * 24;
/// Whose calls are compared with their own and with those of others.
const PRINCIPALS: [EntityType; 6] =
    [EntityType::User, EntityType::Role, EntityType::RoleSession, EntityType::FederatedUser, EntityType::Root, EntityType::KubernetesSubject];
/// Others that an anomaly names.
pub(crate) const MAX_OTHERS: usize = 10;

/// Which edges are looked at.
pub(crate) struct Scope<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) places: &'a Places,
    /// The first hour since the epoch, and the one after the last.
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// One entity, or all that were active in these hours.
    pub(crate) entity: Option<&'a EntityKey>,
}

/// Something unusual.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) source: Source,
    pub(crate) entity: EntityKey,
    /// Others that it involves, at most [`MAX_OTHERS`].
    pub(crate) others: Vec<EntityKey>,
    /// What the entity did that its peers don't, what surprises most first; of peer groups only.
    pub(crate) items: Vec<String>,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) anomaly: Anomaly,
}

/// Says whether a score of a source is worth to be told with its reasons. It sees every score, in the same order each time.
pub(crate) type Judge<'a> = dyn FnMut(Source, f64) -> bool + Send + 'a;

impl Scope<'_> {
    /// From the start of one hour up to that of another.
    pub(crate) fn window(from: i64, to: i64) -> Answer<TimeWindow> {
        TimeWindow::new(Hour(from.max(0)).start(), Hour(to).start()).map_err(|error| status::internal(&error))
    }

    /// Rows of edges from some hours on up to the end of scope, as `e`, that are of the entity asked about, or else of the types
    /// `kinds` and of entities that have an edge of `condition` in scope.
    fn edges(&self, from: i64, kinds: &[EntityType], condition: &str, parameters: &mut Parameters) -> Answer<String> {
        let all = parameters.within_of("all_", "hour", Self::window(from, self.to)?);
        let kinds = rows::quoted(kinds);
        let mut sql = format!("(SELECT * FROM edges WHERE {all} AND {condition} AND ");
        match self.entity {
            Some(entity) => {
                let _ = write!(sql, "{}) e", parameters.entities("e", "entity_type", "entity_id", [entity]));
            }
            None if from >= self.from => {
                let _ = write!(sql, "entity_type IN ({kinds})) e");
            }
            None => {
                let within = parameters.within_of("scope_", "hour", Self::window(self.from, self.to)?);
                let _ = write!(
                    sql,
                    "entity_type IN ({kinds})) e LEFT SEMI JOIN \
                     (SELECT DISTINCT entity_type, entity_id FROM edges WHERE {within} AND {condition} AND entity_type IN ({kinds})) active \
                     ON e.entity_type = active.entity_type AND e.entity_id = active.entity_id"
                );
            }
        }
        Ok(sql)
    }

    /// Whether the entity asked about can have what is looked for.
    fn may_be(&self, kinds: &[EntityType]) -> bool {
        self.entity.is_none_or(|entity| kinds.contains(&entity.kind))
    }

    /// Whether an address is on the internet.
    fn is_public(&self, address: &str) -> bool {
        address.parse().is_ok_and(|address| !self.places.lookup(address).private)
    }
}

/// What is unusual in the hours of a scope but for bursts, whose detector goes forward only; `beacons` are looked for in seven days.
pub(crate) async fn find(scope: &Scope<'_>, model: &peers::Model, usual: &Usual, beacons: bool, judge: &mut Judge<'_>) -> Answer<Vec<Found>> {
    let mut found = volume::find(scope, judge).await?;
    found.extend(peers::find(scope, model, usual, judge).await?);
    found.extend(flows::find(scope, beacons, judge).await?);
    found.extend(travel::find(scope, judge).await?);
    Ok(found)
}

/// All that is unusual about the one entity of a scope, the highest score first.
pub(crate) async fn of_one(scope: &Scope<'_>, model: &peers::Model, usual: &Usual) -> Answer<Vec<Found>> {
    let mut worth = |_, score| score >= 1.0;
    let mut found = find(scope, model, usual, true, &mut worth).await?;
    found.extend(burst::of_one(scope, &mut worth).await?);
    found.sort_by(|one, other| other.anomaly.score.total_cmp(&one.anomaly.score).then_with(|| one.source.cmp(&other.source)));
    Ok(found)
}

/// Rows gathered while they are of one thing: handed to `take` when the next begins.
struct Runs<K, T, F> {
    key: Option<K>,
    rows: Vec<T>,
    take: F,
}

impl<K: PartialEq, T, F: FnMut(K, Vec<T>)> Runs<K, T, F> {
    fn new(take: F) -> Self {
        Self { key: None, rows: Vec::new(), take }
    }

    fn push(&mut self, key: K, row: T) {
        if self.key.as_ref() != Some(&key) {
            self.hand_over();
            self.key = Some(key);
        }
        self.rows.push(row);
    }

    /// Hands the last rows over.
    fn end(mut self) {
        self.hand_over();
    }

    fn hand_over(&mut self) {
        if let Some(key) = self.key.take() {
            (self.take)(key, std::mem::take(&mut self.rows));
        }
    }
}
