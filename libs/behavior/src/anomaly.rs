//! What a statistic says: how unusual, which facts moved it, and against which baseline.

use gumshoe_model::Timestamp;

use crate::risk::{Input, Source};

/// One fact's part in a score.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// The fact, in words.
    pub what: String,
    /// How much of the score it makes.
    pub by: f64,
}

/// A score and its reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Anomaly {
    /// 0 to 100.
    pub score: f64,
    /// What was seen, in words.
    pub label: String,
    /// What it was compared with, in words.
    pub baseline: String,
    /// The facts that moved the score, largest first. INVARIANT: their parts add up to the score.
    pub parts: Vec<Moved>,
}

impl Anomaly {
    /// An anomaly whose parts are shares of `score` in proportion to the given weights; facts without weight are left out.
    #[must_use]
    pub(crate) fn new(score: f64, label: String, baseline: String, weights: Vec<(String, f64)>) -> Self {
        let score = if score.is_nan() { 0.0 } else { score.clamp(0.0, 100.0) };
        let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let share = |(what, weight): (String, f64)| Moved { what, by: score * weight / sum };
        let mut parts: Vec<Moved> = weights.into_iter().filter(|(_, weight)| *weight > 0.0).map(share).collect();
        parts.sort_by(|left, right| right.by.total_cmp(&left.by));
        Self { score, label, baseline, parts }
    }

    /// The same with only a part of its score, 0 to 1: that of what is known little.
    #[must_use]
    pub fn trusted(mut self, part: f64) -> Self {
        let part = if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) };
        self.score *= part;
        for moved in &mut self.parts {
            moved.by *= part;
        }
        self
    }

    /// As a fact for [`risk`](fn@crate::risk): the baseline is part of its label, the facts are its evidence.
    #[must_use]
    pub fn input(&self, source: Source, time: Timestamp) -> Input {
        let evidence = self.parts.iter().map(|part| format!("{} ({:+.0})", part.what, part.by)).collect();
        Input { source, score: self.score, time, label: format!("{}; {}", self.label, self.baseline), evidence }
    }
}

/// The score of a surprise in nats, `most · (1 − e^(−surprise / 10))`: a chance of 1 in 1,000 makes half of `most`.
#[must_use]
pub(crate) fn of_surprise(surprise: f64, most: f64) -> f64 {
    most * -(-surprise.max(0.0) / 10.0).exp_m1()
}
