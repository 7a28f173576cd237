//! The files of edges: one a day, sorted by entity and then by peer, equal edges summed.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use arrow::array::{ArrayRef, Int32Array, Int64Array};
use gumshoe_enrich::Places;
use gumshoe_lake::{Column, DataFile, LakeError, Table, encode_columns};
use gumshoe_model::{EntityType, Measures, Relation};
use hashbrown::HashMap;

use super::{signed, times};
use crate::extract::{EdgeKey, Graph, Text};

type Edge = (EdgeKey, Measures);

/// Where an edge stands in its file, as numbers: comparing texts costs more than all else here. Edges of equal numbers may
/// differ, where a port or protocol is no real one, but equal edges stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    ends: u128,
    dimensions: u128,
    index: usize,
}

impl Place {
    fn new(index: usize, key: &EdgeKey, ranks: &[u32]) -> Self {
        let rank = |text: Text| u128::from(ranks.get(text as usize).copied().unwrap_or_default());
        let number = |number: i32| u128::from((number + 1).cast_unsigned());
        let all = &key.dimensions;
        let hour = u128::from(key.hour.rem_euclid(24).cast_unsigned());
        let mut ends = kind_rank(key.entity.kind) << 32 | rank(key.entity.id);
        ends = ends << 5 | kind_rank(key.peer.kind);
        ends = ends << 32 | rank(key.peer.id);
        ends = ends << 4 | u128::from(key.relation as u8);
        ends = ends << 5 | hour;
        ends = ends << 1 | u128::from(key.out);
        ends = ends << 32 | u128::from(all.operation);
        let mut dimensions = u128::from(all.address) << 32 | u128::from(all.user_agent);
        dimensions = dimensions << 32 | u128::from(all.error);
        dimensions = dimensions << 17 | number(all.port) & 0x1_ffff;
        dimensions = dimensions << 9 | number(all.protocol) & 0x1ff;
        Self { ends, dimensions, index }
    }
}

/// Types sort by their names, as readers compare them.
fn kind_rank(kind: EntityType) -> u128 {
    static RANKS: LazyLock<Vec<u128>> = LazyLock::new(|| {
        let rank = |kind: &EntityType| EntityType::ALL.iter().filter(|other| other.as_str() < kind.as_str()).count();
        EntityType::ALL.iter().map(|kind| u128::try_from(rank(kind)).unwrap_or_default()).collect()
    });
    RANKS.get(kind as usize).copied().unwrap_or_default()
}

/// The alphabetical rank of the texts that `ids` names.
fn ranks(graph: &Graph<'_>, ids: impl Iterator<Item = Text>) -> Vec<u32> {
    let mut named = vec![false; graph.texts.len()];
    for id in ids {
        if let Some(named) = named.get_mut(id as usize) {
            *named = true;
        }
    }
    let mut order: Vec<(&str, Text)> = (0..).zip(&named).filter(|(_, named)| **named).map(|(text, _)| (graph.texts.get(text), text)).collect();
    order.sort_unstable();
    let mut ranks = vec![0; named.len()];
    for (rank, (_, text)) in (0_u32..).zip(order) {
        if let Some(slot) = ranks.get_mut(text as usize) {
            *slot = rank;
        }
    }
    ranks
}

/// The files.
pub(crate) fn edges(graph: &mut Graph<'_>, places: &Places) -> Result<Vec<DataFile>, LakeError> {
    let all = std::mem::take(&mut graph.edges);
    let ranks = ranks(graph, all.iter().flat_map(|(key, _)| [key.entity.id, key.peer.id]));
    let mut days: BTreeMap<i64, Vec<Place>> = BTreeMap::new();
    for (index, (key, _)) in all.iter().enumerate() {
        days.entry(key.hour.div_euclid(24)).or_default().push(Place::new(index, key, &ranks));
    }
    let mut located = Located { countries: vec![String::new()], of: HashMap::new() };
    let mut files = Vec::with_capacity(days.len());
    for (day, mut order) in days {
        order.sort_unstable();
        let rows = summed(&all, &order);
        for (key, _) in &rows {
            located.locate(graph, key.dimensions.address, places);
        }
        files.push(encode_columns(Table::Edges, Some(day), &columns(graph, &rows, &located))?);
    }
    Ok(files)
}

/// Where addresses are.
struct Located {
    /// Countries by their numbers; the first is none.
    countries: Vec<String>,
    /// Country and ASN of each address, 0 for none.
    of: HashMap<Text, (u32, i64)>,
}

impl Located {
    fn locate(&mut self, graph: &mut Graph<'_>, address: Text, places: &Places) {
        if self.of.contains_key(&address) {
            return;
        }
        let place = graph.address(address).map(|address: IpAddr| places.lookup(address)).unwrap_or_default();
        let country = place.country.unwrap_or_default().to_string();
        let number = self.countries.iter().position(|known| *known == country).unwrap_or_else(|| {
            self.countries.push(country);
            self.countries.len() - 1
        });
        self.of.insert(address, (u32::try_from(number).unwrap_or_default(), i64::from(place.asn.unwrap_or(0))));
    }

    fn get(&self, key: &EdgeKey) -> (u32, i64) {
        self.of.get(&key.dimensions.address).copied().unwrap_or_default()
    }
}

/// Edges in order, equal ones summed.
fn summed(all: &[Edge], order: &[Place]) -> Vec<Edge> {
    let mut rows: Vec<Edge> = Vec::with_capacity(order.len());
    for (key, measures) in order.iter().filter_map(|place| all.get(place.index)) {
        match rows.last_mut() {
            Some((last, sum)) if last == key => sum.merge(measures),
            _ => rows.push((*key, *measures)),
        }
    }
    rows
}

fn columns<'t>(graph: &'t Graph<'_>, rows: &[Edge], located: &'t Located) -> Vec<Column<'t>> {
    let coded = |get: &dyn Fn(&EdgeKey) -> u32, text: Box<dyn Fn(u32) -> &'t str + 't>| Column::Coded(rows.iter().map(|(key, _)| get(key)).collect(), text);
    let text = |get: &dyn Fn(&EdgeKey) -> Text| coded(get, Box::new(|text| graph.texts.get(text)));
    let kind = |get: &dyn Fn(&EdgeKey) -> EntityType| {
        coded(&|key| get(key) as u32, Box::new(|code| EntityType::ALL.get(code as usize).map_or("", |kind| kind.as_str())))
    };
    let relation = |code: u32| Relation::ALL.get(code as usize).map_or("", |relation| relation.as_str());
    let count = |get: &dyn Fn(&Measures) -> u64| Column::Values(Arc::new(rows.iter().map(|(_, measures)| Some(signed(get(measures)))).collect::<Int64Array>()));
    let number = |get: &dyn Fn(&EdgeKey) -> i32| Column::Values(Arc::new(Int32Array::from_iter_values(rows.iter().map(|(key, _)| get(key)))) as ArrayRef);
    vec![
        Column::Values(times(rows.iter().map(|(key, _)| gumshoe_model::Hour(key.hour).start().0))),
        kind(&|key| key.entity.kind),
        text(&|key| key.entity.id),
        coded(&|key| u32::from(key.out), Box::new(|out| if out == 1 { "out" } else { "in" })),
        coded(&|key| key.relation as u32, Box::new(relation)),
        kind(&|key| key.peer.kind),
        text(&|key| key.peer.id),
        text(&|key| key.dimensions.operation),
        text(&|key| key.dimensions.address),
        coded(&|key| located.get(key).0, Box::new(|country| located.countries.get(country as usize).map_or("", String::as_str))),
        Column::Values(Arc::new(Int64Array::from_iter_values(rows.iter().map(|(key, _)| located.get(key).1)))),
        text(&|key| key.dimensions.user_agent),
        text(&|key| key.dimensions.error),
        number(&|key| key.dimensions.port),
        number(&|key| key.dimensions.protocol),
        count(&|measures| measures.count),
        count(&|measures| measures.errors),
        count(&|measures| measures.bytes_in),
        count(&|measures| measures.bytes_out),
        count(&|measures| measures.packets_in),
        count(&|measures| measures.packets_out),
        Column::Values(times(rows.iter().map(|(_, measures)| measures.first.0))),
        Column::Values(times(rows.iter().map(|(_, measures)| measures.last.0))),
    ]
}
