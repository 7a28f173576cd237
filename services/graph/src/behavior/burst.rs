//! Bursts and lockstep of calls: MIDAS-F on edges from principals to operations, hour by hour.

use std::collections::BTreeMap;

use gumshoe_behavior::{
    midas::{By, Midas, Settings},
    risk::Source,
};
use gumshoe_model::{EntityKey, EntityType, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use super::{BASELINE_HOURS, Found, Judge, MAX_OTHERS, Scope};
use crate::rows::{self, Answer, Columns, Parameters};

/// Whose calls are edges. Sessions count for their role.
const PRINCIPALS: [EntityType; 5] = [EntityType::User, EntityType::Role, EntityType::FederatedUser, EntityType::Root, EntityType::KubernetesSubject];
/// Columns of a sketch: enough for some thousand pairs an hour; 300 KB in all.
const COLUMNS: usize = 4_096;

/// Calls in an hour that make a burst at least.
const FEWEST: f64 = 10.0;

/// A detector that has seen nothing. Its hashes begin with a number that nobody knows.
pub(crate) fn detector() -> Midas {
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    Midas::new(Settings { columns: COLUMNS, seed, ..Settings::default() })
}

/// Bursts in scope. The detector has seen the hours before, and learns these.
pub(crate) async fn find(scope: &Scope<'_>, midas: &mut Midas, judge: &mut Judge<'_>) -> Answer<Vec<Found>> {
    read(scope, scope.from, midas, judge).await
}

/// Bursts in scope of the one entity that is asked about, by its own edges of the baseline.
pub(crate) async fn of_one(scope: &Scope<'_>, judge: &mut Judge<'_>) -> Answer<Vec<Found>> {
    if !scope.may_be(&PRINCIPALS) {
        return Ok(Vec::new());
    }
    let found = read(scope, scope.from - BASELINE_HOURS, &mut detector(), judge).await?;
    // What others did is not known here, so neither is lockstep.
    Ok(found.into_iter().filter(|found| Some(&found.entity) == scope.entity).collect())
}

async fn read(scope: &Scope<'_>, from: i64, midas: &mut Midas, judge: &mut Judge<'_>) -> Answer<Vec<Found>> {
    let mut parameters = Parameters::new();
    let edges = scope.edges(from, &PRINCIPALS, "side = 'out' AND relation IN ('called', 'failed_to_call') AND operation <> ''", &mut parameters)?;
    let sql = format!(
        "SELECT e.hour, e.entity_type, e.entity_id, e.operation, sum(e.count) AS count, min(e.first_time) AS first_time, \
         max(e.last_time) AS last_time FROM {edges} \
         GROUP BY e.hour, e.entity_type, e.entity_id, e.operation ORDER BY e.hour, e.entity_type, e.entity_id, e.operation"
    );
    // Of an entity, the most unusual only.
    let mut found: BTreeMap<EntityKey, Found> = BTreeMap::new();
    rows::each_of(scope.snapshot, &sql, parameters, |batch| {
        let columns = Columns(batch);
        let (hours, types, ids) = (columns.numbers("hour")?, columns.texts("entity_type")?, columns.texts("entity_id")?);
        let (operations, counts) = (columns.texts("operation")?, columns.numbers("count")?);
        let (firsts, lasts) = (columns.numbers("first_time")?, columns.numbers("last_time")?);
        for row in 0..columns.len() {
            let (hour, operation) = (hours.time(row).hour().0, operations.get(row));
            let principal = rows::entity(types.get(row), ids.get(row))?;
            let count = u32::try_from(counts.count(row)).unwrap_or(u32::MAX);
            let tick = u64::try_from(hour).unwrap_or_default();
            let burst = midas.observe(xxh3_64(principal.to_string().as_bytes()), xxh3_64(operation.as_bytes()), tick, count);
            if hour < scope.from {
                continue;
            }
            // Less than usual is no burst, nor are a few of what is rare.
            let mut anomaly = burst.anomaly("hour");
            let is_burst = burst.count > burst.usual && burst.count >= FEWEST;
            if !judge(Source::Burst, if is_burst { anomaly.score } else { 0.0 }) {
                continue;
            }
            let shown = operation.replacen('/', " ", 1);
            let (entity, other, what) = match burst.by {
                By::Edge => (principal, None, format!("{shown}: ")),
                By::Source => (principal, None, String::new()),
                By::Destination => {
                    let service = operation.split_once('/').map_or(operation, |(service, _)| service);
                    (EntityKey { kind: EntityType::AwsService, id: service.to_owned() }, Some(principal), format!("{shown}: "))
                }
            };
            anomaly.label.insert_str(0, &what);
            let (first, last) = (firsts.time(row), lasts.time(row));
            let known = found.entry(entity.clone()).or_insert_with(|| Found {
                source: Source::Burst,
                entity,
                others: Vec::new(),
                items: Vec::new(),
                first,
                last,
                anomaly: anomaly.clone(),
            });
            known.first = known.first.min(first);
            known.last = Timestamp(known.last.0.max(last.0));
            if let Some(other) = other.filter(|other| known.others.len() < MAX_OTHERS && !known.others.contains(other)) {
                known.others.push(other);
            }
            if anomaly.score > known.anomaly.score {
                known.anomaly = anomaly;
            }
        }
        Ok(())
    })
    .await?;
    Ok(found.into_values().collect())
}
