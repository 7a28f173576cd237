//! Facts about behaviour: what is in the scope time and was not in the 45 days before, and failures beyond the usual.
//!
//! An entity with fewer than 14 days of baseline is in training: nearly everything about it is new, so its facts count
//! `days / 14` of their score, and say so.

use gumshoe_model::Timestamp;

use crate::risk::{Input, Source};

/// Days of baseline from which on facts count in full.
pub const TRAINING_DAYS: u32 = 14;
/// Most values that an input lists as evidence.
pub const MAX_EVIDENCE: usize = 10;

/// What an entity was seen with before the scope time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Baseline {
    /// Days with any record, 0 to 45.
    pub days: u32,
    /// Calls in those days.
    pub calls: Calls,
}

impl Baseline {
    /// How much of a fact's score counts, 0 to 1.
    fn trust(self) -> f64 {
        f64::from(self.days.min(TRAINING_DAYS)) / f64::from(TRAINING_DAYS)
    }

    /// What is said of a fact found in training.
    fn remark(self) -> String {
        if self.days < TRAINING_DAYS { format!(" (training: {} of {TRAINING_DAYS} days of baseline)", self.days) } else { String::new() }
    }
}

/// Calls by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls without an error.
    pub successes: u64,
    /// Calls with an error.
    pub failures: u64,
}

impl Calls {
    fn total(self) -> f64 {
        self.successes as f64 + self.failures as f64
    }
}

/// What can be new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The country of an address.
    Country,
    /// The autonomous system of an address.
    Network,
    /// A user agent.
    UserAgent,
    /// An operation with its service.
    Operation,
    /// An address.
    Address,
    /// A resource that was touched.
    Resource,
}

/// How new values of a kind score: the first one, how far many go, and how many more go half of what is left.
struct Weight {
    first: f64,
    most: f64,
    half: f64,
}

impl Kind {
    /// Every kind, heaviest first.
    pub const ALL: [Self; 6] = [Self::Country, Self::Network, Self::UserAgent, Self::Operation, Self::Address, Self::Resource];

    fn weight(self) -> Weight {
        let (first, most, half) = match self {
            Self::Country => (40.0, 80.0, 2.0),
            Self::Network => (25.0, 60.0, 4.0),
            Self::UserAgent => (15.0, 45.0, 4.0),
            Self::Operation => (10.0, 50.0, 16.0),
            Self::Address => (5.0, 40.0, 16.0),
            Self::Resource => (4.0, 40.0, 32.0),
        };
        Weight { first, most, half }
    }

    /// As what a new value of the kind counts in risk.
    #[must_use]
    pub fn source(self) -> Source {
        match self {
            Self::Country => Source::NewCountry,
            Self::Network => Source::NewNetwork,
            Self::UserAgent => Source::NewUserAgent,
            Self::Operation => Source::NewOperation,
            Self::Address => Source::NewAddress,
            Self::Resource => Source::NewResource,
        }
    }

    fn name(self, count: usize) -> &'static str {
        match (self, count) {
            (Self::Country, 1) => "country",
            (Self::Country, _) => "countries",
            (Self::Network, 1) => "network",
            (Self::Network, _) => "networks",
            (Self::UserAgent, 1) => "user agent",
            (Self::UserAgent, _) => "user agents",
            (Self::Operation, 1) => "operation",
            (Self::Operation, _) => "operations",
            (Self::Address, 1) => "address",
            (Self::Address, _) => "addresses",
            (Self::Resource, 1) => "resource",
            (Self::Resource, _) => "resources",
        }
    }
}

/// A value in scope that is not in the baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct New {
    /// What it is.
    pub kind: Kind,
    /// The value: `BR`, `AS64500`, `s3.amazonaws.com GetObject`.
    pub value: String,
    /// When it was last seen in scope.
    pub time: Timestamp,
}

/// The facts that new values make: one for each kind, so that a thousand new addresses are one fact.
///
/// The score of `n` values of a kind is `most − (most − first) · 2^(−(n − 1) / half)`:
///
/// | kind | first | most | half |
/// |---|---|---|---|
/// | country | 40 | 80 | 2 |
/// | network | 25 | 60 | 4 |
/// | user agent | 15 | 45 | 4 |
/// | operation | 10 | 50 | 16 |
/// | address | 5 | 40 | 16 |
/// | resource | 4 | 40 | 32 |
///
/// The weights are judgement, not measurement: a new country says more than a new address in a country long known.
#[must_use]
pub fn newness(values: &[New], baseline: Baseline) -> Vec<Input> {
    Kind::ALL.into_iter().filter_map(|kind| newness_of(kind, values, baseline)).collect()
}

fn newness_of(kind: Kind, values: &[New], baseline: Baseline) -> Option<Input> {
    let mut found: Vec<&New> = values.iter().filter(|new| new.kind == kind).collect();
    // Latest first, each value once.
    found.sort_by(|left, right| left.value.cmp(&right.value).then(right.time.cmp(&left.time)));
    found.dedup_by(|later, kept| later.value == kept.value);
    found.sort_by(|left, right| right.time.cmp(&left.time).then_with(|| left.value.cmp(&right.value)));
    let time = found.first()?.time;
    let count = found.len();
    let Weight { first, most, half } = kind.weight();
    let score = most - (most - first) * (-(count as f64 - 1.0) / half).exp2();
    let evidence: Vec<String> = found.iter().take(MAX_EVIDENCE).map(|new| new.value.clone()).collect();
    let label = match evidence.as_slice() {
        [only] if count == 1 => format!("new {} {only}{}", kind.name(1), baseline.remark()),
        _ => format!("{count} new {}{}", kind.name(count), baseline.remark()),
    };
    Some(Input { source: kind.source(), score: score * baseline.trust(), time, label, evidence })
}

/// Most that failures score.
const FAILURES_MOST: f64 = 60.0;
/// Fewest failed calls that say anything.
const FAILURES_FEWEST: u64 = 3;
/// What is taken as known before any baseline: one failure in twenty calls.
const PRIOR: (f64, f64) = (1.0, 20.0);

/// The fact that calls fail more often than usual; none when they don't, or fewer than three failed.
///
/// With `k` of `n` calls failed in scope, `q = k / n`, and the usual share `p = (failures + 1) / (calls + 20)` of the
/// baseline:
///
/// ```text
/// surprise = n · (q · ln(q / p) + (1 − q) · ln((1 − q) / (1 − p)))
/// score    = 60 · (1 − e^(−surprise / 10)) · (q − p) / (1 − p)
/// ```
///
/// `e^−surprise` is Chernoff's bound on the binomial tail, the chance of `k` or more failures if nothing had changed.
/// Being a bound, it never overstates the surprise. The last factor is how far the share has gone towards all calls failing,
/// so that a shift too small to matter does not score for being certain. `operations` are shown as evidence.
#[must_use]
pub fn failures(scope: Calls, baseline: Baseline, time: Timestamp, operations: &[String]) -> Option<Input> {
    if scope.failures < FAILURES_FEWEST {
        return None;
    }
    let calls = scope.total();
    let share = scope.failures as f64 / calls;
    let usual = (baseline.calls.failures as f64 + PRIOR.0) / (baseline.calls.total() + PRIOR.1);
    if share <= usual {
        return None;
    }
    let spared = 1.0 - share;
    let divergence = share * (share / usual).ln() + if spared > 0.0 { spared * (spared / (1.0 - usual)).ln() } else { 0.0 };
    let surprise = (calls * divergence).max(0.0);
    let score = FAILURES_MOST * -(-surprise / 10.0).exp_m1() * (share - usual) / (1.0 - usual);
    let label = format!("{} of {calls} calls failed ({:.0}%, before {:.0}%){}", scope.failures, share * 100.0, usual * 100.0, baseline.remark());
    let evidence = operations.iter().take(MAX_EVIDENCE).cloned().collect();
    Some(Input { source: Source::Failures, score: score * baseline.trust(), time, label, evidence })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: Timestamp = Timestamp(1_750_000_000_000_000);
    const TRAINED: Baseline = Baseline { days: 45, calls: Calls { successes: 980, failures: 20 } };

    fn new(kind: Kind, value: impl Into<String>) -> New {
        New { kind, value: value.into(), time: TIME }
    }

    fn many(kind: Kind, count: usize) -> Vec<New> {
        (0..count).map(|index| new(kind, index.to_string())).collect()
    }

    fn failed(failures: u64, successes: u64, baseline: Baseline) -> f64 {
        super::failures(Calls { successes, failures }, baseline, TIME, &[]).map_or(0.0, |input| input.score)
    }

    #[test]
    fn one_fact_for_each_kind() {
        let values = [new(Kind::Address, "203.0.113.9"), new(Kind::Country, "BR"), new(Kind::Address, "203.0.113.7"), new(Kind::Address, "203.0.113.7")];
        let facts = newness(&values, TRAINED);
        let said: Vec<(Source, &str)> = facts.iter().map(|fact| (fact.source, fact.label.as_str())).collect();
        assert_eq!(said, [(Source::NewCountry, "new country BR"), (Source::NewAddress, "2 new addresses")]);
        assert_eq!(facts[0].score, 40.0);
        assert_eq!(facts[1].evidence, ["203.0.113.7", "203.0.113.9"]);
        assert!(newness(&[], TRAINED).is_empty());
    }

    #[test]
    fn many_values_score_as_published() {
        for (kind, count, expected) in [(Kind::Country, 3, 60.0), (Kind::Network, 5, 42.5), (Kind::Operation, 17, 30.0), (Kind::Address, 10_000, 40.0)] {
            assert!((newness(&many(kind, count), TRAINED)[0].score - expected).abs() < 1e-9, "{kind:?}");
        }
        assert_eq!(newness(&many(Kind::Address, 10_000), TRAINED)[0].evidence.len(), MAX_EVIDENCE);
    }

    #[test]
    fn the_latest_value_gives_the_time() {
        let earlier = New { time: Timestamp(TIME.0 - 5), ..new(Kind::Country, "BR") };
        assert_eq!(newness(&[earlier, new(Kind::Country, "CL")], TRAINED)[0].time, TIME);
    }

    #[test]
    fn training_damps_and_says_so() {
        let young = Baseline { days: 7, ..TRAINED };
        let fact = &newness(&[new(Kind::Country, "BR")], young)[0];
        assert_eq!((fact.score, fact.label.as_str()), (20.0, "new country BR (training: 7 of 14 days of baseline)"));
        let newborn = Baseline { days: 0, calls: Calls::default() };
        assert_eq!(newness(&[new(Kind::Country, "BR")], newborn)[0].score, 0.0);
        assert_eq!(failed(90, 10, young) * 2.0, failed(90, 10, TRAINED));
        assert_eq!(newness(&[new(Kind::Country, "BR")], Baseline { days: TRAINING_DAYS, ..TRAINED })[0].score, 40.0);
    }

    #[test]
    fn failures_score_only_beyond_the_usual() {
        assert_eq!(failed(2, 0, TRAINED), 0.0);
        assert_eq!(failed(3, 1000, TRAINED), 0.0);
        assert!(failed(500, 0, TRAINED) > 59.0);
        // Certain, yet small.
        let small = failed(40_000, 960_000, TRAINED);
        assert!(small > 0.5 && small < 2.0, "{small}");
        // Failing all the time as ever.
        assert_eq!(failed(95, 5, Baseline { days: 45, calls: Calls { successes: 50, failures: 1950 } }), 0.0);
        let fact = super::failures(Calls { successes: 10, failures: 90 }, TRAINED, TIME, &["s3.amazonaws.com GetObject".to_owned()]).unwrap();
        assert_eq!(fact.label, "90 of 100 calls failed (90%, before 2%)");
        assert_eq!(fact.evidence, ["s3.amazonaws.com GetObject"]);
    }

    /// P(X ≥ k) of a binomial, summed term by term.
    fn tail(calls: u64, failures: u64, share: f64) -> f64 {
        let ln_choose = |k: u64| (1..=k).map(|i| ((calls - k + i) as f64 / i as f64).ln()).sum::<f64>();
        (failures..=calls).map(|k| (ln_choose(k) + k as f64 * share.ln() + (calls - k) as f64 * (1.0 - share).ln()).exp()).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn surprise_never_overstates_the_tail(failures in 3..60_u64, successes in 0..60_u64) {
            let score = failed(failures, successes, TRAINED);
            let usual = 21.0 / 1020.0;
            let calls = failures + successes;
            let share = failures as f64 / calls as f64;
            prop_assume!(share > usual);
            let exact = 60.0 * (1.0 - tail(calls, failures, usual).powf(0.1)) * (share - usual) / (1.0 - usual);
            prop_assert!(score <= exact + 1e-9, "{score} {exact}");
        }

        #[test]
        fn scores_are_bounded_and_rise(failures in 0..10_000_u64, successes in 0..10_000_u64, more in 0..1000_u64, days in 0..60_u32, count in 1..200_usize) {
            let baseline = Baseline { days, ..TRAINED };
            let score = failed(failures, successes, baseline);
            prop_assert!((0.0..=60.0).contains(&score));
            prop_assert!(failed(failures + more, successes, baseline) >= score - 1e-9);
            prop_assert!(failed(failures, successes + more, baseline) <= score + 1e-9 || more == 0);
            for kind in Kind::ALL {
                let fewer = newness(&many(kind, count), baseline)[0].score;
                prop_assert!((0.0..=80.0).contains(&fewer));
                prop_assert!(newness(&many(kind, count + 1), baseline)[0].score >= fewer);
            }
        }
    }
}
