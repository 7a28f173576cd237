//! Generated logs are what they claim to be, and the same every time.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::Read,
};

use flate2::read::GzDecoder;
use serde_json::Value;

use super::*;

fn options(kind: Kind, amount: Amount, out: &Path) -> Options {
    Options { kind, amount, seed: 11, out: out.to_owned(), gzip: false, file_size: None, start: 1_767_571_200, days: 2, minutes_per_file: None, attack: true }
}

/// Every file under a folder: path below it, and bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap());
            }
        }
    }
    found
}

fn generate(options: &Options) -> (Summary, BTreeMap<String, Vec<u8>>) {
    let summary = run(options, &|_| {}).unwrap();
    (summary, files(&options.out))
}

fn cloudtrail_records(files: &BTreeMap<String, Vec<u8>>) -> Vec<Value> {
    let trails = files.iter().filter(|(path, _)| path.contains("/CloudTrail/"));
    trails
        .flat_map(|(path, bytes)| {
            serde_json::from_slice::<Value>(bytes).unwrap_or_else(|error| panic!("{path}: {error}"))["Records"].as_array().unwrap().clone()
        })
        .collect()
}

#[test]
fn the_same_options_give_the_same_bytes() {
    let (left, right) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, first_files) = generate(&options(Kind::Mixed, Amount::Bytes(6_000_000), left.path()));
    let (second, second_files) = generate(&options(Kind::Mixed, Amount::Bytes(6_000_000), right.path()));
    assert_eq!(first, second);
    assert_eq!(first_files, second_files);
    let mut other = options(Kind::Mixed, Amount::Bytes(6_000_000), left.path());
    other.seed += 1;
    other.out = right.path().join("other");
    assert_ne!(generate(&other).1, first_files);
    assert_eq!(first.bytes, first_files.values().map(|bytes| bytes.len() as u64).sum::<u64>());
    assert!((5_900_000..7_500_000).contains(&first.bytes), "{}", first.bytes);
    assert_eq!(first.files, first_files.len() as u64);
}

#[test]
fn cloudtrail_is_skewed_and_its_chains_hold() {
    let folder = tempfile::tempdir().unwrap();
    let (summary, files) = generate(&options(Kind::Cloudtrail, Amount::Records(30_000), folder.path()));
    let records = cloudtrail_records(&files);
    assert_eq!((summary.records, records.len()), (30_000, 30_000));
    let size = summary.bytes / summary.records;
    assert!((1_200..=1_800).contains(&size), "{size} bytes a record");
    let ids: HashSet<&str> = records.iter().map(|record| record["eventID"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), records.len());

    let errors = records.iter().filter(|record| record.get("errorCode").is_some()).count();
    assert!((600..1_300).contains(&errors), "{errors} errors");
    let mut principals: HashMap<&str, u32> = HashMap::new();
    for record in &records {
        if let Some(issuer) = record["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"].as_str() {
            *principals.entry(issuer).or_default() += 1;
        }
    }
    let mut counts: Vec<u32> = principals.values().copied().collect();
    counts.sort_unstable_by(|left, right| right.cmp(left));
    let busy: u32 = counts.iter().take(counts.len() / 10).sum();
    assert!(f64::from(busy) > 0.3 * f64::from(counts.iter().sum::<u32>()), "{counts:?}");
    assert!(counts.len() > 60 && *counts.last().unwrap() < 60, "{counts:?}");

    // Keys handed out by AssumeRole are used by later calls of the same session.
    let used: HashSet<&str> = records.iter().filter_map(|record| record["userIdentity"]["accessKeyId"].as_str()).collect();
    let given: Vec<&str> = records.iter().filter_map(|record| record["responseElements"]["credentials"]["accessKeyId"].as_str()).collect();
    let followed = given.iter().filter(|key| used.contains(*key)).count();
    assert!(given.len() > 300 && followed * 2 > given.len(), "{followed} of {}", given.len());

    let kinds: HashSet<&str> = records.iter().map(|record| record["userIdentity"]["type"].as_str().unwrap()).collect();
    for kind in ["AssumedRole", "IAMUser", "Root", "AWSService", "SAMLUser", "WebIdentityUser"] {
        assert!(kinds.contains(kind), "{kind}");
    }
    assert!(records.iter().any(|record| record["sourceIPAddress"].as_str().is_some_and(|address| address.contains(':'))));
    for (path, bytes) in &files {
        let parts: Vec<&str> = path.split('/').collect();
        assert!(matches!(parts.as_slice(), ["AWSLogs", account, "CloudTrail", _, _, _, _, _] if account.len() == 12), "{path}");
        let record = &serde_json::from_slice::<Value>(bytes).unwrap()["Records"][0];
        assert_eq!(record["recipientAccountId"].as_str(), Some(parts[1]));
    }
}

#[test]
fn other_formats_are_well_formed_and_counted() {
    for (kind, records) in [(Kind::EksAudit, 3_000), (Kind::Guardduty, 300)] {
        let folder = tempfile::tempdir().unwrap();
        let (summary, files) = generate(&options(kind, Amount::Records(records), folder.path()));
        let lines: Vec<Value> = files
            .values()
            .flat_map(|bytes| {
                bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!((summary.records, lines.len() as u64), (records, records));
    }
    let folder = tempfile::tempdir().unwrap();
    let (summary, files) = generate(&options(Kind::VpcFlow, Amount::Records(4_001), folder.path()));
    let lines: usize = files.values().map(|bytes| bytes.iter().filter(|byte| **byte == b'\n').count() - 1).sum();
    assert_eq!((summary.records, lines), (4_001, 4_001));
}

#[test]
fn gzip_holds_the_same_text() {
    let (plain, packed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, plain_files) = generate(&options(Kind::VpcFlowV5, Amount::Bytes(800_000), plain.path()));
    let mut compressed = options(Kind::VpcFlowV5, Amount::Bytes(800_000), packed.path());
    compressed.gzip = true;
    let (_, packed_files) = generate(&compressed);
    assert_eq!(plain_files.len(), packed_files.len());
    for (path, bytes) in plain_files {
        let mut text = Vec::new();
        GzDecoder::new(packed_files[&format!("{path}.gz")].as_slice()).read_to_end(&mut text).unwrap();
        assert_eq!(text, bytes);
    }
}

#[test]
fn the_attack_is_told_in_order_and_by_both_logs() {
    let world = World::new(11);
    let story = story::tell(&world, 1_767_571_200, 11).unwrap();
    let records = serde_json::from_str::<Value>(&story.cloudtrail).unwrap()["Records"].as_array().unwrap().clone();
    let findings: Vec<Value> = story.guardduty.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(story.records, (records.len() + findings.len()) as u64);
    let at = |name: &str| records.iter().position(|record| record["eventName"] == name).unwrap();
    assert!(at("GetCallerIdentity") < at("AssumeRole") && at("AssumeRole") < at("GetObject") && at("GetObject") < at("CreateUser"));
    let key = records[at("AssumeRole")]["responseElements"]["credentials"]["accessKeyId"].clone();
    assert_eq!(records[at("GetObject")]["userIdentity"]["accessKeyId"], key);
    assert!(findings.iter().any(|finding| finding["resource"]["accessKeyDetails"]["accessKeyId"] == key));
}
