//! A group as a bundle of STIX 2.1: a grouping of what was observed.
//!
//! Principals, keys, addresses and user agents are cyber-observable objects, with the ids that the standard makes of their
//! values (UUIDv5), so that other tools know them for the same. What has no such object - accounts, instances, buckets -
//! is an identity, where techniques were sighted. Each finding is observed data, a sighting of each of its tactics and
//! techniques, unless it was dismissed, and a note with what its product said and what it was judged. The same group makes the same bundle.
//!
//! Source: STIX 2.1, OASIS standard of 10 June 2021.

use std::{collections::BTreeMap, net::IpAddr};

use gumshoe_detections::Tactic;
use gumshoe_model::{EntityKey, EntityType, Timestamp};
use serde_json::{Value, json};
use uuid::{Builder, Uuid};

use super::Document;
use crate::groups::{Member, summary::word};

/// The namespace of observables' ids. Source: STIX 2.1, section 2.9.
const OBSERVABLES: Uuid = Uuid::from_u128(0x00ab_edb4_aa42_466c_9c01_fed2_3315_a9b7);
/// Our own, of all other ids.
const OURS: Uuid = Uuid::from_u128(0x6f1d_2a0e_94c3_4b57_8f0a_5c2e_71d3_9b46);
/// When the identity of Gumshoe was made.
const EPOCH: &str = "2026-01-01T00:00:00.000Z";
/// The most that a count may be.
const MAX_COUNT: u64 = 999_999_999;

/// The bundle.
pub(super) fn write(document: &Document<'_>) -> Value {
    let bundle = Bundle {
        scope: format!("{}/{}", document.graph, document.group.id),
        producer: id("identity", "gumshoe"),
        created: time(document.group.create_time.0),
        modified: time(document.group.update_time.0.max(document.group.create_time.0)),
    };
    let mut objects: BTreeMap<String, Value> = BTreeMap::new();
    let mut add = |object: Value| {
        let id = object.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        objects.entry(id.clone()).or_insert(object);
        id
    };
    for finding in &document.body.findings {
        let (mut observables, mut identities) = (Vec::new(), Vec::new());
        let account = (!finding.account.is_empty()).then(|| format!("account:{}", finding.account));
        for key in finding.entities.iter().chain(&account).filter_map(|key| key.parse::<EntityKey>().ok()) {
            match observable(&key) {
                Some(object) => observables.push(add(object)),
                None => identities.push(add(bundle.identity(&key))),
            }
        }
        for refs in [&mut observables, &mut identities] {
            refs.sort_unstable();
            refs.dedup();
        }
        let observed = (!observables.is_empty()).then(|| add(bundle.observed(finding, &observables)));
        let patterns = finding.tactics.iter().filter_map(|name| bundle.tactic(name)).chain(finding.techniques.iter().map(|id| bundle.technique(id)));
        let mut about: Vec<String> = observed.iter().cloned().collect();
        for pattern in patterns.filter(|_| !finding.is_dismissed()).collect::<Vec<_>>() {
            let pattern = add(pattern);
            about.push(add(bundle.sighting(finding, &pattern, observed.as_deref(), &identities)));
        }
        if about.is_empty() {
            about = if identities.is_empty() { vec![bundle.producer.clone()] } else { identities };
        }
        add(bundle.note(finding, &about));
    }
    let refs: Vec<&String> = objects.keys().collect();
    let summary: Vec<&str> = document.sentences.iter().map(|sentence| sentence.text.as_str()).collect();
    let overview = &document.group.overview;
    let mut grouping = bundle.object("grouping", "group");
    set(&mut grouping, "name", overview.title.clone());
    set(&mut grouping, "context", "suspicious-activity");
    set(&mut grouping, "description", summary.join("\n"));
    set(&mut grouping, "labels", [format!("severity:{}", overview.label().as_str().to_lowercase())]);
    set(&mut grouping, "external_references", [json!({"source_name": "gumshoe", "external_id": document.group.id.as_str()})]);
    set(&mut grouping, "object_refs", refs);
    let gumshoe = json!({
        "type": "identity", "spec_version": "2.1", "id": bundle.producer, "created": EPOCH, "modified": EPOCH, "name": gumshoe_model::PRODUCT, "identity_class": "system",
    });
    let all: Vec<Value> = [gumshoe, grouping].into_iter().chain(objects.into_values()).collect();
    json!({"type": "bundle", "id": id("bundle", &bundle.scope), "objects": all})
}

/// What objects of one bundle have in common.
struct Bundle {
    scope: String,
    producer: String,
    created: String,
    modified: String,
}

impl Bundle {
    /// A domain object or relationship of this group; `name` tells it from others of its type.
    fn object(&self, kind: &str, name: &str) -> Value {
        self.shared(kind, &format!("{}/{name}", self.scope))
    }

    /// An object that is the same in all groups.
    fn shared(&self, kind: &str, name: &str) -> Value {
        json!({
            "type": kind, "spec_version": "2.1", "id": id(kind, name), "created_by_ref": self.producer, "created": self.created, "modified": self.modified,
        })
    }

    fn identity(&self, key: &EntityKey) -> Value {
        let mut object = self.object("identity", &key.to_string());
        set(&mut object, "name", key.id.clone());
        set(&mut object, "description", word(key.kind));
        set(&mut object, "identity_class", if key.kind == EntityType::Account { "organization" } else { "system" });
        object
    }

    fn observed(&self, finding: &Member, observables: &[String]) -> Value {
        let mut object = self.object("observed-data", &finding.id);
        set(&mut object, "first_observed", time(finding.first));
        set(&mut object, "last_observed", time(finding.last.max(finding.first)));
        set(&mut object, "number_observed", finding.count.clamp(1, MAX_COUNT));
        set(&mut object, "object_refs", observables);
        set(&mut object, "external_references", [source(finding)]);
        object
    }

    fn tactic(&self, name: &str) -> Option<Value> {
        let tactic = Tactic::ALL.iter().find(|tactic| tactic.as_str() == name)?;
        let mut object = self.shared("attack-pattern", tactic.id());
        set(&mut object, "name", tactic.as_str());
        let url = format!("https://attack.mitre.org/tactics/{}/", tactic.id());
        set(&mut object, "external_references", [json!({"source_name": "mitre-attack", "external_id": tactic.id(), "url": url})]);
        let phase = tactic.as_str().to_lowercase().replace(' ', "-");
        set(&mut object, "kill_chain_phases", [json!({"kill_chain_name": "mitre-attack", "phase_name": phase})]);
        Some(object)
    }

    fn technique(&self, technique: &str) -> Value {
        let mut object = self.shared("attack-pattern", technique);
        set(&mut object, "name", technique);
        let url = format!("https://attack.mitre.org/techniques/{}/", technique.replace('.', "/"));
        set(&mut object, "external_references", [json!({"source_name": "mitre-attack", "external_id": technique, "url": url})]);
        object
    }

    fn sighting(&self, finding: &Member, pattern: &str, observed: Option<&str>, seen_at: &[String]) -> Value {
        let mut object = self.object("sighting", &format!("{}/{pattern}", finding.id));
        set(&mut object, "first_seen", time(finding.first));
        set(&mut object, "last_seen", time(finding.last.max(finding.first)));
        set(&mut object, "count", finding.count.clamp(1, MAX_COUNT));
        set(&mut object, "sighting_of_ref", pattern);
        if let Some(observed) = observed {
            set(&mut object, "observed_data_refs", [observed]);
        }
        if !seen_at.is_empty() {
            set(&mut object, "where_sighted_refs", seen_at);
        }
        object
    }

    fn note(&self, finding: &Member, about: &[String]) -> Value {
        let mut object = self.object("note", &finding.id);
        set(&mut object, "abstract", finding.finding_type.clone());
        let title = if finding.title.is_empty() { &finding.finding_type } else { &finding.title };
        set(&mut object, "content", format!("{title} (severity {:.1} of 10)", finding.severity));
        if finding.verdict.is_some() {
            set(&mut object, "labels", [format!("verdict:{}", finding.verdict_in_words().replace(' ', "-"))]);
        }
        if !finding.product.is_empty() {
            set(&mut object, "authors", [finding.product.clone()]);
        }
        set(&mut object, "external_references", [source(finding)]);
        set(&mut object, "object_refs", about);
        object
    }
}

/// Where a finding comes from.
fn source(finding: &Member) -> Value {
    let product = if finding.product.is_empty() { "unknown" } else { &finding.product };
    json!({"source_name": product, "external_id": finding.id})
}

/// The cyber-observable object of an entity, if the standard has one.
fn observable(key: &EntityKey) -> Option<Value> {
    let object = |kind: &str, name: &str| {
        let value: &str = &key.id;
        // Canonical JSON (RFC 8785) of the one property that the id is made of.
        let contributing = json!({name: value}).to_string();
        json!({"type": kind, "spec_version": "2.1", "id": format!("{kind}--{}", uuid5(&OBSERVABLES, &contributing)), name: value})
    };
    match key.kind {
        EntityType::IpAddress => match key.id.parse().ok()? {
            IpAddr::V4(_) => Some(object("ipv4-addr", "value")),
            IpAddr::V6(_) => Some(object("ipv6-addr", "value")),
        },
        EntityType::User
        | EntityType::Role
        | EntityType::RoleSession
        | EntityType::FederatedUser
        | EntityType::Root
        | EntityType::AccessKey
        | EntityType::KubernetesSubject => {
            let mut account = object("user-account", "user_id");
            set(&mut account, "display_name", format!("{} {}", word(key.kind), key.id));
            Some(account)
        }
        EntityType::UserAgent | EntityType::ContainerImage => Some(object("software", "name")),
        EntityType::Account
        | EntityType::AwsService
        | EntityType::Ec2Instance
        | EntityType::NetworkInterface
        | EntityType::S3Bucket
        | EntityType::Resource
        | EntityType::EksCluster
        | EntityType::Pod
        | EntityType::Finding => None,
    }
}

fn set(object: &mut Value, name: &str, value: impl serde::Serialize) {
    if let (Some(fields), Ok(value)) = (object.as_object_mut(), serde_json::to_value(value)) {
        fields.insert(name.to_owned(), value);
    }
}

fn id(kind: &str, name: &str) -> String {
    format!("{kind}--{}", uuid5(&OURS, &format!("{kind}/{name}")))
}

/// RFC 9562, version 5.
fn uuid5(namespace: &Uuid, name: &str) -> Uuid {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(namespace.as_bytes());
    hash.update(name.as_bytes());
    let digest = hash.digest().bytes();
    let mut bytes = [0; 16];
    for (byte, from) in bytes.iter_mut().zip(digest) {
        *byte = from;
    }
    Builder::from_sha1_bytes(bytes).into_uuid()
}

/// RFC 3339 in milliseconds, as STIX writes times.
fn time(micros: i64) -> String {
    Timestamp(micros).to_chrono().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observables_have_the_ids_of_the_standard() {
        // As the `stix2` library of OASIS makes them.
        let made = |key: &str| observable(&key.parse().unwrap()).unwrap()["id"].as_str().unwrap().to_owned();
        assert_eq!(made("ip_address:198.51.100.3"), "ipv4-addr--28bb3599-77cd-5a82-a950-b5bc3caf07c4");
        assert_eq!(uuid5(&Uuid::from_u128(0x6ba7_b810_9dad_11d1_80b4_00c0_4fd4_30c8), "www.example.com").to_string(), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
        assert!(observable(&"s3_bucket:x".parse().unwrap()).is_none());
    }
}
