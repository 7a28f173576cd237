//! What flows tell: beacons, scans, and data going out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use gumshoe_behavior::{
    Anomaly,
    flow::{self, Contacts, LEAST_BYTES, Prevalence, Sent},
    risk::Source,
    volume::History,
};
use gumshoe_model::{EntityKey, EntityType, Hour, Measures, Timestamp};

use super::{BASELINE_HOURS, Found, Judge, MAX_OTHERS, Runs, Scope};
use crate::rows::{self, Answer, Columns, Parameters};

/// Sides that the graph's accounts own. Those of an instance count under it and under its interface.
const LOCAL: [EntityType; 2] = [EntityType::Ec2Instance, EntityType::NetworkInterface];
/// Sides that may scan.
const SCANNERS: [EntityType; 3] = [EntityType::Ec2Instance, EntityType::IpAddress, EntityType::NetworkInterface];
const FLOW: &str = "relation IN ('connected_to', 'accepted_from', 'rejected_from')";
/// Hours up to the end of scope that beacons are looked for in.
const BEACON_HOURS: i64 = 7 * 24;
/// Fewest of them with connections.
const BEACON_FEWEST: i64 = 12;
/// Hours up to the end of scope that contacts of a scan are counted in.
const SCAN_HOURS: i64 = 24;
/// Pairs of a scope that are looked at at most, those with the most bytes or hours.
const MAX_PAIRS: usize = 10_000;
/// Contacts of one side that are counted; more say no more.
const MAX_CONTACTS: usize = 10_000;

/// Scans and data going out, and if asked for, beacons. An instance and its interface say the same: it is told of the instance.
pub(crate) async fn find(scope: &Scope<'_>, with_beacons: bool, judge: &mut Judge<'_>) -> Answer<Vec<Found>> {
    let mut found = if with_beacons { beacons(scope, judge).await? } else { Vec::new() };
    found.extend(scans(scope, judge).await?);
    found.extend(sent_out(scope, judge).await?);
    Ok(once(found))
}

/// The same of an instance and its interface, once. Sorted by type, the instance comes first.
fn once(mut found: Vec<Found>) -> Vec<Found> {
    let says = |found: &Found| (found.source, found.anomaly.label.clone(), found.others.clone(), found.first, found.last);
    found.sort_by(|one, other| says(one).cmp(&says(other)).then_with(|| one.entity.cmp(&other.entity)));
    found.dedup_by(|later, kept| {
        let same = says(later) == says(kept) && (kept.entity.kind, later.entity.kind) == (EntityType::Ec2Instance, EntityType::NetworkInterface);
        if same && kept.others.len() < MAX_OTHERS {
            kept.others.push(later.entity.clone());
        }
        same
    });
    found
}

fn address(id: &str) -> EntityKey {
    EntityKey { kind: EntityType::IpAddress, id: id.to_owned() }
}

/// Of several anomalies of an entity, the largest.
fn keep(found: &mut BTreeMap<EntityKey, Found>, next: Found) {
    match found.get_mut(&next.entity) {
        Some(known) if known.anomaly.score >= next.anomaly.score => {}
        _ => {
            found.insert(next.entity.clone(), next);
        }
    }
}

async fn beacons(scope: &Scope<'_>, judge: &mut Judge<'_>) -> Answer<Vec<Found>> {
    if !scope.may_be(&LOCAL) {
        return Ok(Vec::new());
    }
    let from = scope.to - BEACON_HOURS;
    let mut parameters = Parameters::new();
    let edges = scope.edges(from, &LOCAL, "side = 'out' AND relation = 'connected_to'", &mut parameters)?;
    parameters.time("active", Hour(scope.from).start());
    parameters.number("fewest", BEACON_FEWEST);
    let pairs = format!(
        "SELECT * FROM (SELECT e.entity_type, e.entity_id, e.peer_id, e.port, count(DISTINCT e.hour) AS hours, max(e.hour) AS latest FROM {edges} \
         GROUP BY e.entity_type, e.entity_id, e.peer_id, e.port) WHERE hours >= $fewest AND latest >= $active \
         ORDER BY hours DESC, entity_type, entity_id, peer_id, port LIMIT {MAX_PAIRS}"
    );
    let mut wanted: BTreeSet<(EntityKey, String, i32)> = BTreeSet::new();
    rows::each_of(scope.snapshot, &pairs, parameters, |batch| {
        let columns = Columns(batch);
        let (types, ids, peers, ports) = (columns.texts("entity_type")?, columns.texts("entity_id")?, columns.texts("peer_id")?, columns.numbers("port")?);
        for row in 0..columns.len() {
            if scope.is_public(peers.get(row)) {
                wanted.insert((rows::entity(types.get(row), ids.get(row))?, peers.get(row).to_owned(), ports.small(row)));
            }
        }
        Ok(())
    })
    .await?;
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (sides, all) = prevalence(scope, from, &wanted).await?;
    let mut parameters = Parameters::new();
    let locals: BTreeSet<&EntityKey> = wanted.iter().map(|(local, ..)| local).collect();
    let which = parameters.entities("l", "entity_type", "entity_id", locals);
    let within = parameters.within("hour", Scope::window(from, scope.to)?);
    let sql = format!(
        "SELECT entity_type, entity_id, peer_id, port, hour, {} FROM edges WHERE {within} AND {which} AND side = 'out' AND relation = 'connected_to' \
         GROUP BY entity_type, entity_id, peer_id, port, hour ORDER BY entity_type, entity_id, peer_id, port, hour",
        rows::SUMS
    );
    let mut found = BTreeMap::new();
    let take = |(local, remote, port): (EntityKey, String, i32), hours: Vec<(Hour, Measures)>| {
        if !wanted.contains(&(local.clone(), remote.clone(), port)) {
            return;
        }
        let some = sides.get(&remote).copied().unwrap_or(1);
        let Some(mut anomaly) = flow::beacon(&hours, Prevalence { some, of: all }) else { return };
        if judge(Source::Beacon, anomaly.score) {
            anomaly.label += &format!(" to {remote} port {port}");
            let (first, last) = times(&hours);
            keep(&mut found, Found { source: Source::Beacon, entity: local, others: vec![address(&remote)], items: Vec::new(), first, last, anomaly });
        }
    };
    let mut runs = Runs::new(take);
    rows::each_of(scope.snapshot, &sql, parameters, |batch| {
        let columns = Columns(batch);
        let (types, ids, peers, ports) = (columns.texts("entity_type")?, columns.texts("entity_id")?, columns.texts("peer_id")?, columns.numbers("port")?);
        let (hours, measures) = (columns.numbers("hour")?, columns.measures()?);
        for row in 0..columns.len() {
            let key = (rows::entity(types.get(row), ids.get(row))?, peers.get(row).to_owned(), ports.small(row));
            runs.push(key, (hours.time(row).hour(), measures.get(row)));
        }
        Ok(())
    })
    .await?;
    runs.end();
    Ok(found.into_values().collect())
}

fn times(hours: &[(Hour, Measures)]) -> (Timestamp, Timestamp) {
    let first = hours.iter().map(|(_, measures)| measures.first).min().unwrap_or_default();
    (first, hours.iter().map(|(_, measures)| measures.last).max().unwrap_or_default())
}

/// How many interfaces talk to each of some remote sides, and how many there are.
async fn prevalence(scope: &Scope<'_>, from: i64, wanted: &BTreeSet<(EntityKey, String, i32)>) -> Answer<(HashMap<String, u64>, u64)> {
    let remotes: BTreeSet<EntityKey> = wanted.iter().map(|(_, remote, _)| address(remote)).collect();
    let window = Scope::window(from, scope.to)?;
    let mut sides = HashMap::new();
    let mut parameters = Parameters::new();
    let within = parameters.within("hour", window);
    let which = parameters.entities("r", "peer_type", "peer_id", &remotes);
    let sql = format!(
        "SELECT peer_id, count(DISTINCT entity_id) AS sides FROM edges \
         WHERE {within} AND entity_type = 'network_interface' AND side = 'out' AND relation = 'connected_to' AND {which} GROUP BY peer_id"
    );
    rows::each_of(scope.snapshot, &sql, parameters, |batch| {
        let columns = Columns(batch);
        let (peers, counts) = (columns.texts("peer_id")?, columns.numbers("sides")?);
        sides.extend((0..columns.len()).map(|row| (peers.get(row).to_owned(), counts.count(row))));
        Ok(())
    })
    .await?;
    let mut parameters = Parameters::new();
    let within = parameters.within("hour", window);
    let sql = format!(
        "SELECT count(DISTINCT entity_id) AS sides FROM edges WHERE {within} AND entity_type = 'network_interface' AND side = 'out' AND relation = 'connected_to'"
    );
    let mut all = 0;
    rows::each_of(scope.snapshot, &sql, parameters, |batch| {
        all += Columns(batch).numbers("sides")?.count(0);
        Ok(())
    })
    .await?;
    Ok((sides, all))
}

/// Contacts of a side: the others' address and port, and whether one was answered.
#[derive(Default)]
struct Side {
    contacts: HashMap<(String, i32), bool>,
    first: Option<Timestamp>,
    last: Timestamp,
}

async fn scans(scope: &Scope<'_>, judge: &mut Judge<'_>) -> Answer<Vec<Found>> {
    if !scope.may_be(&SCANNERS) {
        return Ok(Vec::new());
    }
    let from = scope.to - SCAN_HOURS.max(scope.to - scope.from);
    let mut parameters = Parameters::new();
    // Addresses contact us, and our sides contact others.
    let edges = scope.edges(from, &SCANNERS, &format!("{FLOW} AND (side = 'out') = (entity_type <> 'ip_address')"), &mut parameters)?;
    let sql = format!(
        "SELECT entity_type, entity_id, peer_id, port, relation, {} FROM (SELECT e.* FROM {edges}) \
         GROUP BY entity_type, entity_id, peer_id, port, relation ORDER BY entity_type, entity_id, peer_id, port, relation",
        rows::SUMS
    );
    let mut suspects: Vec<(EntityKey, Side)> = Vec::new();
    let mut take = |(entity, side): (EntityKey, Side)| {
        // The internet scans all the time: it is told only to who asks about an address.
        if (entity.kind != EntityType::IpAddress || scope.entity.is_some() || !scope.is_public(&entity.id)) && anomaly(&side.contacts).is_some() {
            suspects.push((entity, side));
        }
    };
    let mut run: Option<(EntityKey, Side)> = None;
    rows::each_of(scope.snapshot, &sql, parameters, |batch| {
        let columns = Columns(batch);
        let (types, ids, peers, ports) = (columns.texts("entity_type")?, columns.texts("entity_id")?, columns.texts("peer_id")?, columns.numbers("port")?);
        let (relations, measures) = (columns.texts("relation")?, columns.measures()?);
        for row in 0..columns.len() {
            let entity = rows::entity(types.get(row), ids.get(row))?;
            if run.as_ref().is_none_or(|(known, _)| *known != entity)
                && let Some(ended) = run.replace((entity, Side::default()))
            {
                take(ended);
            }
            let (Some((entity, side)), sums) = (&mut run, measures.get(row)) else { continue };
            let Some(answered) = contact(entity.kind, relations.get(row), &sums) else { continue };
            if side.contacts.len() < MAX_CONTACTS {
                *side.contacts.entry((peers.get(row).to_owned(), ports.small(row))).or_default() |= answered;
            }
            side.first = Some(side.first.map_or(sums.first, |first| first.min(sums.first)));
            side.last = side.last.max(sums.last);
        }
        Ok(())
    })
    .await?;
    run.into_iter().for_each(take);
    if suspects.is_empty() {
        return Ok(Vec::new());
    }
    let known = contacts_before(scope, from, suspects.iter().map(|(entity, _)| entity)).await?;
    let mut found = Vec::new();
    for (entity, mut side) in suspects {
        // Only first contacts count: what has failed for weeks is a fault, not a scan.
        if let Some(known) = known.get(&entity) {
            side.contacts.retain(|contact, _| !known.contains(contact));
        }
        let Some(anomaly) = anomaly(&side.contacts) else { continue };
        if judge(Source::Scan, anomaly.score) {
            let mut peers: Vec<&(String, i32)> = side.contacts.keys().collect();
            peers.sort_unstable();
            peers.dedup_by(|one, other| one.0 == other.0);
            // What an address contacts are sides of ours.
            let kind = |id: &str| if id.starts_with("eni-") { EntityType::NetworkInterface } else { EntityType::IpAddress };
            let others = peers.into_iter().take(MAX_OTHERS).map(|(id, _)| EntityKey { kind: kind(id), id: id.clone() }).collect();
            found.push(Found { source: Source::Scan, entity, others, items: Vec::new(), first: side.first.unwrap_or_default(), last: side.last, anomaly });
        }
    }
    Ok(found)
}

/// Whether a contact that a side began was answered; `None` if the other side began it. Edges of addresses are as their peers see them.
fn contact(kind: EntityType, relation: &str, sums: &Measures) -> Option<bool> {
    match (kind == EntityType::IpAddress, relation) {
        (true, "rejected_from") => (sums.bytes_in > 0 || sums.packets_in > 0 || sums.bytes_out == 0).then_some(false),
        (true, "accepted_from") => Some(sums.packets_out > 0 || sums.bytes_out > 0),
        (false, "rejected_from") => (sums.bytes_out > 0 || sums.packets_out > 0).then_some(false),
        (false, "connected_to") => Some(sums.packets_in > 0 || sums.bytes_in > 0),
        _ => None,
    }
}

fn anomaly(contacts: &HashMap<(String, i32), bool>) -> Option<Anomaly> {
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let failed: Vec<_> = contacts.iter().filter(|(_, answered)| !**answered).map(|(contact, _)| contact).collect();
    let addresses: HashSet<&str> = failed.iter().map(|(address, _)| address.as_str()).collect();
    let ports: HashSet<i32> = failed.iter().map(|(_, port)| *port).collect();
    let answered = count(contacts.len() - failed.len());
    flow::scan(Contacts { failed: count(failed.len()), answered, addresses: count(addresses.len()), ports: count(ports.len()) })
}

/// The contacts of some sides in the baseline.
async fn contacts_before<'a>(
    scope: &Scope<'_>,
    from: i64,
    entities: impl Iterator<Item = &'a EntityKey>,
) -> Answer<HashMap<EntityKey, HashSet<(String, i32)>>> {
    let mut known: HashMap<EntityKey, HashSet<(String, i32)>> = HashMap::new();
    let mut parameters = Parameters::new();
    let within = parameters.within("hour", Scope::window(from - BASELINE_HOURS, from)?);
    let which = parameters.entities("e", "entity_type", "entity_id", entities);
    let sql = format!("SELECT DISTINCT entity_type, entity_id, peer_id, port FROM edges WHERE {within} AND {which} AND {FLOW}");
    rows::each_of(scope.snapshot, &sql, parameters, |batch| {
        let columns = Columns(batch);
        let (types, ids, peers, ports) = (columns.texts("entity_type")?, columns.texts("entity_id")?, columns.texts("peer_id")?, columns.numbers("port")?);
        for row in 0..columns.len() {
            known.entry(rows::entity(types.get(row), ids.get(row))?).or_default().insert((peers.get(row).to_owned(), ports.small(row)));
        }
        Ok(())
    })
    .await?;
    Ok(known)
}

/// What an entity sent to a remote side in an hour.
struct Transfer {
    local: EntityKey,
    remote: String,
    sums: Measures,
    hour: Hour,
}

async fn sent_out(scope: &Scope<'_>, judge: &mut Judge<'_>) -> Answer<Vec<Found>> {
    if !scope.may_be(&LOCAL) {
        return Ok(Vec::new());
    }
    let mut parameters = Parameters::new();
    let edges = scope.edges(scope.from, &LOCAL, &format!("side = 'out' AND {FLOW}"), &mut parameters)?;
    parameters.number("least", i64::try_from(LEAST_BYTES).unwrap_or(i64::MAX));
    let sql = format!(
        "SELECT * FROM (SELECT entity_type, entity_id, peer_id, hour, {} FROM (SELECT e.* FROM {edges}) GROUP BY entity_type, entity_id, peer_id, hour) \
         WHERE bytes_out >= $least AND bytes_out > bytes_in ORDER BY bytes_out DESC, entity_type, entity_id, peer_id, hour LIMIT {MAX_PAIRS}",
        rows::SUMS
    );
    let mut sent: Vec<Transfer> = Vec::new();
    rows::each_of(scope.snapshot, &sql, parameters, |batch| {
        let columns = Columns(batch);
        let (types, ids, peers) = (columns.texts("entity_type")?, columns.texts("entity_id")?, columns.texts("peer_id")?);
        let (hours, measures) = (columns.numbers("hour")?, columns.measures()?);
        for row in (0..columns.len()).filter(|row| scope.is_public(peers.get(*row))) {
            let local = rows::entity(types.get(row), ids.get(row))?;
            sent.push(Transfer { local, remote: peers.get(row).to_owned(), sums: measures.get(row), hour: hours.time(row).hour() });
        }
        Ok(())
    })
    .await?;
    if sent.is_empty() {
        return Ok(Vec::new());
    }
    let locals: BTreeSet<&EntityKey> = sent.iter().map(|sent| &sent.local).collect();
    let (histories, known) = sent_before(scope, locals, sent.iter().map(|sent| address(&sent.remote)).collect()).await?;
    let mut found = BTreeMap::new();
    for Transfer { local, remote, sums, hour } in sent {
        let from = Hour(scope.from);
        let (first, history) = histories.get(&local).map_or((from, None), |(first, history)| (*first, Some(history)));
        let usual = history.unwrap_or(&History::default()).usual(first.min(from), from);
        let new = !known.contains(&(local.clone(), remote.clone()));
        let Some(mut anomaly) = flow::exfiltration(Sent { hour, out: sums.bytes_out, back: sums.bytes_in, new }, &usual) else { continue };
        if judge(Source::Exfiltration, anomaly.score) {
            anomaly.label += &format!(", {remote}");
            let others = vec![address(&remote)];
            keep(&mut found, Found { source: Source::Exfiltration, entity: local, others, items: Vec::new(), first: sums.first, last: sums.last, anomaly });
        }
    }
    Ok(found.into_values().collect())
}

/// By local side the first hour of its baseline and its bytes out by hour; and which pairs of local and remote side are known.
type Before = (HashMap<EntityKey, (Hour, History)>, HashSet<(EntityKey, String)>);

async fn sent_before(scope: &Scope<'_>, locals: BTreeSet<&EntityKey>, remotes: BTreeSet<EntityKey>) -> Answer<Before> {
    let window = Scope::window(scope.from - BASELINE_HOURS, scope.from)?;
    let mut histories: HashMap<EntityKey, (Hour, History)> = HashMap::new();
    let mut parameters = Parameters::new();
    let within = parameters.within("hour", window);
    let which = parameters.entities("l", "entity_type", "entity_id", locals.iter().copied());
    let sql = format!(
        "SELECT entity_type, entity_id, hour, sum(bytes_out) AS bytes_out FROM edges WHERE {within} AND {which} AND side = 'out' AND {FLOW} \
         GROUP BY entity_type, entity_id, hour"
    );
    rows::each_of(scope.snapshot, &sql, parameters, |batch| {
        let columns = Columns(batch);
        let (types, ids, hours, sent) = (columns.texts("entity_type")?, columns.texts("entity_id")?, columns.numbers("hour")?, columns.numbers("bytes_out")?);
        for row in 0..columns.len() {
            let hour = hours.time(row).hour();
            let (first, history) = histories.entry(rows::entity(types.get(row), ids.get(row))?).or_insert_with(|| (hour, History::default()));
            *first = hour.min(*first);
            history.add(hour, sent.count(row));
        }
        Ok(())
    })
    .await?;
    let mut known = HashSet::new();
    let mut parameters = Parameters::new();
    let within = parameters.within("hour", window);
    let which = parameters.entities("l", "entity_type", "entity_id", locals.iter().copied());
    let peers = parameters.entities("r", "peer_type", "peer_id", &remotes);
    let sql = format!("SELECT DISTINCT entity_type, entity_id, peer_id FROM edges WHERE {within} AND {which} AND {peers} AND side = 'out' AND {FLOW}");
    rows::each_of(scope.snapshot, &sql, parameters, |batch| {
        let columns = Columns(batch);
        let (types, ids, peers) = (columns.texts("entity_type")?, columns.texts("entity_id")?, columns.texts("peer_id")?);
        for row in 0..columns.len() {
            known.insert((rows::entity(types.get(row), ids.get(row))?, peers.get(row).to_owned()));
        }
        Ok(())
    })
    .await?;
    Ok((histories, known))
}
