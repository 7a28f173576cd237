//! Bad input of every kind gives dead letters: never a panic, a hang or a lost good record.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{self, Read, Write as _};

use flate2::{Compression, write::GzEncoder};
use gumshoe_model::{DeadLetter, Event, event::MAX_DEAD_LETTER_BYTES};
use gumshoe_records::{Format, Options, ReadError, Sink, Stop, Summary, read};

#[derive(Default)]
struct Kept {
    names: Vec<String>,
    letters: Vec<(u64, u64, String, String)>,
}

impl Sink for Kept {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        self.names.push(event.operation.clone().into_owned());
        Ok(())
    }

    fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> Result<(), Stop> {
        assert!(letter.raw.len() <= MAX_DEAD_LETTER_BYTES);
        self.letters.push((letter.offset, letter.length, letter.reason.clone(), letter.raw.clone().into_owned()));
        Ok(())
    }
}

fn run(input: impl Read) -> (Kept, Summary) {
    let mut kept = Kept::default();
    let summary = read(input, &Options::default(), &mut kept).unwrap();
    assert_eq!(summary.records, summary.events + summary.dead_letters);
    assert_eq!((summary.events, summary.dead_letters), (kept.names.len() as u64, kept.letters.len() as u64));
    (kept, summary)
}

fn record(name: &str) -> String {
    format!(r#"{{"eventVersion":"1.08","eventTime":"2024-05-01T10:00:00Z","eventSource":"s3.amazonaws.com","eventName":"{name}"}}"#)
}

/// Runs text with good records `A`, `B` around something bad; both must go in.
fn around(before: &str, bad: &str, after: &str) -> Kept {
    let text = format!("{before}{}{bad}{}{after}", record("A"), record("B"));
    let (kept, _) = run(text.as_bytes());
    assert_eq!(kept.names, ["A", "B"], "{}", text.chars().take(400).collect::<String>());
    kept
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn nothing_is_no_record() {
    for empty in ["", " \n\t\r\n", "\u{feff}", "{\"Records\":[]}", "[]", "[ ]\n[]"] {
        let (_, summary) = run(empty.as_bytes());
        assert_eq!(summary.records, 0, "{empty:?}");
    }
    assert_eq!(run(&*gzip(b"")).1.records, 0);
}

#[test]
fn what_is_no_log_is_one_dead_letter() {
    let license = "Apache License\n{ not json }\n".repeat(10_000);
    for text in
        [license.as_str(), "<html>\n<body>{}</body></html>", "a: 1\nb:\n  - c\n", "\0\0\0", "\u{1}binary", "{\"a\":1}", "{\"Records\":null}", "{\"Records\":5}"]
    {
        let (kept, summary) = run(text.as_bytes());
        assert_eq!((summary.records, summary.format), (1, Format::Unknown), "{text:.40}");
        assert_eq!(kept.letters[0].1, text.len() as u64);
    }
    let utf16: Vec<u8> = record("A").encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(run(&*utf16).1.dead_letters, 1);
    // Each unknown value of a stream is one.
    assert_eq!(run(&b"{\"a\":1}\n{\"b\":2}\n"[..]).1.dead_letters, 2);
    assert_eq!(run(&b"[1,\"x\",null,{},[],true]"[..]).1.dead_letters, 6);
}

#[test]
fn a_bad_record_costs_itself_only() {
    for (layout, before, between, after) in
        [("lines", "", "\n", "\n"), ("array", "[", ",", "]"), ("pretty array", "[\n  ", ",\n  ", "\n]\n"), ("records", "{\"Records\":[", ",", "]}")]
    {
        for bad in [
            r#"{"eventTime":"2024-05-01T10:00:00Z","eventSource":"s3.amazonaws.com","eventName":}"#,
            r#"{"eventTime":"2024-05-01T10:00:00Z","eventSource":"s3.amazonaws.com"}"#,
            r#"{"eventTime":5,"eventSource":"s3.amazonaws.com","eventName":"X"}"#,
            r#"{"a":1}"#,
            r#"{"a":[}"#,
            r#"{"a" "b"}"#,
            r#"{a:1}"#,
            "{\"a\":\"\0\"}",
            "{\"a\":1\0}",
        ] {
            let kept = around(before, &format!("{between}{bad}{between}"), after);
            assert_eq!(kept.letters.len(), 1, "{layout}: {bad}");
            assert_eq!(kept.letters[0].1, bad.len() as u64, "{layout}: {bad}");
            assert_eq!(kept.letters[0].0 as usize, before.len() + record("A").len() + between.len(), "{layout}: {bad}");
        }
    }
}

#[test]
fn names_the_field_at_fault() {
    for (bad, reason) in [
        (r#"{"eventTime":5,"eventSource":"s","eventName":"X"}"#, "`eventTime` is not a string"),
        (r#"{"eventTime":"x","eventSource":"s","eventName":"X"}"#, "`eventTime` `x` is not a time"),
        (r#"{"eventTime":"2024-05-01T10:00:00Z","eventSource":["s"],"eventName":"X"}"#, "`eventSource` is not a string"),
        (r#"{"eventTime":"2024-05-01T10:00:00Z","eventSource":"s"}"#, "`eventName` is missing"),
        (r#"{"eventTime":"2024-05-01T10:00:00Z","eventSource":"s","eventName":null}"#, "`eventName` is missing"),
        (
            r#"{"eventVersion":"2.0","eventTime":"2024-05-01T10:00:00Z","eventSource":"s","eventName":"X"}"#,
            "`eventVersion` `2.0` is not a CloudTrail version: expected 1.x",
        ),
    ] {
        assert_eq!(run(bad.as_bytes()).0.letters[0].2, reason);
    }
}

#[test]
fn odd_but_legal_json_is_a_record() {
    for extra in [
        r#""x":1e400,"y":-0.0,"z":[[],{}]"#,
        r#""eventName":"First","eventName":"Last""#,
        r#""userAgent":"a\u0000b\ud83d\ude00","requestParameters":{"k":"\u0000"}"#,
        r#""userAgent":"lone \ud800 surrogate""#,
        r#""userIdentity":5,"requestParameters":"x","responseElements":[1],"resources":{"ARN":7},"addendum":false,"insightDetails":null"#,
        r#""userIdentity":{"type":["AssumedRole"],"arn":{},"sessionContext":"x"},"awsRegion":12,"recipientAccountId":111122223333"#,
    ] {
        let text = record("A").replace('}', &format!(",{extra}}}"));
        let (kept, summary) = run(text.as_bytes());
        assert_eq!(summary.events, 1, "{text}: {:?}", kept.letters);
    }
    let text = record("A").replace('}', r#","eventName":"Last"}"#);
    assert_eq!(run(text.as_bytes()).0.names, ["Last"]);
}

#[test]
fn deep_nesting_is_refused_without_overflow() {
    let nest = |depth: usize, open: &str, close: &str| format!("{}{}", open.repeat(depth), close.repeat(depth));
    for (open, close) in [("[", "]"), ("{\"a\":", "1}")] {
        let deep = nest(10_000, open, &close.replace('1', ""));
        let deep = if open == "[" { deep } else { deep.replacen("\"a\":}", "\"a\":1}", 1) };
        let text = format!(r#"{{"x":{deep}}}"#);
        let kept = around("", &format!("\n{text}\n"), "\n");
        assert_eq!(kept.letters.len(), 1);
        assert_eq!(kept.letters[0].2, "nested deeper than 512 levels");
        let kept = around("{\"Records\":[", &format!(",{text},"), "]}");
        assert_eq!(kept.letters.len(), 1);
    }
    let allowed = record("A").replace('}', &format!(",\"x\":{}}}", nest(500, "[", "]")));
    assert_eq!(run(allowed.as_bytes()).1.events, 1);
    // Strings inside strings, each one level deeper.
    let mut text = record("A");
    for _ in 0..8 {
        text = serde_json::json!({ "message": text }).to_string();
    }
    assert_eq!(run(text.as_bytes()).1.events, 1);
    // Nothing but opening brackets.
    assert!(run("[".repeat(3_000_000).as_bytes()).1.records >= 1);
    assert!(run("{\"a\":".repeat(1_000_000).as_bytes()).1.records >= 1);
}

#[test]
fn a_line_of_a_hundred_megabytes_is_one_dead_letter() {
    let head = format!("{}\n{{\"x\":\"", record("A"));
    let tail = format!("\"}}\n{}\n", record("B"));
    let filling = 100 * 1024 * 1024;
    let input = head.as_bytes().chain(io::repeat(b'x').take(filling)).chain(tail.as_bytes());
    let (kept, _) = run(input);
    assert_eq!(kept.names, ["A", "B"]);
    let (offset, length, reason, raw) = &kept.letters[0];
    assert_eq!((kept.letters.len(), *offset, *length), (1, record("A").len() as u64 + 1, filling + 8));
    assert_eq!((reason.as_str(), raw.len()), ("longer than 16777216 bytes", MAX_DEAD_LETTER_BYTES));

    // Never closed: the next line is still read.
    let tail = format!("\n{}\n", record("B"));
    let (kept, _) = run(head.as_bytes().chain(io::repeat(b'x').take(filling)).chain(tail.as_bytes()));
    assert_eq!((kept.names.len(), kept.letters.len()), (2, 1));

    // In a flow log, and as text that is none.
    let line = "2 111122223333 eni-0a 10.0.0.5 203.0.113.9 49152 443 6 20 4249 1714557600 1714557660 ACCEPT OK\n";
    let (kept, _) = run(line.as_bytes().chain(io::repeat(b'x').take(filling)).chain(format!("\n{line}").as_bytes()));
    assert_eq!((kept.names.len(), kept.letters.len(), kept.letters[0].1), (2, 1, filling));
    let (kept, summary) = run(io::repeat(b'x').take(filling));
    assert_eq!((kept.letters.len(), summary.bytes), (1, filling));
}

#[test]
fn a_missing_quote_or_bracket_costs_its_line_only() {
    for bad in [r#"{"a":"not closed}"#, r#"{"a":{"b":1}"#, r#"{"a":[1,2"#, r#"{"eventVersion":"1.08","userIden"#, "{", "{\"a\":\"b\\"] {
        let kept = around("", &format!("\n{bad}\n"), "\n");
        assert_eq!(kept.letters.len(), 1, "{bad}: {:?}", kept.letters);
        // Twice, with a good line in between that the two halves of a quote must not swallow.
        let (kept, _) = run(format!("{bad}\n{}\n{bad}\n{}\n", record("A"), record("B")).as_bytes());
        assert_eq!((kept.names.len(), kept.letters.len()), (2, 2), "{bad}");
        // In one array on one line the next record is known by its first bytes.
        let kept = around("{\"Records\":[", &format!(",{bad},"), "]}");
        assert!(!kept.letters.is_empty(), "{bad}");
    }
}

#[test]
fn many_broken_lines_take_linear_time() {
    let bad = "{\"a\":{\"b\":\"c\n".repeat(200_000);
    let text = format!("{bad}{}\n", record("A"));
    let (kept, _) = run(text.as_bytes());
    assert_eq!(kept.names, ["A"]);
    assert!(kept.letters.len() >= 200_000 - 20);
}

#[test]
fn text_that_is_not_utf8_costs_its_record_only() {
    for (before, between, after) in [("", "\n", "\n"), ("[", ",", "]"), ("{\"Records\":[", ",", "]}")] {
        let mut bytes = format!("{before}{}{between}", record("A")).into_bytes();
        bytes.extend(b"{\"a\":\"\xff\xfe\"}");
        bytes.extend(format!("{between}{}{after}", record("B")).as_bytes());
        let (kept, _) = run(&*bytes);
        assert_eq!(kept.names, ["A", "B"]);
        assert_eq!((kept.letters.len(), kept.letters[0].2.as_str(), kept.letters[0].1), (1, "not UTF-8", 10));
    }
    let mut cut = record("A").into_bytes();
    cut.extend(b"\n{\"a\":\"\xe2\x82");
    let (kept, _) = run(&*cut);
    assert_eq!((kept.names.len(), kept.letters.len()), (1, 1));
    let line = b"2 111122223333 eni-0a 10.0.0.5 203.0.113.9 49152 443 6 20 4249 1714557600 1714557660 ACCEPT OK\n";
    let (kept, _) = run(&*[&line[..], b"2 \xff\n", line].concat());
    assert_eq!((kept.names.len(), kept.letters.len()), (2, 1));
}

#[test]
fn a_cut_gzip_gives_what_is_before_the_cut_and_one_dead_letter() {
    let records: Vec<String> = (0..5_000).map(|number| record(&format!("Name{number}"))).collect();
    let text = format!("{{\"Records\":[{}]}}", records.join(","));
    let packed = gzip(text.as_bytes());
    let mut last = usize::MAX;
    for cut in [packed.len() - 1, packed.len() - 9, packed.len() / 2, 200, 20, 11] {
        let (kept, summary) = run(&packed[..cut]);
        assert_eq!(summary.dead_letters, 1, "cut at {cut}: {:?}", kept.letters);
        assert!(kept.letters[0].2.starts_with("the gzip data is damaged or cut short"), "{:?}", kept.letters);
        assert_eq!(kept.letters[0].0 + kept.letters[0].1, summary.bytes);
        assert!(kept.names.len() <= last && kept.names.iter().enumerate().all(|(number, name)| *name == format!("Name{number}")));
        last = kept.names.len();
    }
    // Damage shows only at the checksum: what comes of it is accounted for, and the last dead letter says why.
    let mut damaged = packed.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 8].fill(0xff);
    let (kept, _) = run(&*damaged);
    assert!(kept.names.len() > 1_000 && kept.letters.last().unwrap().2.starts_with("the gzip data is damaged"));
    let mut damaged = packed.clone();
    let checksum = damaged.len() - 6;
    damaged[checksum] ^= 1;
    let (kept, _) = run(&*damaged);
    assert_eq!((kept.names.len(), kept.letters.len(), kept.letters[0].1), (5_000, 1, 0));
    let (kept, _) = run(&*[&packed[..], b"trailing"].concat());
    assert_eq!((kept.names.len(), kept.letters.len()), (5_000, 1));
    // A flow log loses its last line, not the line before.
    let line = "2 111122223333 eni-0a 10.0.0.5 203.0.113.9 49152 443 6 20 4249 1714557600 1714557660 ACCEPT OK\n";
    let packed = gzip(line.repeat(100).as_bytes());
    let (_, summary) = run(&packed[..packed.len() - 8]);
    assert_eq!((summary.events, summary.dead_letters), (100, 1));
}

#[test]
fn gzip_in_gzip_is_read_and_a_third_layer_is_not() {
    let once = gzip(record("A").as_bytes());
    assert_eq!(run(&*gzip(&once)).1.events, 1);
    assert_eq!(run(&*gzip(&gzip(&once))).1.dead_letters, 1);
    let members = [gzip(format!("{}\n", record("A")).as_bytes()), gzip(record("B").as_bytes())].concat();
    assert_eq!(run(&*members).0.names, ["A", "B"]);
}

#[test]
fn an_object_that_unpacks_to_too_much_is_cut() {
    let text = format!("{}\n", record("A")).repeat(1_000);
    let options = Options { max_decompressed_bytes: Some(10_000), ..Options::default() };
    let mut kept = Kept::default();
    let summary = read(&*gzip(text.as_bytes()), &options, &mut kept).unwrap();
    assert_eq!((summary.bytes, summary.dead_letters), (10_000, 1));
    assert_eq!(summary.events, 10_000 / (record("A").len() as u64 + 1));
    assert_eq!(kept.letters[0].2, "longer than the 10000 bytes allowed");
}

#[test]
fn an_array_without_its_end_is_reported() {
    let (kept, _) = run(format!("{{\"Records\":[{},{}", record("A"), record("B")).as_bytes());
    assert_eq!((kept.names.len(), kept.letters.len()), (2, 1));
    assert_eq!(kept.letters[0].2, "the object ends inside an array that is not closed");
    let (kept, _) = run(format!("[{},{{\"a\":", record("A")).as_bytes());
    assert_eq!((kept.names.len(), kept.letters.len(), kept.letters[0].2.as_str()), (1, 1, "brackets or quotes are not closed"));
}

#[test]
fn an_envelope_whose_array_comes_late_loses_only_its_bad_record() {
    let kept = around("{\"NextToken\":\"x\",\"Records\":[", ",{bad},", "],\"more\":{\"a\":1}}");
    assert_eq!(kept.letters.len(), 1);
    // Longer than the longest record.
    let filling = format!("{{\"a\":\"{}\"}}", "x".repeat(1_000_000));
    let text = format!("{{\"NextToken\":\"x\",\"Records\":[{}{}]}}", format!("{filling},").repeat(20), record("A"));
    let (kept, _) = run(text.as_bytes());
    assert_eq!((kept.names.len(), kept.letters.len()), (1, 20));
}

#[test]
fn damaged_parquet_is_one_dead_letter() {
    for bytes in [&b"PAR1"[..], b"PAR1PAR1", b"PAR1\0\0\0\0\xff\xff\xff\x7fPAR1"] {
        assert_eq!(run(bytes).1.dead_letters, 1);
    }
}

struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk is gone"))
    }
}

#[test]
fn only_the_reader_and_the_consumer_end_the_reading() {
    let text = format!("{}\n", record("A")).repeat(10);
    for bytes in [text.as_bytes(), &gzip(text.as_bytes())] {
        let half = &bytes[..bytes.len() / 2];
        let error = read(half.chain(Failing), &Options::default(), &mut Kept::default()).unwrap_err();
        assert!(matches!(error, ReadError::Io(error) if error.to_string() == "the disk is gone"));
    }

    struct Full(u32);
    impl Sink for Full {
        fn event(&mut self, _: &Event<'_>) -> Result<(), Stop> {
            self.0 += 1;
            if self.0 == 3 { Err(Stop) } else { Ok(()) }
        }
        fn dead_letter(&mut self, _: &DeadLetter<'_>) -> Result<(), Stop> {
            Err(Stop)
        }
    }
    let mut full = Full(0);
    assert!(matches!(read(text.as_bytes(), &Options::default(), &mut full), Err(ReadError::Stopped)));
    assert_eq!(full.0, 3);
    assert!(matches!(read(&b"no log"[..], &Options::default(), &mut Full(0)), Err(ReadError::Stopped)));
}
