//! Findings that share what few findings name: what groups of findings over a whole organisation are made of.

use std::future::ready;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use gumshoe_api::{
    convert::entity_to_proto,
    graph::v1::{FindingPair, PairFindingsResponse, SharedEntity},
};
use gumshoe_lake::{Engine, GraphLake};
use gumshoe_model::{TimeWindow, time::MICROS_PER_HOUR};

use crate::{
    rows::{self, Answer, Columns, Parameters, Records},
    rpc::page,
};

/// Pairs in one message of a stream.
const PAIRS_A_MESSAGE: usize = 1_000;

/// Which findings.
#[derive(Debug, Clone)]
pub(crate) struct Which {
    pub(crate) scope: Option<TimeWindow>,
    pub(crate) min_severity: f64,
    pub(crate) include_archived: bool,
    /// An entity that more findings name is not rare.
    pub(crate) most: u32,
    /// Hours between two findings.
    pub(crate) within_hours: u32,
}

/// The pairs, by the ids of both. An entity makes at most `most² / 2` of them.
pub(crate) async fn messages(engine: &Engine, lake: &GraphLake, which: &Which) -> Answer<impl Stream<Item = Answer<PairFindingsResponse>> + use<>> {
    let mut parameters = Parameters::new();
    parameters.float("severity", which.min_severity);
    parameters.number("most", which.most.into());
    parameters.number("gap", i64::from(which.within_hours) * MICROS_PER_HOUR);
    let mut condition = "severity >= $severity".to_owned();
    if let Some(scope) = which.scope {
        parameters.time("from", scope.start());
        parameters.time("to", scope.end());
        condition += " AND last_time >= $from AND first_time < $to";
    }
    if !which.include_archived {
        condition += " AND NOT archived";
    }
    let sql = format!(
        "WITH numbered AS (\
           SELECT finding_id, severity, first_time, last_time, archived, entities, \
             row_number() OVER (PARTITION BY finding_id ORDER BY update_time DESC, event_id DESC) AS number FROM findings\
         ), latest AS (\
           SELECT finding_id, CAST(first_time AS BIGINT) AS first_micros, CAST(last_time AS BIGINT) AS last_micros, unnest(entities) AS entity \
           FROM numbered WHERE number = 1 AND {condition}\
         ), named AS (\
           SELECT DISTINCT finding_id, first_micros, last_micros, entity['type'] AS entity_type, entity['id'] AS entity_id FROM latest\
         ), rare AS (\
           SELECT entity_type, entity_id, count(*) AS findings FROM named WHERE entity_type NOT IN ('account', 'aws_service') \
           GROUP BY entity_type, entity_id HAVING count(*) BETWEEN 2 AND $most\
         ), kept AS (\
           SELECT named.finding_id, named.first_micros, named.last_micros, rare.entity_type, rare.entity_id, rare.findings \
           FROM named JOIN rare ON named.entity_type = rare.entity_type AND named.entity_id = rare.entity_id\
         ) \
         SELECT a.finding_id AS one, b.finding_id AS other, a.entity_type AS entity_type, a.entity_id AS entity_id, a.findings AS findings \
         FROM kept a JOIN kept b ON a.entity_type = b.entity_type AND a.entity_id = b.entity_id \
         WHERE a.finding_id < b.finding_id AND a.first_micros <= b.last_micros + $gap AND b.first_micros <= a.last_micros + $gap \
         ORDER BY one, other, entity_type, entity_id"
    );
    let rows = super::run(engine, lake, sql, parameters, None).await?;
    let ended = stream::once(ready(Ok(None)));
    Ok(rows
        .map_ok(Some)
        .chain(ended)
        .scan(None, |open, rows| ready(Some(rows.and_then(|rows| pairs(open, rows)))))
        .map_ok(|pairs| {
            let messages = page::messages(pairs, PAIRS_A_MESSAGE, page::MESSAGE_BYTES);
            stream::iter(messages.into_iter().map(|pairs| Ok(PairFindingsResponse { pairs })))
        })
        .try_flatten())
}

/// The pairs that are complete with these rows, or at the end. The last of them is kept open: its next entity may come with
/// the next rows.
fn pairs(open: &mut Option<FindingPair>, rows: Option<Records>) -> Answer<Vec<FindingPair>> {
    let Some(rows) = rows else { return Ok(open.take().into_iter().collect()) };
    let columns = Columns(&rows);
    let (ones, others, types, ids) = (columns.texts("one")?, columns.texts("other")?, columns.texts("entity_type")?, columns.texts("entity_id")?);
    let findings = columns.numbers("findings")?;
    let mut complete = Vec::new();
    for row in 0..columns.len() {
        let (one, other) = (ones.get(row), others.get(row));
        let entity = entity_to_proto(&rows::entity(types.get(row), ids.get(row))?);
        let shared = SharedEntity { entity: Some(entity), findings: findings.count(row) };
        match open {
            Some(pair) if pair.finding_id == one && pair.other_finding_id == other => pair.shared.push(shared),
            _ => complete.extend(open.replace(FindingPair { finding_id: one.to_owned(), other_finding_id: other.to_owned(), shared: vec![shared] })),
        }
    }
    Ok(complete)
}
