//! Countries and networks: in profiles, with what is new, and in risk.

use std::path::{Path, PathBuf};

use gumshoe_api::{
    convert::{time_to_proto, window_to_proto},
    graph::v1::{ActivityList, EntityProfile, GetEntityProfileRequest, GetRiskRequest},
};

use crate::fixture::{Call, Fixture, Who, entity, time, user_arn, window};

/// IPv4 networks with country, autonomous system number and organisation; documentation ranges all.
const NETWORKS: [([u8; 3], &str, u32, &str); 2] = [([198, 51, 100], "US", 64_500, "Example One"), ([203, 0, 113], "BR", 64_501, "Example Two")];

fn text(text: &str, to: &mut Vec<u8>) {
    assert!(text.len() < 29, "longer text has another form");
    to.push(0b0100_0000 | u8::try_from(text.len()).unwrap());
    to.extend(text.bytes());
}

/// The text of a name longer than 28 bytes.
fn long(name: &str, to: &mut Vec<u8>) {
    to.extend([0b0100_0000 | 29, u8::try_from(name.len()).unwrap() - 29]);
    to.extend(name.bytes());
}

fn number(number: u32, to: &mut Vec<u8>) {
    to.push(0b1100_0100);
    to.extend(number.to_be_bytes());
}

/// A database of the /24 networks above in MaxMind's format, version 2.0, IPv4 only.
fn database(record: impl Fn(&(&str, u32, &str), &mut Vec<u8>)) -> Vec<u8> {
    // A node's two sides: 0 for nothing, n for node n, -n for data at n - 1.
    let mut nodes: Vec<[i64; 2]> = vec![[0, 0]];
    let mut data = Vec::new();
    for ([a, b, c], country, asn, organization) in NETWORKS {
        let offset = i64::try_from(data.len()).unwrap();
        record(&(country, asn, organization), &mut data);
        let bits = u32::from_be_bytes([0, a, b, c]);
        let mut node = 0;
        for depth in 0..24 {
            let side = usize::try_from((bits >> (23 - depth)) & 1).unwrap();
            if depth == 23 {
                nodes[node][side] = -(offset + 1);
            } else if nodes[node][side] > 0 {
                node = usize::try_from(nodes[node][side]).unwrap();
            } else {
                nodes.push([0, 0]);
                nodes[node][side] = i64::try_from(nodes.len() - 1).unwrap();
                node = nodes.len() - 1;
            }
        }
    }
    let count = i64::try_from(nodes.len()).unwrap();
    let mut file = Vec::new();
    for side in nodes.into_iter().flatten() {
        let value = match side {
            0 => count,
            node if node > 0 => node,
            data => count + 16 + (-data - 1),
        };
        file.extend(&u32::try_from(value).unwrap().to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    file.push(0b1110_0000 | 9);
    for (name, value) in [("binary_format_major_version", 2), ("binary_format_minor_version", 0), ("ip_version", 4), ("record_size", 24)] {
        text(name, &mut file);
        file.extend([0b1010_0010, 0, value]);
    }
    text("node_count", &mut file);
    number(u32::try_from(count).unwrap(), &mut file);
    text("build_epoch", &mut file);
    file.extend([0b0000_0001, 2, 1]);
    text("database_type", &mut file);
    text("Test", &mut file);
    text("languages", &mut file);
    file.extend([0, 4]);
    text("description", &mut file);
    file.push(0b1110_0000);
    file
}

pub(crate) fn databases(folder: &Path) -> (PathBuf, PathBuf) {
    let (country, asn) = (folder.join("country.mmdb"), folder.join("asn.mmdb"));
    let countries = database(|(country, _, _), to| {
        to.push(0b1110_0000 | 1);
        text("country_code", to);
        text(country, to);
    });
    let networks = database(|(_, asn, organization), to| {
        to.push(0b1110_0000 | 2);
        text("autonomous_system_number", to);
        number(*asn, to);
        long("autonomous_system_organization", to);
        text(organization, to);
    });
    std::fs::write(&country, countries).unwrap();
    std::fs::write(&asn, networks).unwrap();
    (country, asn)
}

/// Alice works from one country for twenty days; then from another address there, from abroad, and from inside.
async fn started() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let (country, asn) = databases(folder.path());
    let fixture = Fixture::with(|config| (config.places.country, config.places.asn) = (Some(country), Some(asn))).await;
    let call = |id: String, time: &str, address: &str| Call { address: address.to_owned(), ..Call::new(id, time, Who::User("alice")) }.json();
    let mut calls: Vec<_> = (1..=20).map(|day| call(format!("quiet-{day}"), &format!("2024-06-{day:02}T08:00:00Z"), "198.51.100.1")).collect();
    for (number, address) in ["198.51.100.2", "203.0.113.7", "203.0.113.7", "203.0.113.8", "10.0.0.1", "192.0.2.1"].iter().enumerate() {
        calls.push(call(format!("c{number}"), "2024-06-30T10:00:00Z", address));
    }
    fixture.commit_calls("b", &calls).await;
    fixture
}

async fn profile(fixture: &Fixture, of: &str) -> EntityProfile {
    let scope = Some(window_to_proto(window("2024-06-30T10:00:00Z", "2024-06-30T11:00:00Z")));
    let request = GetEntityProfileRequest { graph_arn: fixture.arn(), entity: entity(of), scope, list_size: 0 };
    fixture.reader.clone().get_entity_profile(request).await.unwrap().into_inner().profile.unwrap()
}

fn rows(list: &Option<ActivityList>) -> Vec<(&str, u64, bool)> {
    list.as_ref().unwrap().items.iter().map(|item| (item.name.as_str(), item.measures.as_ref().unwrap().successes, item.new_in_scope)).collect()
}

#[tokio::test]
async fn countries_and_networks_add_up_their_addresses() {
    let fixture = started().await;
    // The user's edges hold the place of their time; those of its user agent are looked up.
    for of in [format!("user:{}", user_arn("alice")), "user_agent:aws-cli/2.1".to_owned()] {
        let profile = profile(&fixture, &of).await;
        assert_eq!(rows(&profile.countries), [("BR", 3, true), ("US", 1, false)], "{of}");
        assert_eq!(rows(&profile.networks), [("Example Two", 3, true), ("Example One", 1, false)], "{of}");
        assert_eq!(profile.networks.as_ref().unwrap().items[0].place.as_ref().unwrap().asn, 64_501);
        let addresses = profile.addresses.unwrap();
        let of = |name: &str| addresses.items.iter().find(|item| item.name == name).unwrap().place.clone().unwrap();
        assert_eq!((of("203.0.113.8").country.as_str(), of("203.0.113.8").organization.as_str()), ("BR", "Example Two"));
        assert!(of("10.0.0.1").private && of("10.0.0.1").country.is_empty());
        assert!(!of("192.0.2.1").private && of("192.0.2.1").country.is_empty(), "in no database");
    }
    let place = profile(&fixture, "ip_address:198.51.100.2").await.place.unwrap();
    assert_eq!((place.country.as_str(), place.asn, place.organization.as_str(), place.private), ("US", 64_500, "Example One", false));
    fixture.stop().await;
}

#[tokio::test]
async fn new_country_and_network_are_risks() {
    let fixture = started().await;
    let request = GetRiskRequest {
        graph_arn: fixture.arn(),
        entity: entity(&format!("user:{}", user_arn("alice"))),
        time: Some(time_to_proto(time("2024-06-30T10:00:00Z"))),
    };
    let risk = fixture.reader.clone().get_risk(request).await.unwrap().into_inner().risk.unwrap();
    let found: Vec<_> = risk.parts.iter().map(|part| (part.source.as_str(), part.evidence.join(" "))).collect();
    assert_eq!(
        found,
        [
            ("new_country", "BR".to_owned()),
            ("new_network", "AS64501".to_owned()),
            ("new_address", "10.0.0.1 192.0.2.1 198.51.100.2 203.0.113.7 203.0.113.8".to_owned()),
        ]
    );
    fixture.stop().await;
}
