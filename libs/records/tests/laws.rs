//! Laws that hold for all input: nothing is lost, nothing panics, and how the bytes arrive does not matter.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use gumshoe_model::{DeadLetter, Event, Relation};
use gumshoe_records::{Options, Sink, Stop, Summary, read};
use proptest::prelude::*;

/// Everything that came, as text.
#[derive(Default)]
struct Shown(Vec<String>);

impl Sink for Shown {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        assert!(event.links.len() <= 64);
        self.0.push(format!("{event:?}"));
        Ok(())
    }

    fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> Result<(), Stop> {
        self.0.push(format!("{letter:?}"));
        Ok(())
    }
}

fn run(input: impl Read) -> (Vec<String>, Summary) {
    let mut shown = Shown::default();
    let summary = read(input, &Options::default(), &mut shown).unwrap();
    assert_eq!(summary.records, summary.events + summary.dead_letters);
    assert_eq!(summary.records, shown.0.len() as u64);
    (shown.0, summary)
}

/// Gives the bytes in pieces of these sizes, over and over.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: &'a [usize],
    next: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes[self.next % self.sizes.len()];
        self.next += 1;
        if self.next.is_multiple_of(7) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = size.min(buffer.len()).min(self.bytes.len());
        buffer[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Ok(count)
    }
}

fn fixtures() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for folder in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")).unwrap() {
        let folder = folder.unwrap().path();
        if folder.is_dir() {
            found.extend(fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file()).map(|path| fs::read(path).unwrap()));
        }
    }
    assert!(found.len() >= 30);
    found
}

/// Pieces of JSON that make trouble when they meet.
fn fragment() -> impl Strategy<Value = String> {
    let record = r#"{"eventVersion":"1.08","eventTime":"2024-05-01T10:00:00Z","eventSource":"s3.amazonaws.com","eventName":"X"}"#;
    let fixed = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        ",",
        ":",
        "\n",
        "\\",
        " ",
        "{\"Records\":[",
        "]}",
        "\"Records\"",
        "null",
        "1e400",
        "\0",
        "\u{e9}",
        "{\"a\":\"",
        "\"}",
        "[[",
        "{}",
        "{\"logEvents\":[{\"message\":\"{}\"}],\"messageType\":\"DATA_MESSAGE\"}",
        "{\"kind\":\"Event\",\"verb\":\"get\"}",
        "\"{\\\"eventName\\\":1,\\\"eventTime\\\":2}\"",
    ];
    prop_oneof![4 => Just(record.to_owned()), 10 => prop::sample::select(fixed.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,8}"]
}

/// How objects of each format begin.
const MAGIC: &[&[u8]] = &[b"", b"{", b"[", b"\x1f\x8b\x08\x00", b"PAR1", b"version srcaddr start\n", b"\xef\xbb\xbf["];

proptest! {
    #[test]
    fn any_bytes_are_accounted_for(bytes in prop::collection::vec(any::<u8>(), 0..4096), magic in prop::sample::select(MAGIC)) {
        run(&*[magic, &bytes].concat());
    }

    #[test]
    fn any_mix_of_json_pieces_is_accounted_for(pieces in prop::collection::vec(fragment(), 0..60), sizes in prop::collection::vec(1_usize..50, 1..5)) {
        let text = pieces.concat();
        let (whole, summary) = run(text.as_bytes());
        prop_assert_eq!(summary.bytes, text.len() as u64);
        let (split, _) = run(Pieces { bytes: text.as_bytes(), sizes: &sizes, next: 0 });
        prop_assert_eq!(whole, split);
    }

    #[test]
    fn good_lines_survive_any_line_between_them(line in "[^\\n]{0,200}", count in 1_usize..4) {
        let good = r#"{"eventVersion":"1.08","eventTime":"2024-05-01T10:00:00Z","eventSource":"s3.amazonaws.com","eventName":"X"}"#;
        let text = format!("{good}\n{}{good}\n", format!("{line}\n").repeat(count));
        prop_assert!(run(text.as_bytes()).1.events >= 2, "{}", text);
    }

    #[test]
    fn a_changed_byte_costs_no_more_than_its_neighbours(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let good = r#"{"eventVersion":"1.08","eventTime":"2024-05-01T10:00:00Z","eventSource":"s3.amazonaws.com","eventName":"X"}"#;
        let mut bytes = format!("{good}\n").repeat(20).into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        prop_assert!(run(&*bytes).1.events >= 18);
    }

    #[test]
    fn flow_fields_may_stand_in_any_order(order in Just((0..12).collect::<Vec<usize>>()).prop_shuffle(), source in any::<[u8; 4]>(), destination in any::<[u8; 4]>(),
            ports in any::<(u16, u16)>(), bytes in any::<u64>(), packets in any::<u32>(), start in 0_u32..4_000_000_000, egress in any::<bool>()) {
        let dotted = |address: [u8; 4]| std::net::Ipv4Addr::from(address).to_string();
        let fields = [
            ("interface-id", "eni-0a".to_owned()), ("srcaddr", dotted(source)), ("dstaddr", dotted(destination)), ("srcport", ports.0.to_string()), ("dstport", ports.1.to_string()),
            ("protocol", "6".to_owned()), ("bytes", bytes.to_string()), ("packets", packets.to_string()), ("start", start.to_string()), ("action", "REJECT".to_owned()),
            ("flow-direction", if egress { "egress" } else { "ingress" }.to_owned()), ("a-field-of-tomorrow", "x".to_owned()),
        ];
        let names: Vec<&str> = order.iter().map(|index| fields[*index].0).collect();
        let values: Vec<&str> = order.iter().map(|index| fields[*index].1.as_str()).collect();
        let line = values.join(" ");
        struct One(usize, String);
        impl Sink for One {
            fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
                self.0 += 1;
                self.1 = format!("{} {} {} {} {} {} {} {}", event.raw, event.time.0 / 1_000_000, event.flow.unwrap_or(Relation::Used), event.port, event.address,
                    event.links[0].entity.id, event.bytes_in as u128 + event.bytes_out as u128, event.packets_in + event.packets_out);
                Ok(())
            }
            fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> Result<(), Stop> {
                panic!("{letter:?}");
            }
        }
        let mut one = One(0, String::new());
        read(format!("{}\n{line}\n", names.join(" ")).as_bytes(), &Options::default(), &mut one).unwrap();
        let (local, remote) = if egress { (source, destination) } else { (destination, source) };
        prop_assert_eq!(one.0, 1);
        prop_assert_eq!(one.1, format!("{line} {start} rejected_from {} {} {} {bytes} {packets}", ports.1, dotted(remote), dotted(local)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn pieces_of_any_size_give_the_same_records(sizes in prop::collection::vec(1_usize..5000, 1..6)) {
        for bytes in fixtures() {
            prop_assert_eq!(run(&*bytes).0, run(Pieces { bytes: &bytes, sizes: &sizes, next: 0 }).0);
        }
    }
}

/// Longer than the first buffer, so that records lie across its end wherever that is.
#[test]
fn records_across_the_buffer_are_whole() {
    let fixture = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/cloudtrail/lines.jsonl")).unwrap();
    let records: Vec<&str> = fixture.lines().collect();
    for filling in [0_usize, 1, 63, 300_000] {
        let many: Vec<String> = (0..900)
            .map(|number| records[number % records.len()].replace("\"req-", &format!("\"{}req-", "é".repeat(if number == 5 { filling } else { 0 }))))
            .collect();
        for text in [many.join("\n"), format!("{{\"Records\":[{}]}}", many.join(",")), format!("[\n{}\n]", many.join(",\n"))] {
            let (_, summary) = run(text.as_bytes());
            assert_eq!((summary.events, summary.dead_letters), (900, 0), "{filling}");
        }
    }
}
