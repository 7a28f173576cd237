//! Threat lists: what is read of each format, which blocks cover an address, and how files are followed.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use gumshoe_enrich::{
    ListConfig, ThreatError, ThreatLists, Threats,
    prefixes::{Block, Prefixes},
    threats::{Format, parse},
};
use proptest::prelude::*;

fn list(path: &Path) -> ListConfig {
    ListConfig { path: path.to_owned(), name: None, category: String::new() }
}

fn told(threats: &Threats, address: &str) -> Vec<(String, String)> {
    threats.of(address.parse().unwrap()).into_iter().map(|threat| (threat.list.to_string(), threat.category.to_string())).collect()
}

fn blocks(format: Format, text: &str) -> Vec<(Block, String)> {
    parse(format, text).unwrap().into_iter().map(|entry| (entry.block, entry.category)).collect()
}

fn block(text: &str) -> Block {
    text.parse().unwrap()
}

#[test]
fn text_is_an_address_or_block_a_line() {
    let text = "\u{feff}# a list\n203.0.113.9\r\n\n  198.51.100.0/24 ; SBL1\n; more\n2001:db8::/32 # six\n::ffff:192.0.2.1\n";
    let expected = ["203.0.113.9", "198.51.100.0/24", "2001:db8::/32", "192.0.2.1/32"].map(|text| (block(text), String::new()));
    assert_eq!(blocks(Format::Text, text), expected);
    assert_eq!(blocks(Format::Text, ""), []);
}

#[test]
fn columns_are_found_by_their_names_or_the_first_is_taken() {
    let named = "\"first_seen\",\"dst_ip\",threat\n# comment\n2024-01-01,203.0.113.9,\"a, \"\"b\"\"\"\n2024-01-02, 198.51.100.0/24 ,\n";
    assert_eq!(blocks(Format::Csv, named), [(block("203.0.113.9"), "a, \"b\"".to_owned()), (block("198.51.100.0/24"), String::new())]);
    assert_eq!(blocks(Format::Csv, "203.0.113.9,5\n"), [(block("203.0.113.9"), String::new())]);
    assert_eq!(parse(Format::Csv, "ip\n\"203.0.113.9\n").unwrap_err(), ["line 2: a quote is not closed"]);
    assert_eq!(parse(Format::Csv, "a,ip\nx\n").unwrap_err().len(), 1, "a column that is not there");
}

#[test]
fn stix_indicators_and_addresses_are_taken() {
    let bundle = r#"{"type":"bundle","id":"bundle--1","objects":[
        {"type":"indicator","id":"indicator--1","pattern_type":"stix","indicator_types":["anonymization","malicious-activity"],
         "pattern":"[ipv4-addr:value = '203.0.113.9' OR ipv6-addr:value ISSUBSET '2001:db8::/32'] AND [ipv4-addr:value IN ('192.0.2.1', '192.0.2.2')]"},
        {"type":"indicator","id":"indicator--2","revoked":true,"pattern_type":"stix","pattern":"[ipv4-addr:value = '203.0.113.10']"},
        {"type":"indicator","id":"indicator--3","pattern_type":"stix","pattern":"[ipv4-addr:value != '203.0.113.11' AND domain-name:value = '1.1.1.1']"},
        {"type":"indicator","id":"indicator--4","pattern_type":"sigma","pattern":"ipv4-addr:value = '203.0.113.12'"},
        {"type":"ipv4-addr","id":"ipv4-addr--1","value":"198.51.100.0/24"},
        {"type":"malware","id":"malware--1","name":"x","value":7}]}"#
        .replace(",\"value\":7", "");
    let category = "anonymization, malicious-activity";
    let expected = [("203.0.113.9", category), ("2001:db8::/32", category), ("192.0.2.1", category), ("192.0.2.2", category), ("198.51.100.0/24", "")];
    assert_eq!(blocks(Format::Stix, &bundle), expected.map(|(text, category)| (block(text), category.to_owned())));
    assert_eq!(blocks(Format::Stix, r#"{"type":"ipv4-addr","value":"203.0.113.9"}"#).len(), 1);
    let mistakes = parse(Format::Stix, r#"{"type":"indicator","id":"indicator--9","pattern":"[ipv4-addr:value = 'x']"}"#).unwrap_err();
    assert!(mistakes.len() == 1 && mistakes.iter().all(|mistake| mistake.starts_with("indicator--9: `x` is not an address")), "{mistakes:?}");
    assert!(parse(Format::Stix, "{\n\"type\"").unwrap_err().iter().all(|mistake| mistake.starts_with("line 2: ")));
}

#[test]
fn mistakes_are_told_by_line() {
    let mistakes = parse(Format::Text, "203.0.113.9\nhost.example\n10.0.0.0/33\n10.0.0.0/+8\n::/0\n").unwrap_err();
    let lines: Vec<_> = mistakes.iter().map(|mistake| mistake.split(':').next().unwrap_or_default()).collect();
    assert_eq!(lines, ["line 2", "line 3", "line 4", "line 5"], "{mistakes:?}");
    assert_eq!(parse(Format::Text, &"x\n".repeat(1_000)).unwrap_err().len(), 20);
}

#[test]
fn lists_of_files_and_folders_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("tor.txt", "203.0.113.9\n203.0.113.0/24\n");
    write("other.csv", "ip,category\n203.0.113.9,scanner\n");
    write(".hidden", "not a list");
    let lists = [
        ListConfig { category: "listed".to_owned(), ..list(folder.path()) },
        ListConfig { path: folder.path().join("tor.txt"), name: Some("mine".to_owned()), category: "tor exit".to_owned() },
    ];
    let threats = Threats::open(&lists).unwrap();
    let text = |list: &str, category: &str| (list.to_owned(), category.to_owned());
    assert_eq!(told(&threats, "203.0.113.9"), [text("mine", "tor exit"), text("other", "scanner"), text("tor", "listed")]);
    assert_eq!(told(&threats, "::ffff:203.0.113.10"), [text("mine", "tor exit"), text("tor", "listed")]);
    assert_eq!(told(&threats, "203.0.114.1"), []);
    assert!(Threats::open(&[]).unwrap().is_empty());
}

#[test]
fn files_are_followed_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("a.txt", "203.0.113.9");
    let lists = ThreatLists::open(vec![list(folder.path())]).unwrap();
    assert!(!lists.reload().unwrap());
    write("b.txt", "198.51.100.1");
    assert!(lists.reload().unwrap());
    assert_eq!(lists.current().len(), 2);
    write("a.txt", "nonsense, and longer");
    let error = lists.reload().unwrap_err();
    assert!(matches!(error, ThreatError::Wrong { .. }) && error.to_string().contains("a.txt") && error.to_string().contains("line 1"), "{error}");
    assert_eq!(told(&lists.current(), "203.0.113.9").len(), 1);
    fs::remove_file(folder.path().join("a.txt")).unwrap();
    assert!(lists.reload().unwrap());
    assert_eq!(told(&lists.current(), "203.0.113.9"), []);
    assert!(matches!(ThreatLists::open(vec![list(&folder.path().join("gone"))]), Err(ThreatError::Unreadable { .. })));
    fs::write(folder.path().join("c.txt"), [0xff, 0xfe]).unwrap();
    assert!(matches!(lists.reload(), Err(ThreatError::Wrong { .. })));
}

fn address() -> impl Strategy<Value = IpAddr> {
    // Few enough that they meet.
    prop_oneof![
        (0_u32..64).prop_map(|low| IpAddr::V4(Ipv4Addr::from_bits(0xcb00_7100 | low))),
        (0_u128..64).prop_map(|low| IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) | low))),
        any::<IpAddr>(),
    ]
}

fn some_block() -> impl Strategy<Value = (IpAddr, u8)> {
    address().prop_flat_map(|address| (Just(address), 1..=if address.is_ipv4() { 32_u8 } else { 128 }))
}

proptest! {
    #[test]
    fn an_address_has_the_values_of_the_blocks_that_cover_it(entries in prop::collection::vec(some_block(), 0..60), asked in address()) {
        let mut prefixes = Prefixes::default();
        let mut expected = Vec::new();
        for (number, (address, length)) in entries.iter().enumerate() {
            let Some(block) = Block::new(*address, *length) else { continue };
            prefixes.insert(block, number);
            if block.contains(asked) {
                expected.push(number);
            }
            prop_assert!(block.contains(*address));
        }
        let mut found: Vec<usize> = prefixes.covering(asked).copied().collect();
        found.sort_unstable();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn what_is_written_is_read_in_every_format(entries in prop::collection::vec(some_block(), 0..30)) {
        let written: Vec<String> = entries.iter().filter(|(address, length)| Block::new(*address, *length).is_some()).map(|(address, length)| format!("{address}/{length}")).collect();
        let expected: Vec<Block> = written.iter().filter_map(|text| text.parse().ok()).collect();
        let written: Vec<String> = written.into_iter().filter(|text| text.parse::<Block>().is_ok()).collect();
        let read = |format, text: &str| -> Vec<Block> { parse(format, text).unwrap().into_iter().map(|entry| entry.block).collect() };
        prop_assert_eq!(&read(Format::Text, &written.join("\n")), &expected);
        prop_assert_eq!(&read(Format::Csv, &format!("x,cidr\n{}", written.iter().map(|text| format!("1,{text}\n")).collect::<String>())), &expected);
        let objects: Vec<String> = written.iter().map(|text| format!(r#"{{"type":"indicator","pattern":"[ipv{}-addr:value = '{text}']"}}"#, if text.contains(':') { 6 } else { 4 })).collect();
        prop_assert_eq!(&read(Format::Stix, &format!(r#"{{"type":"bundle","objects":[{}]}}"#, objects.join(","))), &expected);
    }

    #[test]
    fn nothing_that_is_read_is_a_panic(text in ".{0,300}", lines in "([0-9a-f:./,\"';# =()\\[\\]]{0,40}\n){0,10}", pattern in "(\\[|\\]|ipv4-addr:value|ipv6-addr:value| |=|IN|NOT|ISSUBSET|'|\\(|\\)|1\\.2\\.3\\.4){0,20}") {
        let stix = serde_json_text(&pattern);
        for text in [&text, &lines, &stix] {
            for format in [Format::Text, Format::Csv, Format::Stix] {
                match parse(format, text) {
                    Ok(_) => {}
                    Err(mistakes) => prop_assert!(!mistakes.is_empty() && mistakes.len() <= 20),
                }
            }
        }
    }
}

/// An indicator with a pattern.
fn serde_json_text(pattern: &str) -> String {
    format!(r#"{{"type":"indicator","pattern":"{}"}}"#, pattern.replace('"', ""))
}
