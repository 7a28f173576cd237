//! The data files that a table has now, by day, with the bounds of their rows.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use deltalake::kernel::EagerSnapshot;
use gumshoe_model::{TimeWindow, Timestamp};
use object_store::path::Path;
use serde_json::Value;

use crate::{Table, graph::day_of_path};

/// A data file. What its bounds do not say may be in it.
#[derive(Debug)]
pub(crate) struct File {
    /// Under the table's folder.
    pub(crate) path: Path,
    pub(crate) bytes: u64,
    pub(crate) day: Option<i64>,
    texts: Vec<(&'static str, String, String)>,
    times: Vec<(&'static str, Timestamp, Timestamp)>,
}

impl File {
    fn new(table: Table, path: Path, bytes: i64, statistics: Option<String>) -> Self {
        let statistics: Value = statistics.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let (mut texts, mut times) = (Vec::new(), Vec::new());
        for name in table.statistics() {
            let bound = |bounds: &str| statistics.get(bounds)?.get(name)?.as_str();
            let (Some(low), Some(high)) = (bound("minValues"), bound("maxValues")) else { continue };
            if !table.is_time(name) {
                texts.push((*name, low.to_owned(), high.to_owned()));
            } else if let (Ok(low), Ok(high)) = (Timestamp::parse(low), Timestamp::parse(high)) {
                // Other writers round to milliseconds.
                times.push((*name, low, Timestamp(high.0.saturating_add(999))));
            }
        }
        Self { day: day_of_path(path.as_ref()), path, bytes: u64::try_from(bytes).unwrap_or_default(), texts, times }
    }

    /// Whether a row may have `text` in `column`.
    pub(crate) fn may_hold(&self, column: &str, text: &str) -> bool {
        self.texts.iter().find(|(name, ..)| *name == column).is_none_or(|(_, low, high)| low.as_str() <= text && text <= high.as_str())
    }

    /// Whether every row has `text` in `column`.
    pub(crate) fn holds_only(&self, column: &str, text: &str) -> bool {
        // What the log cuts off is longer than any text that is asked for here.
        self.texts.iter().any(|(name, low, high)| *name == column && low == text && high == text)
    }

    /// Whether a row may lie in `window`.
    pub(crate) fn may_lie_in(&self, column: &str, window: TimeWindow) -> bool {
        self.times.iter().find(|(name, ..)| *name == column).is_none_or(|(_, low, high)| *low < window.end() && window.start() <= *high)
    }

    /// Whether every row lies in `window`.
    pub(crate) fn lies_in(&self, column: &str, window: TimeWindow) -> bool {
        self.times.iter().any(|(name, low, high)| *name == column && window.start() <= *low && *high < window.end())
    }
}

/// The files of one version of a table.
#[derive(Debug, Default)]
pub(crate) struct Files {
    version: Option<u64>,
    days: BTreeMap<Option<i64>, Vec<Arc<File>>>,
}

impl Files {
    /// The files of `snapshot`; those that were known before are taken over.
    pub(crate) fn of(table: Table, snapshot: &EagerSnapshot, before: &Self) -> Self {
        let known: HashMap<&Path, &Arc<File>> = before.days.values().flatten().map(|file| (&file.path, file)).collect();
        let mut days: BTreeMap<Option<i64>, Vec<Arc<File>>> = BTreeMap::new();
        for view in snapshot.log_data().iter() {
            let path = view.object_store_path();
            let file = match known.get(&path) {
                Some(file) => Arc::clone(file),
                None => Arc::new(File::new(table, path, view.size(), view.stats())),
            };
            days.entry(file.day).or_default().push(file);
        }
        Self { version: Some(snapshot.version()), days }
    }

    pub(crate) fn is_of(&self, snapshot: &EagerSnapshot) -> bool {
        self.version == Some(snapshot.version())
    }

    /// The files that may have rows of these days, both included.
    pub(crate) fn between(&self, first: i64, last: i64) -> impl Iterator<Item = &Arc<File>> {
        let days = (Bound::Included(Some(first)), Bound::Included(Some(last)));
        let undated = self.days.get(&None);
        undated.into_iter().chain(self.days.range(days).map(|(_, files)| files)).flatten()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<File>> {
        self.days.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use gumshoe_model::time::MICROS_PER_HOUR;

    use super::*;

    fn window(start: i64, end: i64) -> TimeWindow {
        TimeWindow::new(Timestamp(start), Timestamp(end)).unwrap()
    }

    #[test]
    fn bounds_say_what_a_file_cannot_hold() {
        let statistics = r#"{"numRecords":3,"minValues":{"hour":"2024-10-04T01:00:00.000000Z","entity_type":"role","entity_id":"a"},
            "maxValues":{"hour":"2024-10-04T03:00:00Z","entity_type":"user","entity_id":"m"}}"#;
        let file = File::new(Table::Edges, Path::from("date=2024-10-04/part-1.parquet"), 7, Some(statistics.to_owned()));
        assert_eq!((file.day, file.bytes), (Some(20_000), 7));
        assert!(file.may_hold("entity_type", "role") && file.may_hold("entity_type", "user") && !file.may_hold("entity_type", "account"));
        assert!(file.may_hold("peer_id", "anything"));
        assert!(!file.holds_only("entity_type", "role"));
        let hour = |hour: i64| 20_000 * 24 * MICROS_PER_HOUR + hour * MICROS_PER_HOUR;
        assert!(file.may_lie_in("hour", window(hour(3), hour(4))) && !file.may_lie_in("hour", window(hour(4), hour(5))));
        assert!(!file.may_lie_in("hour", window(hour(0), hour(1))));
        assert!(file.lies_in("hour", window(hour(1), hour(4))) && !file.lies_in("hour", window(hour(1), hour(3))));
        let unknown = File::new(Table::Edges, Path::from("date=2024-10-04/part-2.parquet"), 7, None);
        assert!(unknown.may_hold("entity_type", "role") && unknown.may_lie_in("hour", window(0, 1)) && !unknown.lies_in("hour", window(0, i64::MAX)));
    }
}
