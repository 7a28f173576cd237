//! Which events a graph has already, so that a second delivery of a record is not counted.
//!
//! A duplicate has the time of its original, so ids are kept by hour: the hours in use in memory, the others in the lake,
//! from where an hour is read back when an event of it arrives.

use std::collections::{BTreeSet, HashMap, VecDeque};

use arrow::{array::AsArray, datatypes::TimestampMicrosecondType, record_batch::RecordBatch};
use futures::StreamExt;
use gumshoe_lake::{GraphLake, LakeError, ParamValues, Table};
use gumshoe_model::{Hour, Timestamp};
use hashbrown::HashSet;
use xxhash_rust::xxh3::xxh3_128;

type Ids = HashSet<u128, foldhash::fast::RandomState>;

/// An id as a number: a UUID's own value, else the XXH3 hash of the text.
#[must_use]
pub(crate) fn number(id: &str) -> u128 {
    if id.len() == 36
        && let Ok(uuid) = uuid::Uuid::try_parse(id)
    {
        return uuid.as_u128();
    }
    xxh3_128(id.as_bytes())
}

/// Loads for which an hour stays at least: more groups are never under way, and what they bring is not in the lake yet.
const LOADS_UNDER_WAY: u64 = 32;

/// Ids of the events that a graph has.
#[derive(Debug)]
pub(crate) struct Known {
    hours: HashMap<i64, (Ids, u64)>,
    /// New ones of each group that is under way, oldest group first.
    claimed: VecDeque<Vec<u128>>,
    size: usize,
    limit: usize,
    clock: u64,
}

impl Known {
    /// Keeps about `limit` ids (24 bytes each) in memory.
    pub(crate) fn new(limit: usize) -> Self {
        Self { hours: HashMap::new(), claimed: VecDeque::new(), size: 0, limit, clock: 0 }
    }

    /// Forgets everything; the lake knows.
    pub(crate) fn clear(&mut self) {
        self.hours.clear();
        self.size = 0;
    }

    /// Makes the ids of these hours known.
    pub(crate) async fn load(&mut self, lake: &GraphLake, hours: &BTreeSet<i64>) -> Result<(), LakeError> {
        self.clock += 1;
        let mut missing: Vec<i64> = Vec::new();
        for hour in hours {
            match self.hours.get_mut(hour) {
                Some((_, used)) => *used = self.clock,
                None => {
                    self.hours.insert(*hour, (Ids::default(), self.clock));
                    if lake.has_day(Table::Events, hour.div_euclid(24)) {
                        missing.push(*hour);
                    }
                }
            }
        }
        if missing.is_empty() { Ok(()) } else { self.read(lake, &missing).await }
    }

    /// Reads the ids of some hours in one query: `hours` is sorted and not empty.
    async fn read(&mut self, lake: &GraphLake, hours: &[i64]) -> Result<(), LakeError> {
        let (Some(first), Some(last)) = (hours.first(), hours.last()) else { return Ok(()) };
        let mut days: Vec<String> = hours.iter().map(|hour| format!("DATE '{}'", Hour(*hour).start().to_chrono().format("%Y-%m-%d"))).collect();
        days.dedup();
        // Times made here, not by a caller, so that the planner can prune by them.
        let sql = format!(
            "SELECT time, event_id FROM events WHERE date IN ({}) AND time >= to_timestamp_micros({}) AND time < to_timestamp_micros({})",
            days.join(", "),
            Hour(*first).start().0,
            Hour(last + 1).start().0
        );
        let mut rows = lake.sql(&sql, ParamValues::List(Vec::new())).await?;
        while let Some(rows) = rows.next().await.transpose()? {
            for (hour, id) in ids_of(&rows) {
                if hours.binary_search(&hour).is_ok() {
                    self.insert(hour, id);
                }
            }
        }
        Ok(())
    }

    /// Notes the new ids of a group that is under way from now on.
    pub(crate) fn claim(&mut self, ids: Vec<u128>) {
        self.claimed.push_back(ids);
    }

    /// Notes that the oldest group is under way no more.
    pub(crate) fn release(&mut self) {
        self.claimed.pop_front();
    }

    /// Adds events that another process committed (`time`, `event_id`); whether no group under way has one of them.
    pub(crate) fn admit(&mut self, events: &[RecordBatch]) -> bool {
        let claimed: Ids = self.claimed.iter().flatten().copied().collect();
        let mut admitted = true;
        for (hour, id) in events.iter().flat_map(ids_of) {
            admitted &= !claimed.contains(&id);
            // Of an hour that is not here, the lake knows all.
            if self.hours.contains_key(&hour) {
                self.insert(hour, id);
            }
        }
        admitted
    }

    /// Adds an id; false if it was there.
    pub(crate) fn insert(&mut self, hour: i64, id: u128) -> bool {
        let new = self.hours.entry(hour).or_insert_with(|| (Ids::default(), self.clock)).0.insert(id);
        self.size += usize::from(new);
        new
    }

    /// Drops the hours not used for longest until the rest fits; hours of groups under way stay.
    pub(crate) fn shrink(&mut self) {
        while self.size > self.limit {
            let oldest =
                self.hours.iter().filter(|(_, (_, used))| used + LOADS_UNDER_WAY < self.clock).min_by_key(|(_, (_, used))| *used).map(|(hour, _)| *hour);
            let Some((ids, _)) = oldest.and_then(|hour| self.hours.remove(&hour)) else { break };
            self.size -= ids.len();
        }
    }
}

/// Hours and ids of rows with the columns `time` and `event_id`.
fn ids_of(rows: &RecordBatch) -> impl Iterator<Item = (i64, u128)> {
    let columns = match rows.columns() {
        [times, ids] => times.as_primitive_opt::<TimestampMicrosecondType>().zip(ids.as_string_opt::<i32>()),
        _ => None,
    };
    let pairs = columns.into_iter().flat_map(|(times, ids)| times.values().iter().zip(ids));
    pairs.filter_map(|(time, id)| Some((Timestamp(*time).hour().0, number(id?))))
}
