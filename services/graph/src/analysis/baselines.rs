//! What is usual for every entity: hours with anything, amounts an hour, first and last time.

use futures::{Stream, TryStreamExt, stream};
use gumshoe_api::{
    convert::{entity_to_proto, relation_to_proto, time_to_proto},
    graph::v1::{ComputeBaselinesResponse, Direction, EntityBaseline},
};
use gumshoe_lake::{Engine, GraphLake};
use gumshoe_model::{EntityType, Relation, TimeWindow};

use crate::{
    rows::{self, Answer, Columns, Parameters},
    rpc::page,
};

/// Baselines in one message of a stream.
const BASELINES_A_MESSAGE: usize = 1_000;

/// Of what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Which {
    pub(crate) scope: Option<TimeWindow>,
    pub(crate) kinds: Vec<EntityType>,
    pub(crate) relations: Vec<Relation>,
}

/// The baselines, by entity, side and relation. Edges of one hour may stand in many rows: they are added up first.
pub(crate) async fn messages(engine: &Engine, lake: &GraphLake, which: &Which) -> Answer<impl Stream<Item = Answer<ComputeBaselinesResponse>> + use<>> {
    let scope = which.scope.map(TimeWindow::to_hours);
    let mut parameters = Parameters::new();
    let mut condition = scope.map_or_else(|| "true".to_owned(), |scope| parameters.within("hour", scope));
    if !which.kinds.is_empty() {
        condition += &format!(" AND entity_type IN ({})", rows::quoted(&which.kinds));
    }
    if !which.relations.is_empty() {
        condition += &format!(" AND relation IN ({})", rows::quoted(&which.relations));
    }
    let sql = format!(
        "WITH hourly AS (\
           SELECT entity_type, entity_id, side, relation, hour, date, sum(count) AS count, sum(errors) AS errors, sum(bytes_in) AS bytes_in, \
             sum(bytes_out) AS bytes_out, min(first_time) AS first_time, max(last_time) AS last_time \
           FROM edges WHERE {condition} GROUP BY entity_type, entity_id, side, relation, hour, date\
         ) \
         SELECT entity_type, entity_id, side, relation, count(*) AS hours, count(DISTINCT date) AS days, sum(count) AS count, sum(errors) AS errors, \
           sum(bytes_in) AS bytes_in, sum(bytes_out) AS bytes_out, median(count) AS middle, max(count) AS most, min(first_time) AS first_time, \
           max(last_time) AS last_time \
         FROM hourly GROUP BY entity_type, entity_id, side, relation ORDER BY entity_type, entity_id, side, relation"
    );
    let rows = super::run(engine, lake, sql, parameters, scope).await?;
    Ok(rows
        .and_then(|rows| async move {
            let messages = page::messages(baselines(Columns(&rows))?, BASELINES_A_MESSAGE, page::MESSAGE_BYTES);
            Ok(stream::iter(messages.into_iter().map(|baselines| Ok(ComputeBaselinesResponse { baselines }))))
        })
        .try_flatten())
}

fn baselines(columns: Columns<'_>) -> Answer<Vec<EntityBaseline>> {
    let (types, ids, sides, relations) = (columns.texts("entity_type")?, columns.texts("entity_id")?, columns.texts("side")?, columns.texts("relation")?);
    let number = |name| columns.numbers(name);
    let (hours, days, counts, errors) = (number("hours")?, number("days")?, number("count")?, number("errors")?);
    let (bytes_in, bytes_out, middle, most) = (number("bytes_in")?, number("bytes_out")?, number("middle")?, number("most")?);
    let (first, last) = (number("first_time")?, number("last_time")?);
    let baseline = |row: usize| {
        let direction = if sides.get(row) == "in" { Direction::In } else { Direction::Out };
        Ok(EntityBaseline {
            entity: Some(entity_to_proto(&rows::entity(types.get(row), ids.get(row))?)),
            direction: direction.into(),
            relation: relation_to_proto(rows::relation(relations.get(row))?),
            hours: hours.count(row),
            days: days.count(row),
            count: counts.count(row),
            errors: errors.count(row),
            bytes_in: bytes_in.count(row),
            bytes_out: bytes_out.count(row),
            median_in_hour: middle.count(row),
            most_in_hour: most.count(row),
            first_time: Some(time_to_proto(first.time(row))),
            last_time: Some(time_to_proto(last.time(row))),
        })
    };
    (0..columns.len()).map(baseline).collect()
}
