//! How much a graph holds, what could not be parsed, and every edge for export.

use std::collections::HashMap;

use futures::{Stream, TryStreamExt, future::try_join5, stream};
use gumshoe_api::{
    convert::{entity_to_proto, measures_to_proto, record_kind_to_proto, relation_to_proto, time_to_proto},
    graph::v1::{DeadLetter, Direction, Edge, GetGraphStatisticsResponse, KindStatistics, StreamEdgesResponse},
};
use gumshoe_lake::GraphLake;
use gumshoe_model::TimeWindow;
use serde::{Deserialize, Serialize};

use crate::{
    rows::{self, Answer, Columns, Parameters, SUMS},
    rpc::page::{self, Page},
};

/// Edges in one message of a stream.
const EDGES_A_MESSAGE: usize = 1_000;

/// How much a graph holds.
pub(crate) async fn read(lake: &GraphLake) -> Answer<GetGraphStatisticsResponse> {
    let (kinds, edges, entities, findings, dead_letters) = try_join5(
        kinds(lake),
        count(lake, "SELECT count(*) AS rows FROM edges"),
        entities(lake),
        count(lake, "SELECT count(DISTINCT finding_id) AS rows FROM findings"),
        count(lake, "SELECT count(*) AS rows FROM dead_letters"),
    )
    .await?;
    Ok(GetGraphStatisticsResponse { kinds, edges, entities, findings, dead_letters })
}

async fn count(lake: &GraphLake, sql: &str) -> Answer<u64> {
    let mut total = 0;
    rows::each(lake, sql, Parameters::new(), |columns| {
        total += columns.numbers("rows")?.count(0);
        Ok(true)
    })
    .await?;
    Ok(total)
}

async fn kinds(lake: &GraphLake) -> Answer<Vec<KindStatistics>> {
    let sql = "SELECT kind, count(*) AS rows, min(time) AS first_time, max(time) AS last_time FROM events GROUP BY kind";
    let mut kinds = Vec::new();
    rows::each(lake, sql, Parameters::new(), |columns| {
        let (names, counts) = (columns.texts("kind")?, columns.numbers("rows")?);
        let (firsts, lasts) = (columns.numbers("first_time")?, columns.numbers("last_time")?);
        for row in 0..columns.len() {
            kinds.push(KindStatistics {
                kind: names.get(row).parse().map_or(0, record_kind_to_proto),
                events: counts.count(row),
                first_time: Some(time_to_proto(firsts.time(row))),
                last_time: Some(time_to_proto(lasts.time(row))),
            });
        }
        Ok(true)
    })
    .await?;
    kinds.sort_by_key(|statistics| statistics.kind);
    Ok(kinds)
}

async fn entities(lake: &GraphLake) -> Answer<HashMap<String, u64>> {
    let sql = "SELECT entity_type, count(*) AS rows FROM (SELECT DISTINCT entity_type, entity_id FROM entities) GROUP BY entity_type";
    let mut entities = HashMap::new();
    rows::each(lake, sql, Parameters::new(), |columns| {
        let (types, counts) = (columns.texts("entity_type")?, columns.numbers("rows")?);
        entities.extend((0..columns.len()).map(|row| (types.get(row).to_owned(), counts.count(row))));
        Ok(true)
    })
    .await?;
    Ok(entities)
}

/// The last dead letter of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    source_object: String,
    offset: i64,
    batch_id: String,
}

/// A page of dead letters, by source object and offset.
pub(crate) async fn dead_letters(lake: &GraphLake, source_object: &str, size: usize, after: Option<Cursor>) -> Answer<Page<DeadLetter, Cursor>> {
    let mut parameters = Parameters::new();
    let mut condition = "true".to_owned();
    if !source_object.is_empty() {
        parameters.text("source_object", source_object);
        condition += " AND source_object = $source_object";
    }
    if let Some(after) = after {
        parameters.text("after_object", after.source_object);
        parameters.number("after_offset", after.offset);
        parameters.text("after_batch", after.batch_id);
        condition += " AND source_object >= $after_object AND (source_object > $after_object OR (\"offset\" >= $after_offset \
             AND (\"offset\" > $after_offset OR batch_id > $after_batch)))";
    }
    let sql = format!(
        "SELECT source_object, \"offset\", length, reason, raw, batch_id, time FROM dead_letters WHERE {condition} \
         ORDER BY source_object, \"offset\", batch_id LIMIT {}",
        size + 1
    );
    let mut page = Page::new(size);
    rows::each(lake, &sql, parameters, |columns| {
        let (objects, offsets, lengths) = (columns.texts("source_object")?, columns.numbers("offset")?, columns.numbers("length")?);
        let (reasons, raws, batches, times) = (columns.texts("reason")?, columns.texts("raw")?, columns.texts("batch_id")?, columns.numbers("time")?);
        for row in 0..columns.len() {
            let cursor = Cursor { source_object: objects.get(row).to_owned(), offset: offsets.get(row), batch_id: batches.get(row).to_owned() };
            let letter = DeadLetter {
                source_object: cursor.source_object.clone(),
                offset: offsets.count(row),
                length: lengths.count(row),
                reason: reasons.get(row).to_owned(),
                raw: raws.get(row).to_owned(),
                time: Some(time_to_proto(times.time(row))),
            };
            if !page.push(letter, cursor) {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    Ok(page)
}

/// Every edge, rows of one key summed, sorted by the full key: two graphs of the same records give the same stream.
pub(crate) async fn edges(lake: &GraphLake, scope: Option<TimeWindow>) -> Answer<impl Stream<Item = Answer<StreamEdgesResponse>> + use<>> {
    const KEY: &str = "hour, entity_type, entity_id, side, relation, peer_type, peer_id, operation, address, country, asn, user_agent, error, port, protocol";
    let mut parameters = Parameters::new();
    let condition = scope.map_or_else(|| "true".to_owned(), |scope| parameters.within("hour", scope.to_hours()));
    let sql = format!("SELECT {KEY}, {SUMS} FROM edges WHERE {condition} GROUP BY {KEY} ORDER BY {KEY}");
    let rows = rows::stream(lake, &sql, parameters).await?;
    Ok(rows
        .map_err(|error| rows::failure(error.into()))
        .and_then(|batch| async move { messages(Columns(&batch)) })
        .map_ok(|messages| stream::iter(messages.into_iter().map(Ok)))
        .try_flatten())
}

fn messages(columns: Columns<'_>) -> Answer<Vec<StreamEdgesResponse>> {
    let (hours, types, ids, sides) = (columns.numbers("hour")?, columns.texts("entity_type")?, columns.texts("entity_id")?, columns.texts("side")?);
    let (relations, peer_types, peer_ids) = (columns.texts("relation")?, columns.texts("peer_type")?, columns.texts("peer_id")?);
    let (operations, addresses, countries, asns) = (columns.texts("operation")?, columns.texts("address")?, columns.texts("country")?, columns.numbers("asn")?);
    let (user_agents, errors, ports, protocols) =
        (columns.texts("user_agent")?, columns.texts("error")?, columns.numbers("port")?, columns.numbers("protocol")?);
    let measures = columns.measures()?;
    let mut edges = Vec::with_capacity(columns.len());
    for row in 0..columns.len() {
        let here = entity_to_proto(&rows::entity(types.get(row), ids.get(row))?);
        let peer = entity_to_proto(&rows::entity(peer_types.get(row), peer_ids.get(row))?);
        let (side, subject, object) = if sides.get(row) == "in" { (Direction::In, peer, here) } else { (Direction::Out, here, peer) };
        edges.push(Edge {
            hour: Some(time_to_proto(hours.time(row))),
            subject: Some(subject),
            relation: relation_to_proto(rows::relation(relations.get(row))?),
            object: Some(object),
            side: side.into(),
            operation: operations.get(row).to_owned(),
            address: addresses.get(row).to_owned(),
            country: countries.get(row).to_owned(),
            asn: u32::try_from(asns.get(row)).unwrap_or_default(),
            user_agent: user_agents.get(row).to_owned(),
            error: errors.get(row).to_owned(),
            port: ports.small(row),
            protocol: protocols.small(row),
            measures: Some(measures_to_proto(&measures.get(row))),
        });
    }
    Ok(page::messages(edges, EDGES_A_MESSAGE, page::MESSAGE_BYTES).into_iter().map(|edges| StreamEdgesResponse { edges }).collect())
}
