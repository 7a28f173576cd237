//! How risky an entity is, with the facts that make the score.
//!
//! The facts are findings that affect the entity (active in the last 30 days, not archived), what was new about it in the
//! last 24 hours against the 45 days before, and calls that failed more often than before. How they make a score is
//! published in `gumshoe_behavior`. How much the entity matters is what the watchlist says now, also of a risk of the past. What is asked of the present is answered from hot profiles; the past is read.

use std::sync::{Arc, PoisonError};

use futures::future::try_join;
use gumshoe_api::{
    convert::{entity_to_proto, time_to_proto},
    graph::v1 as proto,
};
use gumshoe_behavior::Input;
use gumshoe_enrich::Places;
use gumshoe_lake::{GraphLake, Table};
use gumshoe_model::{EntityKey, EntityType, Timestamp};

use crate::{
    hot::{
        Entry, HotGraph, Name, Value,
        build::{read_days, read_digests, read_findings},
        digest::{Digest, days_before, scope_start},
        findings::FINDING_MICROS,
    },
    rows::{self, Answer},
    watchlist::{self, Watched, Watchlist},
};

/// A risk, and what it was made of.
#[derive(Debug, Clone)]
pub(crate) struct Scored {
    time: Timestamp,
    /// When nothing at all has changed in the graph, neither has the risk.
    graph: u64,
    /// Versions of what the entity did and of the findings, and the days of baseline.
    parts: (u64, u64, u32),
    /// What the watchlist says of the entity, and the version of that.
    watched: (i64, Watched),
    risk: Arc<proto::Risk>,
}

/// The risks of entities at `time`, which is the present or to come. An entity never seen has score 0.
pub(crate) async fn now(graph: &HotGraph, entities: &[EntityKey], time: Timestamp) -> Answer<Vec<Arc<proto::Risk>>> {
    let start = scope_start(time);
    let hot: Option<Vec<_>> = entities.iter().map(|entity| hot(graph, entity, time)).collect();
    if let Some(risks) = hot {
        return Ok(risks);
    }
    let names: Vec<Name> = entities.iter().cloned().map(Name::Entity).collect();
    loop {
        let digests = graph.get_all(&names, start).await?;
        let accounts: Vec<Name> = digests.values().filter_map(|entry| entry.account()).map(Name::Account).collect();
        let days = graph.get_all(&accounts, start).await?;
        let score = |name| scored(graph, digests.get(name)?, time, |account| days.get(&Name::Account(account)).cloned());
        // A commit may just have told the account of an entity that had none.
        if let Some(risks) = names.iter().map(score).collect() {
            return Ok(risks);
        }
    }
}

/// The risk of an entity all of whose profiles are in memory.
fn hot(graph: &HotGraph, entity: &EntityKey, time: Timestamp) -> Option<Arc<proto::Risk>> {
    let (start, generation) = (scope_start(time), graph.generation());
    let entry = graph.get(Name::Entity(entity.clone()), start)?;
    if let Some(kept) = &*entry.scored.lock().unwrap_or_else(PoisonError::into_inner)
        && (kept.time, kept.graph) == (time, generation)
    {
        return Some(Arc::clone(&kept.risk));
    }
    scored(graph, &entry, time, |account| graph.get(Name::Account(account), start))
}

impl Entry {
    /// The account whose days of records tell how well an entity is known; `None` if it has none, or has done nothing.
    fn account(&self) -> Option<String> {
        match (&self.name, &self.content().value) {
            (Name::Entity(entity), Value::Digest(digest)) => account(entity, digest).map(str::to_owned),
            _ => None,
        }
    }
}

fn account<'a>(entity: &'a EntityKey, digest: &'a Digest) -> Option<&'a str> {
    let account = if entity.kind == EntityType::Account { &entity.id } else { &digest.account.1 };
    Some(account.as_str()).filter(|account| !account.is_empty() && !digest.hours.is_empty())
}

/// `None` if the days of the account are not there.
fn scored(graph: &HotGraph, entry: &Entry, time: Timestamp, days: impl Fn(String) -> Option<Arc<Entry>>) -> Option<Arc<proto::Risk>> {
    let (start, generation) = (scope_start(time), graph.generation());
    let content = entry.content();
    let (Name::Entity(entity), Value::Digest(digest)) = (&entry.name, &content.value) else { return None };
    let days = match account(entity, digest) {
        Some(account) => match &days(account.to_owned())?.content().value {
            Value::Days(days) => days.before(start),
            Value::Digest(_) => return None,
        },
        None => days_before(start, |day| graph.lake.has_day(Table::Events, day)),
    };
    let findings = graph.findings();
    let parts = (content.generation, findings.generation(), days);
    let mut kept = entry.scored.lock().unwrap_or_else(PoisonError::into_inner);
    let watchlist = graph.watchlist();
    if let Some(kept) = &mut *kept
        && (kept.time, kept.parts, kept.watched.0) == (time, parts, watchlist.version)
    {
        kept.graph = generation;
        return Some(Arc::clone(&kept.risk));
    }
    let known = kept.take().map(|kept| kept.watched).filter(|(version, _)| *version == watchlist.version);
    let watched = known.unwrap_or_else(|| (watchlist.version, watchlist.of(entity)));
    let mut facts = findings.facts(entity, time);
    facts.extend(digest.facts(time, days));
    let risk = Arc::new(answer(entity, time, &facts, digest, &watched.1));
    *kept = Some(Scored { time, graph: generation, parts, watched, risk: Arc::clone(&risk) });
    Some(risk)
}

/// The risk of `entity` as of a time in the past, read from the lake.
pub(crate) async fn at(lake: &GraphLake, places: &Places, watchlist: &Watchlist, entity: &EntityKey, time: Timestamp) -> Answer<proto::Risk> {
    let (start, end) = (scope_start(time), time.hour().0 + 1);
    let snapshot = lake.snapshot().map_err(rows::failure)?;
    let since = Timestamp((time.0 - FINDING_MICROS).max(0));
    let entities = std::slice::from_ref(entity);
    let (mut digests, findings) = try_join(read_digests(&snapshot, places, entities, start, Some(end)), read_findings(&snapshot, since)).await?;
    let digest = digests.remove(entity).unwrap_or_else(|| Digest::new(start));
    let days = match account(entity, &digest) {
        Some(account) => read_days(&snapshot, account, start, Some(start)).await?.before(start),
        None => days_before(start, |day| lake.has_day(Table::Events, day)),
    };
    let mut facts = findings.facts(entity, time);
    facts.extend(digest.facts(time, days));
    Ok(answer(entity, time, &facts, &digest, &watchlist.of(entity)))
}

fn answer(entity: &EntityKey, time: Timestamp, facts: &[Input], digest: &Digest, watched: &Watched) -> proto::Risk {
    let (criticality, pattern) = watchlist::criticality(watched, time);
    let risk = gumshoe_behavior::risk(facts, time, criticality);
    proto::Risk {
        entity: Some(entity_to_proto(entity)),
        score: risk.score,
        level: risk.level.as_str().to_owned(),
        parts: risk
            .parts
            .into_iter()
            .map(|part| proto::RiskPart {
                source: part.input.source.as_str().to_owned(),
                description: part.input.label,
                contribution: part.contribution,
                time: Some(time_to_proto(part.input.time)),
                evidence: part.input.evidence,
            })
            .collect(),
        rest: risk.rest,
        time: Some(time_to_proto(time)),
        cardinality_capped: digest.crowded().map(|kind| kind.source().as_str().to_owned()).collect(),
        criticality: criticality.as_str().to_owned(),
        watchlist_pattern: pattern.to_owned(),
    }
}
