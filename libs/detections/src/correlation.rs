//! Rules about several events: how many within a time, how many different, all of some, or some in order.
//!
//! [`Correlations`] is a state machine: events go in, and what is complete comes out. Its memory is bounded: of each group no more is
//! kept than the rule asks for, and there are no more groups than [`MAX_GROUPS`].

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use gumshoe_model::{Event, Timestamp};

use crate::{
    check::with_text,
    field::Field,
    rule::Rule,
    set::RuleSet,
    view::{Record, View},
};

/// Most groups of all rules together. What would be one more is left out, and counted.
pub const MAX_GROUPS: usize = 200_000;
/// Most ids of events that are kept of a group: the latest.
pub const MAX_EVENTS: usize = 10;
/// Microseconds between two looks for old groups.
const SWEEP: i64 = 60_000_000;
/// The longest value to group by, in bytes; longer ones are cut.
const MAX_VALUE_BYTES: usize = 512;

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// So many events.
    Count(usize),
    /// So many different values of a field.
    Values(String, usize),
    /// An event of each rule.
    All,
    /// An event of each rule, in order.
    Ordered,
}

/// A rule about several events.
#[derive(Debug, Clone)]
pub(crate) struct Correlation {
    /// What it says. It matches no event itself.
    pub(crate) rule: Arc<Rule>,
    /// Names or ids of the rules that are its parts.
    pub(crate) parts: Vec<String>,
    pub(crate) group_by: Vec<String>,
    /// Microseconds.
    pub(crate) span: i64,
    pub(crate) pattern: Pattern,
    /// Whether matches of the parts are reported too.
    pub(crate) reports_parts: bool,
}

/// A rule's part in a correlation.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// The correlation's place in the list of them.
    pub(crate) correlation: usize,
    /// Which of the correlation's rules it is.
    pub(crate) number: usize,
    pub(crate) group_by: Vec<Field>,
    pub(crate) value: Option<Field>,
}

/// Events that together are what a rule looks for.
#[derive(Debug, Clone)]
pub struct Correlated {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The earliest of the events.
    pub first: Timestamp,
    /// The latest of the events.
    pub last: Timestamp,
    /// How many events, or different values.
    pub count: usize,
    /// What the events have in common: field and value.
    pub group: Vec<(String, String)>,
    /// Ids of the latest events, at most [`MAX_EVENTS`].
    pub events: Vec<String>,
}

/// What is known of one group.
#[derive(Debug, Clone, Default)]
struct Group {
    /// Times of events, in order.
    times: VecDeque<Timestamp>,
    /// The latest time of each value or part.
    latest: BTreeMap<String, Timestamp>,
    /// For parts in order: when a sequence that has come so far began, the latest if there are several.
    began: Vec<Option<Timestamp>>,
    events: VecDeque<String>,
    last: Timestamp,
}

/// Groups that are under way. Rules may be swapped between two events: what is under way of a rule that stays goes on.
#[derive(Debug, Default)]
pub struct Correlations {
    /// By the rule's id and the values that are grouped by.
    groups: HashMap<(String, Vec<String>), Group>,
    left_out: u64,
    /// When old groups were last dropped for want of room.
    swept: Timestamp,
}

impl Correlations {
    /// Nothing is under way.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Events that were left out because there were too many groups.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Takes an event, and tells what is complete with it. Events should come about in the order of their times; one that is late
    /// by more than a rule's time is not seen together with those after it. What was complete begins again.
    pub fn observe(&mut self, rules: &RuleSet, event: &Event<'_>) -> Vec<Correlated> {
        let record = Record::new(event);
        self.add(rules, rules.parts(&record), &record)
    }

    /// The same of an event whose [marks](RuleSet::mark) are known: it is not matched again.
    pub fn observe_marked(&mut self, rules: &RuleSet, event: &Event<'_>, marks: &str) -> Vec<Correlated> {
        self.add(rules, rules.marked_parts(marks), &Record::new(event))
    }

    fn add(&mut self, rules: &RuleSet, parts: Vec<&Part>, record: &Record<'_>) -> Vec<Correlated> {
        let (mut found, event) = (Vec::new(), record.event);
        for part in parts {
            let Some(correlation) = rules.correlation(part.correlation) else { continue };
            let view = View::new(record);
            let values: Option<Vec<String>> = part.group_by.iter().map(|field| first(view, field)).collect();
            let value = part.value.as_ref().map(|field| first(view, field));
            let (Some(values), false) = (values, matches!(value, Some(None))) else { continue };
            let key = (correlation.rule.id.clone(), values);
            if !self.groups.contains_key(&key) && !self.has_room(rules, event.time) {
                self.left_out += 1;
                continue;
            }
            let group = self.groups.entry(key.clone()).or_default();
            group.last = group.last.max(event.time);
            if group.events.len() == MAX_EVENTS {
                group.events.pop_front();
            }
            group.events.push_back(event.id.to_string());
            if let Some((first, count)) = group.add(correlation, part.number, value.flatten(), event.time) {
                let (last, events) = (group.last, group.events.drain(..).collect());
                self.groups.remove(&key);
                let group = correlation.group_by.iter().cloned().zip(key.1).collect();
                found.push(Correlated { rule: Arc::clone(&correlation.rule), first, last, count, group, events });
            }
        }
        found
    }

    /// Whether one more group may be. Looking for old ones takes a while: at most once a minute.
    fn has_room(&mut self, rules: &RuleSet, now: Timestamp) -> bool {
        if self.groups.len() >= MAX_GROUPS && now.0.saturating_sub(self.swept.0) >= SWEEP {
            self.swept = now;
            self.forget(rules, now);
        }
        self.groups.len() < MAX_GROUPS
    }

    /// Drops what is too old to be completed by an event of now, and what belongs to rules that are gone.
    pub fn forget(&mut self, rules: &RuleSet, now: Timestamp) {
        let spans: HashMap<&str, i64> = rules.correlations().map(|correlation| (correlation.rule.id.as_str(), correlation.span)).collect();
        self.groups.retain(|(rule, _), group| spans.get(rule.as_str()).is_some_and(|span| group.last.0 >= now.0 - span));
    }
}

/// The first value of a field, as text.
fn first(view: View<'_, '_>, field: &Field) -> Option<String> {
    let mut found = None;
    view.any(field, &mut |value| {
        found = Some(with_text(value, |text| text.chars().take(MAX_VALUE_BYTES).collect()));
        true
    });
    found
}

impl Group {
    /// Adds an event. If what the correlation looks for is complete, tells when it began and of how many.
    fn add(&mut self, correlation: &Correlation, number: usize, value: Option<String>, time: Timestamp) -> Option<(Timestamp, usize)> {
        let oldest = Timestamp(self.last.0 - correlation.span);
        match &correlation.pattern {
            Pattern::Count(least) => {
                let place = self.times.partition_point(|other| *other <= time);
                self.times.insert(place, time);
                while self.times.front().is_some_and(|first| *first < oldest) {
                    self.times.pop_front();
                }
                let first = *self.times.front()?;
                (self.times.len() >= *least).then_some((first, self.times.len()))
            }
            Pattern::Values(_, least) => self.complete(value?, time, oldest, *least),
            Pattern::All => self.complete(number.to_string(), time, oldest, correlation.parts.len()),
            Pattern::Ordered => {
                self.began.resize(correlation.parts.len(), None);
                let began = match number.checked_sub(1) {
                    None => Some(time),
                    Some(before) => self.began.get(before).copied().flatten().filter(|began| *began >= oldest && *began <= time),
                };
                if let (Some(began), Some(stage)) = (began, self.began.get_mut(number)) {
                    *stage = Some(stage.map_or(began, |other| other.max(began)));
                }
                let complete = self.began.last().copied().flatten();
                complete.map(|first| (first, correlation.parts.len()))
            }
        }
    }

    /// Notes a value or part, and tells whether there are enough.
    fn complete(&mut self, what: String, time: Timestamp, oldest: Timestamp, least: usize) -> Option<(Timestamp, usize)> {
        let latest = self.latest.entry(what).or_insert(time);
        *latest = time.max(*latest);
        self.latest.retain(|_, time| *time >= oldest);
        let first = *self.latest.values().min()?;
        (self.latest.len() >= least).then_some((first, self.latest.len()))
    }
}
