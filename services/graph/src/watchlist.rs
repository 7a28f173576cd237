//! Which entities matter more or less than others, by patterns of each graph and of the configuration.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use gumshoe_behavior::Criticality;
use gumshoe_model::{EntityKey, EntityType, Timestamp, pattern};

use crate::{
    config,
    store::{tags::Tag, watchlists::Entry},
};

/// What a pattern of tags begins with.
const TAG: &str = "tag:";
/// The longest pattern, in characters.
pub(crate) const MAX_PATTERN: usize = 2_100;

/// What is watched in a graph.
#[derive(Debug, Default)]
pub(crate) struct Watchlist {
    /// Of the store; -1 for one that could not be read.
    pub(crate) version: i64,
    /// What decides first stands first.
    entries: Vec<Arc<Entry>>,
    /// Of entities, as `type:id`, what their tags say, as `tag:KEY=VALUE`; those that entries ask for.
    tags: HashMap<String, Vec<String>>,
}

/// The entries that fit an entity; the first that has not expired decides.
pub(crate) type Watched = Arc<[Arc<Entry>]>;

impl Watchlist {
    /// Entries of a graph, those of the configuration, and the tags that they ask for.
    pub(crate) fn new(version: i64, entries: Vec<Entry>, configured: &[config::Watched], tags: Vec<Tag>) -> Self {
        let mut entries: Vec<Arc<Entry>> = entries.into_iter().chain(configured.iter().map(self::configured)).map(Arc::new).collect();
        // Those that say most of their entities decide, and of these the most critical.
        entries.sort_by_key(|entry| std::cmp::Reverse((literals(&entry.pattern), entry.criticality)));
        let mut by_entity: HashMap<String, Vec<String>> = HashMap::new();
        for Tag { entity, key, value } in tags {
            by_entity.entry(entity).or_default().push(format!("{TAG}{key}={value}"));
        }
        Self { version, entries, tags: by_entity }
    }

    /// The entries that fit an entity.
    pub(crate) fn of(&self, entity: &EntityKey) -> Watched {
        if self.entries.is_empty() {
            return Watched::default();
        }
        let name = entity.to_string();
        let tags = self.tags.get(&name).map(Vec::as_slice).unwrap_or_default();
        let is_meant = |fitting: &str| {
            if fitting.starts_with(TAG) { tags.iter().any(|tag| pattern::fits(fitting, tag)) } else { pattern::fits(fitting, &name) }
        };
        self.entries.iter().filter(|entry| is_meant(&entry.pattern)).cloned().collect()
    }
}

/// An entry of the configuration.
pub(crate) fn configured(watched: &config::Watched) -> Entry {
    Entry {
        id: String::new(),
        pattern: watched.pattern.clone(),
        criticality: watched.criticality.into(),
        note: String::new(),
        author: String::new(),
        create_time: Timestamp::MIN,
        expire_time: None,
    }
}

/// How much an entity matters at a time, and the pattern that says so.
pub(crate) fn criticality(watched: &Watched, time: Timestamp) -> (Criticality, &str) {
    watched.iter().find(|entry| entry.counts(time)).map_or((Criticality::Normal, ""), |entry| (entry.criticality, entry.pattern.as_str()))
}

/// The keys of tags that patterns ask for.
pub(crate) fn tag_keys<'a>(patterns: impl Iterator<Item = &'a str>) -> Vec<String> {
    let key = |pattern: &'a str| Some(pattern.strip_prefix(TAG)?.split_once('=')?.0.to_owned());
    patterns.filter_map(key).collect::<BTreeSet<_>>().into_iter().collect()
}

fn literals(pattern: &str) -> usize {
    pattern.chars().filter(|character| !matches!(character, '*' | '?')).count()
}

/// What is wrong with a pattern, if anything.
pub(crate) fn fault(pattern: &str) -> Option<String> {
    let length = pattern.chars().count();
    if length == 0 || length > MAX_PATTERN {
        return Some(format!("must have 1 to {MAX_PATTERN} characters"));
    }
    if let Some(tag) = pattern.strip_prefix(TAG) {
        let is_whole = tag.split_once('=').is_some_and(|(key, _)| !key.is_empty() && !key.contains(['*', '?']));
        return (!is_whole).then(|| "must be `tag:KEY=VALUE`, with `*` and `?` in the value only".to_owned());
    }
    let Some((kind, _)) = pattern.split_once(':') else {
        return (!pattern.contains('*')).then(|| "must be `type:id`, with `*` for any characters and `?` for one".to_owned());
    };
    let known = EntityType::ALL.iter().any(|known| pattern::fits(kind, known.as_str()));
    (!known && !kind.contains('*')).then(|| format!("`{kind}` is no entity type"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pattern: &str, criticality: Criticality, expire: Option<i64>) -> Entry {
        Entry {
            id: pattern.to_owned(),
            pattern: pattern.to_owned(),
            criticality,
            note: String::new(),
            author: String::new(),
            create_time: Timestamp(0),
            expire_time: expire.map(Timestamp),
        }
    }

    #[test]
    fn the_pattern_that_says_most_decides_and_then_the_most_critical() {
        let configured = [config::Watched { pattern: "user:*".to_owned(), criticality: config::Criticality::Low }];
        let entries = vec![
            entry("role:*", Criticality::High, None),
            entry("role:arn:aws:iam::*:role/prod-*", Criticality::Low, None),
            entry("role:arn:aws:iam::*:role/prod-?", Criticality::Critical, Some(100)),
        ];
        let watchlist = Watchlist::new(1, entries, &configured, Vec::new());
        let of = |entity: &str, time: i64| criticality(&watchlist.of(&entity.parse().unwrap()), Timestamp(time)).0;
        assert_eq!(of("role:arn:aws:iam::111122223333:role/test", 0), Criticality::High);
        assert_eq!(of("role:arn:aws:iam::111122223333:role/prod-1", 99), Criticality::Critical);
        assert_eq!(of("role:arn:aws:iam::111122223333:role/prod-1", 100), Criticality::Low, "expired");
        assert_eq!(of("role:arn:aws:iam::111122223333:role/prod-12", 0), Criticality::Low);
        assert_eq!(of("user:arn:aws:iam::111122223333:user/alice", 0), Criticality::Low);
        assert_eq!(of("ip_address:192.0.2.1", 0), Criticality::Normal);
    }

    #[test]
    fn a_tag_makes_an_entity_matter() {
        let entries = vec![
            entry("tag:env=prod*", Criticality::High, None),
            entry("tag:class=secret", Criticality::Critical, None),
            entry("s3_bucket:*", Criticality::Low, None),
        ];
        let tag = |entity: &str, key: &str, value: &str| Tag { entity: entity.to_owned(), key: key.to_owned(), value: value.to_owned() };
        assert_eq!(tag_keys(entries.iter().map(|entry| entry.pattern.as_str())), ["class", "env"]);
        let tags = vec![tag("s3_bucket:vault", "env", "prod-eu"), tag("s3_bucket:vault", "class", "secret"), tag("s3_bucket:test", "env", "test")];
        let watchlist = Watchlist::new(1, entries, &[], tags);
        let of = |entity: &str| {
            let watched = watchlist.of(&entity.parse().unwrap());
            let (criticality, pattern) = criticality(&watched, Timestamp(0));
            (criticality, pattern.to_owned())
        };
        assert_eq!(of("s3_bucket:vault"), (Criticality::Critical, "tag:class=secret".to_owned()));
        assert_eq!(of("s3_bucket:test"), (Criticality::Low, "s3_bucket:*".to_owned()));
        assert_eq!(of("user:vault"), (Criticality::Normal, String::new()));
    }

    #[test]
    fn faults_are_named() {
        for pattern in [
            "*",
            "user:*",
            "*role*:arn:aws:iam::1*",
            "s3_bucket:prod-??",
            "ip_address:10.*",
            "tag:env=prod",
            "tag:aws:cloudformation:stack-name=a=b*",
            "tag:env=",
        ] {
            assert_eq!(fault(pattern), None, "{pattern}");
        }
        assert_eq!(fault("").as_deref(), Some("must have 1 to 2100 characters"));
        assert_eq!(fault("alice").as_deref(), Some("must be `type:id`, with `*` for any characters and `?` for one"));
        assert_eq!(fault("usr:x").as_deref(), Some("`usr` is no entity type"));
        for pattern in ["tag:env", "tag:=prod", "tag:e*=prod", "tag:*"] {
            assert_eq!(fault(pattern).as_deref(), Some("must be `tag:KEY=VALUE`, with `*` and `?` in the value only"), "{pattern}");
        }
    }
}
