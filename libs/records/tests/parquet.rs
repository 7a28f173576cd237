//! A flow log in Parquet gives the events of the same log as text.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray},
    datatypes::{Field, Schema},
};
use gumshoe_model::{DeadLetter, Event};
use gumshoe_records::{Format, Options, Sink, Stop, read};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, GzipLevel},
    file::properties::WriterProperties,
};

#[derive(Default)]
struct Kept {
    events: Vec<String>,
    letters: Vec<String>,
    offsets: Vec<u64>,
}

impl Sink for Kept {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        self.offsets.push(event.offset);
        self.events.push(format!("{:?}", Event { offset: 0, ..event.clone() }));
        Ok(())
    }

    fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> Result<(), Stop> {
        self.letters.push(letter.reason.clone());
        Ok(())
    }
}

fn kept(bytes: &[u8]) -> (Kept, Format) {
    let mut kept = Kept::default();
    let summary = read(bytes, &Options::default(), &mut kept).unwrap();
    assert_eq!(summary.records, summary.events + summary.dead_letters);
    (kept, summary.format)
}

fn write(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let schema = Arc::new(Schema::new(columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, array)| array).collect()).unwrap();
    let properties = WriterProperties::builder().set_compression(Compression::GZIP(GzipLevel::default())).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn text(values: Vec<Option<&str>>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

#[test]
fn parquet_and_text_agree() {
    let bytes = write(vec![
        ("version", Arc::new(Int32Array::from(vec![5, 5, 5]))),
        ("account_id", text(vec![Some("111122223333"), Some("unknown"), Some("111122223333")])),
        ("interface_id", text(vec![Some("eni-0a"); 3])),
        ("srcaddr", text(vec![Some("10.0.0.5"), None, Some("2001:db8::1")])),
        ("dstaddr", text(vec![Some("203.0.113.9"), None, Some("fd00::5")])),
        ("srcport", Arc::new(Int32Array::from(vec![Some(49152), None, Some(40000)]))),
        ("dstport", Arc::new(Int32Array::from(vec![Some(443), None, Some(53)]))),
        ("protocol", Arc::new(Int32Array::from(vec![Some(6), None, Some(17)]))),
        ("packets", Arc::new(Int64Array::from(vec![Some(20), None, Some(1)]))),
        ("bytes", Arc::new(Int64Array::from(vec![Some(4_249_000_000), None, Some(80)]))),
        ("start", Arc::new(Int64Array::from(vec![1_714_557_600; 3]))),
        ("end", Arc::new(Int64Array::from(vec![1_714_557_660; 3]))),
        ("action", text(vec![Some("ACCEPT"), None, Some("REJECT")])),
        ("log_status", text(vec![Some("OK"), Some("NODATA"), Some("OK")])),
        ("pkt_dstaddr", text(vec![Some("198.51.100.1"), None, None])),
        ("a_field_of_tomorrow", text(vec![Some("x"), Some(""), None])),
    ]);
    let lines =
        "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status pkt-dstaddr a-field-of-tomorrow
5 111122223333 eni-0a 10.0.0.5 203.0.113.9 49152 443 6 20 4249000000 1714557600 1714557660 ACCEPT OK 198.51.100.1 x
5 unknown eni-0a - - - - - - - 1714557600 1714557660 - NODATA - -
5 111122223333 eni-0a 2001:db8::1 fd00::5 40000 53 17 1 80 1714557600 1714557660 REJECT OK - -
";
    let (columns, format) = kept(&bytes);
    let (rows, _) = kept(lines.as_bytes());
    assert_eq!(format, Format::FlowParquet);
    assert_eq!((columns.events.len(), columns.letters.len()), (3, 0));
    assert_eq!(columns.events, rows.events);
    assert_eq!(columns.offsets, [0, 1, 2]);
    // Cut short, it is one dead letter: Parquet has its directory at the end.
    assert_eq!(kept(&bytes[..bytes.len() - 5]).0.letters.len(), 1);
}

#[test]
fn a_row_that_is_wrong_costs_itself_only() {
    let bytes = write(vec![
        ("interface_id", text(vec![Some("eni-0a"); 2])),
        ("start", text(vec![Some("soon"), Some("1714557600")])),
        ("log_status", text(vec![Some("NODATA"); 2])),
    ]);
    let (found, _) = kept(&bytes);
    assert_eq!((found.events.len(), found.letters), (1, vec!["`start` `soon` is not valid".to_owned()]));
}

#[test]
fn other_parquet_is_one_dead_letter() {
    let (found, _) = kept(&write(vec![("a", Arc::new(Int32Array::from(vec![1, 2, 3])))]));
    assert_eq!(found.letters, ["Parquet without the columns of a flow log"]);
}
