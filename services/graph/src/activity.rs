//! The activities of one entity: what it did and what was done to it in a scope time, and which of it is new.
//!
//! One query reads the entity's edges of scope and baseline once and groups them by each kind of value (GROUPING SETS),
//! so the engine holds groups, not rows, and spills when there are too many. This side keeps the most frequent values.
//!
//! What is counted depends on the entity's type, so that a record is counted once (see [`counted`]).

use std::collections::BTreeMap;

use gumshoe_api::{
    convert::{entity_to_proto, measures_to_proto, relation_to_proto, time_to_proto},
    graph::v1 as proto,
};
use gumshoe_enrich::Places;
use gumshoe_lake::GraphLake;
use gumshoe_model::{EntityKey, EntityType, Measures, Relation, TimeWindow, Timestamp};

use crate::rows::{self, Answer, Columns, Parameters};

/// Days of baseline before a scope time.
pub(crate) const BASELINE_DAYS: i64 = 45;

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
}

impl Tops {
    fn new(keep: Keep) -> Self {
        Self { keep, items: Vec::new(), total: 0, total_new: 0 }
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
        proto::ActivityList { items: self.items.into_iter().map(|(_, activity)| activity).collect(), total: self.total, total_new: self.total_new }
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

/// Which of an entity's rows are its activity; the others tie it to something that was counted already.
///
/// - principals: their calls. What they used, assumed and touched are further rows of the same records.
/// - services: the calls made of them, and the calls that they made.
/// - addresses: what used them, and the flows of which they are the remote end.
/// - user agents, access keys: what used them.
/// - everything else: its flows, its calls, and the calls that used or touched it.
/// - findings have no activity of their own.
fn counted(kind: EntityType) -> &'static str {
    match kind {
        EntityType::Account
        | EntityType::User
        | EntityType::Role
        | EntityType::RoleSession
        | EntityType::FederatedUser
        | EntityType::Root
        | EntityType::KubernetesSubject => "side = 'out' AND relation IN ('called', 'failed_to_call')",
        EntityType::AwsService => "relation IN ('called', 'failed_to_call')",
        EntityType::IpAddress => "side = 'in' AND relation IN ('used', 'connected_to', 'accepted_from', 'rejected_from')",
        EntityType::UserAgent | EntityType::AccessKey => "side = 'in' AND relation = 'used'",
        EntityType::NetworkInterface
        | EntityType::Ec2Instance
        | EntityType::S3Bucket
        | EntityType::Resource
        | EntityType::EksCluster
        | EntityType::Pod
        | EntityType::ContainerImage => {
            "(side = 'out' AND (relation IN ('connected_to', 'accepted_from', 'rejected_from', 'called', 'failed_to_call') \
             OR (relation = 'affected_by' AND peer_type <> 'finding'))) OR (side = 'in' AND relation = 'used')"
        }
        EntityType::Finding => "false",
    }
}

/// The list that a row's peer belongs to; null for none.
fn peer_list(kind: EntityType) -> &'static str {
    match kind {
        EntityType::Finding => "CASE WHEN side = 'in' AND relation = 'affected_by' THEN 'principal' END",
        _ => {
            "CASE \
             WHEN relation IN ('connected_to', 'accepted_from', 'rejected_from') THEN 'flow' \
             WHEN relation = 'assumed' AND side = 'in' THEN 'assumed_by' \
             WHEN relation = 'assumed' AND peer_type IN ('role', 'role_session') THEN 'assumed' \
             WHEN relation = 'affected_by' AND side = 'in' THEN 'resource' \
             WHEN relation = 'affected_by' AND peer_type <> 'finding' THEN 'principal' \
             WHEN relation IN ('used', 'called', 'failed_to_call', 'logged_in') AND side = 'in' THEN 'principal' \
             END"
        }
    }
}

/// Bits of `grouping(operation, address, user_agent, error, list, bucket)` with all but one set: which set a row is of.
const ALL_BITS: i64 = 0b11_1111;
const OPERATION: i64 = ALL_BITS ^ 0b10_0000;
const ADDRESS: i64 = ALL_BITS ^ 0b01_0000;
const USER_AGENT: i64 = ALL_BITS ^ 0b00_1000;
const ERROR: i64 = ALL_BITS ^ 0b00_0100;
const LIST: i64 = ALL_BITS ^ 0b00_0010;
const BUCKET: i64 = ALL_BITS ^ 0b00_0001;

fn query(kind: EntityType, within: &str) -> String {
    let (counted, list) = (counted(kind), peer_list(kind));
    format!(
        "WITH edge AS (\
           SELECT *, ({counted}) AS counted, {list} AS list, hour >= $scope AS inside, \
             side = 'in' AND relation IN {flows} AS turned FROM edges \
           WHERE entity_type = $type AND entity_id = $id AND {within}\
         ), valued AS (\
           SELECT \
             CASE WHEN counted THEN NULLIF(operation, '') END AS operation, \
             CASE WHEN counted THEN NULLIF(address, '') END AS address, \
             CASE WHEN counted THEN NULLIF(user_agent, '') END AS user_agent, \
             CASE WHEN counted THEN NULLIF(error, '') END AS error, \
             list, \
             CASE WHEN list IS NOT NULL THEN peer_type END AS peer_type, \
             CASE WHEN list IS NOT NULL THEN peer_id END AS peer_id, \
             CASE WHEN list IS NULL THEN NULL WHEN relation = 'failed_to_call' THEN 'called' ELSE relation END AS relation, \
             CASE WHEN list = 'flow' THEN port ELSE -1 END AS port, \
             CASE WHEN list = 'flow' THEN protocol ELSE -1 END AS protocol, \
             CASE WHEN counted AND inside THEN hour END AS bucket, \
             country, asn, inside, \
             CASE WHEN inside THEN count ELSE 0 END AS count, \
             CASE WHEN inside THEN errors ELSE 0 END AS errors, \
             CASE WHEN NOT inside THEN 0 WHEN turned THEN bytes_out ELSE bytes_in END AS bytes_in, \
             CASE WHEN NOT inside THEN 0 WHEN turned THEN bytes_in ELSE bytes_out END AS bytes_out, \
             CASE WHEN NOT inside THEN 0 WHEN turned THEN packets_out ELSE packets_in END AS packets_in, \
             CASE WHEN NOT inside THEN 0 WHEN turned THEN packets_in ELSE packets_out END AS packets_out, \
             CASE WHEN inside THEN first_time END AS first_time, \
             CASE WHEN inside THEN last_time END AS last_time \
           FROM edge WHERE counted OR list IS NOT NULL\
         ) \
         SELECT grouping(operation, address, user_agent, error, list, bucket) AS grouped, \
           operation, address, user_agent, error, list, peer_type, peer_id, relation, port, protocol, bucket, \
           max(country) AS country, max(asn) AS asn, min(CASE WHEN inside THEN 1 ELSE 0 END) AS fresh, {sums} \
         FROM valued \
         GROUP BY GROUPING SETS ((operation), (address), (user_agent), (error), (list, peer_type, peer_id, relation, port, protocol), (bucket))",
        flows = rows::FLOWS,
        sums = rows::SUMS,
    )
}

/// One group of the query's answer.
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
    let mut parameters = Parameters::of_entity(entity);
    let baseline = scope.before(BASELINE_DAYS);
    let within = parameters.within("hour", TimeWindow::new(baseline.start(), scope.end()).unwrap_or(scope));
    parameters.time("scope", scope.start());
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
    rows::each(lake, &query(entity.kind, &within), parameters, |columns| collector.take(columns).map(|()| true)).await?;
    Ok(collector.finish())
}

impl Collector<'_> {
    fn take(&mut self, columns: Columns<'_>) -> Answer<()> {
        let grouped = columns.numbers("grouped")?;
        let [operation, address, user_agent, error, list] =
            [columns.texts("operation")?, columns.texts("address")?, columns.texts("user_agent")?, columns.texts("error")?, columns.texts("list")?];
        let [peer_type, peer_id, relation, country] =
            [columns.texts("peer_type")?, columns.texts("peer_id")?, columns.texts("relation")?, columns.texts("country")?];
        let [port, protocol, bucket, asn, fresh] =
            [columns.numbers("port")?, columns.numbers("protocol")?, columns.numbers("bucket")?, columns.numbers("asn")?, columns.numbers("fresh")?];
        let measures = columns.measures()?;
        for row in 0..columns.len() {
            let group = Group { measures: measures.get(row), fresh: fresh.get(row) == 1 };
            if group.measures.count == 0 && grouped.get(row) != ADDRESS {
                // Seen in the baseline only.
                continue;
            }
            match grouped.get(row) {
                OPERATION => {
                    if let Some(name) = operation.some(row) {
                        self.operation(name, &group);
                    }
                }
                ADDRESS => {
                    if let Some(name) = address.some(row) {
                        self.address(name, country.get(row), u32::try_from(asn.get(row)).unwrap_or_default(), group);
                    }
                }
                USER_AGENT => {
                    if let Some(name) = user_agent.some(row) {
                        let mut activity = group.activity(name);
                        activity.entity = EntityKey::new(EntityType::UserAgent, name).ok().map(|key| entity_to_proto(&key));
                        self.found.user_agents.push(group.measures.count, activity);
                    }
                }
                ERROR => {
                    if let Some(name) = error.some(row) {
                        self.found.errors.push(group.measures.count, group.activity(name));
                    }
                }
                BUCKET if bucket.some(row).is_some() => {
                    self.found.totals.merge(&group.measures);
                    self.found.hours.insert(bucket.time(row), group.measures);
                }
                LIST => {
                    if let Some(list) = list.some(row) {
                        let peer = rows::entity(peer_type.get(row), peer_id.get(row))?;
                        let relation = rows::relation(relation.get(row))?;
                        self.peer(list, &peer, relation, (port.small(row), protocol.small(row)), &group);
                    }
                }
                _ => {}
            }
        }
        Ok(())
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

    fn peer(&mut self, list: &str, peer: &EntityKey, relation: Relation, (port, protocol): (i32, i32), group: &Group) {
        let mut activity = group.activity(&peer.id);
        activity.entity = Some(entity_to_proto(peer));
        activity.relation = relation_to_proto(relation);
        activity.port = port;
        activity.protocol = protocol;
        if peer.kind == EntityType::IpAddress {
            activity.place = peer.id.parse().ok().map(|address| place(self.places, address));
        }
        let tops = match list {
            "flow" => &mut self.found.flows,
            "assumed" => &mut self.found.roles_assumed,
            "resource" => &mut self.found.resources,
            "assumed_by" if is_own_session(self.entity, self.aliases, peer) => &mut self.found.principals,
            "assumed_by" => &mut self.found.assumed_by,
            _ => &mut self.found.principals,
        };
        tops.push(group.measures.count, activity);
    }

    fn finish(mut self) -> Activities {
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
        self.found
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
