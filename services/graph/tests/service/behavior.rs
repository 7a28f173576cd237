//! The sweep, anomalies and watchlists on the real server: what is unusual becomes findings once, and counts in risks.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use gumshoe_api::{
    convert::{time_to_proto, window_to_proto},
    graph::v1::{
        Anomaly, BatchGetRiskRequest, CreateWatchlistEntryRequest, Criticality, DeleteWatchlistEntryRequest, FindingSummary, GetAnomaliesRequest,
        GetRiskRequest, ListFindingsRequest, ListWatchlistEntriesRequest, Risk, SweepGraphRequest, SweepGraphResponse, TeachBehaviorRequest,
    },
};
use gumshoe_model::{
    Timestamp,
    time::{MICROS_PER_DAY, MICROS_PER_HOUR},
};
use gumshoe_testkit::PostgresDatabase;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    findings::detections,
    fixture::{ACCOUNT, Call, Detection, Dice, Fixture, Who, entity, lines, name, time, user_arn, window},
    places::databases,
    refuse::refused,
};

const START: &str = "2024-05-01T00:00:00Z";
const DAYS: u64 = 46;
const USERS: u64 = 120;
const TEAMS: u64 = 6;
/// The last day, and the one before.
const LAST: i64 = DAYS as i64 - 1;

/// Team members do what their team does, some of it rarely, and what all do.
const TEAM_OPERATIONS: [&str; 8] = ["One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight"];
const TEAM_SERVICES: [&str; 6] =
    ["s3.amazonaws.com", "ec2.amazonaws.com", "lambda.amazonaws.com", "rds.amazonaws.com", "glue.amazonaws.com", "sqs.amazonaws.com"];

fn at(day: i64, hour: i64, minute: i64) -> Timestamp {
    Timestamp(time(START).0 + day * MICROS_PER_DAY + hour * MICROS_PER_HOUR + minute * 60_000_000)
}

fn text(time: Timestamp) -> String {
    time.to_chrono().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn user(number: u64) -> &'static str {
    Box::leak(format!("u{number:03}").into_boxed_str())
}

fn key_of(number: u64) -> String {
    format!("user:{}", user_arn(user(number)))
}

/// What everybody does, day by day; and who does otherwise.
///
/// | who | what |
/// |---|---|
/// | u000 | 1,500 calls at three in the night of the last day |
/// | u001 | on the last day one session in the US and, half an hour later, in Brazil |
/// | u119 | what no one else does, once a day for 30 days |
async fn commit_calls(fixture: &Fixture) {
    let mut dice = Dice::new(3);
    let mut calls = Vec::new();
    let mut number = 0_u64;
    let mut call = |who: u64, time: Timestamp, service: &'static str, operation: &'static str| {
        number += 1;
        Call { service, operation, ..Call::new(format!("c{number}"), &text(time), Who::User(user(who))) }
    };
    for day in 0..DAYS as i64 {
        for who in 0..USERS {
            for _ in 0..3 {
                let (hour, minute) = (9 + dice.roll(8) as i64, dice.roll(60) as i64);
                let team = (who % TEAMS) as usize;
                let (service, operation) = match dice.roll(5) {
                    0 => ("sts.amazonaws.com", "GetCallerIdentity"),
                    _ => (TEAM_SERVICES[team], TEAM_OPERATIONS[(dice.roll(8) * dice.roll(8) / 8) as usize]),
                };
                calls.push(call(who, at(day, hour, minute), service, operation).json());
            }
        }
        if day >= 16 {
            calls.push(call(119, at(day, 11, 30), "iam.amazonaws.com", "AttachUserPolicy").json());
        }
    }
    for index in 0..1_500 {
        calls.push(call(0, at(LAST, 3, index % 60), "s3.amazonaws.com", "One").json());
    }
    let there = |mut call: Call, address: &str| {
        call.address = address.to_owned();
        call.access_key = "ASIATRAVEL".to_owned();
        call.json()
    };
    calls.push(there(call(1, at(LAST, 12, 0), "ec2.amazonaws.com", "One"), "198.51.100.7"));
    calls.push(there(call(1, at(LAST, 12, 30), "ec2.amazonaws.com", "One"), "203.0.113.7"));
    for (index, some) in calls.chunks(4_000).enumerate() {
        fixture.commit_calls(&format!("calls-{index}"), some).await;
    }
}

/// Flows of eight interfaces for ten days: web and database traffic; and
///
/// | interface | what |
/// |---|---|
/// | eni-1 | calls home every hour of the last five days |
/// | eni-2 | tries 40 ports of neighbours on the last day, in vain |
/// | eni-3 | sends 20 GB away in an hour of the last day |
async fn commit_flows(fixture: &Fixture) {
    let mut dice = Dice::new(5);
    let header = "version account-id interface-id instance-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status flow-direction pkt-srcaddr pkt-dstaddr\n";
    let mut lines = header.to_owned();
    let mut flow = |interface: u64, remote: &str, port: u64, time: Timestamp, out: u64, back: u64, action: &str| {
        let local = format!("10.0.0.{interface}");
        let seconds = time.0 / 1_000_000;
        let mut line = |source: &str, target: &str, source_port: u64, target_port: u64, bytes: u64, direction: &str| {
            lines += &format!(
                "5 {ACCOUNT} eni-{interface} - {source} {target} {source_port} {target_port} 6 {} {bytes} {seconds} {} {action} OK {direction} {source} {target}\n",
                1 + bytes / 1_400,
                seconds + 30
            );
        };
        line(&local, remote, 50_000, port, out, "egress");
        if back > 0 {
            line(remote, &local, port, 50_000, back, "ingress");
        }
    };
    for day in LAST - 9..=LAST {
        for interface in 1..=8 {
            for hour in 0..24 {
                for _ in 0..2 {
                    let remote = format!("192.0.2.{}", 1 + dice.roll(20));
                    flow(interface, &remote, 443, at(day, hour, dice.roll(50) as i64), 20_000 + dice.roll(2_000_000), 10_000 + dice.roll(9_000_000), "ACCEPT");
                }
                if day >= LAST - 4 && interface == 1 {
                    flow(1, "203.0.113.99", 8443, at(day, hour, 17), 640, 320, "ACCEPT");
                }
            }
        }
    }
    for port in 0..40 {
        flow(2, &format!("10.0.0.{}", 100 + port % 4), 1_000 + port, at(LAST, 5, port as i64), 40, 0, "REJECT");
    }
    flow(3, "203.0.113.200", 443, at(LAST, 14, 5), 20_000_000_000, 5_000_000, "ACCEPT");
    fixture.commit("flows", "s3://logs/flows.log", &lines).await;
}

async fn sweep(fixture: &Fixture, from: Option<Timestamp>) -> SweepGraphResponse {
    let request = SweepGraphRequest { graph_arn: fixture.arn(), from_time: from.map(time_to_proto) };
    fixture.behavior().sweep_graph(request).await.unwrap().into_inner()
}

async fn findings(fixture: &Fixture, include_archived: bool) -> Vec<FindingSummary> {
    let request =
        ListFindingsRequest { graph_arn: fixture.arn(), page_size: 1_000, type_prefix: "Behavior:".to_owned(), include_archived, ..Default::default() };
    fixture.reader.clone().list_findings(request).await.unwrap().into_inner().findings
}

async fn anomalies(fixture: &Fixture, of: &str, from: Timestamp, to: Timestamp) -> Vec<Anomaly> {
    let scope = Some(window_to_proto(gumshoe_model::TimeWindow::new(from, to).unwrap()));
    let request = GetAnomaliesRequest { graph_arn: fixture.arn(), entity: entity(of), scope };
    fixture.behavior().get_anomalies(request).await.unwrap().into_inner().anomalies
}

async fn risk(fixture: &Fixture, of: &str, at: Option<Timestamp>) -> Risk {
    let request = GetRiskRequest { graph_arn: fixture.arn(), entity: entity(of), time: at.map(time_to_proto) };
    fixture.reader.clone().get_risk(request).await.unwrap().into_inner().risk.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_unusual_becomes_findings_once_and_ranks_first_in_risk() {
    let folder = tempfile::tempdir().unwrap();
    let (country, asn) = databases(folder.path());
    let fixture = Fixture::with(|config| (config.places.country, config.places.asn) = (Some(country), Some(asn))).await;
    commit_calls(&fixture).await;
    commit_flows(&fixture).await;
    let swept = sweep(&fixture, None).await;
    assert_eq!(swept.hours, DAYS * 24, "every hour of every day");

    let all = findings(&fixture, true).await;
    let on_last_day = |finding: &&FindingSummary| finding.last_time.is_some_and(|last| last.seconds >= at(LAST, 0, 0).0 / 1_000_000);
    let found = |kind: &str, of: &str| all.iter().filter(on_last_day).find(|finding| finding.r#type.ends_with(kind) && name(finding.entities.first()) == of);
    for (kind, of) in [
        ("User/UnusualVolume", key_of(0)),
        ("User/Burst", key_of(0)),
        ("User/ImpossibleTravel", key_of(1)),
        ("User/PeerSurprise", key_of(119)),
        ("NetworkInterface/Beacon", "network_interface:eni-1".to_owned()),
        ("NetworkInterface/PortScan", "network_interface:eni-2".to_owned()),
        ("NetworkInterface/DataExfiltration", "network_interface:eni-3".to_owned()),
    ] {
        let told: Vec<_> = all.iter().map(|finding| format!("{} {} {}", finding.r#type, name(finding.entities.first()), finding.title)).collect();
        let finding = found(kind, &of).unwrap_or_else(|| panic!("{kind} of {of} is missing among {told:#?}"));
        assert_eq!(finding.product, "Gumshoe");
        assert_eq!(finding.account_id, ACCOUNT);
        assert!(finding.severity >= 3.0 && !finding.title.is_empty(), "{finding:?}");
    }
    // About one an hour at most, and the others are told only to who asks for archived ones.
    let open = findings(&fixture, false).await;
    assert!(!open.is_empty() && open.len() as u64 <= DAYS * 24 + 24 && open.iter().all(|finding| !finding.archived));
    let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in &all {
        *by_kind.entry(finding.r#type.as_str()).or_default() += 1;
    }
    println!("{} findings, {} of them open: {by_kind:?}", all.len(), open.len());

    // The same again finds nothing new, and begun anew it makes the same findings.
    let until = Some(time_to_proto(at(DAYS as i64, 0, 0)));
    assert_eq!(sweep(&fixture, None).await, SweepGraphResponse { swept_until_time: until, ..SweepGraphResponse::default() });
    let ids = |findings: &[FindingSummary]| findings.iter().map(|finding| finding.id.clone()).collect::<std::collections::BTreeSet<_>>();
    sweep(&fixture, Some(at(LAST, 0, 0))).await;
    let again = findings(&fixture, true).await;
    let lost: Vec<_> = ids(&all).difference(&ids(&again)).cloned().collect();
    assert!(lost.is_empty(), "{lost:?}");

    // A bad action repeated slowly for 30 days still ranks in the top 1%: before all who did nothing odd at once.
    let end = at(LAST + 1, 2, 0);
    let mut ranked = Vec::new();
    for some in (2..USERS).collect::<Vec<_>>().chunks(60) {
        let entities = some.iter().map(|number| entity(&key_of(*number)).unwrap()).collect();
        let request = BatchGetRiskRequest { graph_arn: fixture.arn(), entities, time: Some(time_to_proto(end)) };
        ranked.extend(fixture.reader.clone().batch_get_risk(request).await.unwrap().into_inner().risks);
    }
    ranked.sort_by(|one, other| other.score.total_cmp(&one.score));
    let place = ranked.iter().position(|risk| name(risk.entity.as_ref()) == key_of(119)).unwrap();
    println!("rank {} of {}: {:.1}", place + 1, ranked.len(), ranked[place].score);
    assert!(place <= ranked.len() / 100, "place {place} of {}", ranked.len());
    let of = &ranked[place];
    assert!(of.parts.iter().any(|part| part.source == "peers" && part.description.contains("iam.amazonaws.com AttachUserPolicy")), "{of:#?}");
    let whole: f64 = of.parts.iter().map(|part| part.contribution).sum::<f64>() + of.rest;
    assert!((whole - of.score).abs() < 1e-9);
    // The sources are those of the statistics, and who is only named beside counts nothing.
    let sources = |risk: &Risk| risk.parts.iter().map(|part| part.source.clone()).collect::<Vec<_>>();
    let night = risk(&fixture, &key_of(0), Some(end)).await;
    assert!(sources(&night).contains(&"volume".to_owned()) && !sources(&night).contains(&"finding".to_owned()), "{night:#?}");
    assert_eq!(risk(&fixture, "ip_address:203.0.113.200", Some(end)).await.parts.iter().filter(|part| part.source == "exfiltration").count(), 0);

    // The same statistics, asked of one entity.
    let day = (at(LAST, 0, 0), at(LAST + 1, 0, 0));
    let of = anomalies(&fixture, &key_of(0), day.0, day.1).await;
    let volume = of.iter().find(|anomaly| anomaly.source == "volume").unwrap();
    assert!(volume.score > 50.0 && volume.label.starts_with("1500 calls in the hour") && volume.baseline.starts_with("usual at that hour"), "{volume:?}");
    for anomaly in &of {
        let parts: f64 = anomaly.parts.iter().map(|part| part.contribution).sum();
        assert!((parts - anomaly.score).abs() < 1e-6, "{anomaly:?}");
    }
    let sources = |of: &[Anomaly]| of.iter().map(|anomaly| anomaly.source.clone()).collect::<Vec<_>>();
    assert!(sources(&of).contains(&"burst".to_owned()));
    let of = anomalies(&fixture, &key_of(119), day.0, day.1).await;
    assert!(of.iter().any(|anomaly| anomaly.source == "peers" && anomaly.baseline.starts_with("0 of the 20 most similar")), "{of:#?}");
    for (of, source) in [("eni-1", "beacon"), ("eni-2", "scan"), ("eni-3", "exfiltration")] {
        let found = anomalies(&fixture, &format!("network_interface:{of}"), day.0, day.1).await;
        assert_eq!(sources(&found).first().map(String::as_str), Some(source), "{found:#?}");
        assert!(!found[0].others.is_empty());
    }
    let quiet = anomalies(&fixture, &key_of(7), day.0, day.1).await;
    assert!(quiet.iter().all(|anomaly| anomaly.score < 40.0), "{quiet:#?}");
    what_was_judged_usual_is_found_no_more(&fixture, &found("User/PeerSurprise", &key_of(119)).unwrap().id).await;
    fixture.stop().await;
}

/// `finding` says that u119 does what no one else does, which is then judged.
async fn what_was_judged_usual_is_found_no_more(fixture: &Fixture, finding: &str) {
    let again = Call {
        service: "iam.amazonaws.com",
        operation: "AttachUserPolicy",
        ..Call::new("again".to_owned(), &text(at(LAST + 1, 11, 30)), Who::User(user(119)))
    };
    fixture.commit_calls("again", &[again.json()]).await;
    let surprises = async || {
        let all = findings(fixture, true).await;
        let on_day = |finding: &FindingSummary| finding.last_time.is_some_and(|last| last.seconds >= at(LAST + 1, 0, 0).0 / 1_000_000);
        let of_it = |finding: &FindingSummary| finding.r#type.ends_with("/PeerSurprise") && name(finding.entities.first()) == key_of(119);
        all.into_iter().filter(|finding| on_day(finding) && of_it(finding)).count()
    };
    let teach = async |usual: bool| {
        let request = TeachBehaviorRequest { graph_arn: fixture.arn(), finding_id: finding.to_owned(), usual };
        fixture.administration_as_investigation().teach_behavior(request).await.unwrap();
    };
    let peers = async || {
        let of = anomalies(fixture, &key_of(119), at(LAST, 0, 0), at(LAST + 1, 0, 0)).await;
        of.iter().filter(|anomaly| anomaly.source == "peers" && anomaly.label.contains("AttachUserPolicy")).count()
    };
    teach(true).await;
    assert_eq!(peers().await, 0, "at once");
    assert_eq!(sweep(fixture, None).await.hours, 24);
    assert_eq!(surprises().await, 0);
    // Taken back, it surprises again.
    teach(false).await;
    sweep(fixture, Some(at(LAST + 1, 0, 0))).await;
    assert_eq!(surprises().await, 1);
    assert_eq!(peers().await, 1);
    // Only investigation may say so.
    let request = TeachBehaviorRequest { graph_arn: fixture.arn(), finding_id: finding.to_owned(), usual: true };
    assert_eq!(fixture.administration_as_gateway().teach_behavior(request).await.unwrap_err().code(), Code::PermissionDenied);
}

/// Twenty days of one user, and a night of 500 calls.
async fn small(fixture: &Fixture) {
    let mut calls: Vec<_> =
        (0..160).map(|number: i64| Call::new(format!("q{number}"), &text(at(number / 8, 9 + number % 8, 0)), Who::User("alice")).json()).collect();
    calls.extend((0..500).map(|number: i64| Call::new(format!("n{number}"), &text(at(20, 3, number % 60)), Who::User("alice")).json()));
    fixture.commit_calls("small", &calls).await;
}

async fn swept_once(fixture: &Fixture) {
    small(fixture).await;
    let replica = fixture.replica().await;
    // All at once: one sweeps, and the others are told that it goes on or find nothing left.
    let sweeps = [fixture, &replica, fixture, &replica].map(|of| async move {
        let request = SweepGraphRequest { graph_arn: of.arn(), from_time: None };
        of.behavior().sweep_graph(request).await
    });
    let outcomes = join_all(sweeps).await;
    let hours: u64 = outcomes.into_iter().map(|outcome| outcome.unwrap().into_inner().hours).sum();
    assert_eq!(hours, 21 * 24, "each hour once");
    let found = findings(fixture, true).await;
    let volumes: Vec<_> = found.iter().filter(|finding| finding.r#type == "Behavior:User/UnusualVolume").collect();
    assert_eq!(volumes.len(), 1, "{found:#?}");
    // Hot risks have it at once.
    let hot = risk(fixture, &format!("user:{}", user_arn("alice")), None).await;
    assert!(hot.parts.is_empty(), "of another time: {hot:?}");

    // What crashed between the commit and the checkpoint is swept again and changes nothing.
    fixture.forget_checkpoint().await;
    assert_eq!(sweep(fixture, None).await.hours, 21 * 24);
    assert_eq!(findings(fixture, true).await, found);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_sweeps_and_a_crash_repeats_nothing_on_sqlite() {
    let fixture = Fixture::start().await;
    swept_once(&fixture).await;
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_sweeps_and_a_crash_repeats_nothing_on_postgres() {
    let database = PostgresDatabase::create().await;
    let url = database.url();
    let fixture = Fixture::with(|config| config.store.url = url).await;
    swept_once(&fixture).await;
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hours_that_get_late_records_are_looked_at_again_and_nothing_is_told_twice() {
    let fixture = Fixture::with(|config| config.sweep.look_back_hours = 48).await;
    let call = |id: String, time: Timestamp| Call::new(id, &text(time), Who::User("alice")).json();
    let mut calls: Vec<_> = (0..160).map(|number: i64| call(format!("q{number}"), at(number / 8, 9 + number % 8, 0))).collect();
    calls.push(call("day-20".to_owned(), at(20, 9, 0)));
    fixture.commit_calls("in time", &calls).await;
    assert_eq!(sweep(&fixture, None).await.hours, 21 * 24);
    let volumes = async || {
        let found = findings(&fixture, true).await;
        found.into_iter().filter(|finding| finding.r#type == "Behavior:User/UnusualVolume").collect::<Vec<_>>()
    };
    assert_eq!(volumes().await, []);

    // The night before is delivered late: in part, and the rest later still.
    let night = |from: i64, to: i64| (from..to).map(|number| call(format!("n{number}"), at(20, 3, number % 60))).collect::<Vec<_>>();
    fixture.commit_calls("late", &night(0, 400)).await;
    assert_eq!(sweep(&fixture, None).await.hours, 0, "with the next hours");
    fixture.commit_calls("day-21", &[call("day-21".to_owned(), at(21, 9, 0))]).await;
    assert_eq!(sweep(&fixture, None).await.hours, 24);
    let told = volumes().await;
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((told[0].count, told[0].first_time), (1, Some(time_to_proto(at(20, 3, 0)))));
    fixture.commit_calls("later", &night(400, 4_000)).await;
    fixture.commit_calls("day-22", &[call("day-22".to_owned(), at(22, 9, 0))]).await;
    sweep(&fixture, None).await;
    let graver = volumes().await;
    assert_eq!(graver.len(), 1, "{graver:#?}");
    assert_eq!((&graver[0].id, graver[0].count), (&told[0].id, 1));
    assert!(graver[0].severity >= told[0].severity && graver[0].title.starts_with("4000 calls"), "{graver:#?}");
    fixture.commit_calls("day-23", &[call("day-23".to_owned(), at(23, 9, 0))]).await;
    sweep(&fixture, None).await;
    assert_eq!(volumes().await, graver, "nothing new is late");
    fixture.stop().await;
}

#[tokio::test]
async fn a_sweep_that_goes_on_is_told_and_not_begun_anew() {
    let fixture = Fixture::start().await;
    small(&fixture).await;
    // As another replica does.
    fixture.hold_sweep(true).await;
    assert_eq!(sweep(&fixture, None).await, SweepGraphResponse { running: true, ..SweepGraphResponse::default() });
    let anew = SweepGraphRequest { graph_arn: fixture.arn(), from_time: Some(time_to_proto(at(20, 0, 0))) };
    let refusal = fixture.behavior().sweep_graph(anew).await.unwrap_err();
    refused(&refusal, Code::FailedPrecondition, "CONFLICT", &[]);
    fixture.hold_sweep(false).await;
    let swept = sweep(&fixture, None).await;
    assert_eq!((swept.running, swept.hours, swept.swept_until_time), (false, 21 * 24, Some(time_to_proto(at(21, 0, 0)))));
    fixture.stop().await;
}

#[tokio::test]
async fn sweeps_in_the_background_by_itself_and_leaves_other_graphs_alone() {
    let fixture = Fixture::with(|config| (config.sweep.enabled, config.sweep.interval_seconds) = (true, 1)).await;
    small(&fixture).await;
    let seen = async {
        while findings(&fixture, true).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), seen).await.expect("the sweep finds the night");
    // A token for another graph opens none of it.
    let mut other = fixture.behavior_of(Some("arn:aws:detective:us-east-1:111122223333:graph:ffffffffffffffffffffffffffffffff".parse().unwrap()));
    let refusal = other.sweep_graph(SweepGraphRequest { graph_arn: fixture.arn(), from_time: None }).await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
    let refusal = other.get_anomalies(GetAnomaliesRequest { graph_arn: fixture.arn(), entity: entity("user:x"), scope: None }).await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
    let refusal = other.list_watchlist_entries(ListWatchlistEntriesRequest { graph_arn: fixture.arn() }).await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
    fixture.stop().await;
}

async fn watched(fixture: &Fixture) {
    let values: Vec<_> = detections().iter().map(Detection::json).collect();
    fixture.commit("f", "s3://findings/1.jsonl", &lines(&values)).await;
    let replica = fixture.replica().await;
    let alice = format!("user:{}", user_arn("alice"));
    let then = Some(time("2024-06-30T21:00:00Z"));
    let usual = risk(fixture, &alice, then).await;
    assert!(usual.score > 10.0 && usual.criticality == "normal" && usual.watchlist_pattern.is_empty(), "{usual:?}");
    // Hot as well, in both.
    for of in [fixture, &replica] {
        assert_eq!(risk(of, &alice, None).await.criticality, "normal");
    }
    let create = |pattern: &str, criticality: Criticality| CreateWatchlistEntryRequest {
        graph_arn: fixture.arn(),
        pattern: pattern.to_owned(),
        criticality: criticality.into(),
        note: "keys to everything".to_owned(),
        expire_time: None,
    };
    let mut client = fixture.behavior();
    let entry = client.create_watchlist_entry(create("user:arn:aws:iam::*:user/al*", Criticality::Critical)).await.unwrap().into_inner().entry.unwrap();
    client.create_watchlist_entry(create("user:*", Criticality::Low)).await.unwrap();
    assert_eq!(entry.author_arn, "arn:aws:iam::111122223333:user/analyst");
    let odds = |score: f64| score / (100.0 - score);
    let raised = risk(fixture, &alice, then).await;
    assert!((odds(raised.score) - 2.0 * odds(usual.score)).abs() < 1e-6, "{raised:?}");
    assert_eq!((raised.criticality.as_str(), raised.watchlist_pattern.as_str()), ("critical", "user:arn:aws:iam::*:user/al*"));
    assert_eq!(risk(fixture, &format!("user:{}", user_arn("bob")), then).await.criticality, "low");
    let listed = client.list_watchlist_entries(ListWatchlistEntriesRequest { graph_arn: fixture.arn() }).await.unwrap().into_inner().entries;
    assert_eq!(listed.iter().map(|entry| entry.pattern.as_str()).collect::<Vec<_>>(), ["user:*", "user:arn:aws:iam::*:user/al*"]);
    // At once here, within seconds elsewhere.
    assert_eq!(risk(fixture, &alice, None).await.criticality, "critical");
    let follows = |criticality: &'static str| {
        let (replica, alice) = (&replica, &alice);
        async move {
            while risk(replica, alice, None).await.criticality != criticality {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), follows("critical")).await.expect("the other replica follows");
    client.delete_watchlist_entry(DeleteWatchlistEntryRequest { graph_arn: fixture.arn(), entry_id: entry.id.clone() }).await.unwrap();
    assert_eq!(risk(fixture, &alice, None).await.criticality, "low");
    tokio::time::timeout(Duration::from_secs(10), follows("low")).await.expect("the other replica follows");
    let gone = client.delete_watchlist_entry(DeleteWatchlistEntryRequest { graph_arn: fixture.arn(), entry_id: entry.id }).await.unwrap_err();
    refused(&gone, Code::NotFound, "NOT_FOUND", &[]);
    for (request, field) in [
        (create("alice", Criticality::High), "pattern"),
        (create("user:*", Criticality::Unspecified), "criticality"),
        (CreateWatchlistEntryRequest { note: "x".repeat(1_001), ..create("user:*", Criticality::High) }, "note"),
        (CreateWatchlistEntryRequest { expire_time: Some(time_to_proto(time("2024-01-01T00:00:00Z"))), ..create("user:*", Criticality::High) }, "expire_time"),
    ] {
        refused(&client.create_watchlist_entry(request).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &[field]);
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchlists_decide_how_much_entities_matter_on_sqlite() {
    let fixture = Fixture::start().await;
    watched(&fixture).await;
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchlists_decide_how_much_entities_matter_on_postgres() {
    let database = PostgresDatabase::create().await;
    let url = database.url();
    let fixture = Fixture::with(|config| config.store.url = url).await;
    watched(&fixture).await;
    fixture.stop().await;
}

async fn watched_by_tag(fixture: &Fixture) {
    let call = |id: &str, time: Timestamp, service: &'static str, operation: &'static str, request: Value| {
        Call { service, operation, request, ..Call::new(id, &text(time), Who::User("alice")) }.json()
    };
    let tags = json!([{ "key": "env", "value": "prod-eu" }]);
    let items = json!({ "items": [{ "resourceId": "i-0abc" }] });
    let bucket = |key: &str, value: &str| json!({ "bucketName": "vault", "tagging": "", "Tagging": { "TagSet": { "Tag": [{ "Key": key, "Value": value }] } } });
    let denied = Call {
        service: "iam.amazonaws.com",
        operation: "TagUser",
        request: json!({ "userName": "mallory", "tags": tags }),
        error: "AccessDenied",
        ..Call::new("t5", &text(at(0, 9, 5)), Who::User("alice"))
    };
    let calls = [
        call("t1", at(0, 9, 0), "iam.amazonaws.com", "TagUser", json!({ "userName": "bob", "tags": tags })),
        call("t2", at(0, 9, 1), "iam.amazonaws.com", "TagUser", json!({ "userName": "carol", "tags": tags })),
        call("t3", at(0, 9, 2), "ec2.amazonaws.com", "CreateTags", json!({ "resourcesSet": items, "tagSet": { "items": tags } })),
        call("t4", at(0, 9, 3), "s3.amazonaws.com", "PutBucketTagging", bucket("env", "prod")),
        denied.json(),
    ];
    fixture.commit_calls("tags", &calls).await;
    let mut finding = detections()[0].clone();
    (finding.first, finding.last, finding.updated) = ("2024-05-01T10:00:00Z", "2024-05-01T10:00:00Z", "2024-05-01T10:00:00Z");
    let mut finding = finding.json();
    finding["resource"]["s3BucketDetails"] = json!([{ "name": "backup", "arn": "arn:aws:s3:::backup", "tags": tags }]);
    fixture.commit("finding", "s3://findings/1.jsonl", &lines(&[finding])).await;
    let entry = |pattern: &str| CreateWatchlistEntryRequest {
        graph_arn: fixture.arn(),
        pattern: pattern.to_owned(),
        criticality: Criticality::Critical.into(),
        note: String::new(),
        expire_time: None,
    };
    fixture.behavior().create_watchlist_entry(entry("tag:env=prod*")).await.unwrap();
    for wrong in ["tag:env", "tag:e*=prod"] {
        refused(&fixture.behavior().create_watchlist_entry(entry(wrong)).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &["pattern"]);
    }
    let criticality = async |of: &str| {
        let risk = risk(fixture, of, Some(at(2, 0, 0))).await;
        (risk.criticality, risk.watchlist_pattern)
    };
    let (normal, critical) = (("normal".to_owned(), String::new()), ("critical".to_owned(), "tag:env=prod*".to_owned()));
    let (bob, carol) = (format!("user:{}", user_arn("bob")), format!("user:{}", user_arn("carol")));
    assert_eq!(criticality(&bob).await, normal, "not swept yet");
    assert_eq!(risk(fixture, &bob, None).await.criticality, "normal");
    sweep(fixture, None).await;
    for of in [bob.as_str(), carol.as_str(), "ec2_instance:i-0abc", "s3_bucket:vault", "s3_bucket:backup"] {
        assert_eq!(criticality(of).await, critical, "{of}");
    }
    assert_eq!(criticality(&format!("user:{}", user_arn("mallory"))).await, normal, "it was denied");
    let follows = async {
        while risk(fixture, &bob, None).await.criticality != "critical" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), follows).await.expect("hot risks follow");

    // The next day tags are removed and replaced.
    let calls = [
        call("u1", at(1, 9, 0), "iam.amazonaws.com", "UntagUser", json!({ "userName": "bob", "tagKeys": ["env"] })),
        call("u2", at(1, 9, 1), "s3.amazonaws.com", "PutBucketTagging", bucket("owner", "ann")),
    ];
    fixture.commit_calls("untags", &calls).await;
    sweep(fixture, None).await;
    assert_eq!((criticality(&bob).await, criticality("s3_bucket:vault").await), (normal.clone(), normal.clone()));
    assert_eq!(criticality(&carol).await, critical);
    // Swept anew, the same is known.
    sweep(fixture, Some(at(0, 0, 0))).await;
    assert_eq!((criticality(&bob).await, criticality(&carol).await), (normal, critical));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_a_tag_matters_on_sqlite() {
    let fixture = Fixture::start().await;
    watched_by_tag(&fixture).await;
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_a_tag_matters_on_postgres() {
    let database = PostgresDatabase::create().await;
    let url = database.url();
    let fixture = Fixture::with(|config| config.store.url = url).await;
    watched_by_tag(&fixture).await;
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_wrong_scopes_and_unknown_entities() {
    let fixture = Fixture::start().await;
    let ask = |scope, of: &str| GetAnomaliesRequest { graph_arn: fixture.arn(), entity: entity(of), scope };
    let long = Some(window_to_proto(window("2024-01-01T00:00:00Z", "2024-02-02T00:00:00Z")));
    refused(&fixture.behavior().get_anomalies(ask(long, "user:x")).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &["scope"]);
    refused(&fixture.behavior().get_anomalies(ask(None, "user:x")).await.unwrap_err(), Code::NotFound, "NOT_FOUND", &[]);
    let never = fixture.behavior().sweep_graph(SweepGraphRequest { graph_arn: fixture.arn(), from_time: None }).await.unwrap().into_inner();
    assert_eq!(never, SweepGraphResponse::default(), "a graph without records");
    fixture.stop().await;
}
