//! Which entities matter more or less than others, by patterns of each graph and of the configuration.

use std::sync::Arc;

use gumshoe_behavior::Criticality;
use gumshoe_model::{EntityKey, EntityType, Timestamp, pattern};

use crate::{config, store::watchlists::Entry};

/// The longest pattern, in characters.
pub(crate) const MAX_PATTERN: usize = 2_100;

/// What is watched in a graph.
#[derive(Debug, Default)]
pub(crate) struct Watchlist {
    /// Of the store; -1 for one that could not be read.
    pub(crate) version: i64,
    /// What decides first stands first.
    entries: Vec<Arc<Entry>>,
}

/// The entries that fit an entity; the first that has not expired decides.
pub(crate) type Watched = Arc<[Arc<Entry>]>;

impl Watchlist {
    /// Entries of a graph, and those of the configuration.
    pub(crate) fn new(version: i64, entries: Vec<Entry>, configured: &[config::Watched]) -> Self {
        let mut entries: Vec<Arc<Entry>> = entries.into_iter().chain(configured.iter().map(self::configured)).map(Arc::new).collect();
        // Those that say most of their entities decide, and of these the most critical.
        entries.sort_by_key(|entry| std::cmp::Reverse((literals(&entry.pattern), entry.criticality)));
        Self { version, entries }
    }

    /// The entries that fit an entity.
    pub(crate) fn of(&self, entity: &EntityKey) -> Watched {
        if self.entries.is_empty() {
            return Watched::default();
        }
        let name = entity.to_string();
        self.entries.iter().filter(|entry| pattern::fits(&entry.pattern, &name)).cloned().collect()
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

fn literals(pattern: &str) -> usize {
    pattern.chars().filter(|character| !matches!(character, '*' | '?')).count()
}

/// What is wrong with a pattern, if anything.
pub(crate) fn fault(pattern: &str) -> Option<String> {
    let length = pattern.chars().count();
    if length == 0 || length > MAX_PATTERN {
        return Some(format!("must have 1 to {MAX_PATTERN} characters"));
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
        let watchlist = Watchlist::new(1, entries, &configured);
        let of = |entity: &str, time: i64| criticality(&watchlist.of(&entity.parse().unwrap()), Timestamp(time)).0;
        assert_eq!(of("role:arn:aws:iam::111122223333:role/test", 0), Criticality::High);
        assert_eq!(of("role:arn:aws:iam::111122223333:role/prod-1", 99), Criticality::Critical);
        assert_eq!(of("role:arn:aws:iam::111122223333:role/prod-1", 100), Criticality::Low, "expired");
        assert_eq!(of("role:arn:aws:iam::111122223333:role/prod-12", 0), Criticality::Low);
        assert_eq!(of("user:arn:aws:iam::111122223333:user/alice", 0), Criticality::Low);
        assert_eq!(of("ip_address:192.0.2.1", 0), Criticality::Normal);
    }

    #[test]
    fn faults_are_named() {
        for pattern in ["*", "user:*", "*role*:arn:aws:iam::1*", "s3_bucket:prod-??", "ip_address:10.*"] {
            assert_eq!(fault(pattern), None, "{pattern}");
        }
        assert_eq!(fault("").as_deref(), Some("must have 1 to 2100 characters"));
        assert_eq!(fault("alice").as_deref(), Some("must be `type:id`, with `*` for any characters and `?` for one"));
        assert_eq!(fault("usr:x").as_deref(), Some("`usr` is no entity type"));
    }
}
