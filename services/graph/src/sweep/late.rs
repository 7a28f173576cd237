//! Hours that got records after they were swept.

use std::collections::BTreeMap;

use gumshoe_behavior::bytes::{Reader, Writer};

use super::{DAY, Hours};
use crate::{
    behavior::Scope,
    rows::{self, Answer, Columns, Parameters},
};

/// How many records hours had when they were last looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The first hour that was swept with these counts.
    from: Option<i64>,
    /// Of the hours looked back on; one that is not here had none.
    counts: BTreeMap<i64, u64>,
}

impl Seen {
    pub(super) fn encode(&self, to: &mut Writer) {
        to.list(self.from.iter(), |to, from| to.i64(*from));
        to.list(self.counts.iter(), |to, (hour, count)| {
            to.i64(*hour);
            to.u64(*count);
        });
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let begun = from.list(Reader::i64)?.pop();
        let counts = from.list(|from| Some((from.i64()?, from.u64()?)))?;
        Some(Self { from: begun, counts: counts.into_iter().collect() })
    }

    /// The hours before `next`, which is swept next, that have more records `now` than when they were last looked at: the first one and the
    /// one after the last of each run, none of which goes over midnight. Remembers what there is now.
    pub(super) fn late(&mut self, next: i64, now: BTreeMap<i64, u64>) -> Vec<(i64, i64)> {
        let from = *self.from.get_or_insert(next);
        let mut late: Vec<(i64, i64)> = Vec::new();
        for (hour, count) in now.range(from.min(next)..next) {
            if *count <= self.counts.get(hour).copied().unwrap_or_default() {
                continue;
            }
            match late.last_mut() {
                Some((_, end)) if *end == *hour && hour.rem_euclid(DAY) != 0 => *end += 1,
                _ => late.push((*hour, *hour + 1)),
            }
        }
        self.counts = now;
        late
    }
}

/// How many records there are of each hour from `from` on, up to the end of `hours`: those that their edges count, since edges are few.
pub(super) async fn counts(hours: &Hours, from: i64) -> Answer<BTreeMap<i64, u64>> {
    let mut parameters = Parameters::new();
    let within = parameters.within("hour", Scope::window(from, hours.to)?);
    // Findings, ours among them, are no records of what happened in their hour.
    let sql = format!("SELECT hour, sum(count) AS count FROM edges WHERE {within} AND side = 'out' AND relation <> 'affected_by' GROUP BY hour");
    let mut found = BTreeMap::new();
    rows::each_of(&hours.snapshot, &sql, parameters, |batch| {
        let columns = Columns(batch);
        let (times, counts) = (columns.numbers("hour")?, columns.numbers("count")?);
        found.extend((0..columns.len()).map(|row| (times.time(row).hour().0, counts.count(row))));
        Ok(())
    })
    .await?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(hours: &[(i64, u64)]) -> BTreeMap<i64, u64> {
        hours.iter().copied().collect()
    }

    #[test]
    fn hours_are_late_when_they_have_got_more_and_only_once() {
        let mut seen = Seen::default();
        assert_eq!(seen.late(240, counts(&[(238, 5), (240, 7), (241, 1)])), [], "what was before the first sweep is not known");
        // Hour 242 had none; 239 is before the first sweep.
        let more = counts(&[(239, 9), (240, 8), (241, 1), (242, 3), (243, 2), (264, 1)]);
        assert_eq!(seen.late(264, more.clone()), [(240, 241), (242, 244)]);
        assert_eq!(seen.late(265, more), []);
        let mut to = Writer::default();
        seen.encode(&mut to);
        let bytes = to.finish();
        assert_eq!(Seen::decode(&mut Reader::new(&bytes)), Some(seen));
    }

    #[test]
    fn a_run_ends_at_midnight() {
        let mut seen = Seen::default();
        seen.late(240, BTreeMap::new());
        let all: Vec<(i64, u64)> = (262..267).map(|hour| (hour, 1)).collect();
        assert_eq!(seen.late(288, counts(&all)), [(262, 264), (264, 267)]);
    }
}
