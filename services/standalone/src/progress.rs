//! A progress bar with bytes, records a second and time left; on standard error, and only where a person watches.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::quantity::show_count;

const TEMPLATE: &str = "{prefix} [{bar:28}] {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}{msg}, {eta} left";
const TICK: Duration = Duration::from_millis(200);

/// Progress of one long piece of work.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    records: AtomicU64,
    start: Instant,
}

impl Progress {
    /// Work of so many bytes; indicatif draws nothing where standard error is no terminal.
    pub fn new(bytes: u64, what: &'static str) -> Self {
        let bar = ProgressBar::new(bytes).with_prefix(what);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(TICK);
        Self { bar, records: AtomicU64::new(0), start: Instant::now() }
    }

    /// Changes how many bytes there are.
    pub fn total(&self, bytes: u64) {
        self.bar.set_length(bytes);
    }

    /// More bytes went by.
    pub fn bytes(&self, more: u64) {
        self.bar.inc(more);
    }

    /// Bytes that went by must go again.
    pub fn again(&self, bytes: u64) {
        self.bar.dec(bytes);
    }

    /// More records are in.
    pub fn records(&self, more: u64) {
        let all = self.records.fetch_add(more, Ordering::Relaxed) + more;
        self.show(all);
    }

    /// So many bytes and records are through.
    pub fn at(&self, bytes: u64, records: u64) {
        self.bar.set_position(bytes);
        self.show(records);
    }

    /// Prints a line above the bar.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| crate::output::note(text));
    }

    /// Takes the bar away; returns how long it took.
    pub fn finish(&self) -> Duration {
        self.bar.finish_and_clear();
        self.start.elapsed()
    }

    fn show(&self, records: u64) {
        let rate = records as f64 / self.start.elapsed().as_secs_f64().max(0.001);
        self.bar.set_message(format!(", {} records, {}/s", show_count(records), show_count(rate as u64)));
    }
}
