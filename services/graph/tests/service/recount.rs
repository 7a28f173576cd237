//! What a profile must say, counted record by record from the parsed events and nothing else.

use std::collections::BTreeMap;

use gumshoe_api::graph::v1 as proto;
use gumshoe_model::{EntityKey, EntityType, Relation, TimeWindow, Timestamp, time::MICROS_PER_HOUR};

use crate::fixture::{Parsed, name};

/// Successes, failures, bytes and packets each way, first and last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) successes: u64,
    pub(crate) failures: u64,
    pub(crate) bytes: (u64, u64),
    pub(crate) packets: (u64, u64),
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl Sum {
    const ZERO: Self = Self { successes: 0, failures: 0, bytes: (0, 0), packets: (0, 0), first: i64::MAX, last: i64::MIN };

    fn add(&mut self, event: &Parsed, turned: bool) {
        if event.error.is_empty() {
            self.successes += 1;
        } else {
            self.failures += 1;
        }
        let turn = |(one, other): (u64, u64)| if turned { (other, one) } else { (one, other) };
        let (bytes, packets) = (turn((event.bytes_in, event.bytes_out)), turn((event.packets_in, event.packets_out)));
        self.bytes = (self.bytes.0 + bytes.0, self.bytes.1 + bytes.1);
        self.packets = (self.packets.0 + packets.0, self.packets.1 + packets.1);
        self.first = self.first.min(event.time.0);
        self.last = self.last.max(event.end.0);
    }

    pub(crate) fn of(measures: Option<&proto::Measures>) -> Self {
        let measures = measures.unwrap();
        let micros = |time: Option<&prost_types::Timestamp>, none| time.map_or(none, |time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000);
        Self {
            successes: measures.successes,
            failures: measures.failures,
            bytes: (measures.bytes_in, measures.bytes_out),
            packets: (measures.packets_in, measures.packets_out),
            first: micros(measures.first_time.as_ref(), i64::MAX),
            last: micros(measures.last_time.as_ref(), i64::MIN),
        }
    }
}

/// List, value -> sum and whether it is new.
pub(crate) type Lists = BTreeMap<&'static str, BTreeMap<String, (Sum, bool)>>;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) totals: Sum,
    pub(crate) hours: BTreeMap<i64, Sum>,
    pub(crate) lists: Lists,
}

struct Facts {
    counted: bool,
    turned: bool,
    values: Vec<(&'static str, String)>,
}

/// What one record says about an entity.
fn facts(entity: &EntityKey, event: &Parsed) -> Option<Facts> {
    if event.is_finding || !event.corrects.is_empty() {
        return None;
    }
    let actor = event.actor.as_ref()?;
    let me = |other: Option<&EntityKey>| other == Some(entity);
    let call = event.flow.is_none() && !event.service.is_empty();
    let by_me = me(Some(actor)) || me(event.parent.as_ref());
    let linked = |relation: Relation| event.links.iter().any(|(other, key)| *other == relation && key == entity);
    let mut counted = false;
    let mut turned = false;
    let mut dimensions: Vec<&'static str> = Vec::new();
    let mut values: Vec<(&'static str, String)> = Vec::new();
    let peer = |key: &EntityKey, relation: Relation| format!("{key}|{relation}");
    let flow = |key: &EntityKey| format!("{key}|{}|{}|{}", event.flow.unwrap(), event.port, event.protocol);

    let account_call = call && entity.kind == EntityType::Account && event.account == entity.id;
    if call && (by_me || account_call) {
        counted = true;
        dimensions = vec!["operations", "addresses", "user_agents", "errors"];
    }
    if event.flow.is_some() && by_me {
        counted = true;
        dimensions = vec!["addresses"];
        values.push(("flows", flow(&EntityKey::new(EntityType::IpAddress, event.address.clone()).unwrap())));
    }
    let is = |kind: EntityType, id: &str| entity.kind == kind && entity.id == id;
    if call && is(EntityType::AwsService, &event.service) {
        counted = true;
        dimensions = vec!["operations"];
        values.push(("principals", peer(actor, Relation::Called)));
    }
    if is(EntityType::IpAddress, &event.address) {
        counted = true;
        if call {
            dimensions = vec!["operations", "user_agents", "errors"];
            values.push(("principals", peer(actor, Relation::Used)));
        } else {
            turned = true;
            values.push(("flows", flow(actor)));
        }
    }
    if call && is(EntityType::UserAgent, &event.user_agent) {
        counted = true;
        dimensions = vec!["operations", "addresses"];
        values.push(("principals", peer(actor, Relation::Used)));
    }
    if call && is(EntityType::AccessKey, &event.access_key) {
        counted = true;
        dimensions = vec!["operations", "addresses", "user_agents"];
        values.push(("principals", peer(actor, Relation::Used)));
    }
    if linked(Relation::Used) {
        // An interface used its own address.
        counted = true;
        values.push(("principals", peer(actor, Relation::Used)));
    }
    if linked(Relation::AffectedBy) {
        values.push(("principals", peer(actor, Relation::AffectedBy)));
        if matches!(entity.kind, EntityType::S3Bucket | EntityType::Resource | EntityType::Ec2Instance | EntityType::NetworkInterface) {
            counted = true;
            dimensions = vec!["operations", "addresses", "errors"];
        }
    }
    if linked(Relation::Assumed) {
        values.push(("assumed_by", peer(actor, Relation::Assumed)));
    }
    if linked(Relation::LoggedIn) {
        values.push(("principals", peer(actor, Relation::LoggedIn)));
    }
    if call && me(event.parent.as_ref()) {
        // A session belongs to its role.
        values.push(("principals", peer(actor, Relation::Assumed)));
    }
    if call && me(Some(actor)) {
        if let Some(parent) = event.parent.as_ref().filter(|parent| parent.kind == EntityType::Role) {
            values.push(("roles_assumed", peer(parent, Relation::Assumed)));
        }
        if let Some(origin) = &event.origin {
            values.push(("assumed_by", peer(origin, Relation::Assumed)));
        }
    }
    if call && me(event.origin.as_ref()) && matches!(actor.kind, EntityType::Role | EntityType::RoleSession) {
        values.push(("roles_assumed", peer(actor, Relation::Assumed)));
    }
    for (relation, other) in &event.links {
        if *relation == Relation::AffectedBy && by_me {
            values.push(("resources", peer(other, Relation::AffectedBy)));
        }
        if *relation == Relation::Assumed && me(Some(actor)) && matches!(other.kind, EntityType::Role | EntityType::RoleSession) {
            values.push(("roles_assumed", peer(other, Relation::Assumed)));
        }
    }
    let text = |list| match list {
        "operations" if !event.operation.is_empty() => format!("{}/{}", event.service, event.operation),
        "addresses" => event.address.clone(),
        "user_agents" => event.user_agent.clone(),
        "errors" => event.error.clone(),
        _ => String::new(),
    };
    values.extend(dimensions.into_iter().map(|list| (list, text(list))).filter(|(_, text)| !text.is_empty()));
    (counted || !values.is_empty()).then_some(Facts { counted, turned, values })
}

/// The profile of `entity` over `scope`, which is of whole hours.
pub(crate) fn expect(events: &[Parsed], entity: &EntityKey, scope: TimeWindow) -> Expected {
    let baseline = scope.before(45);
    let mut totals = Sum::ZERO;
    let mut hours = BTreeMap::new();
    let mut lists: Lists = BTreeMap::new();
    let mut known: Vec<(&'static str, String)> = Vec::new();
    for event in events {
        let Some(facts) = facts(entity, event) else { continue };
        let hour = event.time.0.div_euclid(MICROS_PER_HOUR) * MICROS_PER_HOUR;
        if baseline.contains(Timestamp(hour)) {
            known.extend(facts.values);
        } else if scope.contains(Timestamp(hour)) {
            if facts.counted {
                totals.add(event, facts.turned);
                hours.entry(hour).or_insert(Sum::ZERO).add(event, facts.turned);
            }
            for (list, value) in facts.values {
                lists.entry(list).or_default().entry(value).or_insert((Sum::ZERO, true)).0.add(event, facts.turned);
            }
        }
    }
    for (list, values) in &mut lists {
        for (value, (_, new)) in values {
            *new = !known.iter().any(|(other, text)| other == list && text == value);
        }
    }
    Expected { totals, hours, lists }
}

/// A profile in the same form. Countries and networks, which records do not hold, are left out.
pub(crate) fn found(profile: &proto::EntityProfile) -> Expected {
    let mut lists: Lists = BTreeMap::new();
    let relation = |item: &proto::Activity| gumshoe_api::convert::relation_from_proto(item.relation).map(Relation::as_str).unwrap_or_default();
    let mut add = |list: &'static str, found: &Option<proto::ActivityList>, value: &dyn Fn(&proto::Activity) -> String| {
        let found = found.as_ref().unwrap();
        assert_eq!(found.total, found.items.len() as u64, "{list}");
        assert_eq!(found.total_new, found.items.iter().filter(|item| item.new_in_scope).count() as u64, "{list}");
        let counts: Vec<_> = found.items.iter().map(|item| Sum::of(item.measures.as_ref())).map(|sum| sum.successes + sum.failures).collect();
        assert!(counts.is_sorted_by(|one, other| one >= other), "{list} is not most frequent first");
        for item in &found.items {
            let previous = lists.entry(list).or_default().insert(value(item), (Sum::of(item.measures.as_ref()), item.new_in_scope));
            assert_eq!(previous, None, "{list} has {} twice", item.name);
        }
    };
    let plain = |item: &proto::Activity| item.name.clone();
    let peer = |item: &proto::Activity| format!("{}|{}", name(item.entity.as_ref()), relation(item));
    add("operations", &profile.operations, &|item| format!("{}/{}", item.service, item.name));
    add("addresses", &profile.addresses, &plain);
    add("user_agents", &profile.user_agents, &plain);
    add("errors", &profile.errors, &plain);
    add("resources", &profile.resources, &peer);
    add("principals", &profile.principals, &peer);
    add("roles_assumed", &profile.roles_assumed, &peer);
    add("assumed_by", &profile.assumed_by, &peer);
    add("flows", &profile.flows, &|item| format!("{}|{}|{}|{}", name(item.entity.as_ref()), relation(item), item.port, item.protocol));
    let hours = profile.hours.iter().map(|hour| (hour.start_time.as_ref().unwrap().seconds * 1_000_000, Sum::of(hour.measures.as_ref()))).collect();
    Expected { totals: Sum::of(profile.totals.as_ref()), hours, lists }
}
