//! Reading the lake: query parameters, Arrow columns, windows of time.

use std::{fmt::Write as _, time::Duration};

use arrow::{
    array::{Array, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray},
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type},
    error::ArrowError,
};
use futures::TryStreamExt;
use gumshoe_lake::{GraphLake, LakeError, Lookup, Next, ScalarValue, SendableRecordBatchStream, Snapshot};
use gumshoe_model::{EntityKey, EntityType, Measures, Relation, TimeWindow, Timestamp};
use gumshoe_runtime::status::{self, Failure};

/// What a read gives: its answer, or why not in the public's words.
pub(crate) type Answer<T> = Result<T, Failure>;

/// How long an answer is kept at most; it is out of use as soon as the lake has a newer version.
pub(crate) const KEPT: Duration = Duration::from_secs(3_600);

/// Columns of summed measures, in the order that [`Columns::measures`] reads.
pub(crate) const SUMS: &str = "sum(count) AS count, sum(errors) AS errors, sum(bytes_in) AS bytes_in, sum(bytes_out) AS bytes_out, \
     sum(packets_in) AS packets_in, sum(packets_out) AS packets_out, min(first_time) AS first_time, max(last_time) AS last_time";

/// Logs what the lake said and gives the caller what it may know.
pub(crate) fn failure(error: LakeError) -> Failure {
    match &error {
        LakeError::Delta(_) | LakeError::Store(_) | LakeError::Vanished => {
            tracing::warn!(error = %status::Chain(&error), "the lake does not answer");
            status::unavailable("the lake")
        }
        LakeError::Engine(_) => {
            tracing::warn!(error = %status::Chain(&error), "the query engine does not answer");
            status::unavailable("the query engine")
        }
        _ => status::internal(&error),
    }
}

fn corrupt(what: &'static str) -> Failure {
    failure(ArrowError::SchemaError(what.to_owned()).into())
}

/// Rows of an answer.
pub(crate) type Records = RecordBatch;

/// Values for the `$name` parameters of a query. Text of users enters a query by no other way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters(Vec<(String, ScalarValue)>);

impl Parameters {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn into_values(self) -> Vec<(String, ScalarValue)> {
        self.0
    }

    pub(crate) fn text(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), ScalarValue::Utf8(Some(value.into()))));
    }

    pub(crate) fn number(&mut self, name: impl Into<String>, value: i64) {
        self.0.push((name.into(), ScalarValue::Int64(Some(value))));
    }

    pub(crate) fn float(&mut self, name: impl Into<String>, value: f64) {
        self.0.push((name.into(), ScalarValue::Float64(Some(value))));
    }

    pub(crate) fn time(&mut self, name: impl Into<String>, value: Timestamp) {
        self.0.push((name.into(), ScalarValue::TimestampMicrosecond(Some(value.0), Some("UTC".into()))));
    }

    pub(crate) fn date(&mut self, name: impl Into<String>, value: Timestamp) {
        self.0.push((name.into(), ScalarValue::Date32(i32::try_from(value.day()).ok())));
    }

    /// A condition that holds for rows whose `column` lies in `window`; names the day as well, so that files are pruned.
    pub(crate) fn within(&mut self, column: &str, window: TimeWindow) -> String {
        self.within_of("", column, window)
    }

    /// The same for a query with several windows, told apart by `prefix`.
    pub(crate) fn within_of(&mut self, prefix: &str, column: &str, window: TimeWindow) -> String {
        let last = Timestamp(window.end().0 - 1);
        self.date(format!("{prefix}from_date"), window.start());
        self.date(format!("{prefix}to_date"), last);
        self.time(format!("{prefix}from_time"), window.start());
        self.time(format!("{prefix}to_time"), window.end());
        format!("date >= ${prefix}from_date AND date <= ${prefix}to_date AND {column} >= ${prefix}from_time AND {column} < ${prefix}to_time")
    }

    /// Texts as what stands between the brackets of `IN ( )`. `prefix` tells the parameters of several lists apart.
    pub(crate) fn texts(&mut self, prefix: &str, texts: impl IntoIterator<Item = impl Into<String>>) -> String {
        let mut list = String::new();
        for (index, text) in texts.into_iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _ = write!(list, "{comma}${prefix}{index}");
            self.text(format!("{prefix}{index}"), text);
        }
        list
    }

    /// A condition that holds for rows of these entities. `prefix` tells the parameters of several conditions apart.
    pub(crate) fn entities<'a>(&mut self, prefix: &str, type_column: &str, id_column: &str, entities: impl IntoIterator<Item = &'a EntityKey>) -> String {
        let mut sorted: Vec<&EntityKey> = entities.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut condition = String::new();
        let mut index = 0;
        for group in sorted.chunk_by(|one, other| one.kind == other.kind) {
            let Some(kind) = group.first().map(|entity| entity.kind) else { continue };
            let separator = if condition.is_empty() { "(" } else { " OR " };
            // The type's name is ours, not the caller's.
            let _ = write!(condition, "{separator}({type_column} = '{kind}' AND {id_column} IN (");
            for (position, entity) in group.iter().enumerate() {
                let comma = if position == 0 { "" } else { ", " };
                let _ = write!(condition, "{comma}${prefix}{index}");
                self.text(format!("{prefix}{index}"), &entity.id);
                index += 1;
            }
            condition.push_str("))");
        }
        if condition.is_empty() { "false".to_owned() } else { condition + ")" }
    }
}

/// Names of ours, never a caller's, as what stands between the brackets of `IN ( )`.
pub(crate) fn quoted(names: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    names.into_iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

/// Runs a query.
pub(crate) async fn stream(lake: &GraphLake, sql: &str, parameters: Parameters) -> Answer<SendableRecordBatchStream> {
    let session = lake.session().await.map_err(failure)?;
    let plan = async {
        if sql.contains(" -> ") {
            // The engine's default dialect cannot read lambdas.
            session.sql("SET datafusion.sql_parser.dialect = 'duckdb'").await?;
        }
        session.sql(sql).await?.with_param_values(parameters.0)?.execute_stream().await
    };
    // Planning's futures are large: on the heap, they take nothing of the caller's stack.
    Box::pin(plan).await.map_err(|error| failure(error.into()))
}

/// Runs a query on a snapshot and hands each batch to `read`.
pub(crate) async fn each_of(snapshot: &Snapshot, sql: &str, parameters: Parameters, mut read: impl FnMut(&RecordBatch) -> Answer<()>) -> Answer<()> {
    let plan = async { snapshot.session.sql(sql).await?.with_param_values(parameters.0)?.execute_stream().await };
    let mut rows = Box::pin(plan).await.map_err(|error| failure(error.into()))?;
    while let Some(batch) = rows.try_next().await.map_err(|error| failure(error.into()))? {
        read(&batch)?;
    }
    Ok(())
}

/// Runs a query and hands each batch to `read`; stops when it returns false.
pub(crate) async fn each(lake: &GraphLake, sql: &str, parameters: Parameters, mut read: impl FnMut(Columns<'_>) -> Answer<bool>) -> Answer<()> {
    let mut rows = stream(lake, sql, parameters).await?;
    while let Some(batch) = rows.try_next().await.map_err(|error| failure(error.into()))? {
        if !read(Columns(&batch))? {
            break;
        }
    }
    Ok(())
}

/// Looks rows up without a query and hands each batch to `read`.
pub(crate) async fn look_up(lake: &GraphLake, lookup: Lookup<'_>, mut read: impl FnMut(Columns<'_>) -> Answer<Next>) -> Answer<()> {
    let mut failed = None;
    let take = |rows: &RecordBatch| {
        read(Columns(rows)).unwrap_or_else(|failure| {
            failed = Some(failure);
            Next::Nothing
        })
    };
    Box::pin(lake.look_up(lookup, take)).await.map_err(failure)?;
    failed.map_or(Ok(()), Err)
}

/// The columns of a batch by their names.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a>(pub(crate) &'a RecordBatch);

/// Text; what is absent or null reads as "".
pub(crate) struct Texts(StringArray);

impl Texts {
    pub(crate) fn get(&self, row: usize) -> &str {
        if row < self.0.len() && self.0.is_valid(row) { self.0.value(row) } else { "" }
    }
}

/// Whole numbers, times in microseconds among them; null reads as 0.
pub(crate) struct Numbers(Int64Array);

impl Numbers {
    pub(crate) fn get(&self, row: usize) -> i64 {
        self.some(row).unwrap_or_default()
    }

    pub(crate) fn some(&self, row: usize) -> Option<i64> {
        (row < self.0.len() && self.0.is_valid(row)).then(|| self.0.value(row))
    }

    /// The number as a count; negative ones, which no table holds, read as 0.
    pub(crate) fn count(&self, row: usize) -> u64 {
        u64::try_from(self.get(row)).unwrap_or_default()
    }

    /// The number as a 32-bit one: ports and protocols.
    pub(crate) fn small(&self, row: usize) -> i32 {
        self.some(row).and_then(|number| i32::try_from(number).ok()).unwrap_or(-1)
    }

    pub(crate) fn time(&self, row: usize) -> Timestamp {
        Timestamp(self.get(row))
    }
}

/// Columns of measures.
pub(crate) struct MeasureColumns {
    sums: [Numbers; 6],
    first: Numbers,
    last: Numbers,
}

impl MeasureColumns {
    /// The measures of a row.
    pub(crate) fn get(&self, row: usize) -> Measures {
        let [count, errors, bytes_in, bytes_out, packets_in, packets_out] = &self.sums;
        Measures {
            count: count.count(row),
            errors: errors.count(row),
            bytes_in: bytes_in.count(row),
            bytes_out: bytes_out.count(row),
            packets_in: packets_in.count(row),
            packets_out: packets_out.count(row),
            first: self.first.some(row).map_or(Measures::ZERO.first, Timestamp),
            last: self.last.some(row).map_or(Measures::ZERO.last, Timestamp),
        }
    }
}

/// Measures as `side` of the edge sees them: what went into a flow's subject came out of its object.
pub(crate) fn seen_from(side: &str, relation: Relation, measures: Measures) -> Measures {
    let flow = matches!(relation, Relation::ConnectedTo | Relation::AcceptedFrom | Relation::RejectedFrom);
    if side != "in" || !flow {
        return measures;
    }
    Measures { bytes_in: measures.bytes_out, bytes_out: measures.bytes_in, packets_in: measures.packets_out, packets_out: measures.packets_in, ..measures }
}

impl<'a> Columns<'a> {
    pub(crate) fn len(self) -> usize {
        self.0.num_rows()
    }

    fn column(self, name: &str, data_type: &DataType) -> Answer<arrow::array::ArrayRef> {
        let column = self.0.column_by_name(name).ok_or_else(|| corrupt("a column is missing"))?;
        // The engine may read text as views or dictionaries; of the same type, nothing is copied.
        cast(column, data_type).map_err(|error| failure(error.into()))
    }

    pub(crate) fn texts(self, name: &str) -> Answer<Texts> {
        Ok(Texts(self.column(name, &DataType::Utf8)?.as_string_opt::<i32>().ok_or_else(|| corrupt("not text"))?.clone()))
    }

    pub(crate) fn numbers(self, name: &str) -> Answer<Numbers> {
        Ok(Numbers(self.column(name, &DataType::Int64)?.as_primitive_opt::<Int64Type>().ok_or_else(|| corrupt("not numbers"))?.clone()))
    }

    pub(crate) fn floats(self, name: &str) -> Answer<Float64Array> {
        Ok(self.column(name, &DataType::Float64)?.as_primitive_opt::<Float64Type>().ok_or_else(|| corrupt("not numbers"))?.clone())
    }

    pub(crate) fn flags(self, name: &str) -> Answer<BooleanArray> {
        Ok(self.column(name, &DataType::Boolean)?.as_boolean_opt().ok_or_else(|| corrupt("not true or false"))?.clone())
    }

    /// The columns of [`SUMS`].
    pub(crate) fn measures(self) -> Answer<MeasureColumns> {
        let sum = |name| self.numbers(name);
        Ok(MeasureColumns {
            sums: [sum("count")?, sum("errors")?, sum("bytes_in")?, sum("bytes_out")?, sum("packets_in")?, sum("packets_out")?],
            first: sum("first_time")?,
            last: sum("last_time")?,
        })
    }

    /// The entities in row `row` of a column that lists structs of `type` and `id`.
    pub(crate) fn entity_list(self, name: &str, row: usize) -> Answer<Vec<EntityKey>> {
        let lists: &ListArray = self.0.column_by_name(name).and_then(|column| column.as_list_opt()).ok_or_else(|| corrupt("not a list"))?;
        if row >= lists.len() || lists.is_null(row) {
            return Ok(Vec::new());
        }
        let items = lists.value(row);
        let items = items.as_struct_opt().ok_or_else(|| corrupt("not a list of structs"))?;
        let part = |name| -> Answer<Texts> {
            let column = items.column_by_name(name).ok_or_else(|| corrupt("a field is missing"))?;
            let column = cast(column, &DataType::Utf8).map_err(|error| failure(error.into()))?;
            Ok(Texts(column.as_string_opt::<i32>().ok_or_else(|| corrupt("not text"))?.clone()))
        };
        let (types, ids) = (part("type")?, part("id")?);
        (0..items.len()).map(|item| entity(types.get(item), ids.get(item))).collect()
    }
}

/// An entity out of the lake.
pub(crate) fn entity(kind: &str, id: &str) -> Answer<EntityKey> {
    Ok(EntityKey { kind: entity_type(kind)?, id: id.to_owned() })
}

/// A type out of the lake.
pub(crate) fn entity_type(name: &str) -> Answer<EntityType> {
    name.parse().map_err(|_| corrupt("unknown entity type"))
}

/// An entity out of the lake, where a row may have none.
pub(crate) fn optional_entity(kind: &str, id: &str) -> Answer<Option<EntityKey>> {
    if kind.is_empty() || id.is_empty() { Ok(None) } else { entity(kind, id).map(Some) }
}

/// A relation out of the lake.
pub(crate) fn relation(name: &str) -> Answer<Relation> {
    name.parse().map_err(|_| corrupt("unknown relation"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_grouped_by_type_and_never_written_into_the_query() {
        let key = |text: &str| text.parse::<EntityKey>().unwrap();
        let mut parameters = Parameters::new();
        let keys = [key("user:b' OR 1=1"), key("role:r"), key("user:a"), key("user:a")];
        let condition = parameters.entities("e", "entity_type", "entity_id", &keys);
        assert_eq!(condition, "((entity_type = 'user' AND entity_id IN ($e0, $e1)) OR (entity_type = 'role' AND entity_id IN ($e2)))");
        assert_eq!(parameters.0.len(), 3);
        assert_eq!(Parameters::new().entities("e", "t", "i", &[]), "false");
    }
}
