//! How grave indicators are together: a sum of points, published in `docs/investigations.md`.
//!
//! Each technique counts once, with the points of its tactic: all of them if a call succeeded, else half. Other indicators
//! count each, up to the most that their kind can make. The sum is cut at 100. Another indicator never lowers it.

use std::collections::BTreeMap;

use gumshoe_model::Severity;

use crate::{
    indicator::{Indicator, Kind},
    techniques::Tactic,
};

/// The most points.
pub const MAX_POINTS: u32 = 100;

/// From how many points on a severity holds, gravest first.
const LEVELS: [(u32, Severity); 4] = [(70, Severity::Critical), (45, Severity::High), (20, Severity::Medium), (5, Severity::Low)];

/// What a kind of indicator weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Weight {
    /// Points of one; for techniques, see [`tactic_points`].
    each: u32,
    /// Points of one that is new for the whole account too.
    new_for_account: u32,
    /// The most that all of the kind make.
    most: u32,
}

const fn weight(kind: Kind) -> Weight {
    let (each, new_for_account, most) = match kind {
        // Techniques alone are at most high: critical takes a second kind of evidence.
        Kind::TtpObserved => (0, 0, 60),
        Kind::ImpossibleTravel => (20, 20, 25),
        Kind::FlaggedIpAddress => (25, 25, 40),
        Kind::NewGeolocation => (10, 15, 20),
        Kind::NewNetwork => (4, 8, 10),
        Kind::NewUserAgent => (3, 8, 10),
        Kind::RelatedFinding => (15, 15, 30),
        // Its findings count already.
        Kind::RelatedFindingGroup => (10, 10, 20),
    };
    Weight { each, new_for_account, most }
}

/// Points of a technique that succeeded.
pub(crate) const fn tactic_points(tactic: Tactic) -> u32 {
    match tactic {
        Tactic::Discovery => 3,
        Tactic::InitialAccess | Tactic::Execution | Tactic::LateralMovement | Tactic::Collection => 10,
        Tactic::Persistence | Tactic::PrivilegeEscalation | Tactic::CredentialAccess => 15,
        Tactic::DefenseEvasion | Tactic::Exfiltration | Tactic::Impact => 20,
    }
}

/// Points of indicators, 0 to [`MAX_POINTS`].
#[must_use]
pub fn points(indicators: &[Indicator]) -> u32 {
    let mut techniques: BTreeMap<&str, u32> = BTreeMap::new();
    let mut sums: BTreeMap<Kind, u32> = BTreeMap::new();
    for indicator in indicators {
        let Weight { each, new_for_account: new, .. } = weight(indicator.kind());
        let points = match indicator {
            Indicator::TtpObserved { tactic, technique, successes, .. } => {
                let whole = tactic_points(*tactic);
                let best = techniques.entry(technique).or_default();
                *best = (*best).max(if *successes > 0 { whole } else { whole / 2 });
                continue;
            }
            Indicator::NewGeolocation { new_for_account: true, .. }
            | Indicator::NewNetwork { new_for_account: true, .. }
            | Indicator::NewUserAgent { new_for_account: true, .. } => new,
            _ => each,
        };
        let sum = sums.entry(indicator.kind()).or_default();
        *sum = sum.saturating_add(points);
    }
    sums.insert(Kind::TtpObserved, techniques.into_values().sum());
    sums.into_iter().map(|(kind, sum)| sum.min(weight(kind).most)).sum::<u32>().min(MAX_POINTS)
}

/// The severity of indicators.
#[must_use]
pub fn of(indicators: &[Indicator]) -> Severity {
    let points = points(indicators);
    LEVELS.iter().find(|(from, _)| points >= *from).map_or(Severity::Informational, |(_, severity)| *severity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indicator::tests::{samples, technique};

    fn agent(new_for_account: bool) -> Indicator {
        Indicator::NewUserAgent { user_agent: "curl/8".to_owned(), new_for_account }
    }

    fn finding() -> Indicator {
        Indicator::RelatedFinding { id: "f".to_owned(), finding_type: "t".to_owned(), address: String::new() }
    }

    #[test]
    fn a_technique_counts_once_and_half_if_it_failed() {
        let failed = technique(Tactic::Persistence, "T1098.001", 0);
        let succeeded = technique(Tactic::Persistence, "T1098.001", 3);
        assert_eq!(points(std::slice::from_ref(&failed)), 7);
        assert_eq!(points(&[succeeded.clone(), failed.clone(), succeeded.clone()]), 15);
        assert_eq!(points(&[failed, succeeded, technique(Tactic::Impact, "T1485", 1)]), 35);
    }

    #[test]
    fn kinds_are_capped_and_so_is_the_sum() {
        assert_eq!([points(&[agent(false)]), points(&[agent(true)]), points(&vec![agent(true); 50])], [3, 8, 10]);
        let many: Vec<_> = (0..50).map(|number| technique(Tactic::Impact, &format!("T1{number:03}"), 1)).collect();
        assert_eq!((points(&many), of(&many)), (60, Severity::High));
        let all: Vec<_> = many.into_iter().chain(samples().into_iter().cycle().take(500)).collect();
        assert_eq!(points(&all), MAX_POINTS);
    }

    #[test]
    fn another_indicator_never_lowers_the_points() {
        let pool: Vec<_> = samples()
            .into_iter()
            .chain([agent(false), agent(true), finding(), technique(Tactic::Persistence, "T1098.001", 0), technique(Tactic::Impact, "T1485", 0)])
            .collect();
        // Every pair of a beginning and one more, over rotations of the pool.
        for start in 0..pool.len() {
            let mut so_far = Vec::new();
            let mut last = 0;
            for indicator in pool.iter().cycle().skip(start).take(3 * pool.len()) {
                so_far.push(indicator.clone());
                let now = points(&so_far);
                assert!(now >= last && now <= MAX_POINTS, "{last} to {now} with {indicator:?}");
                last = now;
            }
        }
    }

    #[test]
    fn severities_follow_the_points() {
        let discovery = technique(Tactic::Discovery, "T1580", 1);
        let evasion = technique(Tactic::DefenseEvasion, "T1562.008", 1);
        let persistence = technique(Tactic::Persistence, "T1098.001", 1);
        let cases: [(&[Indicator], Severity); 7] = [
            (&[], Severity::Informational),
            (&[agent(false)], Severity::Informational),
            (&[agent(false), discovery], Severity::Low),
            (&[finding()], Severity::Low),
            (std::slice::from_ref(&evasion), Severity::Medium),
            (&[evasion.clone(), persistence.clone(), agent(true), finding()], Severity::High),
            (&[evasion.clone(), persistence, technique(Tactic::Impact, "T1485", 1), finding()], Severity::Critical),
        ];
        for (indicators, severity) in cases {
            assert_eq!(of(indicators), severity, "{} points: {indicators:?}", points(indicators));
        }
    }
}
