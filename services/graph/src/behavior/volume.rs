//! Calls by hour against what is usual for the entity at that hour of the week.

use gumshoe_behavior::{risk::Source, volume::History};
use gumshoe_model::{EntityKey, Hour, Timestamp};

use super::{BASELINE_HOURS, Found, Judge, PRINCIPALS, Runs, Scope};
use crate::rows::{self, Answer, Columns, Parameters};

struct Row {
    hour: Hour,
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

/// The hours of principals with more calls than usual.
pub(crate) async fn find(scope: &Scope<'_>, judge: &mut Judge<'_>) -> Answer<Vec<Found>> {
    if !scope.may_be(&PRINCIPALS) {
        return Ok(Vec::new());
    }
    let mut parameters = Parameters::new();
    let edges = scope.edges(scope.from - BASELINE_HOURS, &PRINCIPALS, "side = 'out' AND relation IN ('called', 'failed_to_call')", &mut parameters)?;
    let sql = format!(
        "SELECT e.entity_type, e.entity_id, e.hour, sum(e.count) AS count, min(e.first_time) AS first_time, max(e.last_time) AS last_time \
         FROM {edges} GROUP BY e.entity_type, e.entity_id, e.hour ORDER BY e.entity_type, e.entity_id, e.hour"
    );
    let mut found = Vec::new();
    let mut runs = Runs::new(|entity: EntityKey, rows: Vec<Row>| found.extend(of(scope, &entity, &rows, judge)));
    rows::each_of(scope.snapshot, &sql, parameters, |batch| {
        let columns = Columns(batch);
        let (types, ids, hours) = (columns.texts("entity_type")?, columns.texts("entity_id")?, columns.numbers("hour")?);
        let (counts, firsts, lasts) = (columns.numbers("count")?, columns.numbers("first_time")?, columns.numbers("last_time")?);
        for row in 0..columns.len() {
            let key = rows::entity(types.get(row), ids.get(row))?;
            let row = Row { hour: hours.time(row).hour(), count: counts.count(row), first: firsts.time(row), last: lasts.time(row) };
            runs.push(key, row);
        }
        Ok(())
    })
    .await?;
    runs.end();
    Ok(found)
}

/// The hour of an entity that is most unusual, if one is worth telling.
fn of(scope: &Scope<'_>, entity: &EntityKey, rows: &[Row], judge: &mut Judge<'_>) -> Option<Found> {
    let from = Hour(scope.from);
    let mut history = History::default();
    for row in rows.iter().take_while(|row| row.hour < from) {
        history.add(row.hour, row.count);
    }
    // Who was first seen in scope has no baseline, and who was first seen within the baseline a shorter one.
    let start = Hour((scope.from - BASELINE_HOURS).max(rows.first()?.hour.0).min(scope.from));
    let usual = history.usual(start, from);
    let mut most: Option<Found> = None;
    for row in rows.iter().filter(|row| row.hour >= from) {
        let anomaly = usual.anomaly(row.hour, row.count, "calls");
        let worth = judge(Source::Volume, anomaly.score);
        if worth && most.as_ref().is_none_or(|most| anomaly.score > most.anomaly.score) {
            most = Some(Found {
                source: Source::Volume,
                entity: entity.clone(),
                others: Vec::new(),
                items: Vec::new(),
                first: row.first,
                last: row.last,
                anomaly,
            });
        }
    }
    most
}
