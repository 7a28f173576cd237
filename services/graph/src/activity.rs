//! The activities of one entity: what it did and what was done to it in a scope time, and which of it is new.
//!
//! The entity's edges of scope and baseline are read once and summed by each kind of value ([`groups`]); of the sums, the most
//! frequent are kept. Which rows count, and where a peer belongs, depends on the entity's type ([`rules`]).

use std::collections::BTreeMap;

use gumshoe_api::{
    convert::{entity_to_proto, measures_to_proto, relation_to_proto, time_to_proto},
    graph::v1 as proto,
};
use gumshoe_enrich::Places;
use gumshoe_lake::{GraphLake, Lookup, Next, Table};
use gumshoe_model::{EntityKey, EntityType, Measures, Relation, TimeWindow, Timestamp};

use crate::rows::{self, Answer, Columns, MeasureColumns, Numbers, Texts};

mod groups;
mod rules;

use groups::{Groups, Key, Kind, Seen, Sum};
use rules::List;

/// Days of baseline before a scope time.
pub(crate) const BASELINE_DAYS: i64 = 45;

/// With more values of a kind than these, one more says little: of such an entity neither list nor risk has news of the kind.
pub(crate) const MAX_VALUES: usize = 20_000;

/// Rows of a file that are looked at first.
const FIRST_ROWS: usize = 4_096;
const COLUMNS: [&str; 21] = [
    "hour",
    "side",
    "relation",
    "peer_type",
    "peer_id",
    "operation",
    "address",
    "country",
    "asn",
    "user_agent",
    "error",
    "port",
    "protocol",
    "count",
    "errors",
    "bytes_in",
    "bytes_out",
    "packets_in",
    "packets_out",
    "first_time",
    "last_time",
];

/// Which activities to keep; all are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The most frequent.
    All(usize),
    /// The most frequent of those not seen in the baseline.
    New(usize),
}

/// Values of one kind, most frequent first.
#[derive(Debug)]
pub(crate) struct Tops {
    keep: Keep,
    items: Vec<(u64, proto::Activity)>,
    total: u64,
    total_new: u64,
    /// There were more values than are told apart.
    left_out: bool,
}

impl Tops {
    fn new(keep: Keep) -> Self {
        Self { keep, items: Vec::new(), total: 0, total_new: 0, left_out: false }
    }

    fn push(&mut self, count: u64, activity: proto::Activity) {
        self.total += 1;
        self.total_new += u64::from(activity.new_in_scope);
        let (limit, wanted) = match self.keep {
            Keep::All(limit) => (limit, true),
            Keep::New(limit) => (limit, activity.new_in_scope),
        };
        if wanted {
            self.items.push((count, activity));
            if self.items.len() >= limit * 2 + 64 {
                self.cut(limit);
            }
        }
    }

    fn cut(&mut self, limit: usize) {
        let key = |activity: &proto::Activity| (activity.name.clone(), activity.relation, activity.port, activity.protocol);
        self.items.sort_by(|(one, left), (other, right)| other.cmp(one).then_with(|| key(left).cmp(&key(right))));
        self.items.truncate(limit);
    }

    /// The list as its message.
    pub(crate) fn finish(mut self) -> proto::ActivityList {
        let (Keep::All(limit) | Keep::New(limit)) = self.keep;
        self.cut(limit);
        proto::ActivityList {
            cardinality_capped: self.left_out || self.total > MAX_VALUES as u64,
            items: self.items.into_iter().map(|(_, activity)| activity).collect(),
            total: self.total,
            total_new: self.total_new,
        }
    }
}

/// What an entity did and what was done to it.
#[derive(Debug)]
pub(crate) struct Activities {
    pub(crate) totals: Measures,
    pub(crate) hours: BTreeMap<Timestamp, Measures>,
    pub(crate) operations: Tops,
    pub(crate) addresses: Tops,
    pub(crate) countries: Tops,
    pub(crate) networks: Tops,
    pub(crate) user_agents: Tops,
    pub(crate) errors: Tops,
    pub(crate) resources: Tops,
    pub(crate) principals: Tops,
    pub(crate) roles_assumed: Tops,
    pub(crate) assumed_by: Tops,
    pub(crate) flows: Tops,
}

impl Activities {
    fn lists(&mut self) -> [&mut Tops; 11] {
        [
            &mut self.operations,
            &mut self.addresses,
            &mut self.countries,
            &mut self.networks,
            &mut self.user_agents,
            &mut self.errors,
            &mut self.resources,
            &mut self.principals,
            &mut self.roles_assumed,
            &mut self.assumed_by,
            &mut self.flows,
        ]
    }
}

/// What rows with one value add up to.
struct Group {
    measures: Measures,
    /// Seen in the scope time only.
    fresh: bool,
}

impl Group {
    fn activity(&self, name: impl Into<String>) -> proto::Activity {
        proto::Activity {
            name: name.into(),
            port: -1,
            protocol: -1,
            measures: Some(measures_to_proto(&self.measures)),
            new_in_scope: self.fresh,
            ..proto::Activity::default()
        }
    }

    fn merge(&mut self, other: &Self) {
        self.measures.merge(&other.measures);
        self.fresh &= other.fresh;
    }
}

struct Collector<'a> {
    entity: &'a EntityKey,
    aliases: &'a [String],
    places: &'a Places,
    found: Activities,
    /// By country code; there are at most a few hundred.
    countries: BTreeMap<String, Group>,
    /// By autonomous system number, with its organisation; there are at most some ten thousand.
    networks: BTreeMap<u32, (String, Group)>,
}

/// Reads what `entity` did in `scope`, which must be of whole hours, compared with the baseline before it. `aliases` are
/// the entity's other identifiers: they tell a role's own sessions from those that assumed it.
pub(crate) async fn read(lake: &GraphLake, places: &Places, entity: &EntityKey, aliases: &[String], scope: TimeWindow, keep: Keep) -> Answer<Activities> {
    let mut collector = Collector {
        entity,
        aliases,
        places,
        found: Activities {
            totals: Measures::ZERO,
            hours: BTreeMap::new(),
            operations: Tops::new(keep),
            addresses: Tops::new(keep),
            countries: Tops::new(keep),
            networks: Tops::new(keep),
            user_agents: Tops::new(keep),
            errors: Tops::new(keep),
            resources: Tops::new(keep),
            principals: Tops::new(keep),
            roles_assumed: Tops::new(keep),
            assumed_by: Tops::new(keep),
            flows: Tops::new(keep),
        },
        countries: BTreeMap::new(),
        networks: BTreeMap::new(),
    };
    let baseline = scope.before(BASELINE_DAYS);
    let hours = TimeWindow::new(baseline.start(), scope.end()).unwrap_or(scope);
    let mut groups = Groups::new(lake.memory("activity"));
    let mut first = true;
    loop {
        let lookup =
            Lookup { table: Table::Edges, entities: std::slice::from_ref(entity), hours: Some(hours), since: None, columns: &COLUMNS, first_rows: FIRST_ROWS };
        rows::look_up(lake, lookup, |columns| {
            let edges = Edges::new(columns)?;
            for row in 0..columns.len() {
                collector.count(&edges, row, scope, first, &mut groups)?;
            }
            Ok(Next::Rows)
        })
        .await?;
        groups.finish(|key, sum| collector.take(key, sum));
        first = false;
        // What there was no room for.
        if !groups.start_next() {
            return Ok(collector.finish(groups.leaves_out()));
        }
    }
}

/// Columns of edges.
struct Edges {
    sides: Texts,
    relations: Texts,
    peer_types: Texts,
    peer_ids: Texts,
    operations: Texts,
    addresses: Texts,
    user_agents: Texts,
    errors: Texts,
    countries: Texts,
    hours: Numbers,
    networks: Numbers,
    ports: Numbers,
    protocols: Numbers,
    measures: MeasureColumns,
}

impl Edges {
    fn new(columns: Columns<'_>) -> Answer<Self> {
        let (texts, numbers) = (|name: &str| columns.texts(name), |name: &str| columns.numbers(name));
        Ok(Self {
            sides: texts("side")?,
            relations: texts("relation")?,
            peer_types: texts("peer_type")?,
            peer_ids: texts("peer_id")?,
            operations: texts("operation")?,
            addresses: texts("address")?,
            user_agents: texts("user_agent")?,
            errors: texts("error")?,
            countries: texts("country")?,
            hours: numbers("hour")?,
            networks: numbers("asn")?,
            ports: numbers("port")?,
            protocols: numbers("protocol")?,
            measures: columns.measures()?,
        })
    }
}

impl Collector<'_> {
    /// Adds a row to the groups of its values, and to the totals if they are not known yet.
    fn count(&mut self, edges: &Edges, row: usize, scope: TimeWindow, with_totals: bool, groups: &mut Groups) -> Answer<()> {
        let (side, relation) = (edges.sides.get(row), rows::relation(edges.relations.get(row))?);
        let peer_type = rows::entity_type(edges.peer_types.get(row))?;
        let counted = rules::counts(self.entity.kind, side == "in", relation, peer_type);
        let list = rules::list(self.entity.kind, side == "in", relation, peer_type);
        if !counted && list.is_none() {
            return Ok(());
        }
        let hour = edges.hours.time(row);
        let inside = hour >= scope.start();
        let measures = rows::seen_from(side, relation, edges.measures.get(row));
        if counted && with_totals && inside {
            self.found.totals.merge(&measures);
            self.found.hours.entry(hour).or_insert(Measures::ZERO).merge(&measures);
        }
        let seen = Seen { measures: &measures, inside };
        if counted {
            let place = (edges.countries.get(row), edges.networks.get(row));
            groups.add(Key::value(Kind::Operation, edges.operations.get(row)), seen, None)?;
            groups.add(Key::value(Kind::Address, edges.addresses.get(row)), seen, Some(place))?;
            groups.add(Key::value(Kind::UserAgent, edges.user_agents.get(row)), seen, None)?;
            groups.add(Key::value(Kind::Error, edges.errors.get(row)), seen, None)?;
        }
        if let Some(list) = list {
            let (port, protocol) = if list == List::Flow { (edges.ports.small(row), edges.protocols.small(row)) } else { (-1, -1) };
            // A peer that was called is one peer, whatever came of it.
            let relation = if relation == Relation::FailedToCall { Relation::Called } else { relation };
            let key = Key { kind: Kind::Peer { list, peer_type, relation, port, protocol }, text: edges.peer_ids.get(row) };
            groups.add(key, seen, None)?;
        }
        Ok(())
    }

    /// Takes what all rows of a value add up to.
    fn take(&mut self, key: Key<'_>, sum: &Sum) {
        let group = Group { measures: sum.measures, fresh: sum.fresh };
        // What was seen in the baseline only says where an address was, and nothing else.
        match key.kind {
            Kind::Address => self.address(key.text, &sum.country, u32::try_from(sum.network).unwrap_or_default(), group),
            _ if group.measures.count == 0 => {}
            Kind::Operation => self.operation(key.text, &group),
            Kind::UserAgent => {
                let mut activity = group.activity(key.text);
                activity.entity = EntityKey::new(EntityType::UserAgent, key.text).ok().map(|key| entity_to_proto(&key));
                self.found.user_agents.push(group.measures.count, activity);
            }
            Kind::Error => self.found.errors.push(group.measures.count, group.activity(key.text)),
            Kind::Peer { list, peer_type, relation, port, protocol } => {
                let peer = EntityKey { kind: peer_type, id: key.text.to_owned() };
                self.peer(list, &peer, relation, (port, protocol), &group);
            }
        }
    }

    fn operation(&mut self, name: &str, group: &Group) {
        let (service, operation) = name.split_once('/').unwrap_or(("", name));
        let mut activity = group.activity(operation);
        activity.service = service.to_owned();
        activity.entity = EntityKey::new(EntityType::AwsService, service).ok().map(|key| entity_to_proto(&key));
        self.found.operations.push(group.measures.count, activity);
    }

    fn address(&mut self, name: &str, country: &str, asn: u32, group: Group) {
        let (kind, place) = match name.parse() {
            Ok(address) => (EntityType::IpAddress, place(self.places, address)),
            Err(_) => (EntityType::AwsService, proto::Place::default()),
        };
        // The place of the time of the records counts; today's fills in where the edge has none.
        let country = if country.is_empty() { place.country.clone() } else { country.to_owned() };
        let asn = if asn == 0 { place.asn } else { asn };
        let organization = if asn == place.asn { place.organization.clone() } else { String::new() };
        let place = proto::Place { country, asn, organization, private: place.private };
        if group.measures.count > 0 {
            let mut activity = group.activity(name);
            activity.entity = EntityKey::new(kind, name).ok().map(|key| entity_to_proto(&key));
            activity.place = (kind == EntityType::IpAddress).then(|| place.clone());
            self.found.addresses.push(group.measures.count, activity);
        }
        if !place.country.is_empty() {
            let part = Group { ..group };
            self.countries.entry(place.country).and_modify(|sum| sum.merge(&part)).or_insert(part);
        }
        if place.asn != 0 {
            self.networks
                .entry(place.asn)
                .and_modify(|(name, sum)| {
                    sum.merge(&group);
                    if name.is_empty() {
                        name.clone_from(&place.organization);
                    }
                })
                .or_insert((place.organization, group));
        }
    }

    fn peer(&mut self, list: List, peer: &EntityKey, relation: Relation, (port, protocol): (i32, i32), group: &Group) {
        let mut activity = group.activity(&peer.id);
        activity.entity = Some(entity_to_proto(peer));
        activity.relation = relation_to_proto(relation);
        activity.port = port;
        activity.protocol = protocol;
        if peer.kind == EntityType::IpAddress {
            activity.place = peer.id.parse().ok().map(|address| place(self.places, address));
        }
        let tops = match list {
            List::Flow => &mut self.found.flows,
            List::Assumed => &mut self.found.roles_assumed,
            List::Resource => &mut self.found.resources,
            List::AssumedBy if !is_own_session(self.entity, self.aliases, peer) => &mut self.found.assumed_by,
            List::AssumedBy | List::Principal => &mut self.found.principals,
        };
        tops.push(group.measures.count, activity);
    }

    /// `leaves_out` if there are values that were not told apart; nobody knows of which kind.
    fn finish(mut self, leaves_out: bool) -> Activities {
        for (code, group) in self.countries {
            if group.measures.count > 0 {
                let mut activity = group.activity(code.clone());
                activity.place = Some(proto::Place { country: code, ..proto::Place::default() });
                self.found.countries.push(group.measures.count, activity);
            }
        }
        for (asn, (organization, group)) in self.networks {
            if group.measures.count > 0 {
                let mut activity = group.activity(if organization.is_empty() { format!("AS{asn}") } else { organization.clone() });
                activity.place = Some(proto::Place { asn, organization, ..proto::Place::default() });
                self.found.networks.push(group.measures.count, activity);
            }
        }
        let mut found = self.found;
        for tops in found.lists() {
            tops.left_out = leaves_out;
        }
        found
    }
}

/// Whether `peer` is a session of the role `entity`, rather than a session of another role that assumed it.
///
/// A session's id starts with its role's `AROA…` id, which is the role's alias; where the record gave none, it is the
/// session's ARN, which holds the role's name.
pub(crate) fn is_own_session(entity: &EntityKey, aliases: &[String], peer: &EntityKey) -> bool {
    if entity.kind != EntityType::Role || peer.kind != EntityType::RoleSession {
        return false;
    }
    if aliases.iter().any(|alias| !alias.is_empty() && peer.id.strip_prefix(alias.as_str()).is_some_and(|rest| rest.starts_with(':'))) {
        return true;
    }
    let mut role = entity.id.splitn(6, ':');
    let (account, resource) = (role.nth(4).unwrap_or_default(), role.next().unwrap_or_default());
    let name = resource.rsplit('/').next().unwrap_or_default();
    let mut session = peer.id.splitn(6, ':');
    let (session_account, session_resource) = (session.nth(4).unwrap_or_default(), session.next().unwrap_or_default());
    let session_role = session_resource.strip_prefix("assumed-role/").and_then(|rest| rest.split('/').next());
    !name.is_empty() && account == session_account && session_role == Some(name)
}

/// Where an address is, as its message.
pub(crate) fn place(places: &Places, address: std::net::IpAddr) -> proto::Place {
    let place = places.lookup(address);
    let text = |text: Option<std::sync::Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    proto::Place { country: text(place.country), asn: place.asn.unwrap_or_default(), organization: text(place.organization), private: place.private }
}

/// Measures by hour as messages.
pub(crate) fn hours_to_proto(hours: &BTreeMap<Timestamp, Measures>) -> Vec<proto::HourlyActivity> {
    hours.iter().map(|(hour, measures)| proto::HourlyActivity { start_time: Some(time_to_proto(*hour)), measures: Some(measures_to_proto(measures)) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_sessions_are_told_from_assumers() {
        let role: EntityKey = "role:arn:aws:iam::111122223333:role/team/deploy".parse().unwrap();
        let aliases = vec!["AROAEXAMPLE".to_owned()];
        let own = |id: &str| is_own_session(&role, &aliases, &EntityKey::new(EntityType::RoleSession, id).unwrap());
        assert!(own("AROAEXAMPLE:alice"));
        assert!(own("arn:aws:sts::111122223333:assumed-role/deploy/alice"));
        assert!(!own("AROAEXAMPLE2:alice"));
        assert!(!own("AROAOTHER:alice"));
        assert!(!own("arn:aws:sts::999999999999:assumed-role/deploy/alice"));
        assert!(!own("arn:aws:sts::111122223333:assumed-role/deployer/alice"));
        assert!(!is_own_session(&role, &aliases, &"user:AROAEXAMPLE:alice".parse().unwrap()));
    }

    #[test]
    fn tops_keep_the_most_frequent_and_count_all() {
        let mut all = Tops::new(Keep::All(2));
        let mut new = Tops::new(Keep::New(2));
        for index in 0..500_u64 {
            let fresh = index % 10 == 0;
            let group = Group { measures: Measures { count: index + 1, ..Measures::ZERO }, fresh };
            all.push(index + 1, group.activity(format!("v{index}")));
            new.push(index + 1, group.activity(format!("v{index}")));
        }
        let (all, new) = (all.finish(), new.finish());
        let names = |list: &proto::ActivityList| list.items.iter().map(|item| item.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&all), ["v499", "v498"]);
        assert_eq!(names(&new), ["v490", "v480"]);
        assert_eq!((all.total, all.total_new, new.total, new.total_new), (500, 50, 500, 50));
    }
}
