//! What an entity is tied to, page by page.
//!
//! A page of a hub should cost what the page holds, not what the hub has. Files are sorted by entity and then by peer, and
//! know the smallest and largest peer of each few thousand rows. So first the peer is found up to which the page will
//! reach, by looking at no other column and with a filter that tightens as peers come in; then the rows up to that peer are
//! summed, and the engine skips every part of a file that lies past it. A quiet entity's rows are read and summed at once.

use std::collections::BTreeMap;

use gumshoe_api::{
    convert::{entity_to_proto, measures_to_proto, relation_to_proto},
    graph::v1::{Direction, Neighbor},
};
use gumshoe_lake::GraphLake;
use gumshoe_model::{EntityKey, EntityType, Measures, Relation, TimeWindow};
use serde::{Deserialize, Serialize};

use crate::{
    rows::{self, Answer, Columns, Parameters, SUMS, seen_from},
    rpc::page::Page,
};

/// Rows looked at for each neighbour asked for; more with each round that does not fill the page.
const ROWS_A_NEIGHBOR: usize = 8;
/// Rows looked at in one round at most.
const MAX_ROWS: usize = 64 * 1024;

/// Which neighbours.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) entity: EntityKey,
    pub(crate) scope: Option<TimeWindow>,
    pub(crate) relations: Vec<Relation>,
    pub(crate) peer_type: Option<EntityType>,
    pub(crate) side: Option<&'static str>,
}

/// The last neighbour of a page.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Cursor {
    peer_type: String,
    peer_id: String,
    relation: String,
    side: String,
}

impl Filter {
    fn condition(&self, parameters: &mut Parameters) -> String {
        let mut condition = "entity_type = $type AND entity_id = $id".to_owned();
        if let Some(scope) = self.scope {
            condition += " AND ";
            condition += &parameters.within("hour", scope.to_hours());
        }
        if !self.relations.is_empty() {
            let names: Vec<_> = self.relations.iter().map(|relation| format!("'{relation}'")).collect();
            condition += &format!(" AND relation IN ({})", names.join(", "));
        }
        if let Some(kind) = self.peer_type {
            condition += &format!(" AND peer_type = '{kind}'");
        }
        if let Some(side) = self.side {
            condition += &format!(" AND side = '{side}'");
        }
        condition
    }
}

/// Where in a type's peers to go on.
#[derive(Debug, Clone)]
enum Since {
    Start,
    /// After this peer.
    Peer(String),
    /// After this neighbour: its peer may have more.
    Neighbor(Cursor),
}

impl Since {
    // Each conjunct that names one column alone lets the engine skip.
    fn condition(&self, parameters: &mut Parameters) -> &'static str {
        match self {
            Self::Start => "",
            Self::Peer(peer) => {
                parameters.text("peer", peer);
                " AND peer_id > $peer"
            }
            Self::Neighbor(cursor) => {
                parameters.text("peer", &cursor.peer_id);
                parameters.text("relation", &cursor.relation);
                parameters.text("side", &cursor.side);
                " AND peer_id >= $peer AND (peer_id > $peer OR relation > $relation OR (relation = $relation AND side > $side))"
            }
        }
    }
}

/// A page of neighbours.
pub(crate) async fn list(lake: &GraphLake, filter: &Filter, size: usize, after: Option<Cursor>) -> Answer<Page<Neighbor, Cursor>> {
    let mut page = Page::new(size);
    let limit = (size + 1).saturating_mul(ROWS_A_NEIGHBOR);
    let mut types = match after {
        None => {
            let (all, complete) = first_rows(lake, filter, limit).await?;
            if complete {
                fill(&mut page, all)?;
                return Ok(page);
            }
            types_after(lake, filter, "").await?
        }
        Some(cursor) => {
            let kind = cursor.peer_type.clone();
            if !fill_from(lake, filter, &mut page, &kind, Since::Neighbor(cursor), limit).await? {
                return Ok(page);
            }
            types_after(lake, filter, &kind).await?
        }
    };
    types.sort_unstable();
    for kind in types {
        if !fill_from(lake, filter, &mut page, &kind, Since::Start, limit).await? {
            break;
        }
    }
    Ok(page)
}

type Sums = BTreeMap<Cursor, Measures>;

/// Puts neighbours on the page; false when it is full.
fn fill(page: &mut Page<Neighbor, Cursor>, sums: Sums) -> Answer<bool> {
    for (key, measures) in sums {
        let neighbor = neighbor(&key, measures)?;
        if !page.push(neighbor, key) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Puts peers of one type on the page, from `since` on; false when it is full.
async fn fill_from(lake: &GraphLake, filter: &Filter, page: &mut Page<Neighbor, Cursor>, kind: &str, mut since: Since, mut limit: usize) -> Answer<bool> {
    loop {
        let reach = reach(lake, filter, kind, &since, limit).await?;
        if !fill(page, sums(lake, filter, kind, &since, reach.as_deref(), page.size() + 1).await?)? {
            return Ok(false);
        }
        match reach {
            Some(peer) => since = Since::Peer(peer),
            None => return Ok(true),
        }
        limit = limit.saturating_mul(4).min(MAX_ROWS);
    }
}

/// All rows of the entity, summed, if there are no more than `limit`.
async fn first_rows(lake: &GraphLake, filter: &Filter, limit: usize) -> Answer<(Sums, bool)> {
    let mut parameters = Parameters::of_entity(&filter.entity);
    let condition = filter.condition(&mut parameters);
    let sql = format!(
        "SELECT peer_type, peer_id, relation, side, count, errors, bytes_in, bytes_out, packets_in, packets_out, first_time, last_time \
         FROM edges WHERE {condition} LIMIT {}",
        limit + 1
    );
    let (mut sums, mut rows) = (Sums::new(), 0);
    rows::each(lake, &sql, parameters, |columns| {
        rows += columns.len();
        merge(&mut sums, columns)?;
        Ok(rows <= limit)
    })
    .await?;
    Ok((sums, rows <= limit))
}

/// Types of peers whose names come after `kind`.
async fn types_after(lake: &GraphLake, filter: &Filter, kind: &str) -> Answer<Vec<String>> {
    let mut parameters = Parameters::of_entity(&filter.entity);
    let condition = filter.condition(&mut parameters);
    parameters.text("after", kind);
    let mut types = Vec::new();
    rows::each(lake, &format!("SELECT DISTINCT peer_type FROM edges WHERE {condition} AND peer_type > $after"), parameters, |columns| {
        let found = columns.texts("peer_type")?;
        types.extend((0..columns.len()).map(|row| found.get(row).to_owned()));
        Ok(true)
    })
    .await?;
    Ok(types)
}

/// The peer up to which there are at least `limit` rows; `None` when there are fewer in all.
async fn reach(lake: &GraphLake, filter: &Filter, kind: &str, since: &Since, limit: usize) -> Answer<Option<String>> {
    let mut parameters = Parameters::of_entity(&filter.entity);
    let mut condition = filter.condition(&mut parameters);
    condition += since.condition(&mut parameters);
    parameters.text("kind", kind);
    let sql = format!("SELECT peer_id FROM edges WHERE {condition} AND peer_type = $kind ORDER BY peer_id LIMIT {limit}");
    let (mut rows, mut last) = (0, String::new());
    rows::each(lake, &sql, parameters, |columns| {
        columns.texts("peer_id")?.get(columns.len().saturating_sub(1)).clone_into(&mut last);
        rows += columns.len();
        Ok(true)
    })
    .await?;
    Ok((rows >= limit).then_some(last))
}

/// The first `limit` neighbours of one type after `since` up to the peer `reach`, summed.
async fn sums(lake: &GraphLake, filter: &Filter, kind: &str, since: &Since, reach: Option<&str>, limit: usize) -> Answer<Sums> {
    let mut parameters = Parameters::of_entity(&filter.entity);
    let mut condition = filter.condition(&mut parameters);
    condition += since.condition(&mut parameters);
    if let Some(reach) = reach {
        parameters.text("reach", reach);
        condition += " AND peer_id <= $reach";
    }
    parameters.text("kind", kind);
    let sql = format!(
        "SELECT peer_type, peer_id, relation, side, {SUMS} FROM edges WHERE {condition} AND peer_type = $kind \
         GROUP BY peer_type, peer_id, relation, side ORDER BY peer_id, relation, side LIMIT {limit}"
    );
    let mut sums = Sums::new();
    rows::each(lake, &sql, parameters, |columns| merge(&mut sums, columns).map(|()| true)).await?;
    Ok(sums)
}

fn merge(sums: &mut Sums, columns: Columns<'_>) -> Answer<()> {
    let (types, ids, relations, sides) = (columns.texts("peer_type")?, columns.texts("peer_id")?, columns.texts("relation")?, columns.texts("side")?);
    let measures = columns.measures()?;
    for row in 0..columns.len() {
        let key = Cursor {
            peer_type: types.get(row).to_owned(),
            peer_id: ids.get(row).to_owned(),
            relation: relations.get(row).to_owned(),
            side: sides.get(row).to_owned(),
        };
        sums.entry(key).or_insert(Measures::ZERO).merge(&measures.get(row));
    }
    Ok(())
}

fn neighbor(key: &Cursor, measures: Measures) -> Answer<Neighbor> {
    let relation = rows::relation(&key.relation)?;
    let direction = if key.side == "in" { Direction::In } else { Direction::Out };
    Ok(Neighbor {
        entity: Some(entity_to_proto(&rows::entity(&key.peer_type, &key.peer_id)?)),
        relation: relation_to_proto(relation),
        direction: direction.into(),
        measures: Some(measures_to_proto(&seen_from(&key.side, relation, measures))),
    })
}
