//! The file of findings: a row for each update that detectors sent, and for what a group says of each finding of a rule.

use std::{borrow::Cow, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch, StringBuilder, StructArray},
    buffer::OffsetBuffer,
    datatypes::{DataType, Field},
};
use gumshoe_lake::{DataFile, LakeError, Table, encode, table};
use gumshoe_model::EntityType;

use super::{Part, signed, text_column, times};
use crate::{
    extract::{FindingAt, Graph},
    matches::{self, MAX_ENTITIES, Match},
};

struct Row<'a> {
    id: &'a str,
    finding_type: Cow<'a, str>,
    product: &'a str,
    title: &'a str,
    description: Cow<'a, str>,
    severity: f64,
    count: u64,
    first: i64,
    last: i64,
    updated: i64,
    archived: bool,
    account: &'a str,
    region: &'a str,
    event_id: &'a str,
    entities: Vec<(&'a str, &'a str)>,
    raw: Cow<'a, str>,
    source_object: &'a str,
    offset: i64,
}

impl<'a> Row<'a> {
    /// What a detector sent.
    fn of_record(at: &FindingAt, parts: &'a [Part<'_>]) -> Option<Self> {
        let part = parts.get(at.batch)?;
        let (row, rows) = (at.row, &part.rows);
        let text = rows.finding(row)?;
        let finding = &text.finding;
        let entity = |index| (rows.links.entity_type.get(index).map_or("", EntityType::as_str), rows.links.id.get(index));
        Some(Self {
            id: &finding.id,
            finding_type: Cow::Borrowed(&finding.finding_type),
            product: &finding.product,
            title: &finding.title,
            description: Cow::Borrowed(&finding.description),
            severity: finding.severity,
            count: finding.count,
            first: finding.first_seen.0,
            last: finding.last_seen.0,
            updated: finding.updated.0,
            archived: finding.archived,
            account: rows.account.get(row),
            region: rows.region.get(row),
            event_id: rows.id(row),
            entities: rows.links.range(row).map(entity).collect(),
            raw: Cow::Borrowed(&text.raw),
            source_object: part.source_object,
            offset: rows.offset.get(row).copied().unwrap_or_default(),
        })
    }

    /// What rules matched.
    fn of_match(found: &'a Match<'_>, graph: &'a Graph<'_>) -> Self {
        let text = |text| graph.texts.get(text);
        // The nearest first, then by name, so that the same are kept whatever came first.
        let mut ranked: Vec<(u8, &str, &str)> = found.entities.iter().map(|((kind, id), rank)| (*rank, kind.as_str(), text(*id))).collect();
        ranked.sort_unstable();
        ranked.truncate(MAX_ENTITIES);
        let entities: Vec<(&str, &str)> = ranked.into_iter().map(|(_, kind, id)| (kind, id)).collect();
        Self {
            id: text(found.id),
            finding_type: Cow::Owned(matches::finding_type(found.rule)),
            product: matches::PRODUCT,
            title: &found.rule.title,
            description: Cow::Owned(matches::description(found.rule)),
            severity: matches::severity(found.level),
            count: found.count,
            first: found.first,
            last: found.last,
            updated: found.latest.0,
            archived: false,
            account: text(found.account),
            region: text(found.region),
            event_id: found.latest.1,
            raw: Cow::Owned(matches::document(found.rule, entities.first().copied())),
            entities,
            source_object: "",
            offset: 0,
        }
    }
}

/// The file; `None` if there are no findings.
pub(crate) fn findings(graph: &Graph<'_>, parts: &[Part<'_>]) -> Result<Option<DataFile>, LakeError> {
    let mut of_rules: Vec<Row<'_>> = graph.matches.iter().map(|found| Row::of_match(found, graph)).collect();
    of_rules.sort_unstable_by_key(|row| row.id);
    let mut rows: Vec<Row<'_>> = graph.findings.iter().filter_map(|at| Row::of_record(at, parts)).collect();
    rows.extend(of_rules);
    if rows.is_empty() {
        return Ok(None);
    }
    let (mut ends, mut types, mut ids) = (vec![0_i32], StringBuilder::new(), StringBuilder::new());
    for row in &rows {
        for (kind, id) in &row.entities {
            types.append_value(kind);
            ids.append_value(id);
        }
        ends.push(i32::try_from(arrow::array::ArrayBuilder::len(&types)).unwrap_or(i32::MAX));
    }
    let fields = table::entity_fields();
    let items = StructArray::try_new(fields.clone(), vec![Arc::new(types.finish()), Arc::new(ids.finish())], None)?;
    let element = Arc::new(Field::new("element", DataType::Struct(fields), true));
    let columns: Vec<ArrayRef> = vec![
        text_column(rows.iter().map(|row| row.id)),
        text_column(rows.iter().map(|row| &*row.finding_type)),
        text_column(rows.iter().map(|row| row.product)),
        text_column(rows.iter().map(|row| row.title)),
        text_column(rows.iter().map(|row| &*row.description)),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.severity))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| signed(row.count)))),
        times(rows.iter().map(|row| row.first)),
        times(rows.iter().map(|row| row.last)),
        times(rows.iter().map(|row| row.updated)),
        Arc::new(rows.iter().map(|row| Some(row.archived)).collect::<BooleanArray>()),
        text_column(rows.iter().map(|row| row.account)),
        text_column(rows.iter().map(|row| row.region)),
        text_column(rows.iter().map(|row| row.event_id)),
        Arc::new(ListArray::try_new(element, OffsetBuffer::new(ends.into()), Arc::new(items), None)?),
        text_column(rows.iter().map(|row| &*row.raw)),
        text_column(rows.iter().map(|row| row.source_object)),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.offset))),
    ];
    encode(Table::Findings, None, &RecordBatch::try_new(Table::Findings.schema(), columns)?).map(Some)
}
