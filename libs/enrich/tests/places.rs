//! Lookups in databases written here, and in the real one that `GUMSHOE_PLACES_COUNTRY` names.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{net::IpAddr, path::Path};

use gumshoe_enrich::{Config, OpenError, Place, Places};
use proptest::prelude::*;

/// A value of the data section.
enum Field<'a> {
    Text(&'a str),
    Number(u32),
    Map(&'a [(&'a str, Field<'a>)]),
}

impl Field<'_> {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Field::Text(text) => write_text(text, to),
            Field::Number(number) => {
                to.push(0b1100_0100);
                to.extend(number.to_be_bytes());
            }
            Field::Map(entries) => {
                to.push(0b1110_0000 | u8::try_from(entries.len()).unwrap());
                for (name, value) in *entries {
                    write_text(name, to);
                    value.write(to);
                }
            }
        }
    }
}

fn write_text(text: &str, to: &mut Vec<u8>) {
    let length = u8::try_from(text.len()).unwrap();
    if length < 29 {
        to.push(0b0100_0000 | length);
    } else {
        to.extend([0b0100_0000 | 29, length - 29]);
    }
    to.extend(text.bytes());
}

/// A database in MaxMind's format, version 2.0, with an IPv6 tree that holds IPv4 under `::/96`.
fn database(networks: &[(&str, u8, Field<'_>)]) -> Vec<u8> {
    let mut nodes: Vec<[Option<Target>; 2]> = vec![[None, None]];
    let mut data = Vec::new();
    for (address, prefix, record) in networks {
        let (bits, length) = match address.parse().unwrap() {
            IpAddr::V4(address) => (u128::from(u32::from(address)), prefix + 96),
            IpAddr::V6(address) => (u128::from(address), *prefix),
        };
        let offset = data.len();
        record.write(&mut data);
        let mut node = 0;
        for depth in 0..length {
            let side = usize::try_from((bits >> (127 - depth)) & 1).unwrap();
            let next = nodes.len();
            let slot = nodes.get_mut(node).unwrap().get_mut(side).unwrap();
            if depth + 1 == length {
                *slot = Some(Target::Data(offset));
            } else if let Some(Target::Node(existing)) = slot {
                node = *existing;
            } else {
                *slot = Some(Target::Node(next));
                nodes.push([None, None]);
                node = next;
            }
        }
    }
    let count = nodes.len();
    let mut file = Vec::new();
    for target in nodes.iter().flatten() {
        let value = match target {
            None => count,
            Some(Target::Node(node)) => *node,
            Some(Target::Data(offset)) => count + 16 + offset,
        };
        file.extend(u32::try_from(value).unwrap().to_be_bytes().get(1..).unwrap());
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    file.push(0b1110_0000 | 9);
    for (name, number) in [("binary_format_major_version", 2), ("binary_format_minor_version", 0), ("ip_version", 6), ("record_size", 24)] {
        write_text(name, &mut file);
        file.extend([0b1010_0010, 0, number]);
    }
    write_text("node_count", &mut file);
    Field::Number(u32::try_from(count).unwrap()).write(&mut file);
    write_text("build_epoch", &mut file);
    file.extend([0b0000_0001, 2, 1]);
    write_text("database_type", &mut file);
    write_text("Test", &mut file);
    write_text("languages", &mut file);
    file.extend([0, 4]);
    write_text("description", &mut file);
    file.push(0b1110_0000);
    file
}

enum Target {
    Node(usize),
    Data(usize),
}

fn open(country: Option<&[u8]>, asn: Option<&[u8]>) -> Result<Places, OpenError> {
    let folder = tempfile::tempdir().unwrap();
    let store = |name: &str, bytes: Option<&[u8]>| {
        bytes.map(|bytes| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        })
    };
    Places::open(&Config { country: store("country.mmdb", country), asn: store("asn.mmdb", asn) })
}

fn look(places: &Places, address: &str) -> Place {
    places.lookup(address.parse().unwrap())
}

fn networks() -> Vec<u8> {
    let field = |number, name| [("autonomous_system_number", Field::Number(number)), ("autonomous_system_organization", Field::Text(name))];
    database(&[("8.8.8.0", 24, Field::Map(&field(15169, "GOOGLE"))), ("2001:500::", 32, Field::Map(&field(0, "")))])
}

#[test]
fn both_layouts_are_read() {
    let plain = database(&[
        ("8.8.8.0", 24, Field::Map(&[("country_code", Field::Text("us"))])),
        ("2001:500::", 32, Field::Map(&[("country_code", Field::Text("NL"))])),
    ]);
    let maxmind = database(&[
        ("8.8.8.0", 24, Field::Map(&[("country", Field::Map(&[("geoname_id", Field::Number(1)), ("iso_code", Field::Text("US"))]))])),
        (
            "2001:500::",
            32,
            Field::Map(&[("continent", Field::Map(&[("code", Field::Text("EU"))])), ("country", Field::Map(&[("iso_code", Field::Text("NL"))]))]),
        ),
    ]);
    for country in [plain, maxmind] {
        let places = open(Some(&country), Some(&networks())).unwrap();
        // Twice, so that the second answer is the one kept.
        for _ in 0..2 {
            let google = Place { country: Some("US".into()), asn: Some(15169), organization: Some("GOOGLE".into()), private: false };
            assert_eq!(look(&places, "8.8.8.8"), google);
            assert_eq!(look(&places, "::ffff:8.8.8.8"), google);
            assert_eq!(look(&places, "2001:500::1"), Place { country: Some("NL".into()), ..Place::default() });
            assert_eq!(look(&places, "9.9.9.9"), Place::default());
        }
    }
}

#[test]
fn each_database_is_optional() {
    assert_eq!(look(&Places::default(), "8.8.8.8"), Place::default());
    let places = open(None, Some(&networks())).unwrap();
    assert_eq!(look(&places, "8.8.8.8").country, None);
    assert_eq!(look(&places, "8.8.8.8").asn, Some(15169));
}

#[test]
fn private_addresses_have_no_place() {
    let everywhere =
        database(&[("::", 1, Field::Map(&[("country_code", Field::Text("US"))])), ("8000::", 1, Field::Map(&[("country_code", Field::Text("US"))]))]);
    let places = open(Some(&everywhere), None).unwrap();
    for address in [
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.1",
        "127.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "198.18.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "::1",
        "::",
        "fd00:ec2::254",
        "fe80::1",
        "ff02::1",
        "::ffff:10.0.0.1",
    ] {
        assert_eq!(look(&places, address), Place { private: true, ..Place::default() }, "{address}");
    }
    for address in ["100.63.255.255", "100.128.0.1", "172.32.0.1", "198.20.0.1", "203.0.113.1", "2600::1", "11.0.0.1"] {
        assert_eq!(look(&places, address).country.as_deref(), Some("US"), "{address}");
    }
}

#[test]
fn unusable_files_are_refused() {
    assert!(matches!(open(Some(b"no database"), None), Err(OpenError::Unreadable { .. })));
    let swapped = open(Some(&networks()), None).unwrap_err();
    assert!(swapped.to_string().ends_with("country.mmdb` holds no countries"), "{swapped}");
    let missing = Config { country: Some("/nowhere/x.mmdb".into()), asn: None };
    assert_eq!(Places::open(&missing).unwrap_err().to_string(), "cannot open the places database `/nowhere/x.mmdb`");
    let odd = database(&[("8.8.8.0", 24, Field::Map(&[("country_code", Field::Text("Neverland"))]))]);
    assert!(matches!(open(Some(&odd), None), Err(OpenError::WrongContent { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_damaged_database_never_panics(place in any::<prop::sample::Index>(), byte in any::<u8>(), address in any::<u32>()) {
        let mut bytes = networks();
        let place = place.index(bytes.len());
        *bytes.get_mut(place).unwrap() = byte;
        if let Ok(places) = open(None, Some(&bytes)) {
            let _ = places.lookup(IpAddr::from(address.to_be_bytes()));
            look(&places, "8.8.8.8");
        }
    }
}

#[test]
fn known_addresses_are_where_they_should_be() {
    let path = std::env::var_os("GUMSHOE_PLACES_COUNTRY")
        .expect("GUMSHOE_PLACES_COUNTRY names a country database: run tests/fetch_places.sh and use the path it prints");
    let places = Places::open(&Config { country: Some(Path::new(&path).to_owned()), asn: None }).unwrap();
    for (address, country) in [
        ("8.8.8.8", "US"),
        ("193.0.6.139", "NL"),
        ("200.160.2.3", "BR"),
        ("210.171.226.40", "JP"),
        ("2001:4860:4860::8888", "US"),
        ("2001:67c:2e8:22::c100:68b", "NL"),
    ] {
        assert_eq!(look(&places, address).country.as_deref(), Some(country), "{address}");
    }
}
