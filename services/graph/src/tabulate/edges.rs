//! The files of edges: one a day, sorted by entity and then by peer, equal edges summed.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray, UInt8Array},
    datatypes::{Field, Schema},
    error::ArrowError,
};
use gumshoe_enrich::Places;
use gumshoe_lake::{DataFile, LakeError, Table, encode};
use gumshoe_model::{EntityType, Measures, Relation};
use hashbrown::HashMap;

use super::{names, signed, text_column, times};
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
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(graph.texts.iter()));
    let mut located: HashMap<Text, (String, i64)> = HashMap::new();
    let mut files = Vec::with_capacity(days.len());
    for (day, mut order) in days {
        order.sort_unstable();
        let rows = summed(&all, &order);
        for (key, _) in &rows {
            let text = key.dimensions.address;
            if !located.contains_key(&text) {
                let place = graph.address(text).map(|address: IpAddr| places.lookup(address));
                let place = place.map_or((String::new(), 0), |place| (place.country.unwrap_or_default().to_string(), i64::from(place.asn.unwrap_or(0))));
                located.insert(text, place);
            }
        }
        files.push(encode(Table::Edges, Some(day), &columns(&texts, &rows, &located)?)?);
    }
    Ok(files)
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

fn columns(texts: &ArrayRef, rows: &[Edge], located: &HashMap<Text, (String, i64)>) -> Result<RecordBatch, ArrowError> {
    let text = |get: &dyn Fn(&EdgeKey) -> Text| -> Result<ArrayRef, ArrowError> {
        let keys = Int32Array::from_iter_values(rows.iter().map(|(key, _)| get(key).cast_signed()));
        Ok(Arc::new(DictionaryArray::try_new(keys, Arc::clone(texts))?))
    };
    let kind = |get: &dyn Fn(&EdgeKey) -> EntityType| {
        let codes: ArrayRef = Arc::new(UInt8Array::from_iter_values(rows.iter().map(|(key, _)| get(key) as u8 + 1)));
        names(&codes, EntityType::ALL.iter().map(|kind| kind.as_str()))
    };
    let relations: ArrayRef = Arc::new(UInt8Array::from_iter_values(rows.iter().map(|(key, _)| key.relation as u8 + 1)));
    let sides: ArrayRef = Arc::new(UInt8Array::from_iter_values(rows.iter().map(|(key, _)| if key.out { 1 } else { 2 })));
    let count = |get: &dyn Fn(&Measures) -> u64| Arc::new(rows.iter().map(|(_, measures)| Some(signed(get(measures)))).collect::<Int64Array>()) as ArrayRef;
    let number = |get: &dyn Fn(&EdgeKey) -> i32| Arc::new(Int32Array::from_iter_values(rows.iter().map(|(key, _)| get(key)))) as ArrayRef;
    let place = |key: &EdgeKey| located.get(&key.dimensions.address);
    let columns = vec![
        times(rows.iter().map(|(key, _)| gumshoe_model::Hour(key.hour).start().0)),
        kind(&|key| key.entity.kind)?,
        text(&|key| key.entity.id)?,
        names(&sides, ["out", "in"].into_iter())?,
        names(&relations, Relation::ALL.iter().map(|relation| relation.as_str()))?,
        kind(&|key| key.peer.kind)?,
        text(&|key| key.peer.id)?,
        text(&|key| key.dimensions.operation)?,
        text(&|key| key.dimensions.address)?,
        text_column(rows.iter().map(|(key, _)| place(key).map_or("", |(country, _)| country.as_str()))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(key, _)| place(key).map_or(0, |(_, asn)| *asn)))),
        text(&|key| key.dimensions.user_agent)?,
        text(&|key| key.dimensions.error)?,
        number(&|key| key.dimensions.port),
        number(&|key| key.dimensions.protocol),
        count(&|measures| measures.count),
        count(&|measures| measures.errors),
        count(&|measures| measures.bytes_in),
        count(&|measures| measures.bytes_out),
        count(&|measures| measures.packets_in),
        count(&|measures| measures.packets_out),
        times(rows.iter().map(|(_, measures)| measures.first.0)),
        times(rows.iter().map(|(_, measures)| measures.last.0)),
    ];
    let schema = Table::Edges.schema();
    let fields: Vec<Field> = schema.fields().iter().zip(&columns).map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}
