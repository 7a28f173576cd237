//! A group of an attack, and what its documents say of it.

use std::collections::HashMap;

use super::{
    export::{Document, Format},
    *,
};

pub(crate) const START: i64 = 1_700_000_000_000_000;
const HOUR: i64 = 3_600_000_000;
const GRAPH: &str = "arn:aws:detective:us-east-1:111111111111:graph:00000000000000000000000000000001";
/// What an attacker calls himself.
const HOSTILE: &str = "user_agent:<script>alert(1)</script> [x](javascript:alert(1)) | `` ![i](http://evil.example/i.png) \u{202e}\n# x";

pub(crate) fn member(id: &str, finding_type: &str, severity: f64, hour: i64, entities: &[&str]) -> Member {
    let mut entities: Vec<String> = entities.iter().map(|entity| (*entity).to_owned()).collect();
    entities.sort();
    let time = START + hour * HOUR;
    let member = Member {
        id: id.to_owned(),
        finding_type: finding_type.to_owned(),
        product: "GuardDuty".to_owned(),
        title: format!("Title of {id}."),
        severity,
        account: "111111111111".to_owned(),
        region: "us-east-1".to_owned(),
        count: 2,
        first: time,
        last: time + HOUR / 2,
        update: time + HOUR,
        entities,
        ..Member::default()
    };
    member.with_signs(&Catalog::shipped().unwrap())
}

/// The body of all that is tied among these, if it is one group.
pub(crate) fn body(members: &[Member]) -> Body {
    let inputs: Vec<Input> = members.iter().map(Member::input).collect();
    let degrees = Degrees::new(&inputs, &HashMap::from([("ip_address:198.51.100.1".parse().unwrap(), 300)]));
    let clusters = cluster::cluster(&inputs, &degrees);
    assert_eq!(clusters.len(), 1);
    Body::new(members, &clusters[0], &inputs, &degrees, Vec::new())
}

fn attack() -> Body {
    let ann = "user:arn:aws:iam::111111111111:user/ann";
    let (attacker, office) = ("ip_address:203.0.113.9", "ip_address:198.51.100.1");
    let mut body = body(&[
        member("f-recon", "Recon:IAMUser/TorIPCaller", 5.0, 0, &[ann, attacker, office]),
        member("f-persist", "Persistence:IAMUser/AnomalousBehavior", 5.0, 2, &[ann, attacker, office, HOSTILE]),
        member("f-exfil", "Exfiltration:S3/AnomalousBehavior", 8.0, 4, &[attacker, "s3_bucket:customers", "ip_address:2001:db8::1"]),
        member("f-alone", "Impact:EC2/PortSweep", 9.0, 500, &["ec2_instance:i-1", office]),
    ]);
    let fact = |hour: i64, kind: FactKind, value: &str| Fact { time: START + hour * HOUR, entity: ann.to_owned(), kind, value: value.to_owned(), count: 3 };
    body.facts = vec![fact(1, FactKind::NewCountry, "BR"), fact(3, FactKind::NewUserAgent, HOSTILE)];
    body
}

fn group(body: &Body) -> Group {
    Group {
        id: "0197b2f4-0000-7000-8000-000000000001".parse().unwrap(),
        status: Status::Open,
        overview: body.overview(),
        create_time: Timestamp(START),
        update_time: Timestamp(START + HOUR),
        merged: vec!["0197b2f4-0000-7000-8000-000000000002".parse().unwrap()],
        split_from: None,
    }
}

#[test]
fn an_overview_is_made_of_the_findings() {
    let body = attack();
    let overview = body.overview();
    assert_eq!(body.findings.iter().map(|finding| finding.id.as_str()).collect::<Vec<_>>(), ["f-recon", "f-persist", "f-exfil"]);
    assert_eq!((overview.severity, overview.label(), overview.findings), (8.0, Severity::High, 3));
    assert_eq!((overview.first, overview.last), (START, START + 4 * HOUR + HOUR / 2));
    assert_eq!(overview.accounts, ["111111111111"]);
    assert!(overview.tactics.contains(&"Persistence".to_owned()) && overview.tactics.contains(&"Exfiltration".to_owned()), "{overview:?}");
    assert_eq!(overview.by_severity, BTreeMap::from([("HIGH".to_owned(), 1), ("MEDIUM".to_owned(), 2)]));
    assert!(overview.points() > 48 && overview.points() <= 100);
    assert!(overview.title.ends_with(": user ann, address 203.0.113.9"), "{}", overview.title);
    let hubs: Vec<&str> = body.entities.iter().filter(|entity| entity.hub).map(|entity| entity.key.as_str()).collect();
    assert_eq!(hubs, ["ip_address:198.51.100.1"]);
    let ties = &body.findings[1].ties;
    assert!(
        ties.iter().any(|tie| tie.finding == "f-recon" && tie.entities == ["user:arn:aws:iam::111111111111:user/ann", "ip_address:203.0.113.9"]),
        "{ties:?}"
    );
}

#[test]
fn every_sentence_says_what_it_is_made_of() {
    let body = attack();
    let sentences = summary::sentences(&body, &body.overview());
    assert!(sentences[0].text.starts_with("3 findings of GuardDuty, between 2023-11-14T22:13:20Z and 2023-11-15T02:43:20Z, name "), "{sentences:?}");
    assert!(sentences.iter().any(|sentence| sentence.text == "The worst has severity 8.0 (HIGH): Title of f-exfil (Exfiltration:S3/AnomalousBehavior)."));
    assert!(sentences.iter().any(|sentence| sentence.text.contains("198.51.100.1, which ties nothing: 300 principals")));
    assert!(sentences.iter().any(|sentence| sentence.text.ends_with("user/ann came from the country: BR.")));
    let known = |ids: &[String]| ids.iter().all(|id| body.findings.iter().any(|finding| finding.id == *id));
    for sentence in &sentences {
        assert!(!sentence.findings.is_empty() || !sentence.entities.is_empty(), "{sentence:?}");
        assert!(known(&sentence.findings), "{sentence:?}");
        assert!(!sentence.text.contains(['\n', '\u{202e}']), "{sentence:?}");
    }
    let events = summary::timeline(&body);
    assert!(events.is_sorted_by_key(|event| event.time));
    assert_eq!(events.len(), 3 * 2 + 2);
    assert!(events.iter().all(|event| event.finding.is_empty() != event.entity.is_empty()));
}

#[test]
fn documents_keep_hostile_text_as_text() {
    let body = attack();
    let group = group(&body);
    let decision =
        Decision { status: Status::Closed, note: "<b>done</b> **x**".to_owned(), author: "arn:aws:iam::1:user/<i>".to_owned(), time: Timestamp(START) };
    let decisions = [decision];
    let document = Document::new(GRAPH, &group, &body, &decisions);
    let html = document.text(Format::Html).unwrap();
    for bad in ["<script", "<b>", "<i>", "javascript:alert(1)\"", "src=", "href=\"http", "\u{202e}"] {
        assert!(!html.contains(bad), "{bad} in {html}");
    }
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && html.contains("default-src 'none'"));
    let links: Vec<&str> = html.match_indices("href=").map(|(place, _)| &html[place..place + 8]).collect();
    assert!(links.iter().all(|link| link.starts_with("href=\"#F") || link.starts_with("href=\"#E")), "{links:?}");
    let markdown = document.text(Format::Markdown).unwrap();
    for line in markdown.lines() {
        // Outside of code spans nothing is left of the tag, the link or the image.
        let plain: String = line.split('`').step_by(2).collect();
        let bare = |bad: &str| plain.match_indices(bad).any(|(place, _)| !plain[..place].ends_with('\\'));
        assert!(line.starts_with('|') && line.contains("E") && line.contains("user_agent:") || !bare("<script") && !bare("![") && !bare("[x]"), "{line}");
        assert!(!line.starts_with("# x"));
    }
    let json: serde_json::Value = serde_json::from_str(&document.text(Format::Json).unwrap()).unwrap();
    assert_eq!((json["findings"].as_array().unwrap().len(), json["summary"][1]["finding_ids"][0].as_str()), (3, Some("f-exfil")));
    assert_eq!(json["entities"].as_array().unwrap().iter().filter(|entity| entity["entity"] == HOSTILE).count(), 1, "as it is");
}

#[test]
fn a_bundle_is_whole_and_the_same_each_time() {
    let body = attack();
    let group = group(&body);
    let text = Document::new(GRAPH, &group, &body, &[]).text(Format::Stix).unwrap();
    assert_eq!(text, Document::new(GRAPH, &group, &body, &[]).text(Format::Stix).unwrap());
    let bundle: serde_json::Value = serde_json::from_str(&text).unwrap();
    let objects = bundle["objects"].as_array().unwrap();
    let ids: Vec<&str> = objects.iter().map(|object| object["id"].as_str().unwrap()).collect();
    let of_type = |kind: &str| objects.iter().filter(|object| object["type"] == kind).count();
    assert_eq!((of_type("grouping"), of_type("observed-data"), of_type("note"), of_type("ipv6-addr")), (1, 3, 3, 1));
    assert_eq!((of_type("user-account"), of_type("software")), (1, 1));
    assert!(of_type("attack-pattern") >= 2 && of_type("sighting") >= 3);
    for object in objects {
        for (name, value) in object.as_object().unwrap() {
            let refs: Vec<&str> = match value {
                serde_json::Value::String(one) if name.ends_with("_ref") => vec![one],
                serde_json::Value::Array(many) if name.ends_with("_refs") => many.iter().map(|one| one.as_str().unwrap()).collect(),
                _ => continue,
            };
            assert!(!refs.is_empty() && refs.iter().all(|id| ids.contains(id)), "{name} of {object}");
        }
    }
}

#[test]
fn scores_have_parts_that_never_make_more_than_a_hundred() {
    assert_eq!(score(10.0, 50, 50, 50).iter().map(|(_, points)| points).sum::<u32>(), 100);
    assert_eq!(score(0.0, 0, 1, 1), []);
    assert_eq!(score(5.0, 2, 2, 1).iter().map(|(_, points)| *points).collect::<Vec<_>>(), [30, 6, 2]);
}
