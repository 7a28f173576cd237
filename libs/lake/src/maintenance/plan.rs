//! Which files are merged next.
//!
//! What one commit brings is a run: a file alone. What one merge writes is a run too: one or more files that follow each
//! other in the table's order. Runs have levels by their size, and as soon as there are enough of a level they become one of
//! a higher level. So every row is written again once a level, and there are never more than a few runs of each. Files of
//! tables whose rows stay as they are need no merging once they are large.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use deltalake::kernel::{Add, LogicalFileView, Remove};
use gumshoe_model::{
    Timestamp,
    time::{MICROS_PER_DAY, MICROS_PER_HOUR},
};

use super::Layout;
use crate::{
    Table,
    graph::{date, day_of_path},
};

/// Runs below this many bytes are of the lowest level.
const SMALLEST: u64 = 64 * 1024;
/// Runs in one merge at most, whatever has piled up: each is read with a few megabytes of memory.
const MAX_RUNS: usize = 16;
/// A day is at rest when its last file is this old; then its runs are made as few as can be.
const REST: i64 = 6 * MICROS_PER_HOUR;
/// Of a day at rest, what came late is left apart as long as it is less than this part of the day.
const LATE_PART: u64 = 8;

/// A data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Under the table's folder.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// As the log says; 0 if it does not.
    pub(crate) rows: u64,
    pub(crate) day: Option<i64>,
    /// Milliseconds since the epoch: when its youngest rows were first written.
    pub(crate) written: i64,
}

impl File {
    pub(crate) fn of(view: &LogicalFileView) -> Self {
        let path = view.path().into_owned();
        let rows = view.num_records().and_then(|rows| u64::try_from(rows).ok()).unwrap_or_default();
        Self { day: day_of_path(&path), path, bytes: u64::try_from(view.size()).unwrap_or_default(), rows, written: view.modification_time() }
    }

    /// The run that the file is part of, if a merge has written it.
    fn run(&self) -> Option<&str> {
        let name = self.path.rsplit('/').next()?;
        name.strip_prefix("run-")?.get(..36)
    }

    /// The action that puts the file into its table.
    pub(crate) fn add(&self, statistics: String, data_change: bool) -> Add {
        Add {
            path: self.path.clone(),
            partition_values: self.partition(),
            size: i64::try_from(self.bytes).unwrap_or(i64::MAX),
            modification_time: self.written,
            data_change,
            stats: Some(statistics),
            ..Add::default()
        }
    }

    /// The action that takes the file out of its table.
    pub(crate) fn remove(&self, data_change: bool, now: i64) -> Remove {
        Remove {
            path: self.path.clone(),
            data_change,
            deletion_timestamp: Some(now),
            extended_file_metadata: Some(true),
            partition_values: Some(self.partition()),
            size: i64::try_from(self.bytes).ok(),
            ..Remove::default()
        }
    }

    fn partition(&self) -> HashMap<String, Option<String>> {
        self.day.map(|day| ("date".to_owned(), Some(date(day)))).into_iter().collect()
    }
}

/// Files that follow each other in the table's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) files: Vec<File>,
    /// Whether a merge has written it; if not, its rows may be in any order.
    pub(crate) merged: bool,
}

impl Run {
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    pub(crate) fn written_time(&self) -> i64 {
        self.files.iter().map(|file| file.written).max().unwrap_or_default()
    }

    fn level(&self, ratio: u64) -> u32 {
        let (mut level, mut limit) = (0, SMALLEST);
        while self.bytes() >= limit && limit < u64::MAX {
            level += 1;
            limit = limit.saturating_mul(ratio);
        }
        level
    }
}

/// Files as runs, by day; tables that are not kept by day have one day, `None`.
pub(crate) fn runs(files: Vec<File>) -> BTreeMap<Option<i64>, Vec<Run>> {
    let mut merged: BTreeMap<(Option<i64>, String), Vec<File>> = BTreeMap::new();
    let mut runs: BTreeMap<Option<i64>, Vec<Run>> = BTreeMap::new();
    for file in files {
        match file.run() {
            Some(run) => merged.entry((file.day, run.to_owned())).or_default().push(file),
            None => runs.entry(file.day).or_default().push(Run { files: vec![file], merged: false }),
        }
    }
    for ((day, _), mut files) in merged {
        files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        runs.entry(day).or_default().push(Run { files, merged: true });
    }
    runs
}

/// Takes the runs of one day that are to be merged next out of `runs`; `None` when all is well.
pub(crate) fn take_next(table: Table, day: Option<i64>, runs: &mut Vec<Run>, layout: Layout, now: Timestamp) -> Option<Vec<Run>> {
    // A large file is read as it stands; but edges of one entity lie together only in one run.
    let large = layout.target_file_bytes / 2;
    let wanted = |run: &Run| table.adds_up() || run.bytes() < large;
    let chosen: Vec<usize> = if day.is_some_and(|day| is_at_rest(day, runs, now)) {
        let all: Vec<usize> = (0..).zip(runs.iter()).filter(|(_, run)| wanted(run)).map(|(index, _)| index).collect();
        at_rest(table, runs, all)
    } else {
        let ratio = u64::try_from(layout.min_files).unwrap_or(u64::MAX).max(2);
        let mut levels: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, run) in (0..).zip(runs.iter()).filter(|(_, run)| wanted(run)) {
            levels.entry(run.level(ratio)).or_default().push(index);
        }
        levels.into_values().find(|level| level.len() >= layout.min_files.max(2)).unwrap_or_default()
    };
    if chosen.len() < 2 {
        return None;
    }
    // What was written together is mostly of the same time.
    let mut chosen: Vec<(i64, usize)> = chosen.into_iter().filter_map(|index| Some((runs.get(index)?.written_time(), index))).collect();
    chosen.sort_unstable();
    chosen.truncate(MAX_RUNS);
    let mut indexes: Vec<usize> = chosen.into_iter().map(|(_, index)| index).collect();
    indexes.sort_unstable_by_key(|index| Reverse(*index));
    Some(indexes.into_iter().map(|index| runs.remove(index)).collect())
}

fn is_at_rest(day: i64, runs: &[Run], now: Timestamp) -> bool {
    let last = runs.iter().map(Run::written_time).max().unwrap_or_default().saturating_mul(1_000);
    day < now.0.div_euclid(MICROS_PER_DAY) && last < now.0.saturating_sub(REST)
}

fn at_rest(table: Table, runs: &[Run], mut all: Vec<usize>) -> Vec<usize> {
    let bytes = |index: &usize| runs.get(*index).map_or(0, Run::bytes);
    all.sort_unstable_by_key(bytes);
    let late: u64 = all.iter().rev().skip(1).map(bytes).sum();
    if table.adds_up() && all.last().is_some_and(|largest| late.saturating_mul(LATE_PART) < bytes(largest)) {
        all.pop();
    }
    // The smallest first: should there be more than fit into one merge, the rest follows.
    all.truncate(MAX_RUNS);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { target_file_bytes: 128 << 20, min_files: 8 };
    const DAY: i64 = 20_000;
    const NOW: Timestamp = Timestamp(DAY * MICROS_PER_DAY + 12 * MICROS_PER_HOUR);

    fn run(bytes: u64, number: i64) -> Run {
        let file = File { path: format!("date=2024-10-04/part-{number}.parquet"), bytes, rows: 1, day: Some(DAY), written: NOW.0 / 1_000 - 100_000 + number };
        Run { files: vec![file], merged: false }
    }

    /// Commits `commits` files of `bytes` and merges after each; gives the most runs that there were, and the bytes written
    /// by merges.
    fn write(table: Table, commits: i64, bytes: u64) -> (usize, u64, Vec<Run>) {
        let (mut runs, mut most, mut rewritten) = (Vec::new(), 0, 0);
        for number in 0..commits {
            runs.push(run(bytes, number));
            while let Some(taken) = take_next(table, Some(DAY), &mut runs, LAYOUT, NOW) {
                assert!((2..=MAX_RUNS).contains(&taken.len()));
                let sum: u64 = taken.iter().map(Run::bytes).sum();
                rewritten += sum;
                let mut merged = run(sum, number);
                merged.merged = true;
                runs.push(merged);
            }
            most = most.max(runs.len());
        }
        (most, rewritten, runs)
    }

    #[test]
    fn there_are_at_most_seven_runs_of_a_level() {
        for (commits, bytes) in [(1, 1), (7, 100_000), (5_000, 1_000), (5_000, 300_000), (2_000, 5_000_000)] {
            let (most, _, runs) = write(Table::Edges, commits, bytes);
            let levels = 1 + (u64::try_from(commits).unwrap() * bytes / SMALLEST).max(1).ilog(8) as usize + 1;
            assert!(most <= 7 * levels, "{most} runs for {commits} commits of {bytes} bytes");
            assert_eq!(runs.iter().map(Run::bytes).sum::<u64>(), u64::try_from(commits).unwrap() * bytes);
        }
    }

    #[test]
    fn each_row_is_written_again_once_a_level() {
        let (_, rewritten, _) = write(Table::Edges, 4_096, 100_000);
        let amplification = rewritten as f64 / (4_096.0 * 100_000.0);
        assert!((3.0..=4.5).contains(&amplification), "{amplification}");
    }

    #[test]
    fn large_files_of_events_are_left_alone() {
        let (_, _, runs) = write(Table::Events, 1_000, 4 << 20);
        assert!(runs.iter().all(|run| run.bytes() < 8 * (64 << 20)), "nothing large was merged again");
        let (_, _, runs) = write(Table::Events, 100, 65 << 20);
        assert_eq!(runs.len(), 100);
    }

    #[test]
    fn a_day_at_rest_becomes_one_run_but_late_records_do_not_move_it() {
        let later = Timestamp(NOW.0 + 2 * MICROS_PER_DAY);
        let mut runs = vec![run(500 << 20, 0), run(60 << 20, 1), run(30 << 20, 2)];
        assert_eq!(take_next(Table::Edges, Some(DAY), &mut runs.clone(), LAYOUT, NOW), None);
        assert_eq!(take_next(Table::Edges, Some(DAY), &mut runs, LAYOUT, later).unwrap().len(), 3);
        let mut runs = vec![run(500 << 20, 0), run(1 << 20, 1), run(1 << 20, 2)];
        let late = take_next(Table::Edges, Some(DAY), &mut runs, LAYOUT, later).unwrap();
        assert_eq!((late.len(), runs.len(), runs[0].bytes()), (2, 1, 500 << 20));
        runs.push(run(2 << 20, 3));
        assert_eq!(take_next(Table::Edges, Some(DAY), &mut runs, LAYOUT, later), None);
        let mut events = vec![run(100 << 20, 0), run(1 << 20, 1), run(2 << 20, 2)];
        assert_eq!(take_next(Table::Events, Some(DAY), &mut events, LAYOUT, later).unwrap().len(), 2);
        // A file that has just come in wakes the day.
        let mut woken = vec![run(10, 0), run(10, 1)];
        woken[0].files[0].written = later.0 / 1_000;
        assert_eq!(take_next(Table::Edges, Some(DAY), &mut woken, LAYOUT, later), None);
    }

    #[test]
    fn files_of_a_merge_are_one_run() {
        let id = "0190a1b2-c3d4-7e5f-8091-a2b3c4d5e6f7";
        let file = |path: &str| File { path: path.to_owned(), bytes: 1, rows: 1, day: day_of_path(path), written: 0 };
        let files = vec![
            file(&format!("date=2024-10-04/run-{id}-00001.parquet")),
            file("date=2024-10-04/part-0190a1b2-c3d4-7e5f-8091-a2b3c4d5e6f8.parquet"),
            file(&format!("date=2024-10-04/run-{id}-00000.parquet")),
            file("date=2024-10-05/part-0190a1b2-c3d4-7e5f-8091-a2b3c4d5e6f9.parquet"),
        ];
        let runs = runs(files);
        let shape: Vec<_> = runs.values().map(|runs| runs.iter().map(|run| (run.files.len(), run.merged)).collect::<Vec<_>>()).collect();
        assert_eq!(shape, [vec![(1, false), (2, true)], vec![(1, false)]]);
        let first = runs.values().next().unwrap();
        assert!(first[1].files[0].path.ends_with("00000.parquet"));
    }
}
