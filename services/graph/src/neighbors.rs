//! What an entity is tied to, page by page.
//!
//! Files are sorted by entity and then by peer, so a page is read from its cursor on: the query takes the next rows in
//! that order, few enough to hold, and the engine skips the pages of a file that lie past the last of them. A hub's page
//! costs what the page holds, not what the hub has.

use gumshoe_api::{
    convert::{entity_to_proto, measures_to_proto, relation_to_proto},
    graph::v1::{Direction, Neighbor},
};
use gumshoe_lake::GraphLake;
use gumshoe_model::{EntityKey, EntityType, Measures, Relation, TimeWindow};
use serde::{Deserialize, Serialize};

use crate::{
    rows::{self, Answer, Parameters, SUMS, seen_from},
    rpc::page::Page,
};

/// Rows read at first for each neighbour asked for; more with each round that does not fill the page.
const ROWS_A_NEIGHBOR: usize = 8;
/// Rows held at most.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    peer_type: String,
    peer_id: String,
    relation: String,
    side: String,
}

impl Filter {
    fn condition(&self, parameters: &mut Parameters, cursor: Option<&Cursor>) -> String {
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
        if let Some(cursor) = cursor {
            parameters.text("peer_type", &cursor.peer_type);
            parameters.text("peer_id", &cursor.peer_id);
            parameters.text("relation", &cursor.relation);
            parameters.text("side", &cursor.side);
            condition += " AND peer_type >= $peer_type AND (peer_type > $peer_type OR (peer_id >= $peer_id AND (peer_id > $peer_id \
                 OR (relation >= $relation AND (relation > $relation OR side > $side)))))";
        }
        condition
    }
}

/// A page of neighbours.
pub(crate) async fn list(lake: &GraphLake, filter: &Filter, size: usize, after: Option<Cursor>) -> Answer<Page<Neighbor, Cursor>> {
    let mut page = Page::new(size);
    let mut cursor = after;
    let mut limit = (size + 1).saturating_mul(ROWS_A_NEIGHBOR);
    loop {
        let (groups, complete) = read(lake, filter, cursor.as_ref(), limit).await?;
        let Some((last, _)) = groups.last() else { break };
        cursor = Some(last.clone());
        for (key, measures) in groups {
            let neighbor = neighbor(&key, measures)?;
            if !page.push(neighbor, key) {
                return Ok(page);
            }
        }
        if complete {
            break;
        }
        limit = limit.saturating_mul(4).min(MAX_ROWS);
    }
    Ok(page)
}

type Group = (Cursor, Measures);

/// The neighbours in the next `limit` rows after `cursor`, summed, and whether there are no more.
async fn read(lake: &GraphLake, filter: &Filter, cursor: Option<&Cursor>, limit: usize) -> Answer<(Vec<Group>, bool)> {
    let mut parameters = Parameters::of_entity(&filter.entity);
    let condition = filter.condition(&mut parameters, cursor);
    let sql = format!(
        "SELECT peer_type, peer_id, relation, side, count, errors, bytes_in, bytes_out, packets_in, packets_out, first_time, last_time \
         FROM edges WHERE {condition} ORDER BY peer_type, peer_id, relation, side LIMIT {limit}"
    );
    let mut groups: Vec<Group> = Vec::new();
    let mut count = 0;
    rows::each(lake, &sql, parameters, |columns| {
        merge(&mut groups, columns)?;
        count += columns.len();
        Ok(true)
    })
    .await?;
    if count < limit {
        return Ok((groups, true));
    }
    // The last neighbour may have more rows than were read.
    if groups.len() > 1 {
        groups.pop();
    } else if let Some((key, measures)) = groups.first_mut() {
        *measures = sum(lake, filter, key).await?;
    }
    Ok((groups, false))
}

/// One neighbour with so many rows that the engine must sum them.
async fn sum(lake: &GraphLake, filter: &Filter, key: &Cursor) -> Answer<Measures> {
    let mut parameters = Parameters::of_entity(&filter.entity);
    let condition = filter.condition(&mut parameters, None);
    parameters.text("peer_type", &key.peer_type);
    parameters.text("peer_id", &key.peer_id);
    parameters.text("relation", &key.relation);
    parameters.text("side", &key.side);
    let sql = format!("SELECT {SUMS} FROM edges WHERE {condition} AND peer_type = $peer_type AND peer_id = $peer_id AND relation = $relation AND side = $side");
    let mut measures = Measures::ZERO;
    rows::each(lake, &sql, parameters, |columns| {
        let sums = columns.measures()?;
        (0..columns.len()).for_each(|row| measures.merge(&sums.get(row)));
        Ok(true)
    })
    .await?;
    Ok(measures)
}

fn merge(groups: &mut Vec<Group>, columns: rows::Columns<'_>) -> Answer<()> {
    let (types, ids, relations, sides) = (columns.texts("peer_type")?, columns.texts("peer_id")?, columns.texts("relation")?, columns.texts("side")?);
    let measures = columns.measures()?;
    for row in 0..columns.len() {
        let (peer_type, peer_id, relation, side) = (types.get(row), ids.get(row), relations.get(row), sides.get(row));
        match groups.last_mut() {
            Some((key, sum)) if key.peer_id == peer_id && key.peer_type == peer_type && key.relation == relation && key.side == side => {
                sum.merge(&measures.get(row));
            }
            _ => {
                let key = Cursor { peer_type: peer_type.to_owned(), peer_id: peer_id.to_owned(), relation: relation.to_owned(), side: side.to_owned() };
                groups.push((key, measures.get(row)));
            }
        }
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
