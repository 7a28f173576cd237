//! A column of texts while it is filled: each text once, and each row's number.

use hashbrown::HashTable;
use std::hash::BuildHasher as _;

/// Texts that repeat, by their numbers in order of first use.
#[derive(Debug, Default)]
pub(super) struct TextColumn {
    bytes: String,
    /// Where each text ends.
    ends: Vec<usize>,
    table: HashTable<u32>,
    hasher: foldhash::fast::FixedState,
    /// None for as long as all rows have the same text.
    keys: Vec<u32>,
    rows: usize,
    last: u32,
}

impl TextColumn {
    /// Adds a row.
    pub(super) fn push(&mut self, text: &str) {
        if self.rows == 0 || self.get(self.last) != text {
            let key = self.number(text);
            if self.rows > 0 && self.keys.is_empty() {
                self.keys.resize(self.rows, self.last);
            }
            self.last = key;
        }
        self.rows += 1;
        if !self.keys.is_empty() {
            self.keys.push(self.last);
        }
    }

    fn number(&mut self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text);
        let (bytes, ends) = (&self.bytes, &self.ends);
        if let Some(key) = self.table.find(hash, |key| slice(bytes, ends, *key) == text) {
            return *key;
        }
        let key = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len());
        let (bytes, ends, hasher) = (&self.bytes, &self.ends, &self.hasher);
        self.table.insert_unique(hash, key, |key| hasher.hash_one(slice(bytes, ends, *key)));
        key
    }

    /// The text of a number.
    pub(super) fn get(&self, key: u32) -> &str {
        slice(&self.bytes, &self.ends, key)
    }

    /// The number of each row's text.
    pub(super) fn keys(&self) -> std::borrow::Cow<'_, [u32]> {
        if self.keys.is_empty() { vec![self.last; self.rows].into() } else { self.keys.as_slice().into() }
    }
}

fn slice<'b>(bytes: &'b str, ends: &[usize], key: u32) -> &'b str {
    let key = key as usize;
    let start = key.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or_default();
    ends.get(key).and_then(|end| bytes.get(start..*end)).unwrap_or_default()
}
