//! The country and network of an IP address, from offline databases in MaxMind's format.
//!
//! Two layouts are read: MaxMind's own (`country.iso_code`, `autonomous_system_number`,
//! `autonomous_system_organization`; GeoLite2, GeoIP2, DB-IP) and that of the ip-location-db project (`country_code`, and
//! the same names for networks). A file that holds neither is refused when it is opened.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use maxminddb::{MaxMindDbError, Reader, WithinOptions};
use serde::Deserialize;

/// Which databases to open. Without one, its part of a place stays unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A database of countries.
    pub country: Option<PathBuf>,
    /// A database of autonomous systems.
    pub asn: Option<PathBuf>,
}

/// A database that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It can't be read, or is not in MaxMind's format.
    #[error("cannot open the places database `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: MaxMindDbError,
    },
    /// It is a database of something else.
    #[error("the places database `{}` holds no {wanted}", path.display())]
    WrongContent {
        /// The file.
        path: PathBuf,
        /// What it should hold: `countries` or `networks`.
        wanted: &'static str,
    },
}

/// Where an address is. Everything is unknown for a private address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// ISO 3166-1 alpha-2 code in capitals.
    pub country: Option<Arc<str>>,
    /// Number of the autonomous system that announces the address.
    pub asn: Option<u32>,
    /// The autonomous system's organisation.
    pub organization: Option<Arc<str>>,
    /// Whether the address is outside the public internet: private, shared, loopback, link-local, multicast or reserved.
    pub private: bool,
}

/// Lookups of places, safe to share between threads.
#[derive(Debug, Default)]
pub struct Places {
    country: Option<Database>,
    asn: Option<Database>,
}

impl Places {
    /// Reads the databases into memory.
    ///
    /// # Errors
    /// [`OpenError`] when a file can't be read, is not in MaxMind's format, or is a database of something else.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let open = |path: &Option<PathBuf>, wanted, holds: fn(&Record) -> bool| path.as_deref().map(|path| Database::open(path, wanted, holds)).transpose();
        Ok(Self {
            country: open(&config.country, "countries", |record| record.country.is_some())?,
            asn: open(&config.asn, "networks", |record| record.asn.is_some())?,
        })
    }

    /// Where an address is. What a database does not know, or can't say because it is damaged there, is none.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Place {
        let address = address.to_canonical();
        if is_private(address) {
            return Place { private: true, ..Place::default() };
        }
        let country = self.country.as_ref().map(|database| database.lookup(address)).unwrap_or_default();
        let network = self.asn.as_ref().map(|database| database.lookup(address)).unwrap_or_default();
        Place { country: country.country, asn: network.asn, organization: network.organization, private: false }
    }
}

/// What a database says of a network.
#[derive(Debug, Clone, Default)]
struct Record {
    country: Option<Arc<str>>,
    asn: Option<u32>,
    organization: Option<Arc<str>>,
}

#[derive(Deserialize)]
struct RawRecord<'a> {
    #[serde(borrow)]
    country_code: Option<&'a str>,
    country: Option<RawCountry<'a>>,
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: Option<&'a str>,
}

#[derive(Deserialize)]
struct RawCountry<'a> {
    iso_code: Option<&'a str>,
}

impl From<RawRecord<'_>> for Record {
    fn from(raw: RawRecord<'_>) -> Self {
        let code = raw.country_code.or(raw.country.and_then(|country| country.iso_code));
        let code = code.filter(|code| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_alphabetic()));
        Self {
            country: code.map(|code| code.to_ascii_uppercase().into()),
            asn: raw.autonomous_system_number.filter(|number| *number != 0),
            organization: raw.autonomous_system_organization.filter(|name| !name.is_empty()).map(Into::into),
        }
    }
}

/// Most records kept decoded: all of a country database, and the busy ones of a network database.
const MAX_DECODED: usize = 16_384;
/// Networks to look at, at opening, for one that has what is wanted.
const SAMPLE: usize = 4_096;

#[derive(Debug)]
struct Database {
    reader: Reader<Vec<u8>>,
    /// Records by their place in the file, which many networks share. Bounded: emptied when full.
    decoded: RwLock<HashMap<usize, Record>>,
}

impl Database {
    fn open(path: &Path, wanted: &'static str, holds: fn(&Record) -> bool) -> Result<Self, OpenError> {
        let unreadable = |source| OpenError::Unreadable { path: path.to_owned(), source };
        let reader = Reader::open_readfile(path).map_err(unreadable)?;
        let mut found = false;
        for network in reader.networks(WithinOptions::default()).map_err(unreadable)?.take(SAMPLE) {
            let record = network.and_then(|network| network.decode::<RawRecord<'_>>()).map_err(unreadable)?;
            found = record.is_some_and(|record| holds(&record.into()));
            if found {
                break;
            }
        }
        if !found {
            return Err(OpenError::WrongContent { path: path.to_owned(), wanted });
        }
        Ok(Self { reader, decoded: RwLock::default() })
    }

    fn lookup(&self, address: IpAddr) -> Record {
        // An IPv6 address in an IPv4 database is an error to the reader; here it is an unknown address.
        let Ok(found) = self.reader.lookup(address) else { return Record::default() };
        let Some(offset) = found.offset() else { return Record::default() };
        if let Some(record) = self.decoded.read().unwrap_or_else(PoisonError::into_inner).get(&offset) {
            return record.clone();
        }
        let record: Record = found.decode::<RawRecord<'_>>().ok().flatten().map(Into::into).unwrap_or_default();
        let mut decoded = self.decoded.write().unwrap_or_else(PoisonError::into_inner);
        if decoded.len() >= MAX_DECODED {
            decoded.clear();
        }
        decoded.insert(offset, record.clone());
        record
    }
}

/// Whether an address is outside the public internet (IANA's special-purpose registries). Documentation ranges are left
/// in: they stand for public addresses wherever they occur.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    let shared = first == 100 && (64..128).contains(&second);
    let benchmark = first == 198 && (18..20).contains(&second);
    let reserved = first == 0 || first >= 240;
    address.is_private() || address.is_loopback() || address.is_link_local() || address.is_multicast() || shared || benchmark || reserved
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    address.is_unspecified() || address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local() || address.is_multicast()
}
