//! What an entity is tied to, page by page.
//!
//! A page of a hub should cost what the page holds, not what the hub has. Files are sorted by entity and then by peer, and
//! know the smallest and largest peer of each few thousand rows: each file is read from the page's first peer on, and only
//! until its peers come after all that the page will hold.

use std::collections::BTreeMap;

use gumshoe_api::{
    convert::{entity_to_proto, measures_to_proto, relation_to_proto},
    graph::v1::{Direction, Neighbor},
};
use gumshoe_lake::{GraphLake, Lookup, Next, Table};
use gumshoe_model::{EntityKey, EntityType, Measures, Relation, TimeWindow};
use serde::{Deserialize, Serialize};

use crate::{
    rows::{self, Answer, Columns, seen_from},
    rpc::page::Page,
};

/// Rows of a file that are looked at first: a page of it, which is mostly enough.
const FIRST_ROWS: usize = 2_048;
const COLUMNS: [&str; 12] =
    ["side", "relation", "peer_type", "peer_id", "count", "errors", "bytes_in", "bytes_out", "packets_in", "packets_out", "first_time", "last_time"];

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

impl Cursor {
    fn peer(&self) -> (&str, &str) {
        (&self.peer_type, &self.peer_id)
    }

    fn parts(&self) -> (&str, &str, &str, &str) {
        (&self.peer_type, &self.peer_id, &self.relation, &self.side)
    }
}

/// A page of neighbours.
pub(crate) async fn list(lake: &GraphLake, filter: &Filter, size: usize, after: Option<Cursor>) -> Answer<Page<Neighbor, Cursor>> {
    let first = filter.peer_type.map(|kind| (kind.as_str().to_owned(), String::new()));
    let since = after.as_ref().map(|after| (after.peer_type.clone(), after.peer_id.clone()));
    let lookup = Lookup {
        table: Table::Edges,
        entities: std::slice::from_ref(&filter.entity),
        hours: filter.scope.map(TimeWindow::to_hours),
        since: since.max(first),
        columns: &COLUMNS,
        first_rows: FIRST_ROWS,
    };
    // One more than the page holds says whether there is another page.
    let mut nearest = Nearest { filter, after, limit: size + 1, sums: BTreeMap::new() };
    rows::look_up(lake, lookup, |columns| nearest.take(columns)).await?;
    let mut page = Page::new(size);
    for (key, measures) in nearest.sums {
        let neighbor = neighbor(&key, measures)?;
        if !page.push(neighbor, key) {
            break;
        }
    }
    Ok(page)
}

/// The first neighbours in order, of all files read so far.
struct Nearest<'a> {
    filter: &'a Filter,
    after: Option<Cursor>,
    limit: usize,
    // INVARIANT: one that is pushed out never comes back, as there are already `limit` before it. So those that stay were
    // there from their first row on, and have all their rows.
    sums: BTreeMap<Cursor, Measures>,
}

impl Nearest<'_> {
    /// Takes the next rows of a file, whose peers come in order.
    fn take(&mut self, columns: Columns<'_>) -> Answer<Next> {
        let (types, ids, relations, sides) = (columns.texts("peer_type")?, columns.texts("peer_id")?, columns.texts("relation")?, columns.texts("side")?);
        let measures = columns.measures()?;
        let last_type = self.filter.peer_type.map(EntityType::as_str);
        for row in 0..columns.len() {
            let key = (types.get(row), ids.get(row), relations.get(row), sides.get(row));
            let last = self.sums.last_key_value().filter(|_| self.sums.len() >= self.limit).map(|(last, _)| last);
            if last.is_some_and(|last| last.peer() < (key.0, key.1)) || last_type.is_some_and(|last| last < key.0) {
                return Ok(Next::File);
            }
            if !self.filter.allows(key.0, key.2, key.3)
                || last.is_some_and(|last| last.parts() < key)
                || self.after.as_ref().is_some_and(|after| key <= after.parts())
            {
                continue;
            }
            let key = Cursor { peer_type: key.0.to_owned(), peer_id: key.1.to_owned(), relation: key.2.to_owned(), side: key.3.to_owned() };
            self.sums.entry(key).or_insert(Measures::ZERO).merge(&measures.get(row));
            if self.sums.len() > self.limit {
                self.sums.pop_last();
            }
        }
        Ok(Next::Rows)
    }
}

impl Filter {
    fn allows(&self, peer_type: &str, relation: &str, side: &str) -> bool {
        self.peer_type.is_none_or(|kind| kind.as_str() == peer_type)
            && (self.relations.is_empty() || self.relations.iter().any(|allowed| allowed.as_str() == relation))
            && self.side.is_none_or(|allowed| allowed == side)
    }
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
