//! A column written by numbers is read as texts, and its pages, statistics and filter say what is in it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test, a panic is the message")]

use std::sync::Arc;

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{DataType, Field, Schema},
};
use bytes::Bytes;
use gumshoe_records::coded;
use parquet::{
    arrow::{
        ArrowSchemaConverter,
        arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector},
    },
    file::{
        metadata::PageIndexPolicy,
        properties::{EnabledStatistics, WriterProperties},
        reader::{FileReader as _, SerializedFileReader},
        serialized_reader::ReadOptionsBuilder,
        statistics::Statistics,
        writer::SerializedFileWriter,
    },
};
use proptest::prelude::*;

const PAGE_ROWS: usize = 100;

fn file(groups: &[Vec<u32>], texts: &[String]) -> Bytes {
    let schema = Schema::new(vec![Field::new("v", DataType::Utf8, true)]);
    let properties = WriterProperties::builder()
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_bloom_filter_enabled(true)
        .build();
    let root = ArrowSchemaConverter::new().convert(&schema).unwrap().root_schema_ptr();
    let mut writer = SerializedFileWriter::new(Vec::new(), root, Arc::new(properties)).unwrap();
    let (properties, column) = (Arc::clone(writer.properties()), writer.schema_descr().column(0));
    for keys in groups {
        let mut group = writer.next_row_group().unwrap();
        assert!(coded::append(keys, |key| &texts[key as usize], &properties, &column, &mut group).unwrap());
        group.close().unwrap();
    }
    writer.into_inner().unwrap().into()
}

fn read(file: &Bytes, selection: Option<RowSelection>) -> Vec<String> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let mut builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options).unwrap();
    if let Some(selection) = selection {
        builder = builder.with_row_selection(selection);
    }
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    batches.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect::<Vec<_>>()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn numbers_are_read_as_texts(
        texts in prop::collection::hash_set("[a-zé%]{0,8}", 1..300),
        seeds in prop::collection::vec(prop::collection::vec((any::<prop::sample::Index>(), 1..250_usize), 1..12), 1..4),
        skipped in 0..400_usize,
    ) {
        let texts: Vec<String> = texts.into_iter().collect();
        // Runs of one number, and between them single ones.
        let keys = |runs: &Vec<(prop::sample::Index, usize)>| -> Vec<u32> {
            runs.iter().flat_map(|(key, count)| {
                let first = key.index(texts.len());
                let step = usize::from(count % 2 == 1);
                (0..*count).map(move |row| first + row * step)
            }).map(|key| (key % texts.len()) as u32).collect()
        };
        let groups: Vec<Vec<u32>> = seeds.iter().map(keys).collect();
        let file = file(&groups, &texts);
        let expected: Vec<String> = groups.iter().flatten().map(|key| texts[*key as usize].clone()).collect();
        prop_assert_eq!(&read(&file, None), &expected);
        let skipped = skipped.min(expected.len() - 1);
        let selection = RowSelection::from(vec![RowSelector::skip(skipped), RowSelector::select(expected.len() - skipped)]);
        prop_assert_eq!(&read(&file, Some(selection)), &expected[skipped..]);

        let options = ReadOptionsBuilder::new().with_page_index().build();
        let reader = SerializedFileReader::new_with_options(file, options).unwrap();
        let (indexes, offsets) = (reader.metadata().column_index().unwrap(), reader.metadata().offset_index().unwrap());
        for (number, keys) in groups.iter().enumerate() {
            let texts_of = |keys: &[u32]| keys.iter().map(|key| texts[*key as usize].as_bytes()).collect::<Vec<_>>();
            let all = texts_of(keys);
            let Some(Statistics::ByteArray(statistics)) = reader.metadata().row_group(number).column(0).statistics() else { panic!("no statistics") };
            prop_assert_eq!(statistics.min_opt().unwrap().data(), *all.iter().min().unwrap());
            prop_assert_eq!(statistics.max_opt().unwrap().data(), *all.iter().max().unwrap());
            let parquet::file::page_index::column_index::ColumnIndexMetaData::BYTE_ARRAY(index) = &indexes[number][0] else { panic!("no index") };
            for (page, keys) in keys.chunks(PAGE_ROWS).enumerate() {
                let all = texts_of(keys);
                prop_assert_eq!(index.min_value(page), all.iter().min().copied());
                prop_assert_eq!(index.max_value(page), all.iter().max().copied());
                prop_assert_eq!(offsets[number][0].page_locations()[page].first_row_index as usize, page * PAGE_ROWS);
            }
            let filter = reader.get_row_group(number).unwrap();
            let filter = filter.get_column_bloom_filter(0).cloned();
            if let Some(filter) = filter {
                prop_assert!(all.iter().all(|text| filter.check(*text)));
            }
        }
    }
}
