//! Sums by value, in memory that is bounded: what there is no room for is summed in a later pass over the rows.
//!
//! Values fall into classes by their hash. When memory runs out, the class at hand is halved: the values of one half go on
//! being summed, those of the other are left to a pass of their own. So each value is summed in one pass, whole.

use std::hash::BuildHasher as _;

use gumshoe_lake::Memory;
use gumshoe_model::{EntityType, Measures, Relation};
use hashbrown::HashTable;

use super::rules::List;
use crate::rows::{self, Answer};

/// Memory is asked for in steps of so many bytes.
const STEP: usize = 1 << 20;
/// Passes over the rows at most: whoever makes up values by the million is not worth more time.
const MAX_PASSES: usize = 32;
/// With fewer values than these, halving gains nothing: then there is no memory at all.
const FEW: usize = 256;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Operation,
    Address,
    UserAgent,
    Error,
    Peer { list: List, peer_type: EntityType, relation: Relation, port: i32, protocol: i32 },
}

/// A value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key<'a> {
    pub(super) kind: Kind,
    /// The value itself, or the peer's id.
    pub(super) text: &'a str,
}

impl<'a> Key<'a> {
    pub(super) fn value(kind: Kind, text: &'a str) -> Self {
        Self { kind, text }
    }
}

/// What a row adds to its values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) measures: &'a Measures,
    /// In the scope time; else in the baseline.
    pub(super) inside: bool,
}

/// What the rows of a value add up to in the scope time.
#[derive(Debug, Clone)]
pub(super) struct Sum {
    pub(super) measures: Measures,
    /// Never seen in the baseline.
    pub(super) fresh: bool,
    /// Of addresses: the greatest of their countries and networks; `""` and 0 if no row has any.
    pub(super) country: String,
    pub(super) network: i64,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    kind: Kind,
    text: Box<str>,
    sum: Sum,
}

/// The values whose hash leaves `rest` when divided by `divisor`.
#[derive(Debug, Clone, Copy)]
struct Class {
    divisor: u64,
    rest: u64,
}

impl Class {
    fn has(self, hash: u64) -> bool {
        // The table of values goes by the other bits.
        (hash >> 20) % self.divisor == self.rest
    }
}

/// The sums of one class of values.
#[derive(Debug)]
pub(super) struct Groups {
    entries: Vec<Entry>,
    table: HashTable<usize>,
    hasher: foldhash::fast::RandomState,
    class: Class,
    left: Vec<Class>,
    passes: usize,
    memory: Memory,
    bytes: usize,
    granted: usize,
    /// Where the last value of each kind is: neighbouring rows have much in common.
    last: [usize; 5],
}

impl Groups {
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            entries: Vec::new(),
            table: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            class: Class { divisor: 1, rest: 0 },
            left: Vec::new(),
            passes: 1,
            memory,
            bytes: 0,
            granted: 0,
            last: [usize::MAX; 5],
        }
    }

    /// Adds a row to a value; an empty text is none. `place` is the country and network of an address.
    pub(super) fn add(&mut self, key: Key<'_>, seen: Seen<'_>, place: Option<(&str, i64)>) -> Answer<()> {
        if key.text.is_empty() {
            return Ok(());
        }
        let Some(number) = self.number(key)? else { return Ok(()) };
        let Some(entry) = self.entries.get_mut(number) else { return Ok(()) };
        if seen.inside {
            entry.sum.measures.merge(seen.measures);
        } else {
            entry.sum.fresh = false;
        }
        if let Some((country, network)) = place {
            if country > entry.sum.country.as_str() {
                country.clone_into(&mut entry.sum.country);
            }
            entry.sum.network = entry.sum.network.max(network);
        }
        Ok(())
    }

    /// The entry of a value, if it is of the class at hand.
    fn number(&mut self, key: Key<'_>) -> Answer<Option<usize>> {
        let slot = match key.kind {
            Kind::Operation => 0,
            Kind::Address => 1,
            Kind::UserAgent => 2,
            Kind::Error => 3,
            Kind::Peer { .. } => 4,
        };
        let is = |entry: &Entry| entry.kind == key.kind && *entry.text == *key.text;
        if let Some(last) = self.last.get(slot).copied().filter(|last| self.entries.get(*last).is_some_and(is)) {
            return Ok(Some(last));
        }
        let hash = self.hasher.hash_one(key);
        if !self.class.has(hash) {
            return Ok(None);
        }
        let Self { entries, table, .. } = self;
        let known = table.find(hash, |number| entries.get(*number).is_some_and(is)).copied();
        let number = match known {
            Some(number) => number,
            None => {
                let number = entries.len();
                table.insert_unique(hash, number, |number| entries.get(*number).map_or(0, |entry| entry.hash));
                let sum = Sum { measures: Measures::ZERO, fresh: true, country: String::new(), network: 0 };
                entries.push(Entry { hash, kind: key.kind, text: key.text.into(), sum });
                self.bytes += cost(key.text);
                if self.bytes > self.granted {
                    self.make_room()?;
                    // Its class may have been left to a later pass.
                    return self.number(key);
                }
                number
            }
        };
        if let Some(last) = self.last.get_mut(slot) {
            *last = number;
        }
        Ok(Some(number))
    }

    fn make_room(&mut self) -> Answer<()> {
        while self.bytes > self.granted {
            let wanted = self.bytes.next_multiple_of(STEP);
            match self.memory.resize(wanted) {
                Ok(()) => self.granted = wanted,
                Err(error) if self.entries.len() < FEW => return Err(rows::failure(error)),
                Err(_) => self.halve(),
            }
        }
        Ok(())
    }

    /// Leaves half of the values to a later pass.
    fn halve(&mut self) {
        let Class { divisor, rest } = self.class;
        self.class = Class { divisor: divisor * 2, rest };
        self.left.push(Class { divisor: divisor * 2, rest: rest + divisor });
        let kept: Vec<Entry> = std::mem::take(&mut self.entries).into_iter().filter(|entry| self.class.has(entry.hash)).collect();
        self.clear();
        for entry in kept {
            self.table.insert_unique(entry.hash, self.entries.len(), |number| self.entries.get(*number).map_or(0, |entry| entry.hash));
            self.bytes += cost(&entry.text);
            self.entries.push(entry);
        }
    }

    fn clear(&mut self) {
        self.entries = Vec::new();
        self.table = HashTable::new();
        self.bytes = 0;
        self.last = [usize::MAX; 5];
    }

    /// Hands over all values of the class at hand.
    pub(super) fn finish(&mut self, mut take: impl FnMut(Key<'_>, &Sum)) {
        for entry in std::mem::take(&mut self.entries) {
            take(Key { kind: entry.kind, text: &entry.text }, &entry.sum);
        }
        self.clear();
    }

    /// Turns to the next class of values, all of whose rows are to be added; false if there is none, or no pass for it.
    pub(super) fn start_next(&mut self) -> bool {
        if self.passes == MAX_PASSES {
            return false;
        }
        let Some(class) = self.left.pop() else { return false };
        self.class = class;
        self.passes += 1;
        true
    }

    /// Whether values were left to passes that were not made.
    pub(super) fn leaves_out(&self) -> bool {
        !self.left.is_empty()
    }
}

/// Bytes of memory that a value takes, about. Tables double: at worst, half of their room is empty.
fn cost(text: &str) -> usize {
    2 * (size_of::<Entry>() + 2 * size_of::<usize>()) + text.len()
}
