//! Which findings are one story: a pure function of the findings, whatever order they came in.
//!
//! Two findings are tied by each entity that both name: by `2 / log2(2 + degree)`, which is 1 for what two share and less the
//! more do, times the weight of the entity's kind. The sum is multiplied with `exp(-gap / 24 h)`, where the gap is the time in
//! which neither was active. From [`BAR`] on, two findings are in one group, and so is all that hangs together. Entities whose
//! degree is above a quantile are hubs and tie nothing.

use std::collections::{BTreeMap, HashMap};

use gumshoe_model::{
    EntityKey, EntityType, Timestamp,
    time::{MICROS_PER_DAY, MICROS_PER_HOUR},
};

/// From this weight on, two findings are tied.
pub const BAR: f64 = 0.2;
/// The largest group. The weakest ties of what is larger are cut.
pub const MAX_FINDINGS: usize = 300;
/// Entities of a degree up to this are no hubs, however little the others have.
const MIN_HUB: u64 = 20;
/// Entities of a degree above this are hubs, however much the others have.
const MAX_HUB: u64 = 100;
/// Between these, entities of a degree above this share of all are hubs.
const HUB_QUANTILE: f64 = 0.95;
/// After this long without activity, a tie has 1/e of its weight.
const DECAY_HOURS: f64 = 24.0;
/// Of a finding that was active for longer, only its last days count.
const WINDOW: i64 = 45 * MICROS_PER_DAY;
/// Each finding is compared with so many before it that name the same entity, and with the one that was active longest. Who is
/// further back is tied to those in between.
const NEIGHBORS: usize = 8;

/// A finding, as far as grouping goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its id.
    pub id: String,
    /// When it was first seen.
    pub first: Timestamp,
    /// When it was last seen.
    pub last: Timestamp,
    /// Entities that it names, sorted, each once.
    pub entities: Vec<EntityKey>,
}

impl Input {
    /// When it counts as active: both ends in order, and not longer than the window.
    fn active(&self) -> (i64, i64) {
        let last = self.last.0.max(self.first.0);
        (self.first.0.max(last.saturating_sub(WINDOW)), last)
    }
}

/// What ties two findings.
#[derive(Debug, Clone, PartialEq)]
pub struct Tie {
    /// The earlier one's place in the input.
    pub one: usize,
    /// The later one's.
    pub other: usize,
    /// Entities that both name, those that weigh most first.
    pub entities: Vec<EntityKey>,
    /// How strong it is.
    pub weight: f64,
}

/// Findings that are one story.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Their places in the input, in the order of time; at least two.
    pub findings: Vec<usize>,
    /// The strongest ties that hold them together, one fewer than there are findings; strongest first.
    pub ties: Vec<Tie>,
}

/// How widely entities are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Degrees {
    degrees: BTreeMap<EntityKey, u64>,
    most: u64,
}

impl Degrees {
    /// Degrees of entities that several findings name, given how many actors the graph ties to each: that number, or the number of days on
    /// which findings about it began, whichever is more.
    #[must_use]
    pub fn new(findings: &[Input], actors: &HashMap<EntityKey, u64>) -> Self {
        let mut degrees = BTreeMap::new();
        for (entity, places) in shared(findings) {
            let mut days: Vec<i64> = places.iter().filter_map(|place| findings.get(*place)).map(|finding| finding.first.day()).collect();
            days.sort_unstable();
            days.dedup();
            let days = u64::try_from(days.len()).unwrap_or(u64::MAX);
            degrees.insert(entity.clone(), actors.get(entity).copied().unwrap_or_default().max(days));
        }
        let mut sorted: Vec<u64> = degrees.values().copied().collect();
        sorted.sort_unstable();
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a list")]
        let place = (sorted.len().saturating_sub(1) as f64 * HUB_QUANTILE) as usize;
        let most = sorted.get(place).copied().unwrap_or_default().clamp(MIN_HUB, MAX_HUB);
        Self { degrees, most }
    }

    /// An entity's degree; `None` if fewer than two findings name it or its kind ties nothing.
    #[must_use]
    pub fn of(&self, entity: &EntityKey) -> Option<u64> {
        self.degrees.get(entity).copied()
    }

    /// Whether so many share it that it ties nothing.
    #[must_use]
    pub fn is_hub(&self, entity: &EntityKey) -> bool {
        self.of(entity).is_some_and(|degree| degree > self.most)
    }

    /// What an entity adds to a tie.
    fn weight(&self, entity: &EntityKey) -> f64 {
        match self.of(entity) {
            #[expect(clippy::cast_precision_loss, reason = "a logarithm")]
            Some(degree) if degree <= self.most => kind_weight(entity.kind) * 2.0 / (degree.max(2) as f64 + 2.0).log2(),
            _ => 0.0,
        }
    }
}

/// What an entity of a kind says about who shares it: a session is one sitting, an account is everything.
const fn kind_weight(kind: EntityType) -> f64 {
    match kind {
        EntityType::RoleSession | EntityType::AccessKey => 1.0,
        EntityType::User | EntityType::Role | EntityType::FederatedUser | EntityType::Root | EntityType::KubernetesSubject => 0.8,
        EntityType::Ec2Instance | EntityType::NetworkInterface | EntityType::Pod | EntityType::S3Bucket | EntityType::Resource => 0.6,
        EntityType::IpAddress => 0.5,
        EntityType::UserAgent | EntityType::ContainerImage => 0.3,
        EntityType::Account | EntityType::AwsService | EntityType::EksCluster | EntityType::Finding => 0.0,
    }
}

/// Entities that could tie findings: those whose actors the graph is to count.
#[must_use]
pub fn candidates(findings: &[Input]) -> Vec<EntityKey> {
    shared(findings).into_keys().cloned().collect()
}

/// Entities of kinds that tie, and that at least two findings name, with the findings' places.
fn shared(findings: &[Input]) -> BTreeMap<&EntityKey, Vec<usize>> {
    let mut places: BTreeMap<&EntityKey, Vec<usize>> = BTreeMap::new();
    for (place, finding) in findings.iter().enumerate() {
        for entity in finding.entities.iter().filter(|entity| kind_weight(entity.kind) > 0.0) {
            places.entry(entity).or_default().push(place);
        }
    }
    places.retain(|_, places| places.len() > 1);
    places
}

/// The groups, each with its findings in the order of time; the group with the earliest finding first.
#[must_use]
pub fn cluster(findings: &[Input], degrees: &Degrees) -> Vec<Cluster> {
    // Only places in this order are compared below, so that the order of arrival has no say.
    let mut order: Vec<usize> = (0..findings.len()).collect();
    order.sort_by(|one, other| key(findings, *one).cmp(&key(findings, *other)));
    let mut rank = vec![0; findings.len()];
    for (position, place) in order.iter().enumerate() {
        if let Some(rank) = rank.get_mut(*place) {
            *rank = position;
        }
    }
    let sorted: Vec<&Input> = order.iter().filter_map(|place| findings.get(*place)).collect();

    let mut pairs = Vec::new();
    for (entity, mut places) in shared(findings) {
        if degrees.weight(entity) <= 0.0 {
            continue;
        }
        for place in &mut places {
            *place = rank.get(*place).copied().unwrap_or_default();
        }
        places.sort_unstable();
        pairs_of(&sorted, &places, &mut pairs);
    }
    pairs.sort_unstable();
    pairs.dedup();
    let mut ties: Vec<Tie> = pairs.into_iter().filter_map(|(one, other)| tie(&sorted, one, other, degrees)).collect();
    ties.sort_by(|one, other| other.weight.total_cmp(&one.weight).then((one.one, one.other).cmp(&(other.one, other.other))));

    let mut sets = Sets::new(sorted.len());
    ties.retain(|tie| sets.join(tie.one, tie.other));
    let mut clusters: BTreeMap<usize, Cluster> = BTreeMap::new();
    let mut named = HashMap::new();
    for position in 0..sorted.len() {
        // The first of a set names it.
        let first = *named.entry(sets.root(position)).or_insert(position);
        clusters.entry(first).or_insert_with(|| Cluster { findings: Vec::new(), ties: Vec::new() }).findings.push(position);
    }
    for tie in ties {
        if let Some(cluster) = named.get(&sets.root(tie.one)).and_then(|first| clusters.get_mut(first)) {
            cluster.ties.push(tie);
        }
    }
    let place = |position: usize| order.get(position).copied().unwrap_or_default();
    clusters
        .into_values()
        .filter(|cluster| cluster.findings.len() > 1)
        .map(|cluster| Cluster {
            findings: cluster.findings.into_iter().map(place).collect(),
            ties: cluster.ties.into_iter().map(|tie| Tie { one: place(tie.one), other: place(tie.other), ..tie }).collect(),
        })
        .collect()
}

/// Where a finding stands in time; the id makes the order whole.
fn key(findings: &[Input], place: usize) -> Option<(i64, i64, &str)> {
    findings.get(place).map(|finding| {
        let (start, end) = finding.active();
        (start, end, finding.id.as_str())
    })
}

/// Pairs to look at, of findings that name one entity.
fn pairs_of(sorted: &[&Input], places: &[usize], pairs: &mut Vec<(usize, usize)>) {
    let end = |place: usize| sorted.get(place).map_or(i64::MIN, |finding| finding.active().1);
    let mut longest: Option<usize> = None;
    for (index, place) in places.iter().enumerate() {
        for before in places.iter().take(index).rev().take(NEIGHBORS) {
            pairs.push((*before, *place));
        }
        if let Some(longest) = longest {
            pairs.push((longest, *place));
        }
        if longest.is_none_or(|longest| end(*place) > end(longest)) {
            longest = Some(*place);
        }
    }
}

/// What ties two findings, if it is enough.
fn tie(sorted: &[&Input], one: usize, other: usize, degrees: &Degrees) -> Option<Tie> {
    let (earlier, later) = (sorted.get(one)?, sorted.get(other)?);
    let mut entities: Vec<(f64, &EntityKey)> = earlier
        .entities
        .iter()
        .filter(|entity| later.entities.binary_search(entity).is_ok())
        .map(|entity| (degrees.weight(entity), entity))
        .filter(|(weight, _)| *weight > 0.0)
        .collect();
    entities.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
    let gap = later.active().0.saturating_sub(earlier.active().1).max(0);
    #[expect(clippy::cast_precision_loss, reason = "hours")]
    let decay = (-(gap as f64 / MICROS_PER_HOUR as f64) / DECAY_HOURS).exp();
    let weight = entities.iter().map(|(weight, _)| weight).sum::<f64>() * decay;
    (weight >= BAR).then(|| Tie { one, other, entities: entities.into_iter().map(|(_, entity)| entity.clone()).collect(), weight })
}

/// Disjoint sets of at most [`MAX_FINDINGS`].
struct Sets {
    parents: Vec<usize>,
    sizes: Vec<usize>,
}

impl Sets {
    fn new(number: usize) -> Self {
        Self { parents: (0..number).collect(), sizes: vec![1; number] }
    }

    fn root(&mut self, of: usize) -> usize {
        let mut at = of;
        while let Some(parent) = self.parents.get(at).copied().filter(|parent| *parent != at) {
            let above = self.parents.get(parent).copied().unwrap_or(parent);
            if let Some(slot) = self.parents.get_mut(at) {
                *slot = above;
            }
            at = parent;
        }
        at
    }

    /// Joins the sets of two; false if they are one already, or would be too large.
    fn join(&mut self, one: usize, other: usize) -> bool {
        let (one, other) = (self.root(one), self.root(other));
        let size = |sets: &Self, of: usize| sets.sizes.get(of).copied().unwrap_or_default();
        let together = size(self, one) + size(self, other);
        if one == other || together > MAX_FINDINGS {
            return false;
        }
        let (small, large) = if size(self, one) < size(self, other) { (one, other) } else { (other, one) };
        if let Some(parent) = self.parents.get_mut(small) {
            *parent = large;
        }
        if let Some(size) = self.sizes.get_mut(large) {
            *size = together;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = MICROS_PER_HOUR;
    const START: i64 = 1_700_000_000_000_000;

    fn finding(id: &str, hour: i64, entities: &[&str]) -> Input {
        let mut entities: Vec<EntityKey> = entities.iter().map(|entity| entity.parse().unwrap()).collect();
        entities.sort();
        entities.dedup();
        Input { id: id.to_owned(), first: Timestamp(START + hour * HOUR), last: Timestamp(START + hour * HOUR), entities }
    }

    fn grouped(findings: &[Input], actors: &[(&str, u64)]) -> BTreeSet<BTreeSet<String>> {
        let actors = actors.iter().map(|(entity, number)| (entity.parse().unwrap(), *number)).collect();
        let clusters = cluster(findings, &Degrees::new(findings, &actors));
        for cluster in &clusters {
            assert_eq!(cluster.ties.len() + 1, cluster.findings.len(), "a tree");
            assert!(cluster.ties.iter().all(|tie| tie.weight >= BAR && !tie.entities.is_empty()));
        }
        clusters.iter().map(|cluster| cluster.findings.iter().map(|place| findings[*place].id.clone()).collect()).collect()
    }

    fn groups(expected: &[&[&str]]) -> BTreeSet<BTreeSet<String>> {
        expected.iter().map(|group| group.iter().map(|id| (*id).to_owned()).collect()).collect()
    }

    #[test]
    fn a_shared_session_ties_and_an_account_does_not() {
        let findings = [
            finding("a", 0, &["role_session:AROA1:x", "account:111111111111"]),
            finding("b", 5, &["role_session:AROA1:x", "account:111111111111"]),
            finding("c", 5, &["user:u", "account:111111111111"]),
        ];
        assert_eq!(grouped(&findings, &[]), groups(&[&["a", "b"]]));
        assert_eq!(grouped(&findings[1..], &[]), groups(&[]), "one finding is no group");
    }

    #[test]
    fn time_loosens_ties_and_several_entities_strengthen_them() {
        let apart = |hours: i64, entities: &[&str]| grouped(&[finding("a", 0, entities), finding("b", hours, entities)], &[]).len();
        assert_eq!([apart(20, &["ip_address:1.1.1.1"]), apart(24, &["ip_address:1.1.1.1"])], [1, 0]);
        assert_eq!([apart(36, &["user:u"]), apart(36, &["user:u", "ip_address:1.1.1.1"])], [0, 1]);
        // What lasts is there all the time.
        let long = Input { last: Timestamp(START + 30 * 24 * HOUR), ..finding("a", 0, &["user:u"]) };
        assert_eq!(grouped(&[long.clone(), finding("b", 20 * 24, &["user:u"])], &[]).len(), 1);
        // But of what lasts for months, only the end counts.
        let longer = Input { last: Timestamp(START + 90 * 24 * HOUR), ..long };
        assert_eq!(grouped(&[longer, finding("b", 24, &["user:u"])], &[]).len(), 0);
    }

    #[test]
    fn a_hub_does_not_join_two_incidents() {
        let office = "ip_address:198.51.100.1";
        let findings = [
            finding("a1", 0, &["user:a", office]),
            finding("a2", 1, &["user:a", office]),
            finding("b1", 1, &["user:b", office]),
            finding("b2", 2, &["user:b", office]),
        ];
        assert_eq!(grouped(&findings, &[(office, 300)]), groups(&[&["a1", "a2"], &["b1", "b2"]]), "300 people come from there");
        assert_eq!(grouped(&findings, &[(office, 2)]), groups(&[&["a1", "a2", "b1", "b2"]]), "it is the attacker's");
        // Nor does one that findings name every day, among others that are rare.
        let mut noisy: Vec<Input> = (0..60).map(|day| finding(&format!("n{day:02}"), day * 24, &["ec2_instance:i-1", &format!("user:{day}")])).collect();
        noisy.extend((0..40).flat_map(|pair| {
            let bucket = format!("s3_bucket:b{pair}");
            [finding(&format!("x{pair}"), pair * 100, &[&bucket]), finding(&format!("y{pair}"), pair * 100, &[&bucket])]
        }));
        assert_eq!(grouped(&noisy, &[]).len(), 40);
    }

    #[test]
    fn what_is_too_large_is_cut_where_it_is_weakest() {
        // Two crowds of one session each, and a user agent between them.
        let crowd = |session: &str, number: usize| {
            (0..number).map(|place| finding(&format!("{session}{place:04}"), 0, &[&format!("role_session:{session}")])).collect::<Vec<_>>()
        };
        let mut findings = crowd("a", 200);
        findings.extend(crowd("b", 200));
        for place in [0, 200] {
            findings[place].entities.push("user_agent:x".parse().unwrap());
        }
        let found = grouped(&findings, &[]);
        assert_eq!(found.iter().map(BTreeSet::len).collect::<Vec<_>>(), [200, 200]);
        assert!(found.iter().all(|group| group.iter().all(|id| id.starts_with(&group.first().unwrap()[..1]))));
        let flood = grouped(&crowd("c", 2 * MAX_FINDINGS + 50), &[]);
        assert!(flood.iter().all(|group| group.len() <= MAX_FINDINGS));
    }

    #[test]
    fn a_late_finding_ties_two_groups() {
        let mut findings =
            vec![finding("a1", 0, &["user:a"]), finding("a2", 1, &["user:a"]), finding("b1", 3, &["role_session:s"]), finding("b2", 4, &["role_session:s"])];
        assert_eq!(grouped(&findings, &[]).len(), 2);
        findings.push(finding("late", 2, &["user:a", "role_session:s"]));
        assert_eq!(grouped(&findings, &[]), groups(&[&["a1", "a2", "b1", "b2", "late"]]));
    }

    fn any_finding() -> impl Strategy<Value = (i64, i64, Vec<String>)> {
        let entity = (prop::sample::select(vec!["user", "role_session", "ip_address", "account", "user_agent", "ec2_instance"]), 0..6_u8);
        (0..240_i64, 0..50_i64, prop::collection::vec(entity.prop_map(|(kind, number)| format!("{kind}:{number}")), 0..5))
    }

    proptest! {
        /// The order of arrival changes nothing, and groups are what hangs together: no tie leads out of one.
        #[test]
        fn the_result_is_the_same_for_any_order(found in prop::collection::vec(any_finding(), 0..40), actors in prop::collection::vec(0..60_u64, 6), seed in any::<u64>()) {
            let mut findings: Vec<Input> = found.iter().enumerate().map(|(place, (hour, length, entities))| {
                let made = finding(&format!("f{place}"), *hour, &entities.iter().map(String::as_str).collect::<Vec<_>>());
                Input { last: Timestamp(made.last.0 + length * HOUR), ..made }
            }).collect();
            let names: Vec<String> = (0..6).map(|number| format!("ip_address:{number}")).collect();
            let actors: Vec<(&str, u64)> = names.iter().map(String::as_str).zip(actors).collect();
            let before = grouped(&findings, &actors);
            let mut state = seed;
            for place in (1..findings.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                findings.swap(place, (state >> 33) as usize % (place + 1));
            }
            prop_assert_eq!(&grouped(&findings, &actors), &before);
            let members: Vec<&String> = before.iter().flatten().collect();
            prop_assert_eq!(members.len(), members.iter().collect::<BTreeSet<_>>().len(), "each finding is in one group");
        }
    }
}
