//! A group in plain sentences and in the order of time. All of it is made of facts, and says which.
//!
//! Names and user agents are whatever an attacker wrote: here they lose what could change how text is shown, and each
//! form of [`export`](super::export) escapes the rest.

use std::collections::BTreeMap;

use gumshoe_model::{EntityKey, EntityType, Severity, Timestamp};

use super::{Body, Fact, FactKind, Member, Overview};

/// The most characters of a value in a sentence.
const MAX_VALUE: usize = 200;
/// The same in a title.
const MAX_TITLE_VALUE: usize = 48;
/// Entities that sentences tell of, of each kind of sentence.
const MAX_TOLD: usize = 5;
/// Events of a timeline, the earliest.
const MAX_EVENTS: usize = 1_000;

/// Entities that act.
pub const PRINCIPALS: &[EntityType] = &[
    EntityType::User,
    EntityType::Role,
    EntityType::RoleSession,
    EntityType::FederatedUser,
    EntityType::Root,
    EntityType::KubernetesSubject,
    EntityType::AccessKey,
];
const ADDRESSES: &[EntityType] = &[EntityType::IpAddress];
const THINGS: &[EntityType] = &[
    EntityType::Ec2Instance,
    EntityType::S3Bucket,
    EntityType::Pod,
    EntityType::EksCluster,
    EntityType::NetworkInterface,
    EntityType::Resource,
    EntityType::ContainerImage,
];

/// A sentence and what it says something about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// The sentence.
    pub text: String,
    /// Findings, by id.
    pub findings: Vec<String>,
    /// Entities, as `type:id`.
    pub entities: Vec<String>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// A finding began.
    Finding,
    /// A principal did something for the first time.
    Fact(FactKind),
    /// A finding was last seen.
    LastSeen,
}

/// An event of a timeline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// When, in microseconds.
    pub time: i64,
    /// What.
    pub kind: EventKind,
    /// In words.
    pub text: String,
    /// The finding, or empty.
    pub finding: String,
    /// The principal as `type:id`, or empty.
    pub entity: String,
}

/// A group's title: what it is a sign of, and whom it is about.
#[must_use]
pub fn title(body: &Body, tactics: &[String]) -> String {
    let what = match tactics {
        [] if body.findings.iter().all(Member::is_dismissed) => format!("{}, all dismissed", count(body.findings.len(), "finding")),
        [] => count(body.findings.len(), "finding"),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [one, two, others @ ..] => format!("{one}, {two} and {} more", others.len()),
    };
    let first = |kinds: &'static [EntityType]| {
        // What ties it first, of that the kind that says most, and of that what most findings name.
        let mut found: Vec<_> = body.entities_of(kinds).filter(|(_, entity)| !entity.hub).collect();
        found.sort_by_key(|(key, entity)| (!entity.ties, kinds.iter().position(|kind| *kind == key.kind), std::cmp::Reverse(entity.findings)));
        found.into_iter().next().map(|(key, _)| format!("{} {}", word(key.kind), shown(name(&key), MAX_TITLE_VALUE)))
    };
    let whom: Vec<String> = [PRINCIPALS, THINGS].into_iter().find_map(first).into_iter().chain(first(ADDRESSES)).collect();
    if whom.is_empty() { what } else { format!("{what}: {}", whom.join(", ")) }
}

/// A group in sentences.
#[must_use]
pub fn sentences(body: &Body, overview: &Overview) -> Vec<Sentence> {
    let mut sentences = vec![whole(body, overview)];
    sentences.extend(dismissed(body));
    let standing = || body.findings.iter().filter(|finding| !finding.is_dismissed());
    if let Some(worst) = standing().max_by(|one, other| one.severity.total_cmp(&other.severity).then_with(|| other.first.cmp(&one.first))) {
        let text = format!("The worst has severity {:.1} ({}): {}.", worst.severity, Severity::of_score(worst.severity), described(worst));
        sentences.push(Sentence { text, findings: vec![worst.id.clone()], entities: Vec::new() });
    }
    for tactic in &overview.tactics {
        let of_tactic: Vec<&Member> = standing().filter(|finding| finding.tactics.contains(tactic)).collect();
        let Some(first) = of_tactic.first() else { continue };
        let text = format!("{tactic}: {}, first {} at {}.", count(of_tactic.len(), "finding"), shown(&first.finding_type, MAX_VALUE), time(first.first));
        sentences.push(Sentence { text, findings: of_tactic.iter().map(|finding| finding.id.clone()).collect(), entities: Vec::new() });
    }
    let named_by =
        |key: &str| body.findings.iter().filter(|finding| finding.entities.iter().any(|entity| entity == key)).map(|finding| finding.id.clone()).collect();
    for entity in body.entities.iter().filter(|entity| entity.ties).take(MAX_TOLD) {
        let text = format!("{} of them name the {}, which ties them together.", entity.findings, described_entity(&entity.key));
        sentences.push(Sentence { text, findings: named_by(&entity.key), entities: vec![entity.key.clone()] });
    }
    for entity in body.entities.iter().filter(|entity| entity.hub && entity.findings > 1).take(MAX_TOLD) {
        let text = format!(
            "{} of them name the {}, which ties nothing: {} principals and machines have to do with it, or findings named it on that many days.",
            entity.findings,
            described_entity(&entity.key),
            entity.degree
        );
        sentences.push(Sentence { text, findings: named_by(&entity.key), entities: vec![entity.key.clone()] });
    }
    sentences.extend(facts(body));
    let archived: Vec<String> = body.findings.iter().filter(|finding| finding.archived).map(|finding| finding.id.clone()).collect();
    if !archived.is_empty() {
        let text = format!("{} of them {} archived or resolved at the source.", archived.len(), if archived.len() == 1 { "is" } else { "are" });
        sentences.push(Sentence { text, findings: archived, entities: Vec::new() });
    }
    sentences
}

fn whole(body: &Body, overview: &Overview) -> Sentence {
    let mut products: Vec<String> = body.findings.iter().map(|finding| product(&finding.product)).collect();
    products.sort_unstable();
    products.dedup();
    let accounts = match overview.accounts.as_slice() {
        [] => String::new(),
        [one] => format!(" in account {one}"),
        many => format!(" in accounts {}", list(many)),
    };
    let text = format!(
        "{} of {}, between {} and {}, name {}{accounts}.",
        count(body.findings.len(), "finding"),
        list(&products),
        time(overview.first),
        time(overview.last),
        if body.entities.len() == 1 { "one entity".to_owned() } else { format!("{} entities", body.entities.len()) },
    );
    let entities = overview.accounts.iter().map(|account| format!("account:{account}")).collect();
    Sentence { text, findings: body.findings.iter().map(|finding| finding.id.clone()).collect(), entities }
}

/// What was judged to be no sign of an attack.
fn dismissed(body: &Body) -> Option<Sentence> {
    let findings: Vec<String> = body.findings.iter().filter(|finding| finding.is_dismissed()).map(|finding| finding.id.clone()).collect();
    let who = match findings.len() {
        0 => return None,
        all if all == body.findings.len() => "All of them were".to_owned(),
        1 => "One of them was".to_owned(),
        some => format!("{some} of them were"),
    };
    Some(Sentence { text: format!("{who} judged false positive or benign."), findings, entities: Vec::new() })
}

/// What principals did for the first time, a sentence for each and each kind.
fn facts(body: &Body) -> Vec<Sentence> {
    let mut told: BTreeMap<(&str, FactKind), Vec<&Fact>> = BTreeMap::new();
    for fact in &body.facts {
        told.entry((&fact.entity, fact.kind)).or_default().push(fact);
    }
    let sentence = |((entity, kind), facts): ((&str, FactKind), Vec<&Fact>)| {
        let values: Vec<String> = facts.iter().take(MAX_TOLD).map(|fact| shown(&fact.value, MAX_VALUE)).collect();
        let more = if facts.len() > values.len() { format!(" and {} more", facts.len() - values.len()) } else { String::new() };
        let text = format!("For the first time in 45 days, the {} {}: {}{more}.", described_entity(entity), did(kind), values.join(", "));
        Sentence { text, findings: Vec::new(), entities: vec![entity.to_owned()] }
    };
    told.into_iter().map(sentence).collect()
}

/// What happened, in the order of time.
#[must_use]
pub fn timeline(body: &Body) -> Vec<Event> {
    let mut events = Vec::new();
    for finding in &body.findings {
        let event = |time: i64, kind: EventKind, text: String| Event { time, kind, text, finding: finding.id.clone(), entity: String::new() };
        let severity = Severity::of_score(finding.severity);
        events.push(event(finding.first, EventKind::Finding, format!("{severity}: {}", described(finding))));
        if finding.last > finding.first {
            let times = if finding.count > 1 { format!(", {} times in all", finding.count) } else { String::new() };
            events.push(event(finding.last, EventKind::LastSeen, format!("Last seen{times}: {}", shown(&finding.finding_type, MAX_VALUE))));
        }
    }
    for fact in &body.facts {
        let times = if fact.count > 1 { format!(", {} times", fact.count) } else { String::new() };
        let text = format!("New: the {} {} {}{times}", described_entity(&fact.entity), did(fact.kind), shown(&fact.value, MAX_VALUE));
        events.push(Event { time: fact.time, kind: EventKind::Fact(fact.kind), text, finding: String::new(), entity: fact.entity.clone() });
    }
    events.sort_unstable();
    events.truncate(MAX_EVENTS);
    events
}

const fn did(kind: FactKind) -> &'static str {
    match kind {
        FactKind::NewOperation => "called",
        FactKind::NewCountry => "came from the country",
        FactKind::NewNetwork => "came from the network",
        FactKind::NewUserAgent => "used the user agent",
    }
}

fn described(finding: &Member) -> String {
    let (title, kind) = (shown(&finding.title, MAX_VALUE), shown(&finding.finding_type, MAX_VALUE));
    // A title is a sentence of its own at times.
    let title = title.trim_end_matches('.');
    if title.is_empty() || title == kind { kind } else { format!("{title} ({kind})") }
}

/// `user arn:aws:iam::111122223333:user/ann`.
fn described_entity(key: &str) -> String {
    match key.parse::<EntityKey>() {
        Ok(entity) => format!("{} {}", word(entity.kind), shown(&entity.id, MAX_VALUE)),
        Err(_) => shown(key, MAX_VALUE),
    }
}

/// A type of entities in words.
#[must_use]
pub const fn word(kind: EntityType) -> &'static str {
    match kind {
        EntityType::Account => "account",
        EntityType::User => "user",
        EntityType::Role => "role",
        EntityType::RoleSession => "role session",
        EntityType::FederatedUser => "federated user",
        EntityType::Root => "root user",
        EntityType::AwsService => "service",
        EntityType::AccessKey => "access key",
        EntityType::IpAddress => "address",
        EntityType::Ec2Instance => "instance",
        EntityType::NetworkInterface => "network interface",
        EntityType::S3Bucket => "bucket",
        EntityType::Resource => "resource",
        EntityType::UserAgent => "user agent",
        EntityType::EksCluster => "cluster",
        EntityType::KubernetesSubject => "Kubernetes subject",
        EntityType::Pod => "pod",
        EntityType::ContainerImage => "image",
        EntityType::Finding => "finding",
    }
}

/// The last part of an ARN, or of a session's id.
fn name(entity: &EntityKey) -> &str {
    let last = match entity.kind {
        EntityType::User | EntityType::Role => entity.id.rsplit('/').next(),
        EntityType::RoleSession => entity.id.rsplit([':', '/']).next(),
        EntityType::Root => entity.id.split(':').nth(4),
        _ => None,
    };
    last.filter(|name| !name.is_empty()).unwrap_or(&entity.id)
}

/// `GuardDuty`, or the end of a product's ARN: `aws/inspector`.
fn product(product: &str) -> String {
    let name = product.split_once(":product/").map_or(product, |(_, name)| name);
    if name.is_empty() { "an unknown product".to_owned() } else { shown(name, MAX_VALUE) }
}

/// A value without characters that change how text is shown, cut to so many.
#[must_use]
pub fn shown(value: &str, most: usize) -> String {
    // Controls, and what turns the direction of text, joins or hides.
    let hidden = |character: char| {
        character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut text: String = value.chars().take(most).map(|character| if hidden(character) { '\u{fffd}' } else { character }).collect();
    if value.chars().nth(most).is_some() {
        text.push('…');
    }
    text
}

/// A time to the second, in UTC.
#[must_use]
pub fn time(micros: i64) -> String {
    Timestamp(micros - micros.rem_euclid(1_000_000)).to_string()
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("one {what}") } else { format!("{number} {what}s") }
}

fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
