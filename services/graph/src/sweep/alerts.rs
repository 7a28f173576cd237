//! Which of the unusual become findings, and which of these alerts: thresholds without labels, and a budget.
//!
//! What exceeds its source's threshold is a finding. Those within the budget are open; the others are archived at once, with the
//! reason, so that lists leave them out, and still count in the risk of their entity. What comes again within a day is counted on
//! the finding that is there.

use std::collections::BTreeMap;

use gumshoe_behavior::{
    budget::{Budget, Decision},
    bytes::{Reader, Writer},
    midas::Midas,
    risk::{BEHAVIOR, Source},
    spot::{self, Spot},
};
use gumshoe_model::{EntityKey, Finding, GraphArn, PRODUCT, Timestamp};
use serde_json::json;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    behavior::{Found, burst},
    made::{self, Made},
    sweep::late::Seen,
};

/// The number of the form that states are kept in.
const FORMAT: u32 = 2;
/// The chance that the score of something usual exceeds a threshold.
const RISK: f64 = 1e-3;
/// Scores that a threshold is first made of.
const CALIBRATION: usize = 500;
/// The least score that can be an alert.
const LEAST: f64 = 30.0;
/// Days that a finding is remembered after its last update.
const REMEMBERED_DAYS: i64 = 2;
/// The longest title, in characters.
const MAX_TITLE: usize = 240;

/// Between which scores the threshold of a source lies. Those that say little of their own have a fixed one.
fn bounds(source: Source) -> (f64, f64) {
    match source {
        Source::Volume => (40.0, 70.0),
        Source::Peers => (30.0, 60.0),
        Source::Burst => (50.0, 80.0),
        Source::Beacon => (80.0, 80.0),
        _ => (40.0, 40.0),
    }
}

/// A finding that may be updated.
#[derive(Debug, Clone, PartialEq)]
struct Open {
    /// The UTC day that it is of.
    day: i64,
    first: Timestamp,
    last: Timestamp,
    count: u64,
    severity: f64,
    archived: bool,
}

/// What a sweep has learned and remembers.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) midas: Midas,
    spots: BTreeMap<&'static str, Spot>,
    budget: Budget,
    /// By a hash of source and entity.
    open: BTreeMap<u64, Open>,
    pub(super) seen: Seen,
}

impl State {
    /// Of a graph that was never swept.
    pub(super) fn new(alerts_per_hour: f64) -> Self {
        Self { midas: burst::detector(), spots: BTreeMap::new(), budget: Budget::new(alerts_per_hour, LEAST), open: BTreeMap::new(), seen: Seen::default() }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        to.u32(FORMAT);
        self.midas.encode(&mut to);
        self.budget.encode(&mut to);
        to.list(self.spots.iter(), |to, (source, spot)| {
            to.text(source);
            spot.encode(to);
        });
        to.list(self.open.iter(), |to, (what, open)| {
            to.u64(*what);
            for number in [open.day, open.first.0, open.last.0, i64::from(open.archived)] {
                to.i64(number);
            }
            to.u64(open.count);
            to.f64(open.severity);
        });
        self.seen.encode(&mut to);
        to.finish()
    }

    /// `None` if it is of another form.
    pub(super) fn decode(bytes: &[u8], alerts_per_hour: f64) -> Option<Self> {
        let mut from = Reader::new(bytes);
        if from.u32()? != FORMAT {
            return None;
        }
        let midas = Midas::decode(&mut from)?;
        let budget = Budget::decode(&mut from, alerts_per_hour, LEAST)?;
        let spots = from.list(|from| {
            let name = from.text()?;
            let source = [Source::Volume, Source::Peers, Source::Burst].into_iter().find(|source| source.as_str() == name)?;
            Some((source.as_str(), Spot::decode(from)?))
        })?;
        let open = from.list(|from| {
            let what = from.u64()?;
            let (day, first, last, archived) = (from.i64()?, from.i64()?, from.i64()?, from.i64()? != 0);
            Some((what, Open { day, first: Timestamp(first), last: Timestamp(last), archived, count: from.u64()?, severity: from.f64()? }))
        })?;
        let seen = Seen::decode(&mut from)?;
        Some(Self { midas, budget, spots: spots.into_iter().collect(), open: open.into_iter().collect(), seen })
    }

    /// Whether a score is worth a finding. Learns what is usual.
    pub(super) fn judge(&mut self, source: Source, score: f64) -> bool {
        judge(&mut self.spots, source, score)
    }

    /// The detector and the judge at once.
    pub(super) fn midas_and_judge(&mut self) -> (&mut Midas, impl FnMut(Source, f64) -> bool + Send + '_) {
        let Self { midas, spots, .. } = self;
        (midas, move |source, score| judge(spots, source, score))
    }

    /// The findings that come of what was found in hours that end at `end`. `accounts` are those of the entities, where known. If the hours
    /// are looked at `again`, since late records came in, what was told already may be graver, but is not counted twice.
    pub(super) fn findings(
        &mut self,
        graph: &GraphArn,
        step: &str,
        mut found: Vec<Found>,
        end: Timestamp,
        accounts: &BTreeMap<EntityKey, String>,
        again: bool,
    ) -> Vec<Made> {
        found.sort_by(|one, other| {
            other.anomaly.score.total_cmp(&one.anomaly.score).then_with(|| (one.source, &one.entity, one.last).cmp(&(other.source, &other.entity, other.last)))
        });
        let mut made = Vec::new();
        for found in found {
            let what = xxh3_64(format!("{}\n{}", found.source, found.entity).as_bytes());
            let time = found.last.min(end);
            let (day, severity) = (time.day(), found.anomaly.score / 10.0);
            let told = |open: &&mut Open| open.first <= time && found.first <= open.last;
            if again && let Some(open) = self.open.get_mut(&what).filter(told) {
                if severity > open.severity {
                    open.severity = severity;
                    made.push(finding(graph, step, &found, open, end, accounts));
                }
                continue;
            }
            let decision = self.budget.offer(found.anomaly.score, what, time);
            let fresh = Open { day, first: found.first, last: time, count: 0, severity, archived: true };
            // A day before that of the finding that goes on has one of its own, which ends at once.
            let mut apart = fresh.clone();
            let goes_on = again && self.open.get(&what).is_some_and(|open| open.day > day);
            let open = if goes_on { &mut apart } else { self.open.entry(what).or_insert_with(|| fresh.clone()) };
            if open.day != day && decision != Decision::Repeat {
                *open = fresh;
            }
            open.first = open.first.min(found.first);
            open.last = open.last.max(time);
            open.count += 1;
            open.severity = open.severity.max(severity);
            open.archived &= decision != Decision::Raise;
            made.push(finding(graph, step, &found, open, end, accounts));
        }
        let today = end.day();
        self.open.retain(|_, open| open.last.day() + REMEMBERED_DAYS >= today);
        made
    }
}

fn judge(spots: &mut BTreeMap<&'static str, Spot>, source: Source, score: f64) -> bool {
    let (least, most) = bounds(source);
    if least >= most {
        return score >= least;
    }
    // What scores nothing is most of all, and says nothing of the others.
    if score <= 0.0 {
        return false;
    }
    let settings = spot::Settings { risk: RISK, calibration: CALIBRATION, ..spot::Settings::default() };
    let spot = spots.entry(source.as_str()).or_insert_with(|| Spot::new(settings));
    let threshold = spot.threshold().unwrap_or(least).clamp(least, most);
    // It learns by its own threshold what is usual, not by the bounds.
    spot.observe(score);
    score >= threshold
}

fn finding(graph: &GraphArn, step: &str, found: &Found, open: &Open, end: Timestamp, accounts: &BTreeMap<EntityKey, String>) -> Made {
    let Found { source, entity, others, items, anomaly, .. } = found;
    let name = source.finding_name().unwrap_or_default();
    let parts: Vec<String> = anomaly.parts.iter().map(|part| format!("{} ({:+.0})", part.what, part.by)).collect();
    let mut description = format!("{}. Baseline: {}. Moved by: {}.", anomaly.label, anomaly.baseline, parts.join("; "));
    if open.archived {
        description += " Archived at once: the alert budget went to what is more unusual. It counts in the entity's risk.";
    }
    let raw = json!({
        "source": source.as_str(),
        "entity": entity.to_string(),
        "others": others.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "items": items,
        "score": anomaly.score,
        "label": anomaly.label,
        "baseline": anomaly.baseline,
        "parts": anomaly.parts.iter().map(|part| json!({ "fact": part.what, "contribution": part.by })).collect::<Vec<_>>(),
        "archivedByBudget": open.archived,
    });
    let id = made::id(graph, &[source.as_str(), &entity.to_string(), &open.day.to_string()]);
    Made {
        account: accounts.get(entity).filter(|account| !account.is_empty()).map_or_else(|| graph.account().to_string(), Clone::clone),
        region: graph.region().to_owned(),
        event_id: format!("{step}#{id}"),
        entities: std::iter::once(entity).chain(others).cloned().collect(),
        raw: raw.to_string(),
        finding: Finding {
            id: id.into(),
            finding_type: format!("{BEHAVIOR}{}/{name}", camel(entity.kind.as_str())).into(),
            product: PRODUCT.into(),
            title: anomaly.label.chars().take(MAX_TITLE).collect::<String>().into(),
            description: description.into(),
            severity: open.severity,
            count: open.count,
            first_seen: open.first,
            last_seen: open.last,
            updated: end,
            archived: open.archived,
        },
    }
}

/// `role_session` as `RoleSession`.
fn camel(name: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    name.split('_').map(word).collect()
}

#[cfg(test)]
mod tests {
    use gumshoe_behavior::Anomaly;
    use gumshoe_model::time::{MICROS_PER_DAY, MICROS_PER_HOUR};

    use super::*;

    const NOON: i64 = 20_000 * MICROS_PER_DAY + 12 * MICROS_PER_HOUR;

    fn found(entity: &str, score: f64, hours: i64) -> Found {
        let time = Timestamp(NOON + hours * MICROS_PER_HOUR);
        let anomaly = Anomaly { score, label: "much".to_owned(), baseline: "little".to_owned(), parts: Vec::new() };
        Found { source: Source::Volume, entity: entity.parse().unwrap(), others: Vec::new(), items: Vec::new(), first: time, last: time, anomaly }
    }

    fn step(state: &mut State, found: Vec<Found>) -> Vec<Made> {
        let graph = "arn:aws:detective:us-east-1:111122223333:graph:0123456789abcdef0123456789abcdef".parse().unwrap();
        let end = Timestamp(found.iter().map(|found| found.last.0).max().unwrap() + MICROS_PER_HOUR);
        state.findings(&graph, "sweep", found, end, &BTreeMap::new(), false)
    }

    fn again(state: &mut State, found: Vec<Found>) -> Vec<Made> {
        let graph = "arn:aws:detective:us-east-1:111122223333:graph:0123456789abcdef0123456789abcdef".parse().unwrap();
        state.findings(&graph, "sweep", found, Timestamp(NOON + MICROS_PER_DAY), &BTreeMap::new(), true)
    }

    #[test]
    fn late_records_make_a_finding_graver_and_do_not_count_twice() {
        let mut state = State::new(1.0);
        let first = step(&mut state, vec![found("user:a", 50.0, 0)]).remove(0);
        assert_eq!(again(&mut state, vec![found("user:a", 50.0, 0), found("user:a", 45.0, 0)]), []);
        let graver = again(&mut state, vec![found("user:a", 70.0, 0)]).remove(0);
        assert_eq!((&graver.finding.id, graver.finding.count, graver.finding.severity), (&first.finding.id, 1, 7.0));
        assert!(graver.finding.updated > first.finding.updated);
        // What only late records show is found then, and leaves the finding of the day after alone.
        let today = step(&mut state, vec![found("user:b", 50.0, 20)]).remove(0);
        let yesterday = again(&mut state, vec![found("user:b", 50.0, 0)]).remove(0);
        assert!(yesterday.finding.id != today.finding.id && yesterday.finding.count == 1);
        let later = step(&mut state, vec![found("user:b", 50.0, 21)]).remove(0);
        assert_eq!((&later.finding.id, later.finding.count), (&today.finding.id, 2));
    }

    #[test]
    fn the_budget_goes_to_the_most_unusual_and_the_others_are_archived() {
        let mut state = State::new(0.1);
        let made = step(&mut state, (0..10).map(|number| found(&format!("user:{number}"), 40.0 + f64::from(number), 0)).collect());
        assert_eq!(made.len(), 10);
        let open: Vec<_> = made.iter().filter(|made| !made.finding.archived).map(|made| made.entities.first().unwrap().id.as_str()).collect();
        assert_eq!(open, ["9", "8"], "a day's budget is 2.4");
        assert!(made.iter().all(|made| made.finding.description.contains("Archived at once") == made.finding.archived));
        assert_eq!(made.first().unwrap().finding.finding_type, "Behavior:User/UnusualVolume");
        assert_eq!(made.first().unwrap().finding.severity, 4.9);
    }

    #[test]
    fn what_comes_again_within_a_day_is_counted_on_the_finding_that_is_there() {
        let mut state = State::new(1.0);
        let first = step(&mut state, vec![found("user:a", 50.0, 0)]).remove(0);
        let again = step(&mut state, vec![found("user:a", 45.0, 3)]).remove(0);
        let midnight = step(&mut state, vec![found("user:a", 60.0, 14)]).remove(0);
        let tomorrow = step(&mut state, vec![found("user:a", 50.0, 25)]).remove(0);
        assert!([&again, &midnight].iter().all(|made| made.finding.id == first.finding.id && !made.finding.archived));
        assert_eq!((again.finding.count, again.finding.severity), (2, 5.0));
        assert_eq!((midnight.finding.count, midnight.finding.severity, midnight.finding.first_seen), (3, 6.0, first.finding.first_seen));
        assert!(tomorrow.finding.id != first.finding.id && tomorrow.finding.count == 1 && !tomorrow.finding.archived);
    }

    #[test]
    fn thresholds_follow_what_is_usual_and_a_state_is_taken_up_again() {
        let mut state = State::new(1.0);
        assert!(!state.judge(Source::Volume, 39.0) && state.judge(Source::Volume, 40.0), "the least while there is no threshold");
        for number in 0..4_000_u32 {
            // Of an exponential distribution: one in 1,000 is above 55.
            state.judge(Source::Volume, -8.0 * ((f64::from(number * 617 % 1_000) + 0.5) / 1_000.0).ln());
        }
        assert!(!state.judge(Source::Volume, 45.0) && state.judge(Source::Volume, 69.9), "what comes now and then here says nothing");
        assert!(state.judge(Source::Travel, 40.0) && !state.judge(Source::Travel, 39.9));
        step(&mut state, vec![found("user:a", 50.0, 0)]);
        let mut again = State::decode(&state.encode(), 1.0).unwrap();
        assert_eq!(step(&mut again, vec![found("user:a", 50.0, 1)]), step(&mut state, vec![found("user:a", 50.0, 1)]));
        assert!(State::decode(b"something else", 1.0).is_none());
    }

    #[test]
    fn the_same_is_made_of_the_same() {
        let (mut one, mut other) = (State::new(1.0), State::new(1.0));
        let found = || vec![found("user:a", 50.0, 0), found("user:b", 70.0, 0)];
        let mut turned = found();
        turned.reverse();
        assert_eq!(step(&mut one, found()), step(&mut other, turned));
    }
}
