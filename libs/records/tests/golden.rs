//! Every fixture becomes exactly the events of its golden file. `UPDATE_GOLDEN=1` rewrites them, for people to review.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use gumshoe_model::{DeadLetter, EntityRef, Event};
use gumshoe_records::{Format, Options, Sink, Stop, Summary, read};
use serde_json::{Map, Value, json};

#[derive(Default)]
struct Collected {
    records: Vec<Value>,
    places: Vec<(u64, String)>,
}

fn entity(entity: &EntityRef<'_>) -> Value {
    entity.to_key().to_string().into()
}

fn event(event: &Event<'_>) -> Value {
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| {
        if !(value.is_null() || value == "" || value == json!([])) {
            map.insert(key.to_owned(), value);
        }
    };
    put("kind", event.kind.as_str().into());
    put("id", (*event.id).into());
    put("time", event.time.to_string().into());
    put("end_time", if event.end_time == event.time { Value::Null } else { event.end_time.to_string().into() });
    for (key, value) in [("account", &event.account), ("region", &event.region), ("service", &event.service), ("operation", &event.operation)] {
        put(key, (**value).into());
    }
    put("actor", event.actor.as_ref().map_or(Value::Null, entity));
    put("actor_name", (*event.actor_name).into());
    put("actor_alias", (*event.actor_alias).into());
    put("parent", event.parent.as_ref().map_or(Value::Null, entity));
    put("parent_alias", (*event.parent_alias).into());
    put("origin", event.origin.as_ref().map_or(Value::Null, entity));
    for (key, value) in [("error", &event.error), ("address", &event.address), ("access_key", &event.access_key), ("corrects", &event.corrects)] {
        put(key, (**value).into());
    }
    put("user_agent", if event.user_agent.len() > 100 { format!("{} bytes", event.user_agent.len()).into() } else { (*event.user_agent).into() });
    if let Some(flow) = event.flow {
        put("flow", json!([flow.as_str(), event.port, event.protocol, event.bytes_in, event.bytes_out, event.packets_in, event.packets_out]));
    }
    let links = event.links.iter().map(|link| format!("{} {} ({})", link.relation, link.entity.to_key(), link.name).into()).collect();
    put("links", Value::Array(links));
    if let Some(finding) = &event.finding {
        let times = [finding.first_seen, finding.last_seen, finding.updated].map(|time| time.to_string());
        put(
            "finding",
            json!([
                finding.id,
                finding.finding_type,
                finding.product,
                finding.title,
                finding.description,
                finding.severity,
                finding.count,
                times,
                finding.archived
            ]),
        );
    }
    put("offset", event.offset.into());
    put("raw_bytes", event.raw.len().into());
    map.into()
}

impl Sink for Collected {
    fn event(&mut self, found: &Event<'_>) -> Result<(), Stop> {
        self.records.push(event(found));
        self.places.push((found.offset, found.raw.clone().into_owned()));
        Ok(())
    }

    fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> Result<(), Stop> {
        let start: String = letter.raw.chars().take(60).collect();
        self.records.push(json!({"dead_letter": letter.reason, "offset": letter.offset, "length": letter.length, "raw": start}));
        Ok(())
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

fn collect(bytes: &[u8], options: &Options) -> (Collected, Summary) {
    let mut collected = Collected::default();
    let summary = read(bytes, options, &mut collected).unwrap();
    assert_eq!(summary.records, summary.events + summary.dead_letters);
    assert_eq!(summary.records, collected.records.len() as u64);
    (collected, summary)
}

fn check(fixture: &str, options: &Options) -> Summary {
    let bytes = fs::read(root().join(fixture)).unwrap();
    let (collected, summary) = collect(&bytes, options);
    assert_eq!(summary.bytes, bytes.len() as u64);

    // `raw` is a piece of the object at `offset`, but for what came inside a string or a row of query results.
    for (offset, raw) in &collected.places {
        let place = &bytes[*offset as usize..];
        assert!(place.starts_with(raw.as_bytes()) || place.starts_with(b"\"") || place.starts_with(b"["), "{fixture}: raw is not at {offset}");
    }

    // Packed in two members the object is the same.
    let mut packed = Vec::new();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for part in [first, second] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(part).unwrap();
        packed.extend(encoder.finish().unwrap());
    }
    assert_eq!(collect(&packed, options).0.records, collected.records, "{fixture} in gzip");

    let mut text = String::new();
    for record in &collected.records {
        text += &serde_json::to_string_pretty(record).unwrap();
        text.push('\n');
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{}.txt", fixture.replace('/', "_")));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(golden.parent().unwrap()).unwrap();
        fs::write(&golden, &text).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_else(|error| panic!("{}: {error}", golden.display()));
    assert!(text == expected, "{fixture} differs from {}:\n{}", golden.display(), difference(&expected, &text));
    summary
}

fn difference(expected: &str, found: &str) -> String {
    let line = expected.lines().zip(found.lines()).position(|(one, other)| one != other).unwrap_or_else(|| expected.lines().count().min(found.lines().count()));
    format!("line {}: expected `{}`, found `{}`", line + 1, expected.lines().nth(line).unwrap_or(""), found.lines().nth(line).unwrap_or(""))
}

macro_rules! golden {
    ($($name:ident: $format:ident, $events:literal events, $dead:literal dead letters: $($fixture:literal)+;)*) => { $(
        #[test]
        fn $name() {
            for fixture in [$($fixture),+] {
                let summary = check(fixture, &Options::default());
                assert_eq!((summary.format, summary.events, summary.dead_letters), (Format::$format, $events, $dead), "{fixture}");
            }
        }
    )* };
}

golden! {
    every_identity_type: Json, 28 events, 0 dead letters: "cloudtrail/identities.json";
    every_link: Json, 30 events, 0 dead letters: "cloudtrail/links.json";
    versions_and_wrong_types: Json, 11 events, 6 dead letters: "cloudtrail/versions.json";
    cloudtrail_deliveries: Json, 3 events, 0 dead letters: "cloudtrail/array.json" "cloudtrail/lines.jsonl" "cloudtrail/concatenated.json" "cloudtrail/windows.json"
        "cloudtrail/eventbridge_array.json" "cloudtrail/lookup_rows.jsonl" "cloudtrail/lake_eventjson.jsonl" "cloudtrail/lake_rows.json";
    single_records: Json, 1 events, 0 dead letters: "cloudtrail/single.json" "cloudtrail/eventbridge.json" "cloudtrail/insight.json" "eks/single.json"
        "guardduty/eventbridge.json" "securityhub/single.json" "securityhub/custom_action.json";
    lookup_events_with_a_bad_row: Json, 3 events, 1 dead letters: "cloudtrail/lookup_events.json" "cloudtrail/cloudwatch.json" "cloudtrail/wrapped.json";
    query_results: Json, 2 events, 1 dead letters: "cloudtrail/query_results.json" "eks/cloudwatch.json" "flow/cloudwatch.json";
    no_log: Unknown, 0 events, 1 dead letters: "cloudtrail/digest.json" "securityhub/insight_results.json";
    no_records: Json, 0 events, 0 dead letters: "cloudtrail/empty_records.json";
    default_flow_log: FlowText, 8 events, 0 dead letters: "flow/default.log";
    flow_layouts: FlowText, 2 events, 0 dead letters: "flow/headerless.log" "flow/version5.log" "flow/newer_field.log";
    flow_lines_that_are_none: FlowText, 1 events, 8 dead letters: "flow/bad_lines.log";
    guardduty_findings: Json, 12 events, 2 dead letters: "guardduty/api.json";
    guardduty_in_pascal_case: Json, 12 events, 0 dead letters: "guardduty/cli.json";
    guardduty_export: Json, 4 events, 0 dead letters: "guardduty/export.jsonl";
    security_hub_findings: Json, 5 events, 2 dead letters: "securityhub/findings.json";
    security_hub_by_eventbridge: Json, 2 events, 0 dead letters: "securityhub/eventbridge.json";
    kubernetes_audit: Json, 9 events, 2 dead letters: "eks/audit.jsonl";
    kubernetes_event_list: Json, 3 events, 0 dead letters: "eks/event_list.json";
}

/// All deliveries of the same three records give the same events, apart from where they stand.
#[test]
fn deliveries_agree() {
    let plain = |fixture: &str| {
        let bytes = fs::read(root().join(fixture)).unwrap();
        let mut records = collect(&bytes, &Options::default()).0.records;
        for record in &mut records {
            let record = record.as_object_mut().unwrap();
            record.remove("offset");
            record.remove("raw_bytes");
        }
        records
    };
    let expected = plain("cloudtrail/array.json");
    for fixture in ["lines.jsonl", "concatenated.json", "windows.json", "eventbridge_array.json", "lookup_rows.jsonl", "lake_eventjson.jsonl", "lake_rows.json"]
    {
        assert_eq!(plain(&format!("cloudtrail/{fixture}")), expected, "{fixture}");
    }
    assert_eq!(plain("guardduty/cli.json"), plain("guardduty/api.json")[..12]);
}

#[test]
fn the_cluster_given_prefixes_its_subjects() {
    let options = Options { eks_cluster: Some("arn:aws:eks:eu-west-1:111122223333:cluster/prod".to_owned()), ..Options::default() };
    let bytes = fs::read(root().join("eks/single.json")).unwrap();
    let (collected, _) = collect(&bytes, &options);
    let record = &collected.records[0];
    assert_eq!(record["actor"], "kubernetes_subject:prod/deployer");
    assert_eq!(record["account"], "111122223333");
    assert!(record["links"].to_string().contains("used eks_cluster:arn:aws:eks:eu-west-1:111122223333:cluster/prod (prod)"));
}

#[test]
fn a_flow_log_without_header_takes_the_fields_given() {
    let fields = "interface-id dstaddr srcaddr start bytes".split(' ').map(str::to_owned).collect();
    let options = Options { flow_fields: Some(fields), ..Options::default() };
    let (collected, summary) = collect(b"eni-1 10.0.0.1 8.8.8.8 1714557600 7\n", &options);
    assert_eq!((summary.events, summary.format), (1, Format::FlowText));
    assert_eq!(collected.records[0]["flow"], json!(["accepted_from", -1, -1, 7, 0, 0, 0]));
}
