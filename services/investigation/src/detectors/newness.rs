//! NEW_GEOLOCATION, NEW_ASO and NEW_USER_AGENT: values that the subject had not in the 45 days before.
//!
//! With less than [`crate::facts::TRAINING_DAYS`] days of records in these 45, everything would be new, and nothing is said.

use crate::{
    facts::{Facts, Habits, Seen},
    indicator::Indicator,
};

fn new_in(habits: &Habits, values: impl Fn(&Habits) -> &[Seen]) -> impl Iterator<Item = &Seen> {
    let trained = !habits.in_training();
    values(habits).iter().filter(move |seen| trained && seen.new)
}

/// Whether it must be known what was new for the account.
#[must_use]
pub fn asks_for_account(habits: &Habits) -> bool {
    let lists = [&habits.countries, &habits.networks, &habits.user_agents];
    !habits.in_training() && lists.into_iter().flatten().any(|seen| seen.new)
}

/// Whether the account saw the value in the scope time for the first time too. What its profile does not list is taken
/// for known.
fn new_for_account(account: &[Seen], value: &str) -> bool {
    account.iter().any(|seen| seen.name == value && seen.new)
}

/// Countries.
#[must_use]
pub fn detect_places(facts: &Facts) -> Vec<Indicator> {
    let address = |place: &str| facts.habits.addresses.iter().filter(|seen| seen.country == place).max_by_key(|seen| seen.count);
    new_in(&facts.habits, |habits| &habits.countries)
        .map(|seen| Indicator::NewGeolocation {
            place: seen.name.clone(),
            address: address(&seen.name).map(|address| address.name.clone()).unwrap_or_default(),
            new_for_account: new_for_account(&facts.account.countries, &seen.name),
        })
        .collect()
}

/// Networks.
#[must_use]
pub fn detect_networks(facts: &Facts) -> Vec<Indicator> {
    new_in(&facts.habits, |habits| &habits.networks)
        .map(|seen| Indicator::NewNetwork { organization: seen.name.clone(), new_for_account: new_for_account(&facts.account.networks, &seen.name) })
        .collect()
}

/// User agents, but not those of AWS services that acted for the subject.
#[must_use]
pub fn detect_user_agents(facts: &Facts) -> Vec<Indicator> {
    let by_service = |agent: &str| agent.ends_with(".amazonaws.com") || agent == "AWS Internal";
    new_in(&facts.habits, |habits| &habits.user_agents)
        .filter(|seen| !by_service(&seen.name))
        .map(|seen| Indicator::NewUserAgent { user_agent: seen.name.clone(), new_for_account: new_for_account(&facts.account.user_agents, &seen.name) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::tests::{quiet, seen};

    #[test]
    fn new_countries_have_their_busiest_address() {
        let mut facts = quiet();
        facts.habits.countries = vec![seen("BR", true), seen("DE", false), seen("JP", true)];
        facts.account.countries = vec![seen("BR", true), seen("JP", false)];
        let address = |name: &str, country: &str, count: u64| Seen { country: country.to_owned(), count, ..seen(name, true) };
        facts.habits.addresses = vec![address("203.0.113.1", "BR", 3), address("203.0.113.2", "BR", 7), address("203.0.113.3", "DE", 9)];
        let place =
            |place: &str, address: &str, new_for_account| Indicator::NewGeolocation { place: place.to_owned(), address: address.to_owned(), new_for_account };
        assert_eq!(detect_places(&facts), [place("BR", "203.0.113.2", true), place("JP", "", false)]);
    }

    #[test]
    fn new_networks_and_user_agents_are_told() {
        let mut facts = quiet();
        facts.habits.networks = vec![seen("Example", true), seen("Known", false)];
        facts.habits.user_agents = vec![seen("curl/8", true), seen("aws-cli/2", false), seen("ec2.amazonaws.com", true), seen("AWS Internal", true)];
        facts.account.user_agents = vec![seen("curl/8", true)];
        assert_eq!(detect_networks(&facts), [Indicator::NewNetwork { organization: "Example".to_owned(), new_for_account: false }]);
        assert_eq!(detect_user_agents(&facts), [Indicator::NewUserAgent { user_agent: "curl/8".to_owned(), new_for_account: true }]);
    }

    #[test]
    fn nothing_is_new_in_training() {
        let mut facts = quiet();
        facts.habits.countries = vec![seen("BR", true)];
        facts.habits.networks = vec![seen("Example", true)];
        facts.habits.user_agents = vec![seen("curl/8", true)];
        let all = |facts: &Facts| [detect_places(facts), detect_networks(facts), detect_user_agents(facts)].concat().len();
        facts.habits.baseline_days = 13;
        assert_eq!(all(&facts), 0);
        facts.habits.baseline_days = 14;
        assert_eq!(all(&facts), 3);
    }
}
