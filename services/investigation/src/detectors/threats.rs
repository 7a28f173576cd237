//! FLAGGED_IP_ADDRESS: addresses that the subject called from and that a threat list has.

use std::net::IpAddr;

use gumshoe_enrich::Threats;

use crate::{
    facts::{Facts, FlaggedAddress, Habits},
    indicator::Indicator,
};

/// The addresses among habits that lists have, those of most records first; of an address in several lists, the first by name.
#[must_use]
pub fn flagged(habits: &Habits, threats: &Threats) -> Vec<FlaggedAddress> {
    if threats.is_empty() {
        return Vec::new();
    }
    let flagged = |name: &str| {
        let threat = threats.of(name.parse::<IpAddr>().ok()?).into_iter().next()?;
        Some(FlaggedAddress { address: name.to_owned(), list: threat.list.to_string(), category: threat.category.to_string() })
    };
    habits.addresses.iter().filter_map(|seen| flagged(&seen.name)).collect()
}

/// One indicator an address.
#[must_use]
pub fn detect(facts: &Facts) -> Vec<Indicator> {
    let indicator = |flagged: &FlaggedAddress| Indicator::FlaggedAddress {
        address: flagged.address.clone(),
        list: flagged.list.clone(),
        category: flagged.category.clone(),
    };
    facts.flagged.iter().map(indicator).collect()
}

#[cfg(test)]
mod tests {
    use gumshoe_enrich::ListConfig;

    use super::*;
    use crate::detectors::tests::{quiet, seen};

    #[test]
    fn each_listed_address_is_an_indicator() {
        let folder = tempfile::tempdir().unwrap();
        let list = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            ListConfig { path, name: None, category: "tor exit".to_owned() }
        };
        let threats = Threats::open(&[list("tor.txt", "203.0.113.0/24\n2001:db8::1"), list("scanners.txt", "203.0.113.9")]).unwrap();
        let mut facts = quiet();
        facts.habits.addresses = ["198.51.100.1", "203.0.113.7", "ec2.amazonaws.com", "203.0.113.9", "2001:db8::1", ""].map(|name| seen(name, false)).to_vec();
        facts.flagged = flagged(&facts.habits, &threats);
        let indicator =
            |address: &str, list: &str| Indicator::FlaggedAddress { address: address.to_owned(), list: list.to_owned(), category: "tor exit".to_owned() };
        assert_eq!(detect(&facts), [indicator("203.0.113.7", "tor"), indicator("203.0.113.9", "scanners"), indicator("2001:db8::1", "tor")]);
        assert_eq!(flagged(&facts.habits, &Threats::default()), []);
    }
}
