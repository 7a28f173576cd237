//! An events file gives back what was written to it, whatever repeats.
#![expect(clippy::indexing_slicing, reason = "in a test, a panic is the message")]

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use gumshoe_model::{EntityRef, EntityType, Event, RecordKind, Relation, Timestamp};
use gumshoe_records::events::{EventsWriter, Received, schema, table};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

/// A text that is the same up to a row, and then another or a new one each row.
#[derive(Debug, Clone)]
struct Change {
    first: String,
    at: usize,
    then: String,
    numbered: bool,
}

impl Change {
    fn of(&self, row: usize) -> String {
        match (row < self.at, self.numbered) {
            (true, _) => self.first.clone(),
            (false, true) => format!("{}{row}", self.then),
            (false, false) => self.then.clone(),
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let text = || prop_oneof![Just(String::new()), "[a-z/é]{1,12}"];
    (text(), 0..2_000_usize, text(), any::<bool>()).prop_map(|(first, at, then, numbered)| Change { first, at, then, numbered })
}

fn event<'a>(row: usize, texts: &'a [String], raw: &'a str, numbers: (i32, u64)) -> Event<'a> {
    let mut event = Event::new(if numbers.0 < 0 { RecordKind::CloudTrail } else { RecordKind::VpcFlow }, Timestamp(row as i64), raw);
    event.account = texts[0].as_str().into();
    event.actor = (!texts[1].is_empty()).then(|| EntityRef::new(EntityType::Role, texts[1].as_str()));
    event.user_agent = texts[2].as_str().into();
    event.error = texts[3].as_str().into();
    event.port = numbers.0;
    event.bytes_in = numbers.1;
    event.offset = row as u64;
    if row.is_multiple_of(3) {
        event.link(Relation::AffectedBy, EntityType::S3Bucket, texts[2].as_str(), "name");
    }
    event
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn gives_back_what_was_written(
        rows in prop_oneof![Just(1_usize), 1..2_500_usize],
        changes in prop::collection::vec(change(), 4),
        port in (any::<i16>(), 0..2_000_usize, any::<i16>()),
        bytes in (any::<u32>(), 0..2_000_usize, any::<u32>()),
        keep_text in any::<bool>(),
    ) {
        let texts: Vec<Vec<String>> = (0..rows).map(|row| changes.iter().map(|change| change.of(row)).collect()).collect();
        let raws: Vec<String> = (0..rows).map(|row| format!("record {row}")).collect();
        let numbers = |row: usize| {
            (i32::from(if row < port.1 { port.0 } else { port.2 }), u64::from(if row < bytes.1 { bytes.0 } else { bytes.2 }))
        };
        let mut writer = EventsWriter::new("batch").keep_text(keep_text);
        for row in 0..rows {
            writer.push_marked(&event(row, &texts[row], &raws[row], numbers(row)), &texts[row][1], "object").unwrap();
        }
        prop_assert_eq!(writer.len(), rows);
        let file = writer.finish("batch#0-1").unwrap();
        prop_assert!(writer.is_empty() && writer.bytes() == 0);

        // As the graph reads it.
        let received = Received::new(file.clone()).unwrap();
        let read = received.events.rows().unwrap();
        prop_assert_eq!(read.len(), rows);
        let mut ids = std::collections::HashSet::new();
        for row in 0..rows {
            prop_assert_eq!(read.account.get(row), &texts[row][0]);
            prop_assert_eq!(read.actor_id.get(row), &texts[row][1]);
            prop_assert_eq!(read.actor_type.get(row).is_some(), !texts[row][1].is_empty());
            prop_assert_eq!(read.user_agent.get(row), &texts[row][2]);
            prop_assert_eq!(read.error.get(row), &texts[row][3]);
            prop_assert_eq!((read.port[row], read.bytes_in[row].cast_unsigned()), numbers(row));
            prop_assert_eq!(read.length[row], raws[row].len() as i64);
            prop_assert_eq!(read.batch_id.get(row), "batch#0-1");
            prop_assert_eq!(read.rules.get(row), &texts[row][1]);
            let written = event(row, &texts[row], &raws[row], numbers(row));
            prop_assert_eq!(read.event(row, &raws[row]), Some(gumshoe_model::Event { id: read.id(row).into(), ..written }));
            prop_assert_eq!(read.source_object.get(row), "object");
            let links: Vec<&str> = read.links.range(row).map(|index| read.links.id.get(index)).collect();
            prop_assert_eq!(links, if row.is_multiple_of(3) && !texts[row][2].is_empty() { vec![texts[row][2].as_str()] } else { vec![] });
            prop_assert!(ids.insert(read.id(row).to_owned()), "ids are unique");
        }
        prop_assert_eq!(table(&file).unwrap().num_rows(), rows);

        // As any other reader does.
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
        let names: Vec<String> = schema().fields().iter().map(|field| field.name().clone()).collect();
        let found: Vec<String> = batches[0].schema().fields().iter().map(|field| field.name().clone()).collect();
        prop_assert_eq!(found, names);
        let mut row = 0;
        for batch in &batches {
            let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
            let (accounts, raw) = (text("account"), text("raw"));
            let ports = batch.column_by_name("port").unwrap().as_primitive::<Int32Type>().clone();
            let offsets = batch.column_by_name("offset").unwrap().as_primitive::<Int64Type>().clone();
            for index in 0..batch.num_rows() {
                prop_assert_eq!(accounts.value(index), &texts[row][0]);
                prop_assert_eq!(raw.value(index), if keep_text { raws[row].as_str() } else { "" });
                prop_assert_eq!(ports.value(index), numbers(row).0);
                prop_assert_eq!(offsets.value(index), row as i64);
                row += 1;
            }
        }
        prop_assert_eq!(row, rows);
    }
}

#[test]
fn other_files_are_refused() {
    assert!(Received::new(bytes::Bytes::from_static(b"PAR1 and nothing more")).is_err());
    assert!(Received::new(bytes::Bytes::new()).is_err());
}
