//! Events read back from the lake as they were received, to complete what a crash cut short.

use std::{borrow::Cow, str::FromStr};

use arrow::{
    array::{AsArray, RecordBatch, StringArray, StringBuilder},
    compute::cast,
    datatypes::{DataType, Int32Type, Int64Type},
    error::ArrowError,
};
use futures::StreamExt;
use gumshoe_lake::{GraphLake, LakeError, ScalarValue};
use gumshoe_model::{DeadLetter, EntityRef, EntityType, Event, Link, RecordKind, Relation, Timestamp};
use gumshoe_records::{Options, Sink, Stop, columns::EventColumns};

/// Source object, events and their ids of one batch.
pub(crate) async fn events_of(lake: &GraphLake, batch_id: &str) -> Result<(String, RecordBatch, StringArray), LakeError> {
    let mut stream = lake.sql("SELECT * FROM events WHERE batch_id = $batch", vec![("batch", ScalarValue::from(batch_id))]).await?;
    let (mut source_object, mut events, mut ids) = (String::new(), EventColumns::new(), StringBuilder::new());
    while let Some(rows) = stream.next().await.transpose()? {
        let stored = Stored { rows: &rows };
        for row in 0..rows.num_rows() {
            source_object = stored.text("source_object", row)?.to_owned();
            ids.append_value(stored.text("event_id", row)?);
            let event = stored.event(row)?;
            if event.kind == RecordKind::GuardDuty || event.kind == RecordKind::SecurityHub {
                // What a finding says is not in the table of events, but in its text.
                let mut again = Again { event: &event, events: &mut events, pushed: false };
                let read = gumshoe_records::read(event.raw.as_bytes(), &Options::default(), &mut again);
                if read.is_ok() && again.pushed {
                    continue;
                }
            }
            events.push(&event);
        }
    }
    Ok((source_object, events.finish()?, ids.finish()))
}

struct Again<'a> {
    event: &'a Event<'a>,
    events: &'a mut EventColumns,
    pushed: bool,
}

impl Sink for Again<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        if !self.pushed {
            self.pushed = true;
            self.events.push(&Event { offset: self.event.offset, ..event.clone() });
        }
        Ok(())
    }

    fn dead_letter(&mut self, _: &DeadLetter<'_>) -> Result<(), Stop> {
        Ok(())
    }
}

struct Stored<'a> {
    rows: &'a RecordBatch,
}

impl<'a> Stored<'a> {
    fn column(&self, name: &str) -> Result<&'a arrow::array::ArrayRef, ArrowError> {
        self.rows.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column `{name}`")))
    }

    fn text(&self, name: &str, row: usize) -> Result<&'a str, ArrowError> {
        let column = self.column(name)?.as_string_opt::<i32>().ok_or_else(|| ArrowError::SchemaError(format!("column `{name}` is not text")))?;
        Ok(column.value(row))
    }

    fn long(&self, name: &str, row: usize) -> Result<i64, ArrowError> {
        let column = cast(self.column(name)?, &DataType::Int64)?;
        Ok(column.as_primitive::<Int64Type>().value(row))
    }

    fn count(&self, name: &str, row: usize) -> Result<u64, ArrowError> {
        Ok(u64::try_from(self.long(name, row)?).unwrap_or_default())
    }

    fn entity(&self, kind: &str, id: &str, row: usize) -> Result<Option<EntityRef<'a>>, ArrowError> {
        Ok(EntityType::from_str(self.text(kind, row)?).ok().zip(Some(self.text(id, row)?)).map(|(kind, id)| EntityRef::new(kind, id)))
    }

    fn event(&self, row: usize) -> Result<Event<'a>, ArrowError> {
        let text = |name: &str| self.text(name, row).map(Cow::Borrowed);
        let number = |name: &str| self.column(name).map(|column| column.as_primitive::<Int32Type>().value(row));
        let kind = RecordKind::from_str(self.text("kind", row)?).map_err(|error| ArrowError::ParseError(error.to_string()))?;
        Ok(Event {
            id: text("event_id")?,
            end_time: Timestamp(self.long("end_time", row)?),
            account: text("account")?,
            region: text("region")?,
            actor: self.entity("actor_type", "actor_id", row)?,
            actor_name: text("actor_name")?,
            actor_alias: text("actor_alias")?,
            parent: self.entity("parent_type", "parent_id", row)?,
            parent_alias: text("parent_alias")?,
            origin: self.entity("origin_type", "origin_id", row)?,
            service: text("service")?,
            operation: text("operation")?,
            error: text("error")?,
            address: text("address")?,
            user_agent: text("user_agent")?,
            access_key: text("access_key")?,
            flow: Relation::from_str(self.text("flow", row)?).ok(),
            port: number("port")?,
            protocol: number("protocol")?,
            bytes_in: self.count("bytes_in", row)?,
            bytes_out: self.count("bytes_out", row)?,
            packets_in: self.count("packets_in", row)?,
            packets_out: self.count("packets_out", row)?,
            links: self.links(row)?,
            corrects: text("corrects")?,
            offset: self.count("offset", row)?,
            ..Event::new(kind, Timestamp(self.long("time", row)?), self.text("raw", row)?)
        })
    }

    fn links(&self, row: usize) -> Result<Vec<Link<'a>>, ArrowError> {
        let list = self.column("links")?.as_list::<i32>();
        let items = list.values().as_struct();
        let part = |name: &str| {
            items
                .column_by_name(name)
                .and_then(|column| column.as_string_opt::<i32>())
                .ok_or_else(|| ArrowError::SchemaError(format!("no link field `{name}`")))
        };
        let (relations, types, ids, names) = (part("relation")?, part("type")?, part("id")?, part("name")?);
        let bound = |index: usize| list.value_offsets().get(index).and_then(|offset| usize::try_from(*offset).ok()).unwrap_or_default();
        let links = (bound(row)..bound(row + 1)).filter_map(|item| {
            Some(Link {
                relation: Relation::from_str(relations.value(item)).ok()?,
                entity: EntityRef::new(EntityType::from_str(types.value(item)).ok()?, ids.value(item)),
                name: names.value(item).into(),
            })
        });
        Ok(links.collect())
    }
}
