//! Principals and sessions that were at two places, too far apart for the time between.

use std::collections::{BTreeSet, HashMap, HashSet};

use gumshoe_behavior::{
    risk::Source,
    travel::{self, Network, Sighting},
};
use gumshoe_enrich::networks::{self, Kind};
use gumshoe_model::{EntityKey, EntityType, Timestamp};

use super::{BASELINE_HOURS, Found, Judge, Scope};
use crate::rows::{self, Answer, Columns, Parameters};

/// Who travels. An access key counts for who used it.
const TRAVELLERS: [EntityType; 5] = [EntityType::FederatedUser, EntityType::KubernetesSubject, EntityType::RoleSession, EntityType::Root, EntityType::User];
/// Hours before the scope from which on sightings are looked at.
const BEFORE: i64 = 12;
/// Hours up to the end of scope in which the users of an address or network are counted.
const SHARED_HOURS: i64 = 7 * 24;
/// Sightings of one principal that are looked at.
const MAX_SIGHTINGS: usize = 2_000;

/// What a principal was seen at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    first: Timestamp,
    last: Timestamp,
    address: String,
    country: String,
    asn: u32,
    session: String,
}

/// Impossible travel that ends in scope.
pub(crate) async fn find(scope: &Scope<'_>, judge: &mut Judge<'_>) -> Answer<Vec<Found>> {
    if !scope.may_be(&TRAVELLERS) {
        return Ok(Vec::new());
    }
    let mut seen = seen(scope).await?;
    // Most are in one country, and need no further look.
    seen.retain(|_, seen| seen.iter().any(|one| seen.first().is_some_and(|first| first.country != one.country)));
    if seen.is_empty() {
        return Ok(Vec::new());
    }
    let shared = Shared::read(scope, &seen).await?;
    let days = days_before(scope, seen.keys()).await?;
    let mut principals: Vec<_> = seen.into_iter().collect();
    principals.sort_unstable();
    let mut found = Vec::new();
    for (principal, mut seen) in principals {
        seen.sort_unstable();
        seen.truncate(MAX_SIGHTINGS);
        let sightings: Vec<Sighting> = seen
            .iter()
            .flat_map(|seen| {
                let network = shared.network(scope, seen);
                let days_before = days.get(&(principal.clone(), seen.country.clone())).copied().unwrap_or_default();
                [seen.first, seen.last].map(|time| Sighting {
                    time,
                    address: seen.address.clone(),
                    country: seen.country.clone(),
                    place: None,
                    network,
                    session: seen.session.clone(),
                    days_before,
                })
            })
            .collect();
        let ends = |index: usize| sightings.get(index).map(|sighting| sighting.time).unwrap_or_default();
        let travels = travel::impossible(&sightings);
        // The scope begins before: what ended there was told there.
        let Some(most) = travels.into_iter().find(|travel| ends(travel.to).hour().0 >= scope.from) else { continue };
        if judge(Source::Travel, most.anomaly.score) {
            let address = |index: usize| sightings.get(index).map(|sighting| EntityKey { kind: EntityType::IpAddress, id: sighting.address.clone() });
            let others = [most.from, most.to].into_iter().filter_map(address).collect();
            let (first, last) = (ends(most.from), ends(most.to));
            found.push(Found { source: Source::Travel, entity: principal, others, items: Vec::new(), first, last, anomaly: most.anomaly });
        }
    }
    Ok(found)
}

/// Where principals were seen successfully, by their own calls and by those of their keys.
async fn seen(scope: &Scope<'_>) -> Answer<HashMap<EntityKey, Vec<Seen>>> {
    let window = Scope::window(scope.from - BEFORE, scope.to)?;
    let kinds = TRAVELLERS.map(|kind| format!("'{kind}'")).join(", ");
    let mut seen: HashMap<EntityKey, Vec<Seen>> = HashMap::new();
    // Keys tell sessions; a call without a key is a session of its own.
    for keys in [true, false] {
        let mut parameters = Parameters::new();
        let within = parameters.within("hour", window);
        let (side, relations, principal) = if keys { ("in", "'used'", "peer") } else { ("out", "'called', 'logged_in'", "entity") };
        let (session, grouped) = if keys { ("entity_id", ", entity_id") } else { ("''", "") };
        let which = match scope.entity {
            Some(entity) => parameters.entities("p", &format!("{principal}_type"), &format!("{principal}_id"), [entity]),
            None => format!("{principal}_type IN ({kinds})"),
        };
        let of_keys = if keys { "AND entity_type = 'access_key'" } else { "" };
        let sql = format!(
            "SELECT {principal}_type AS principal_type, {principal}_id AS principal_id, {session} AS session, address, country, asn, \
             hour, min(first_time) AS first_time, max(last_time) AS last_time FROM edges \
             WHERE {within} AND {which} {of_keys} AND side = '{side}' AND relation IN ({relations}) AND address <> '' AND count > errors \
             GROUP BY {principal}_type, {principal}_id{grouped}, address, country, asn, hour"
        );
        rows::each_of(scope.snapshot, &sql, parameters, |batch| {
            let columns = Columns(batch);
            let (types, ids, sessions) = (columns.texts("principal_type")?, columns.texts("principal_id")?, columns.texts("session")?);
            let (addresses, countries, asns) = (columns.texts("address")?, columns.texts("country")?, columns.numbers("asn")?);
            let (firsts, lasts) = (columns.numbers("first_time")?, columns.numbers("last_time")?);
            for row in (0..columns.len()).filter(|row| !countries.get(*row).is_empty()) {
                let principal = rows::entity(types.get(row), ids.get(row))?;
                let address = addresses.get(row).to_owned();
                // Long-lived keys are used by several machines at once, and are no session; a role's session is one itself.
                let session = match sessions.get(row) {
                    key if key.starts_with("ASIA") => key.to_owned(),
                    _ if principal.kind == EntityType::RoleSession => principal.id.clone(),
                    _ => format!("of {address}"),
                };
                let (country, asn) = (countries.get(row).to_owned(), u32::try_from(asns.get(row)).unwrap_or_default());
                let list = seen.entry(principal).or_default();
                if list.len() < 2 * MAX_SIGHTINGS {
                    list.push(Seen { first: firsts.time(row), last: lasts.time(row), address, country, asn, session });
                }
            }
            Ok(())
        })
        .await?;
    }
    Ok(seen)
}

/// Addresses that many use. Networks are not looked at: that of a large provider is used by many who are at home.
struct Shared {
    addresses: HashSet<String>,
}

impl Shared {
    async fn read(scope: &Scope<'_>, seen: &HashMap<EntityKey, Vec<Seen>>) -> Answer<Self> {
        let window = Scope::window(scope.to - SHARED_HOURS, scope.to)?;
        let kinds = TRAVELLERS.map(|kind| format!("'{kind}'")).join(", ");
        let condition = format!("entity_type IN ({kinds}) AND side = 'out' AND relation = 'called' AND address <> ''");
        let mut all = 0;
        let mut parameters = Parameters::new();
        let within = parameters.within("hour", window);
        let sql = format!("SELECT count(DISTINCT entity_id) AS principals FROM edges WHERE {within} AND {condition}");
        rows::each_of(scope.snapshot, &sql, parameters, |batch| {
            all += Columns(batch).numbers("principals")?.count(0);
            Ok(())
        })
        .await?;
        let mut shared = Self { addresses: HashSet::new() };
        let addresses: BTreeSet<&str> = seen.values().flatten().map(|seen| seen.address.as_str()).collect();
        let mut parameters = Parameters::new();
        let within = parameters.within("hour", window);
        let sql = format!(
            "SELECT address, count(DISTINCT entity_id) AS principals FROM edges WHERE {within} AND {condition} \
             GROUP BY address HAVING count(DISTINCT entity_id) > 1"
        );
        rows::each_of(scope.snapshot, &sql, parameters, |batch| {
            let columns = Columns(batch);
            let (used, principals) = (columns.texts("address")?, columns.numbers("principals")?);
            let many = (0..columns.len()).filter(|row| travel::is_shared(principals.count(*row), all));
            shared.addresses.extend(many.map(|row| used.get(row)).filter(|address| addresses.contains(address)).map(str::to_owned));
            Ok(())
        })
        .await?;
        Ok(shared)
    }

    fn network(&self, scope: &Scope<'_>, seen: &Seen) -> Network {
        let place = seen.address.parse().map(|address| scope.places.lookup(address)).unwrap_or_default();
        match networks::kind(seen.asn, place.organization.as_deref().unwrap_or_default()) {
            Kind::Vpn => Network::Vpn,
            _ if self.addresses.contains(&seen.address) => Network::Shared,
            Kind::Hosting => Network::Hosting,
            Kind::Access => Network::Access,
        }
    }
}

/// On how many days of the baseline principals were seen in each country.
async fn days_before(scope: &Scope<'_>, principals: impl Iterator<Item = &EntityKey>) -> Answer<HashMap<(EntityKey, String), u32>> {
    let mut days = HashMap::new();
    let mut parameters = Parameters::new();
    let within = parameters.within("hour", Scope::window(scope.from - BASELINE_HOURS, scope.from - BEFORE)?);
    let which = parameters.entities("p", "entity_type", "entity_id", principals);
    let sql = format!(
        "SELECT entity_type, entity_id, country, count(DISTINCT date) AS days FROM edges WHERE {within} AND {which} AND side = 'out' \
         AND relation IN ('called', 'logged_in') AND country <> '' GROUP BY entity_type, entity_id, country"
    );
    rows::each_of(scope.snapshot, &sql, parameters, |batch| {
        let columns = Columns(batch);
        let (types, ids, countries, counts) = (columns.texts("entity_type")?, columns.texts("entity_id")?, columns.texts("country")?, columns.numbers("days")?);
        for row in 0..columns.len() {
            let key = (rows::entity(types.get(row), ids.get(row))?, countries.get(row).to_owned());
            days.insert(key, u32::try_from(counts.get(row)).unwrap_or_default());
        }
        Ok(())
    })
    .await?;
    Ok(days)
}
