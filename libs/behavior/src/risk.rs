//! Risk: one score from 0 to 100 out of many facts.
//!
//! Each fact has a score `s` from 0 to 100 and fades with a half-life of seven days: `r = s · 2^(−age / 7 d)`. The facts
//! are put in descending order, and the i-th counts with the weight `1 / i^1.5`:
//!
//! ```text
//! base  = (r1 / 1^1.5 + r2 / 2^1.5 + …) / ζ(1.5)          ζ(1.5) = 2.612…, what the weights add up to
//! score = 100 · m · base / (100 − base + m · base)        m: the entity's criticality, a factor on the odds
//! ```
//!
//! The shape is Elastic's entity risk score: one high fact outweighs many low ones, another fact never lowers the score,
//! and no number of facts takes it past 100. A single fact of 100 makes 38, so a high level needs several.
//!
//! The score is shared out among the facts in proportion to their terms of the sum.

use std::fmt;

use gumshoe_model::{Finding, Level, PRODUCT, Timestamp, time::MICROS_PER_DAY};

/// Days after which a fact counts half.
pub const HALF_LIFE_DAYS: f64 = 7.0;
/// How many parts of a score are listed; the others are summed up in [`Risk::rest`].
pub const MAX_PARTS: usize = 10;
/// Riemann's ζ(1.5), the sum of all weights.
const WEIGHTS: f64 = 2.612_375_348_685_488;

/// What kind of fact it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A detector's finding.
    Finding,
    /// Countries not seen in the baseline.
    NewCountry,
    /// Autonomous systems not seen in the baseline.
    NewNetwork,
    /// User agents not seen in the baseline.
    NewUserAgent,
    /// Operations not seen in the baseline.
    NewOperation,
    /// Addresses not seen in the baseline.
    NewAddress,
    /// Resources not touched in the baseline.
    NewResource,
    /// More failed calls than usual.
    Failures,
    /// What a rule says: a technique that was seen.
    Technique,
    /// Places too far apart for the time between.
    Travel,
    /// More in an hour than usual at that time of the week.
    Volume,
    /// What similar principals do not do.
    Peers,
    /// A burst of edges.
    Burst,
    /// Connections like those of a machine that calls home.
    Beacon,
    /// Contacts like those of a scan.
    Scan,
    /// Data going out.
    Exfiltration,
}

/// How the types of findings begin that say what is unusual: `Behavior:User/UnusualVolume`.
pub const BEHAVIOR: &str = "Behavior:";

impl Source {
    /// What statistics say, with the last part of the type of a finding of it.
    const STATISTICS: [(Self, &'static str); 7] = [
        (Self::Volume, "UnusualVolume"),
        (Self::Peers, "PeerSurprise"),
        (Self::Burst, "Burst"),
        (Self::Beacon, "Beacon"),
        (Self::Scan, "PortScan"),
        (Self::Exfiltration, "DataExfiltration"),
        (Self::Travel, "ImpossibleTravel"),
    ];

    /// What a finding is a fact of: a statistic or a technique of a rule for our own ones, else a finding.
    #[must_use]
    pub fn of_finding(product: &str, finding_type: &str) -> Self {
        if product != PRODUCT {
            return Self::Finding;
        }
        let Some(kind) = finding_type.strip_prefix(BEHAVIOR) else { return Self::Technique };
        let last = kind.rsplit_once('/').map_or(kind, |(_, last)| last);
        Self::STATISTICS.into_iter().find(|(_, name)| *name == last).map_or(Self::Finding, |(source, _)| source)
    }

    /// The last part of the type of a finding of a statistic: `UnusualVolume`; none for what is no statistic.
    #[must_use]
    pub fn finding_name(self) -> Option<&'static str> {
        Self::STATISTICS.into_iter().find(|(source, _)| *source == self).map(|(_, name)| name)
    }

    /// Whether it is what a statistic says.
    #[must_use]
    pub fn is_behavior(self) -> bool {
        self.finding_name().is_some()
    }

    /// The name in answers: `new_country`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finding => "finding",
            Self::NewCountry => "new_country",
            Self::NewNetwork => "new_network",
            Self::NewUserAgent => "new_user_agent",
            Self::NewOperation => "new_operation",
            Self::NewAddress => "new_address",
            Self::NewResource => "new_resource",
            Self::Failures => "failures",
            Self::Technique => "technique",
            Self::Travel => "travel",
            Self::Volume => "volume",
            Self::Peers => "peers",
            Self::Burst => "burst",
            Self::Beacon => "beacon",
            Self::Scan => "scan",
            Self::Exfiltration => "exfiltration",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A fact that speaks for risk.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// What kind of fact.
    pub source: Source,
    /// 0 to 100 at its time; what is outside is cut, and what is no number counts nothing.
    pub score: f64,
    /// When; a time to come counts as now.
    pub time: Timestamp,
    /// What happened, in words.
    pub label: String,
    /// Ids of findings, or values, that show it.
    pub evidence: Vec<String>,
}

impl Input {
    /// A finding as a fact: ten times its severity, at the time it was last seen. None for an archived one, unless it says what is
    /// unusual: that is archived at once when it is no alert by the [budget](crate::budget), and counts all the same.
    #[must_use]
    pub fn of_finding(finding: &Finding<'_>) -> Option<Self> {
        let source = Source::of_finding(&finding.product, &finding.finding_type);
        (!finding.archived || source.is_behavior()).then(|| Self {
            source,
            score: finding.severity * 10.0,
            time: finding.last_seen,
            label: if finding.title.is_empty() { finding.finding_type.to_string() } else { finding.title.to_string() },
            evidence: vec![finding.id.to_string()],
        })
    }

    /// The score as it counts at `now`.
    fn faded(&self, now: Timestamp) -> f64 {
        if self.score.is_nan() {
            return 0.0;
        }
        let days = now.0.saturating_sub(self.time.0).max(0) as f64 / MICROS_PER_DAY as f64;
        self.score.clamp(0.0, 100.0) * (-days / HALF_LIFE_DAYS).exp2()
    }
}

/// How much an entity matters, as a factor on the odds of its score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Criticality {
    /// 0.5.
    Low,
    /// 1: the score stays as it is.
    #[default]
    Normal,
    /// 1.5.
    High,
    /// 2.
    Critical,
}

impl Criticality {
    /// Every one, the least first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Normal, Self::High, Self::Critical];

    /// The name in answers and in configuration: `critical`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The factor.
    #[must_use]
    pub fn factor(self) -> f64 {
        match self {
            Self::Low => 0.5,
            Self::Normal => 1.0,
            Self::High => 1.5,
            Self::Critical => 2.0,
        }
    }
}

/// A fact and its part in a score.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The fact.
    pub input: Input,
    /// How much of the score it makes.
    pub contribution: f64,
}

/// How risky an entity is.
#[derive(Debug, Clone, PartialEq)]
pub struct Risk {
    /// 0 to 100.
    pub score: f64,
    /// The score in words.
    pub level: Level,
    /// The parts that make most of it, at most [`MAX_PARTS`], largest first. Facts that count nothing are left out.
    pub parts: Vec<Part>,
    /// What all other parts make together. INVARIANT: the parts and the rest add up to the score.
    pub rest: f64,
}

/// Scores an entity from the facts about it. The order of the facts does not matter.
#[must_use]
pub fn risk(inputs: &[Input], now: Timestamp, criticality: Criticality) -> Risk {
    let mut faded: Vec<(f64, &Input)> = inputs.iter().map(|input| (input.faded(now), input)).filter(|(score, _)| *score > 0.0).collect();
    // Equal scores in an order of their own, so that the answer does not depend on that of the facts.
    faded.sort_by(|(left, a), (right, b)| {
        right.total_cmp(left).then_with(|| (b.time, a.source, &a.label, &a.evidence).cmp(&(a.time, b.source, &b.label, &b.evidence)))
    });
    let terms: Vec<f64> = faded.iter().enumerate().map(|(index, (score, _))| score / (index as f64 + 1.0).powf(1.5)).collect();
    let sum: f64 = terms.iter().sum();
    let base = (sum / WEIGHTS).min(100.0);
    let factor = criticality.factor();
    let score = 100.0 * factor * base / (100.0 - base + factor * base);
    let share = |term: f64| if sum > 0.0 { score * (term / sum) } else { 0.0 };
    let parts = faded.iter().zip(&terms).take(MAX_PARTS).map(|((_, input), term)| Part { input: (*input).clone(), contribution: share(*term) }).collect();
    let rest = share(terms.iter().skip(MAX_PARTS).sum());
    Risk { score, level: Level::of_score(score), parts, rest }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_750_000_000_000_000);
    const LEVELS: [Criticality; 4] = [Criticality::Low, Criticality::Normal, Criticality::High, Criticality::Critical];

    fn input(score: f64, days_ago: f64) -> Input {
        let time = Timestamp(NOW.0 - (days_ago * MICROS_PER_DAY as f64) as i64);
        Input { source: Source::Finding, score, time, label: format!("{score}"), evidence: Vec::new() }
    }

    fn score(inputs: &[Input]) -> f64 {
        risk(inputs, NOW, Criticality::Normal).score
    }

    #[test]
    fn known_scores() {
        assert_eq!(score(&[]), 0.0);
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        close(score(&[input(100.0, 0.0)]), 38.279_338);
        close(score(&[input(100.0, 7.0)]), 19.139_669);
        close(score(&[input(80.0, 0.0), input(80.0, 0.0)]), 80.0 * (1.0 + 0.5_f64.powf(1.5)) / WEIGHTS);
        close(risk(&[input(100.0, 0.0)], NOW, Criticality::Critical).score, 55.365_232);
        close(score(&[input(f64::NAN, 0.0), input(-5.0, 0.0), input(f64::INFINITY, -3.0)]), 38.279_338);
    }

    #[test]
    fn one_high_fact_outweighs_many_low_ones() {
        let many: Vec<Input> = (0..1000).map(|_| input(20.0, 0.0)).collect();
        assert!(score(&[input(80.0, 0.0)]) > score(&many));
    }

    #[test]
    fn a_flood_of_the_worst_stays_within_bounds() {
        let flood: Vec<Input> = (0..200_000).map(|_| input(100.0, 0.0)).collect();
        for criticality in LEVELS {
            let found = risk(&flood, NOW, criticality);
            assert!(found.score > 99.0 && found.score <= 100.0, "{}", found.score);
            assert_eq!(found.level, Level::Critical);
        }
    }

    #[test]
    fn parts_name_their_facts_largest_first() {
        let inputs: Vec<Input> = (0..25).map(|index| input(f64::from(index) * 4.0, 0.0)).collect();
        let found = risk(&inputs, NOW, Criticality::High);
        assert_eq!(found.parts.len(), MAX_PARTS);
        assert_eq!(found.parts.first().map(|part| part.input.label.as_str()), Some("96"));
        assert!(found.parts.is_sorted_by(|left, right| left.contribution >= right.contribution));
        assert!(found.rest > 0.0);
    }

    #[test]
    fn archived_findings_count_nothing() {
        let mut finding = Finding {
            id: "f-1".into(),
            finding_type: "Recon:IAMUser/TorIPCaller".into(),
            product: "GuardDuty".into(),
            title: "".into(),
            description: "".into(),
            severity: 8.0,
            count: 1,
            first_seen: NOW,
            last_seen: NOW,
            updated: NOW,
            archived: false,
        };
        let found = Input::of_finding(&finding).unwrap();
        assert_eq!((found.score, found.evidence.as_slice()), (80.0, ["f-1".to_owned()].as_slice()));
        finding.archived = true;
        assert_eq!(Input::of_finding(&finding), None);
    }

    #[test]
    fn own_findings_are_facts_of_what_found_them_and_count_when_no_alert_came_of_them() {
        let of = |product: &'static str, kind: &'static str| {
            let text = std::borrow::Cow::Borrowed;
            let finding = Finding {
                id: text("f"),
                finding_type: text(kind),
                product: text(product),
                title: text("2000 calls in the hour Thu 10:00"),
                description: text(""),
                severity: 5.0,
                count: 1,
                first_seen: NOW,
                last_seen: NOW,
                updated: NOW,
                archived: true,
            };
            let archived = Input::of_finding(&finding).map(|input| input.source.as_str());
            (Input::of_finding(&Finding { archived: false, ..finding }).unwrap().source.as_str(), archived)
        };
        assert_eq!(of("Gumshoe", "Behavior:User/UnusualVolume"), ("volume", Some("volume")));
        assert_eq!(of("Gumshoe", "Behavior:NetworkInterface/PortScan"), ("scan", Some("scan")));
        assert_eq!(of("Gumshoe", "T1098/CreateAccessKey"), ("technique", None));
        assert_eq!(of("GuardDuty", "Behavior:EC2/NetworkPortUnusual"), ("finding", None));
        for (source, name) in Source::STATISTICS {
            assert_eq!(Source::of_finding(PRODUCT, &format!("{BEHAVIOR}Role/{name}")), source);
        }
    }

    fn inputs() -> impl Strategy<Value = Vec<Input>> {
        prop::collection::vec((0.0..=100.0_f64, -1.0..60.0_f64).prop_map(|(score, days)| input(score, days)), 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn bounded_and_whole(inputs in inputs(), level in prop::sample::select(LEVELS.to_vec())) {
            let found = risk(&inputs, NOW, level);
            prop_assert!((0.0..=100.0).contains(&found.score));
            let sum: f64 = found.parts.iter().map(|part| part.contribution).sum::<f64>() + found.rest;
            prop_assert!((sum - found.score).abs() < 1e-9, "{sum} {}", found.score);
            prop_assert!(found.parts.len() <= MAX_PARTS && found.parts.iter().all(|part| part.contribution > 0.0));
        }

        #[test]
        fn free_of_order(inputs in inputs(), level in prop::sample::select(LEVELS.to_vec())) {
            let mut turned = inputs.clone();
            turned.reverse();
            prop_assert_eq!(risk(&inputs, NOW, level), risk(&turned, NOW, level));
        }

        #[test]
        fn another_fact_never_lowers(inputs in inputs(), more in (0.0..=100.0_f64, 0.0..60.0_f64)) {
            let mut all = inputs.clone();
            all.push(input(more.0, more.1));
            prop_assert!(score(&all) >= score(&inputs) - 1e-9);
        }

        #[test]
        fn rises_with_each_fact_and_with_criticality(inputs in inputs(), which in any::<prop::sample::Index>(), raise in 0.0..50.0_f64) {
            prop_assume!(!inputs.is_empty());
            let mut raised = inputs.clone();
            raised[which.index(inputs.len())].score += raise;
            prop_assert!(score(&raised) >= score(&inputs) - 1e-9);
            let scores = LEVELS.map(|level| risk(&inputs, NOW, level).score);
            prop_assert!(scores.is_sorted());
        }

        #[test]
        fn time_only_lowers(inputs in inputs(), hours in 0..5000_i64) {
            let later = Timestamp(NOW.0 + hours * 3_600_000_000);
            prop_assert!(risk(&inputs, later, Criticality::Normal).score <= score(&inputs) + 1e-9);
        }
    }
}
