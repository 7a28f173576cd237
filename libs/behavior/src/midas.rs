//! Bursts of edges in a stream: MIDAS-F, which does not learn from the bursts that it finds.
//!
//! Bhatia, Liu, Hooi, Yoon, Shin, Faloutsos: "Real-Time Anomaly Detection in Edge Streams" (arXiv 2009.08452).
//!
//! For an edge, its source and its destination, count-min sketches hold `a`, what was seen in the current tick (earlier ticks fade
//! in it), and `s`, all that was seen before. If nothing changed, `a` is near the mean `s / t`:
//!
//! ```text
//! score = (a + s − a · t)² / (s · (t − 1))        t: ticks since the beginning, at least 2
//! ```
//!
//! which is a chi-squared statistic; the largest of the three counts. At the end of a tick `a` is added to `s` only where the
//! score stayed below a threshold. Elsewhere `s` grows by its own mean, as if the tick had been a usual one: so a burst that is
//! repeated does not become the baseline.
//!
//! Each row of a sketch counts, scores and learns for itself, and the least of their scores counts, so that a collision in one row
//! alone raises nothing. (The paper scores the least counts of all rows; on its data this way is no worse, and is one pass.)
//! Memory is three sketches, whatever the number of edges.

use crate::{
    anomaly::{Anomaly, of_surprise},
    bytes::{Reader, Writer},
    random::mix,
};

/// How a detector is made. The default is the paper's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Independent rows of a sketch, at least 1.
    pub rows: usize,
    /// Counters of a row, at least 1.
    pub columns: usize,
    /// From which score on a tick is not learned.
    pub threshold: f32,
    /// What is left of a tick's counts in the next one, 0 to 1.
    pub decay: f32,
    /// What hashes begin with. A secret one keeps others from choosing names that collide.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rows: 2, columns: 1024, threshold: 1e3, decay: 0.5, seed: 0 }
    }
}

/// What moved the score of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The pair of source and destination.
    Edge,
    /// All edges of the source.
    Source,
    /// All edges of the destination.
    Destination,
}

/// How far an edge is from what was before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burst {
    /// Chi-squared, 0 and more.
    pub score: f64,
    /// Which of the three it is of.
    pub by: By,
    /// What was seen in the current tick, with what is left of those before.
    pub count: f64,
    /// What is usual in a tick: the mean of those before.
    pub usual: f64,
}

impl Burst {
    /// In words. A chi-squared of `x` with one degree of freedom has a chance of about `e^(−x / 2)`, but counts of machines are
    /// burstier than chance: the surprise is the logarithm of the score alone, and one as high as the threshold of learning, 1,000,
    /// makes half of 100.
    #[must_use]
    pub fn anomaly(&self, tick: &str) -> Anomaly {
        let score = of_surprise((self.score + 1.0).ln(), 100.0);
        let what = match self.by {
            By::Edge => "of this pair",
            By::Source => "of this source",
            By::Destination => "to this destination",
        };
        let label = format!("{:.0} {what} in a {tick}", self.count);
        let baseline = format!("usual: {:.1} a {tick}", self.usual);
        Anomaly::new(score, label.clone(), baseline, vec![(label, 1.0)])
    }
}

/// One counter of each kind: they are always used together.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    current: f32,
    total: f32,
    score: f32,
}

/// A count-min sketch of current counts, total counts and scores.
#[derive(Debug, Clone)]
struct Sketch {
    /// Row after row.
    cells: Vec<Cell>,
    columns: usize,
}

impl Sketch {
    fn new(rows: usize, columns: usize) -> Self {
        Self { cells: vec![Cell::default(); rows * columns], columns }
    }

    /// Counts an item and scores it. Returns score, current and total count, those of the row that scores least.
    fn observe(&mut self, hash: u64, count: f32, ticks: f32) -> (f32, f32, f32) {
        let mut least = (f32::INFINITY, 0.0, 0.0);
        let columns = self.columns;
        for (row, cells) in self.cells.chunks_exact_mut(columns).enumerate() {
            let Some(cell) = cells.get_mut(slot(hash, row, columns)) else { continue };
            cell.current += count;
            // What was never seen before has no mean to be far from; the source and the destination speak for it.
            cell.score = if cell.total > 0.0 && ticks > 1.0 {
                ((cell.current + cell.total - cell.current * ticks).powi(2) / (cell.total * (ticks - 1.0))).min(f32::MAX)
            } else {
                0.0
            };
            if cell.score < least.0 {
                least = (cell.score, cell.current, cell.total);
            }
        }
        least
    }

    /// Ends a tick, the `ticks`-th.
    fn end_tick(&mut self, settings: &Settings, ticks: f32, decay: f32) {
        for cell in &mut self.cells {
            cell.total += if cell.score < settings.threshold || ticks <= 1.0 { cell.current } else { cell.total / (ticks - 1.0) };
            cell.current *= decay;
        }
    }
}

/// The column of a hash in a row: the high bits of a product, as many as there are columns.
fn slot(hash: u64, row: usize, columns: usize) -> usize {
    let mixed = mix(hash.wrapping_add((row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    ((u128::from(mixed) * columns as u128) >> 64) as usize
}

/// The detector.
#[derive(Debug, Clone)]
pub struct Midas {
    settings: Settings,
    edges: Sketch,
    sources: Sketch,
    destinations: Sketch,
    /// The first tick seen, and the current one.
    ticks: Option<(u64, u64)>,
}

impl Midas {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let (rows, columns) = (settings.rows.max(1), settings.columns.max(1));
        let sketch = || Sketch::new(rows, columns);
        let decay = if settings.decay.is_finite() { settings.decay.clamp(0.0, 1.0) } else { 0.0 };
        Self { settings: Settings { rows, columns, decay, ..settings }, edges: sketch(), sources: sketch(), destinations: sketch(), ticks: None }
    }

    /// What it has learned.
    pub fn encode(&self, to: &mut Writer) {
        let Settings { rows, columns, threshold, decay, seed } = self.settings;
        to.u64(rows as u64);
        to.u64(columns as u64);
        to.f32(threshold);
        to.f32(decay);
        to.u64(seed);
        for sketch in [&self.edges, &self.sources, &self.destinations] {
            to.list(sketch.cells.iter(), |to, cell| {
                to.f32(cell.current);
                to.f32(cell.total);
                to.f32(cell.score);
            });
        }
        to.list(self.ticks.iter(), |to, (first, current)| {
            to.u64(*first);
            to.u64(*current);
        });
    }

    /// A detector that has learned that; `None` if it is not what [`Self::encode`] wrote.
    #[must_use]
    pub fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let (rows, columns) = (usize::try_from(from.u64()?).ok()?, usize::try_from(from.u64()?).ok()?);
        let settings = Settings { rows, columns, threshold: from.f32()?, decay: from.f32()?, seed: from.u64()? };
        let mut sketch = || {
            let cells = from.list(|from| Some(Cell { current: from.f32()?, total: from.f32()?, score: from.f32()? }))?;
            (rows > 0 && columns > 0 && rows.checked_mul(columns) == Some(cells.len())).then_some(Sketch { cells, columns })
        };
        let (edges, sources, destinations) = (sketch()?, sketch()?, sketch()?);
        let ticks = from.list(|from| Some((from.u64()?, from.u64()?)).filter(|(first, current)| first <= current))?.pop();
        Some(Self { settings, edges, sources, destinations, ticks })
    }

    /// Counts an edge, seen `count` times, and scores it against the ticks before. Source and destination are hashes of what they
    /// stand for. A tick earlier than the current one counts as the current one.
    pub fn observe(&mut self, source: u64, destination: u64, tick: u64, count: u32) -> Burst {
        let (first, current) = *self.ticks.get_or_insert((tick, tick));
        if tick > current {
            let ticks = (current - first + 1) as f32;
            let decay = self.settings.decay.powi(i32::try_from(tick - current).unwrap_or(i32::MAX));
            for sketch in [&mut self.edges, &mut self.sources, &mut self.destinations] {
                sketch.end_tick(&self.settings, ticks, decay);
            }
            self.ticks = Some((first, tick));
        }
        let ticks = (tick.max(current) - first + 1) as f32;
        let count = count as f32;
        let seed = mix(self.settings.seed);
        let (from, to) = (mix(source ^ seed), mix(destination ^ seed));
        let edge = self.edges.observe(from ^ to.rotate_left(32), count, ticks);
        let source = self.sources.observe(from, count, ticks);
        let destination = self.destinations.observe(to, count, ticks);
        let mut most = (edge, By::Edge);
        for next in [(source, By::Source), (destination, By::Destination)] {
            if next.0.0 > most.0.0 {
                most = next;
            }
        }
        let ((score, current, total), by) = most;
        let usual = if ticks > 1.0 { f64::from(total) / f64::from(ticks - 1.0) } else { 0.0 };
        Burst { score: f64::from(score), by, count: f64::from(current), usual }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ten machines that talk to one server each minute, and then what `more` adds.
    fn stream(minutes: u64, more: impl Fn(u64) -> Vec<(u64, u64, u32)>) -> Vec<(u64, Vec<Burst>)> {
        let mut midas = Midas::new(Settings::default());
        let mut found = Vec::new();
        for minute in 1..=minutes {
            for machine in 0..10 {
                midas.observe(machine, 100, minute, 3);
            }
            let bursts = more(minute).into_iter().map(|(source, destination, count)| midas.observe(source, destination, minute, count)).collect();
            found.push((minute, bursts));
        }
        found
    }

    #[test]
    fn the_usual_scores_low_and_a_burst_high() {
        let found = stream(60, |minute| vec![(1, 100, if minute == 60 { 500 } else { 3 })]);
        let score = |minute: u64| found[minute as usize - 1].1[0].score;
        assert!((20..60).all(|minute| score(minute) < 100.0), "{:?}", (20..60).map(score).fold(0.0, f64::max));
        assert!(score(60) > 10_000.0, "{}", score(60));
        let burst = found[59].1[0];
        assert!(burst.count >= 500.0 && burst.usual < 20.0, "{burst:?}");
        let anomaly = burst.anomaly("minute");
        assert!(anomaly.score > 60.0 && anomaly.label.contains("in a minute") && anomaly.baseline.starts_with("usual: "), "{anomaly:?}");
    }

    #[test]
    fn lockstep_shows_at_the_destination() {
        // Each source calls once, but all of them the same destination.
        let found = stream(40, |minute| match minute {
            40 => (0..300).map(|source| (1_000 + source, 7, 1)).collect(),
            _ => vec![(1, 7, 1)],
        });
        let last = found[39].1[299];
        assert_eq!(last.by, By::Destination);
        assert!(last.score > 1_000.0, "{last:?}");
    }

    #[test]
    fn a_burst_that_is_repeated_is_not_learned() {
        let attack = |learns: f32| {
            let mut midas = Midas::new(Settings { threshold: learns, ..Settings::default() });
            let mut scores = Vec::new();
            for minute in 1..=400 {
                for machine in 0..10 {
                    midas.observe(machine, 100, minute, 3);
                }
                scores.push(midas.observe(3, 100, minute, if minute > 100 && minute % 10 == 0 { 400 } else { 3 }).score);
            }
            (scores[109], scores[399])
        };
        let (first, last) = attack(1e3);
        // The baseline gets older and steadier, which is all that lowers the score.
        assert!(last > first * 0.3, "thirty bursts later {last}, at first {first}");
        // Without filtering they become the baseline.
        let (first, last) = attack(f32::INFINITY);
        assert!(last < first * 0.15, "{last} of {first}");
    }

    #[test]
    fn odd_settings_and_ticks_are_taken() {
        let mut midas = Midas::new(Settings { rows: 0, columns: 0, threshold: f32::NAN, decay: f32::NAN, seed: 7 });
        for (tick, count) in [(5, 1), (3, 0), (u64::MAX, u32::MAX), (0, 7)] {
            let burst = midas.observe(1, 2, tick, count);
            assert!(burst.score.is_finite() && burst.usual.is_finite(), "{burst:?}");
        }
    }

    proptest! {
        #[test]
        fn scores_are_never_negative_and_memory_is_fixed(edges in prop::collection::vec((0..50_u64, 0..50_u64, 0..5_u64, 0..1_000_u32), 0..300)) {
            let mut midas = Midas::new(Settings::default());
            let mut tick = 0;
            for (source, destination, step, count) in edges {
                tick += step;
                let burst = midas.observe(source, destination, tick, count);
                prop_assert!(burst.score >= 0.0 && burst.score.is_finite());
                prop_assert!((0.0..=100.0).contains(&burst.anomaly("hour").score));
            }
            prop_assert_eq!(midas.edges.cells.len(), 2 * 1024);
        }

        #[test]
        fn more_of_an_edge_in_a_tick_never_scores_less(before in 1..50_u32, ticks in 2..60_u64, count in 1..1_000_u32, more in 1..1_000_u32) {
            // Once it is above the usual.
            let score = |count: u32| {
                let mut midas = Midas::new(Settings::default());
                for tick in 1..=ticks {
                    midas.observe(1, 2, tick, before);
                }
                midas.observe(1, 2, ticks + 1, before + count).score
            };
            prop_assert!(score(count + more) >= score(count));
        }
    }
}
