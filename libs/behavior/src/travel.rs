//! Travel that nobody can make: one principal or session at two places, too far apart for the time between.
//!
//! The distance is that of a great circle, less how far each place reaches: the accuracy of its coordinates, or the size of the
//! country where only that is known. It is impossible at more than 500 km and more than 1,000 km/h. What says little is left
//! out:
//!
//! - addresses of **clouds and hosting**: programs run there, and anybody can rent an exit;
//! - known **VPN exits**, and **shared egress**: an address or network that many of the organisation's principals use is where the
//!   company's traffic leaves, not where its people are, see [`is_shared`];
//! - countries that are **usual** for the principal: who was seen there on 2 days before commutes, or has a VPN of their own.
//!
//! One **session** used from two places is more than travel: its token is in two hands, or was taken. There, only VPN exits and
//! shared egress are left out.

use std::collections::HashMap;

use gumshoe_model::{Timestamp, time::MICROS_PER_HOUR};

use crate::anomaly::Anomaly;

mod countries;

/// Nobody is faster, in km/h, and a shorter way, in km, says nothing: addresses are not placed that well.
const SPEED: f64 = 1_000.0;
const DISTANCE: f64 = 500.0;
/// Clocks differ by so much.
const SKEW: f64 = 5.0 / 60.0;
/// The mean radius of the Earth in km.
const EARTH: f64 = 6_371.0;
/// Days with the country in the baseline that make it usual.
const USUAL_DAYS: u32 = 2;
/// From how many principals on, and from which part of all, an address or network is shared.
const SHARED: u64 = 5;
const SHARED_PART: f64 = 0.1;

/// What kind of network an address is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// People's: homes, offices, phones; or not known.
    Access,
    /// A cloud or hosting provider.
    Hosting,
    /// An exit of a VPN, a proxy or Tor.
    Vpn,
    /// Where the traffic of many of the organisation's principals leaves.
    Shared,
}

/// Whether an address or network is shared egress: used by 5 principals of the organisation or more, and at least a tenth of all.
#[must_use]
pub fn is_shared(principals: u64, of: u64) -> bool {
    principals >= SHARED && principals as f64 >= SHARED_PART * of as f64
}

/// Where an address is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// How far away in km it may be.
    pub reach: f64,
}

impl Place {
    /// Somewhere in a country, by its code `DE`; none for one that is not known.
    #[must_use]
    pub fn country(code: &str) -> Option<Self> {
        countries::country(code).map(|(latitude, longitude, reach)| Self { latitude, longitude, reach })
    }

    /// The least distance to another place in km.
    #[must_use]
    pub fn distance(self, other: Self) -> f64 {
        let [from, to] = [self, other].map(|place| (place.latitude.to_radians(), place.longitude.to_radians()));
        let half = |from: f64, to: f64| ((to - from) / 2.0).sin().powi(2);
        let chord = half(from.0, to.0) + from.0.cos() * to.0.cos() * half(from.1, to.1);
        let circle = 2.0 * EARTH * chord.clamp(0.0, 1.0).sqrt().asin();
        (circle - self.reach.max(0.0) - other.reach.max(0.0)).max(0.0)
    }
}

/// A successful call of a principal, with where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    /// When.
    pub time: Timestamp,
    /// The address.
    pub address: String,
    /// Its country's code.
    pub country: String,
    /// Where it is, if that is known better than by country.
    pub place: Option<Place>,
    /// The kind of its network.
    pub network: Network,
    /// The session or access key that was used.
    pub session: String,
    /// Days of the baseline on which the principal was seen in the country.
    pub days_before: u32,
}

impl Sighting {
    fn place(&self) -> Option<Place> {
        self.place.or_else(|| Place::country(&self.country))
    }

    /// Whether it says where somebody is.
    fn counts(&self, same_session: bool) -> bool {
        match self.network {
            Network::Access => true,
            Network::Hosting => same_session,
            Network::Vpn | Network::Shared => false,
        }
    }
}

/// A travel that cannot be.
#[derive(Debug, Clone, PartialEq)]
pub struct Travel {
    /// The earlier sighting's place in the list given.
    pub from: usize,
    /// The later one's.
    pub to: usize,
    /// The least distance in km.
    pub distance: f64,
    /// Hours between them.
    pub hours: f64,
    /// Whether one session was at both ends.
    pub same_session: bool,
    /// How much it says, with its reasons.
    pub anomaly: Anomaly,
}

/// Travels that cannot be between sightings of one principal that follow each other, in their order of time. Of each pair of
/// countries and kind (one session or two) only the fastest is kept.
///
/// ```text
/// score = 40 + 40 · (1 − 1,000 km/h / speed)        one session: 20 more
/// ```
#[must_use]
pub fn impossible(sightings: &[Sighting]) -> Vec<Travel> {
    let mut order: Vec<usize> = (0..sightings.len()).collect();
    order.sort_by_key(|index| sightings.get(*index).map(|sighting| sighting.time));
    let mut found: Vec<Travel> = Vec::new();
    for same_session in [true, false] {
        // For one session, the sighting before of that session; else the one before of any.
        let mut before: HashMap<&str, usize> = HashMap::new();
        for index in &order {
            let Some(to) = sightings.get(*index).filter(|to| to.counts(same_session) && to.place().is_some()) else { continue };
            let whose = if same_session { to.session.as_str() } else { "" };
            let last = before.insert(whose, *index).and_then(|from| Some((from, sightings.get(from)?)));
            let Some((from_index, from)) = last else { continue };
            if same_session == (from.session == to.session) {
                found.extend(travel(from, to, same_session).map(|travel| Travel { from: from_index, to: *index, ..travel }));
            }
        }
    }
    found.sort_by(|left, right| right.anomaly.score.total_cmp(&left.anomaly.score).then((left.from, left.to).cmp(&(right.from, right.to))));
    let mut kept: Vec<Travel> = Vec::new();
    let country = |index: usize| sightings.get(index).map(|sighting| sighting.country.as_str());
    for travel in found {
        let key = |travel: &Travel| (country(travel.from), country(travel.to), travel.same_session);
        if !kept.iter().any(|other| key(other) == key(&travel)) {
            kept.push(travel);
        }
    }
    kept
}

fn travel(from: &Sighting, to: &Sighting, same_session: bool) -> Option<Travel> {
    if from.country == to.country && from.place.is_none() {
        return None;
    }
    if !same_session && from.days_before >= USUAL_DAYS && to.days_before >= USUAL_DAYS {
        return None;
    }
    let distance = from.place()?.distance(to.place()?);
    let hours = to.time.0.saturating_sub(from.time.0).max(0) as f64 / MICROS_PER_HOUR as f64;
    let speed = distance / (hours + SKEW);
    if distance <= DISTANCE || speed <= SPEED {
        return None;
    }
    let fast = 40.0 * (1.0 - SPEED / speed);
    let one = if same_session { 20.0 } else { 0.0 };
    let whom = if same_session { "one session" } else { "one principal" };
    let label = format!("{whom} in {} and {}, at least {distance:.0} km apart, within {hours:.1} hours", from.country, to.country);
    let known = |sighting: &Sighting| format!("{} on {} days before", sighting.country, sighting.days_before);
    let mut weights = vec![(format!("{} and {}", from.address, to.address), 40.0), (format!("{speed:.0} km/h"), fast)];
    if same_session {
        weights.push(("the same session".to_owned(), one));
    }
    let anomaly = Anomaly::new(40.0 + fast + one, label, format!("seen in {}, {}", known(from), known(to)), weights);
    Some(Travel { from: 0, to: 0, distance, hours, same_session, anomaly })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sighting(hours: f64, country: &str, network: Network) -> Sighting {
        Sighting {
            time: Timestamp(1_700_000_000_000_000 + (hours * MICROS_PER_HOUR as f64) as i64),
            address: format!("203.0.113.{}", country.len()),
            country: country.to_owned(),
            place: None,
            network,
            session: format!("{country}-{hours}"),
            days_before: 0,
        }
    }

    fn at(hours: f64, country: &str) -> Sighting {
        sighting(hours, country, Network::Access)
    }

    #[test]
    fn distances_are_right_and_less_than_between_capitals() {
        let place = |latitude: f64, longitude: f64| Place { latitude, longitude, reach: 0.0 };
        let (berlin, tokyo) = (place(52.52, 13.405), place(35.68, 139.69));
        assert!((berlin.distance(tokyo) - 8_918.0).abs() < 30.0, "{}", berlin.distance(tokyo));
        let countries = |from: &str, to: &str| Place::country(from).unwrap().distance(Place::country(to).unwrap());
        assert!(countries("DE", "JP") > 7_000.0 && countries("DE", "BR") > 6_000.0 && countries("US", "AU") > 8_000.0);
        for (from, to) in [("DE", "FR"), ("DE", "PL"), ("US", "CA"), ("BR", "AR"), ("SG", "MY"), ("NZ", "NZ")] {
            assert!(countries(from, to) < DISTANCE, "{from} {to}: {}", countries(from, to));
        }
        assert_eq!(Place::country("ZZ"), None);
    }

    #[test]
    fn too_fast_is_told_and_a_flight_is_not() {
        let found = impossible(&[at(0.0, "DE"), at(1.0, "BR")]);
        assert_eq!(found.len(), 1);
        let travel = &found[0];
        assert!(travel.distance > 6_000.0 && travel.hours == 1.0 && !travel.same_session, "{travel:?}");
        assert!(travel.anomaly.score > 60.0 && travel.anomaly.label.starts_with("one principal in DE and BR, at least"), "{travel:?}");
        assert_eq!(travel.anomaly.baseline, "seen in DE on 0 days before, BR on 0 days before");
        assert_eq!(impossible(&[at(0.0, "DE"), at(12.0, "BR")]), []);
        assert_eq!(impossible(&[at(0.0, "DE"), at(0.1, "FR")]), [], "neighbours");
        assert_eq!(impossible(&[at(0.0, "DE"), at(0.1, "DE"), at(0.2, "")]), []);
    }

    #[test]
    fn clouds_vpns_shared_egress_and_usual_places_are_no_travel() {
        for network in [Network::Hosting, Network::Vpn, Network::Shared] {
            assert_eq!(impossible(&[at(0.0, "DE"), sighting(0.5, "US", network), at(1.0, "DE")]), [], "{network:?}");
        }
        let usual = |hours: f64, country: &str| Sighting { days_before: 9, ..at(hours, country) };
        assert_eq!(impossible(&[usual(0.0, "DE"), usual(0.5, "US")]), []);
        assert_eq!(impossible(&[usual(0.0, "DE"), at(0.5, "US")]).len(), 1);
        assert!(is_shared(40, 200) && is_shared(5, 12) && !is_shared(4, 5) && !is_shared(12, 2_000));
    }

    #[test]
    fn one_session_at_two_places_says_more() {
        let with = |sighting: Sighting| Sighting { session: "ASIAEXAMPLE".to_owned(), ..sighting };
        let two = impossible(&[at(0.0, "DE"), at(0.5, "US")]);
        let one = impossible(&[with(at(0.0, "DE")), with(at(0.5, "US"))]);
        assert!(one[0].same_session && one.len() == 1 && one[0].anomaly.score == two[0].anomaly.score + 20.0);
        // Stolen from an instance: the cloud counts.
        let stolen = impossible(&[with(sighting(0.0, "US", Network::Hosting)), at(0.2, "US"), with(at(0.5, "RU"))]);
        assert!(stolen[0].same_session && stolen[0].from == 0, "{stolen:?}");
        assert_eq!(impossible(&[with(at(0.0, "DE")), with(sighting(0.5, "US", Network::Vpn))]), []);
    }

    #[test]
    fn the_fastest_of_a_pair_of_countries_is_kept() {
        let found = impossible(&[at(0.0, "DE"), at(3.0, "BR"), at(20.0, "DE"), at(20.5, "BR"), at(21.0, "DE")]);
        let told: Vec<(usize, usize)> = found.iter().map(|travel| (travel.from, travel.to)).collect();
        assert_eq!(told, [(2, 3), (3, 4)]);
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_scores_are_bounded(seen in prop::collection::vec((0..1_000_u32, 0..6_usize, 0..4_usize, 0..3_u8, 0..4_u32), 0..40)) {
            let mut sightings: Vec<Sighting> = seen.into_iter().enumerate().map(|(index, (minutes, country, network, session, days))| Sighting {
                // No two at the same time: their order would be open.
                time: Timestamp(i64::from(minutes) * 60_000_000 + index as i64),
                session: session.to_string(),
                days_before: days,
                ..sighting(0.0, ["DE", "US", "BR", "JP", "ZZ", "AU"][country], [Network::Access, Network::Hosting, Network::Vpn, Network::Shared][network])
            }).collect();
            let told = |sightings: &[Sighting]| -> Vec<(Timestamp, Timestamp)> {
                impossible(sightings).iter().map(|travel| (sightings[travel.from].time, sightings[travel.to].time)).collect()
            };
            for travel in impossible(&sightings) {
                prop_assert!((40.0..=100.0).contains(&travel.anomaly.score) && travel.distance > DISTANCE);
            }
            let forward = told(&sightings);
            sightings.reverse();
            let mut backward = told(&sightings);
            let mut forward = forward;
            forward.sort_unstable();
            backward.sort_unstable();
            prop_assert_eq!(forward, backward);
        }
    }
}
