//! The findings of a graph that count towards risk: the latest update of each, and the entities that its updates name.
//!
//! There are few of them, so that all are in memory, and an entity that no finding names costs nothing.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use arrow::record_batch::RecordBatch;
use gumshoe_behavior::{Input, Source};
use gumshoe_model::{EntityKey, Finding, PRODUCT, Timestamp, time::MICROS_PER_DAY};

use crate::{
    matches,
    rows::{Answer, Columns},
};

/// How far back findings count.
pub(crate) const FINDING_MICROS: i64 = 30 * MICROS_PER_DAY;
/// Findings of one entity that count, worst first.
const MAX_FINDINGS: usize = 1_000;
/// Findings of a graph that are kept, latest first.
const MAX_KEPT: usize = 100_000;

/// Columns that are read.
pub(crate) const COLUMNS: &[&str] =
    &["finding_id", "finding_type", "product", "title", "severity", "first_time", "last_time", "update_time", "archived", "event_id", "entities"];

/// What the latest update of a finding says.
#[derive(Debug, Clone, PartialEq)]
struct Latest {
    /// What makes an update later than another.
    order: (i64, String),
    kind: String,
    /// Its product and title, for one of ours; else empty.
    product: &'static str,
    title: String,
    severity: f64,
    first: i64,
    last: i64,
    archived: bool,
    /// The latest that any update was last seen.
    kept: i64,
}

impl Latest {
    /// As far as risk is concerned.
    fn finding<'a>(&'a self, id: &'a str) -> Finding<'a> {
        let text = Cow::Borrowed;
        Finding {
            id: text(id),
            finding_type: text(&self.kind),
            product: text(self.product),
            title: text(&self.title),
            description: text(""),
            severity: self.severity,
            count: 0,
            first_seen: Timestamp(self.first),
            last_seen: Timestamp(self.last),
            updated: Timestamp(self.order.0),
            archived: self.archived,
        }
    }
}

/// The findings.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    latest: HashMap<String, Latest>,
    /// By entity and finding, the latest time of an update that names the entity.
    named: HashMap<EntityKey, BTreeMap<String, i64>>,
    /// Grows with every change.
    generation: u64,
}

impl Findings {
    /// Grows with every change.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Adds updates.
    pub(crate) fn add(&mut self, rows: &RecordBatch) -> Answer<()> {
        let columns = Columns(rows);
        let [ids, kinds, events] = [columns.texts("finding_id")?, columns.texts("finding_type")?, columns.texts("event_id")?];
        let [products, titles] = [columns.texts("product")?, columns.texts("title")?];
        let [firsts, lasts, updates] = [columns.numbers("first_time")?, columns.numbers("last_time")?, columns.numbers("update_time")?];
        let (severities, archived) = (columns.floats("severity")?, columns.flags("archived")?);
        for row in 0..columns.len() {
            self.generation += 1;
            let (id, last) = (ids.get(row), lasts.get(row));
            let mut entities = columns.entity_list("entities", row)?;
            if Source::of_finding(products.get(row), kinds.get(row)).is_behavior() {
                // The first is the one that behaved unusually; the others are what it did so with.
                entities.truncate(1);
            }
            for entity in entities {
                let named = self.named.entry(entity).or_default().entry(id.to_owned()).or_insert(last);
                *named = last.max(*named);
            }
            let own = products.get(row) == PRODUCT;
            let update = Latest {
                order: (updates.get(row), events.get(row).to_owned()),
                kind: kinds.get(row).to_owned(),
                product: if own { PRODUCT } else { "" },
                title: if own { titles.get(row).to_owned() } else { String::new() },
                severity: severities.value(row),
                first: firsts.get(row),
                last,
                archived: archived.value(row),
                kept: last,
            };
            match self.latest.get_mut(id) {
                Some(known) => {
                    let before = known.clone();
                    if known.order < update.order {
                        *known = update.clone();
                    }
                    known.kept = before.kept.max(last);
                    if matches::adds_up(id) {
                        known.severity = before.severity.max(update.severity);
                        (known.first, known.last) = (before.first.min(update.first), before.last.max(update.last));
                    }
                }
                None => {
                    self.latest.insert(id.to_owned(), update);
                }
            }
        }
        if self.latest.len() > MAX_KEPT {
            self.forget();
        }
        Ok(())
    }

    /// Forgets a tenth, those that were last seen longest ago.
    fn forget(&mut self) {
        let mut times: Vec<i64> = self.latest.values().map(|finding| finding.kept).collect();
        let index = times.len() - MAX_KEPT / 10 * 9;
        let (_, since, _) = times.select_nth_unstable(index);
        let since = *since;
        self.latest.retain(|_, finding| finding.kept > since);
        let latest = &self.latest;
        self.named.retain(|_, named| {
            named.retain(|id, _| latest.contains_key(id));
            !named.is_empty()
        });
    }

    /// The findings that speak for an entity's risk at `time`: active in the 30 days before, and named in an update of
    /// these days.
    pub(crate) fn facts(&self, entity: &EntityKey, time: Timestamp) -> Vec<Input> {
        let since = time.0 - FINDING_MICROS;
        let mut found: Vec<Input> = self
            .named
            .get(entity)
            .into_iter()
            .flatten()
            .filter(|(_, named)| **named >= since)
            .filter_map(|(id, _)| Some((id, self.latest.get(id)?)))
            .filter(|(_, latest)| latest.last >= since && latest.first <= time.0)
            .filter_map(|(id, latest)| Input::of_finding(&latest.finding(id)))
            .collect();
        if found.len() > MAX_FINDINGS {
            found.sort_by(|one, other| {
                other.score.total_cmp(&one.score).then_with(|| other.time.cmp(&one.time)).then_with(|| one.evidence.cmp(&other.evidence))
            });
            found.truncate(MAX_FINDINGS);
        }
        found
    }

    /// Entities that findings name.
    pub(crate) fn entities(&self) -> impl Iterator<Item = &EntityKey> {
        self.named.keys()
    }
}
