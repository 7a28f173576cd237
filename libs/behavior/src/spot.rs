//! Thresholds for a stream of scores without labels: SPOT and, for streams that drift, DSPOT.
//!
//! Siffer, Fouque, Termier, Largouet: "Anomaly Detection in Streams with Extreme Value Theory" (KDD 2017).
//!
//! What exceeds a high quantile `t` of almost any distribution has a generalised Pareto tail (Pickands, Balkema, de Haan). With
//! `n` values seen, `N` of them peaks above `t`, and a tail of shape `γ` and scale `σ`, the value that is exceeded with the
//! wanted chance `q` is
//!
//! ```text
//! z = t + σ / γ · ((q · n / N)^(−γ) − 1)          for γ = 0:  z = t − σ · ln(q · n / N)
//! ```
//!
//! What is above `z` is an alarm and is not learned; what is between `t` and `z` is a peak and refines the tail. Left at that, the
//! tail would be fitted to peaks that end at `z`, and `z` would sink with every fit. So for every `N / (q · n)` peaks one is added
//! that the tail has above `z`: as many as a usual stream has there, however many alarms there were.

use std::collections::VecDeque;

use crate::bytes::{Reader, Writer};

/// Most peaks that are kept; older ones are forgotten.
const MAX_PEAKS: usize = 500;
/// Fewest peaks that a tail is fitted to.
const MIN_PEAKS: usize = 10;
/// Steps of the search for roots, and of each bisection.
const GRID: usize = 16;
const BISECTIONS: usize = 40;

/// How a threshold is set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The chance that a usual value is an alarm: 0.0001 is one in ten thousand.
    pub risk: f64,
    /// The quantile above which a value is a peak, 0 to 1.
    pub level: f64,
    /// Values from which the first threshold is made; no alarm before.
    pub calibration: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { risk: 1e-4, level: 0.98, calibration: 1_000 }
    }
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is no threshold yet.
    Calibrating,
    /// Usual.
    Normal,
    /// High, but to be expected now and then.
    Peak,
    /// Above the threshold. It is not learned.
    Alarm,
}

/// A generalised Pareto distribution of what exceeds the level.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tail {
    shape: f64,
    scale: f64,
}

/// Shapes nearer to 0 are taken as an exponential tail.
const FLAT: f64 = 1e-8;
/// Shapes below are not taken: there the likelihood has no good maximum, and a tail that ends where its peaks end would make each
/// alarm, which is not learned, lower the threshold for the next.
const LEAST_SHAPE: f64 = -0.5;

impl Tail {
    /// The tail that makes the peaks most likely, of Grimshaw's candidates, that by moments and an exponential one.
    fn fit(peaks: &VecDeque<f64>) -> Self {
        let count = peaks.len() as f64;
        let mean = (peaks.iter().sum::<f64>() / count).max(f64::MIN_POSITIVE);
        let variance = peaks.iter().map(|peak| (peak - mean).powi(2)).sum::<f64>() / count;
        let mut best = Self { shape: 0.0, scale: mean };
        let mut likelihood = best.likelihood(peaks);
        let mut consider = |tail: Self| {
            let now = tail.likelihood(peaks);
            if now > likelihood {
                (best, likelihood) = (tail, now);
            }
        };
        if variance > 0.0 {
            let ratio = mean * mean / variance;
            consider(Self { shape: 0.5 * (1.0 - ratio), scale: 0.5 * mean * (1.0 + ratio) });
        }
        for root in roots(peaks, mean) {
            let shape = mean_of(peaks, |peak| (root * peak).ln_1p());
            consider(Self { shape, scale: shape / root });
        }
        best
    }

    /// The logarithm of the likelihood; minus infinity where a peak is impossible.
    fn likelihood(self, peaks: &VecDeque<f64>) -> f64 {
        let count = peaks.len() as f64;
        if !(self.scale > 0.0 && self.scale.is_finite() && self.shape.is_finite() && self.shape >= LEAST_SHAPE) {
            return f64::NEG_INFINITY;
        }
        if self.shape.abs() < FLAT {
            return -count * self.scale.ln() - peaks.iter().sum::<f64>() / self.scale;
        }
        let logs: f64 = peaks.iter().map(|peak| (1.0 + self.shape / self.scale * peak).ln()).sum();
        let likelihood = -count * self.scale.ln() - (1.0 + 1.0 / self.shape) * logs;
        if likelihood.is_finite() { likelihood } else { f64::NEG_INFINITY }
    }

    /// The excess that a peak has with chance `ratio`.
    fn excess(self, ratio: f64) -> f64 {
        if self.shape.abs() < FLAT { -self.scale * ratio.ln() } else { self.scale / self.shape * (ratio.powf(-self.shape) - 1.0) }
    }

    /// The chance that a peak exceeds this much.
    fn chance(self, excess: f64) -> f64 {
        if self.shape.abs() < FLAT {
            return (-excess / self.scale).exp();
        }
        (1.0 + self.shape * excess / self.scale).max(0.0).powf(-1.0 / self.shape)
    }
}

fn mean_of(peaks: &VecDeque<f64>, value: impl Fn(f64) -> f64) -> f64 {
    peaks.iter().map(|peak| value(*peak)).sum::<f64>() / peaks.len() as f64
}

/// Roots of Grimshaw's equation `u(x) · v(x) = 1` for `x = γ / σ`, with `u` the mean of `1 / (1 + x · y)` and
/// `v` one more than the mean of `ln(1 + x · y)`.
fn roots(peaks: &VecDeque<f64>, mean: f64) -> Vec<f64> {
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    for peak in peaks {
        (least, most) = (least.min(*peak), most.max(*peak));
    }
    if most <= 0.0 {
        return Vec::new();
    }
    let equation = |x: f64| mean_of(peaks, |peak| 1.0 / (1.0 + x * peak)) * (1.0 + mean_of(peaks, |peak| (x * peak).ln_1p())) - 1.0;
    let tiny = 1e-6 / mean;
    let below = (-1.0 / most) * (1.0 - 1e-6);
    // No root is above this, Grimshaw's bound; a least peak of nearly 0 makes it useless, so it is cut.
    let above = (2.0 * (mean - least) / (least * least)).min(100.0 / mean);
    let mut found = Vec::new();
    for (from, to) in [(below, -tiny), (tiny, above)] {
        if !(from < to && to.is_finite()) {
            continue;
        }
        // Denser near 0 on the positive side, where roots mostly are.
        let at = |step: usize| from + (to - from) * (step as f64 / GRID as f64).powi(if from > 0.0 { 3 } else { 1 });
        let mut left = (from, equation(from));
        for step in 1..=GRID {
            let right = (at(step), equation(at(step)));
            if left.1 * right.1 < 0.0 {
                let (mut low, mut high) = (left, right);
                for _ in 0..BISECTIONS {
                    let middle = (low.0 + high.0) / 2.0;
                    let value = equation(middle);
                    if low.1 * value <= 0.0 {
                        high = (middle, value);
                    } else {
                        low = (middle, value);
                    }
                }
                found.push((low.0 + high.0) / 2.0);
            }
            left = right;
        }
    }
    found
}

/// A threshold that follows a stream.
#[derive(Debug, Clone)]
pub struct Spot {
    settings: Settings,
    /// Values of the calibration, until it ends.
    first: Vec<f64>,
    /// The level `t` and the tail above it, once calibrated.
    tail: Option<(f64, Tail)>,
    /// Excesses over the level, the latest last.
    peaks: VecDeque<f64>,
    /// Peaks since the tail was fitted.
    unfitted: usize,
    /// What part of a peak above the threshold is to be added, and how many were.
    owed: f64,
    added: u32,
    /// Peaks and values, alarms left out.
    peaks_seen: u64,
    seen: u64,
}

impl Spot {
    /// A threshold that has seen nothing. Settings out of their range are cut.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let settings =
            Settings { risk: settings.risk.clamp(1e-12, 0.5), level: settings.level.clamp(0.5, 0.999), calibration: settings.calibration.max(2 * MIN_PEAKS) };
        Self { settings, first: Vec::new(), tail: None, peaks: VecDeque::new(), unfitted: 0, owed: 0.0, added: 0, peaks_seen: 0, seen: 0 }
    }

    /// What it has learned.
    pub fn encode(&self, to: &mut Writer) {
        to.f64(self.settings.risk);
        to.f64(self.settings.level);
        to.u64(self.settings.calibration as u64);
        to.list(self.first.iter(), |to, value| to.f64(*value));
        to.list(self.tail.iter(), |to, (level, tail)| [*level, tail.shape, tail.scale].into_iter().for_each(|value| to.f64(value)));
        to.list(self.peaks.iter(), |to, peak| to.f64(*peak));
        to.u64(self.unfitted as u64);
        to.f64(self.owed);
        to.u32(self.added);
        to.u64(self.peaks_seen);
        to.u64(self.seen);
    }

    /// A threshold that has learned that; `None` if it is not what [`Self::encode`] wrote.
    #[must_use]
    pub fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let mut spot = Self::new(Settings { risk: from.f64()?, level: from.f64()?, calibration: usize::try_from(from.u64()?).ok()? });
        spot.first = from.list(Reader::f64)?;
        spot.tail = from.list(|from| Some((from.f64()?, Tail { shape: from.f64()?, scale: from.f64()? })))?.pop();
        spot.peaks = from.list(Reader::f64)?.into();
        spot.peaks.truncate(MAX_PEAKS);
        spot.unfitted = usize::try_from(from.u64()?).ok()?;
        spot.owed = from.f64()?;
        spot.added = from.u32()?;
        spot.peaks_seen = from.u64()?;
        spot.seen = from.u64()?;
        Some(spot)
    }

    /// Judges a value and learns from it. What is no finite number is usual and not learned.
    pub fn observe(&mut self, value: f64) -> Verdict {
        let (Some(threshold), Some((level, tail))) = (self.threshold(), self.tail) else {
            self.calibrate(value);
            return Verdict::Calibrating;
        };
        if !value.is_finite() {
            return Verdict::Normal;
        }
        if value > threshold {
            return Verdict::Alarm;
        }
        self.seen += 1;
        if value <= level {
            return Verdict::Normal;
        }
        self.peak(value - level);
        self.owed += self.ratio();
        if self.owed >= 1.0 {
            self.owed -= 1.0;
            self.added += 1;
            // Spread evenly over the tail's quantiles above the threshold: multiples of the golden ratio.
            let quantile = (f64::from(self.added) * 0.618_033_988_749_895).fract().max(1e-3);
            self.peak(tail.excess(self.ratio() * quantile));
        }
        // A fit costs as much as thousands of values: each peak of the first, then every twentieth part of them.
        if self.unfitted * 20 >= self.peaks.len() {
            self.tail = Some((level, Tail::fit(&self.peaks)));
            self.unfitted = 0;
        }
        Verdict::Peak
    }

    /// The value above which is an alarm; none while calibrating.
    #[must_use]
    pub fn threshold(&self) -> Option<f64> {
        let (level, tail) = self.tail?;
        Some(level + tail.excess(self.ratio()))
    }

    /// The part of the peaks that are to be alarms. At most all: then the level is the threshold.
    fn ratio(&self) -> f64 {
        (self.settings.risk * self.seen as f64 / (self.peaks_seen as f64).max(1.0)).min(1.0)
    }

    /// The chance of a usual value of at least this, as far as peaks tell; 1 for what is below the level or while calibrating.
    #[must_use]
    pub fn chance(&self, value: f64) -> f64 {
        match self.tail {
            Some((level, tail)) if value > level => (self.peaks_seen as f64 / self.seen as f64 * tail.chance(value - level)).clamp(0.0, 1.0),
            _ => 1.0,
        }
    }

    fn calibrate(&mut self, value: f64) {
        if value.is_finite() {
            self.first.push(value);
        }
        if self.first.len() < self.settings.calibration {
            return;
        }
        let mut values = std::mem::take(&mut self.first);
        values.sort_by(f64::total_cmp);
        let peaks = (((1.0 - self.settings.level) * values.len() as f64) as usize).max(MIN_PEAKS);
        let place = values.len().saturating_sub(peaks + 1);
        let level = values.get(place).copied().unwrap_or_default();
        self.seen = values.len() as u64;
        for value in values.iter().filter(|value| **value > level) {
            self.peak(value - level);
        }
        if self.peaks.is_empty() {
            // All values are alike: what is more than a little above them stands out.
            self.peak(level.abs().max(1.0) * 1e-3);
        }
        self.tail = Some((level, Tail::fit(&self.peaks)));
        self.unfitted = 0;
    }

    fn peak(&mut self, excess: f64) {
        if self.peaks.len() == MAX_PEAKS {
            self.peaks.pop_front();
        }
        self.peaks.push_back(excess);
        self.peaks_seen += 1;
        self.unfitted += 1;
    }
}

/// [`Spot`] for a stream that drifts: values count as what they are above the mean of the usual ones just before.
#[derive(Debug, Clone)]
pub struct Drifting {
    spot: Spot,
    recent: VecDeque<f64>,
    depth: usize,
}

impl Drifting {
    /// A threshold above the mean of the last `depth` usual values, at least 1.
    #[must_use]
    pub fn new(settings: Settings, depth: usize) -> Self {
        Self { spot: Spot::new(settings), recent: VecDeque::new(), depth: depth.max(1) }
    }

    /// Judges a value and learns from it.
    pub fn observe(&mut self, value: f64) -> Verdict {
        if !value.is_finite() {
            return Verdict::Normal;
        }
        if self.recent.len() < self.depth {
            self.recent.push_back(value);
            return Verdict::Calibrating;
        }
        let verdict = self.spot.observe(value - self.mean());
        if verdict != Verdict::Alarm {
            self.recent.pop_front();
            self.recent.push_back(value);
        }
        verdict
    }

    /// The value above which is an alarm now; none while calibrating.
    #[must_use]
    pub fn threshold(&self) -> Option<f64> {
        self.spot.threshold().map(|threshold| threshold + self.mean())
    }

    fn mean(&self) -> f64 {
        self.recent.iter().sum::<f64>() / (self.recent.len() as f64).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::Random;

    /// Alarms among 200,000 usual values of a distribution given by its quantile function.
    fn alarms(quantile: impl Fn(f64) -> f64, risk: f64) -> u64 {
        let mut random = Random::new(7);
        let mut spot = Spot::new(Settings { risk, calibration: 2_000, ..Settings::default() });
        (0..200_000).map(|_| u64::from(spot.observe(quantile(random.unit())) == Verdict::Alarm)).sum()
    }

    #[test]
    fn usual_values_alarm_as_often_as_wanted_whatever_their_tail() {
        for (name, quantile) in [
            ("uniform", (|unit| unit) as fn(f64) -> f64),
            ("exponential", |unit: f64| -(1.0 - unit).ln()),
            ("heavy", |unit: f64| (1.0 - unit).powf(-0.4)),
            ("logistic", |unit: f64| 50.0 + (unit / (1.0 - unit)).ln()),
        ] {
            // 20 and 200 are expected. The threshold is an estimate: up to three times as many are taken. A tail that ends is
            // taken for one that does not, and has fewer.
            let (rare, more) = (alarms(quantile, 1e-4), alarms(quantile, 1e-3));
            assert!(rare <= 60 && more <= 600 && (name == "uniform" || more >= 66), "{name}: {rare} and {more}");
        }
    }

    #[test]
    fn outliers_alarm_and_are_not_learned() {
        let mut random = Random::new(3);
        let mut spot = Spot::new(Settings::default());
        for _ in 0..5_000 {
            spot.observe(-(1.0 - random.unit()).ln());
        }
        let before = spot.threshold().unwrap();
        assert!((6.0..20.0).contains(&before), "{before}");
        // 30 days of it change nothing.
        for _ in 0..30 * 24 {
            assert_eq!(spot.observe(before * 2.0), Verdict::Alarm);
        }
        assert_eq!(spot.threshold().unwrap(), before);
        assert!(spot.chance(before) <= 1.1e-4 && spot.chance(before * 2.0) < 1e-6 && spot.chance(0.5) == 1.0);
    }

    #[test]
    fn a_drifting_stream_is_followed() {
        let settings = Settings { calibration: 500, ..Settings::default() };
        let mut random = Random::new(5);
        let mut drifting = Drifting::new(settings, 50);
        let alarmed: i32 = (0..50_000).map(|step| i32::from(drifting.observe(f64::from(step) * 0.001 + random.unit()) == Verdict::Alarm)).sum();
        assert!(alarmed < 50, "{alarmed}");
        assert_eq!(drifting.observe(60.0), Verdict::Alarm);
        assert!((50.0..55.0).contains(&drifting.threshold().unwrap()));
    }

    #[test]
    fn streams_of_one_value_and_no_numbers_are_taken() {
        let mut spot = Spot::new(Settings { calibration: 0, risk: f64::INFINITY, level: 7.0 });
        let mut still = Spot::new(Settings { calibration: 50, ..Settings::default() });
        for value in [f64::NAN, f64::INFINITY, 1.0].into_iter().cycle().take(3_000) {
            spot.observe(value);
            still.observe(value);
        }
        assert!(still.threshold().unwrap() < 1.1);
        assert_eq!(still.observe(2.0), Verdict::Alarm);
        assert_eq!(still.observe(1.0), Verdict::Normal);
        assert!(spot.threshold().unwrap().is_finite());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn thresholds_are_numbers_and_less_risk_is_higher(values in prop::collection::vec(-1e6..1e6_f64, 40..400), risk in 1e-9..1e-2_f64) {
            let settings = Settings { risk, calibration: 30, ..Settings::default() };
            let mut spots = [Spot::new(settings), Spot::new(Settings { risk: risk / 10.0, ..settings })];
            for value in &values[..30] {
                for spot in &mut spots {
                    prop_assert_eq!(spot.observe(*value), Verdict::Calibrating);
                }
            }
            let [more, less] = spots.each_ref().map(|spot| spot.threshold().unwrap());
            prop_assert!(more.is_finite() && less >= more, "{} {}", more, less);
            for value in values {
                spots[0].observe(value);
                let chance = spots[0].chance(value);
                prop_assert!(spots[0].threshold().unwrap().is_finite() && (0.0..=1.0).contains(&chance));
                prop_assert!(spots[0].chance(value + 1.0) <= chance);
            }
            prop_assert!(spots[0].peaks.len() <= MAX_PEAKS);
        }
    }
}
