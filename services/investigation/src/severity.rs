//! How grave indicators are together: a sum of points, published in `docs/investigations.md`.
//!
//! Each technique counts once, with the points of its tactic: all of them if a call succeeded, else half. Other indicators
//! count each, up to the most that their kind can make. The sum is cut at 100. Another indicator never lowers it.

use std::{cmp::Reverse, collections::BTreeMap};

use gumshoe_model::Severity;
use serde::{Deserialize, Serialize};

use crate::{
    indicator::{Indicator, Kind},
    techniques::Tactic,
};

/// The most points.
pub const MAX_POINTS: u32 = 100;
/// Reasons that are told of one principal.
pub const MAX_REASONS: usize = 50;

/// What each principal other than the gravest adds, by the least and greatest severity that it has.
const OTHERS: [(u32, Severity, Severity); 2] = [(5, Severity::High, Severity::Critical), (2, Severity::Medium, Severity::Medium)];
/// The most that they add.
const OTHERS_MOST: u32 = 15;

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
        Tactic::Discovery | Tactic::Reconnaissance | Tactic::ResourceDevelopment => 3,
        Tactic::InitialAccess | Tactic::Execution | Tactic::LateralMovement | Tactic::Collection | Tactic::CommandAndControl => 10,
        Tactic::Persistence | Tactic::PrivilegeEscalation | Tactic::CredentialAccess => 15,
        Tactic::DefenseEvasion | Tactic::Exfiltration | Tactic::Impact => 20,
    }
}

/// One fact that makes a severity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The kind of indicator that shows it; none for what several principals make together.
    pub kind: Option<Kind>,
    /// How many points it makes.
    pub points: u32,
    /// What it is, in words.
    pub text: String,
}

/// How grave the indicators of one principal are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assessment {
    /// 0 to [`MAX_POINTS`].
    pub points: u32,
    /// What makes them, most first. They add up to the points, unless there are more than [`MAX_REASONS`].
    pub reasons: Vec<Reason>,
}

impl Assessment {
    /// Of indicators.
    #[must_use]
    pub fn of(indicators: &[Indicator]) -> Self {
        let mut facts: BTreeMap<(Kind, String), (u32, String)> = BTreeMap::new();
        for (number, indicator) in indicators.iter().enumerate() {
            let key = match indicator {
                Indicator::TtpObserved { technique, .. } => technique.clone(),
                _ => format!("{number:09}"),
            };
            let fact = facts.entry((indicator.kind(), key)).or_default();
            let points = points_of(indicator);
            if points > fact.0 {
                *fact = (points, text(indicator));
            }
        }
        let mut facts: Vec<_> = facts.into_iter().map(|((kind, _), (points, text))| (kind, points, text)).collect();
        facts.sort_by_key(|(_, points, _)| Reverse(*points));
        let (mut points, mut spent) = (0, BTreeMap::<Kind, u32>::new());
        let mut reasons = Vec::new();
        for (kind, wanted, text) in facts {
            let spent = spent.entry(kind).or_default();
            let given = wanted.min(weight(kind).most.saturating_sub(*spent)).min(MAX_POINTS - points);
            *spent += given;
            points += given;
            if given > 0 {
                reasons.push(Reason { kind: Some(kind), points: given, text });
            }
        }
        reasons.sort_by_key(|reason| Reverse(reason.points));
        reasons.truncate(MAX_REASONS);
        Self { points, reasons }
    }

    /// The severity of so many points.
    #[must_use]
    pub fn severity(&self) -> Severity {
        level(self.points)
    }
}

fn level(points: u32) -> Severity {
    LEVELS.iter().find(|(from, _)| points >= *from).map_or(Severity::Informational, |(_, severity)| *severity)
}

/// Points of one indicator.
fn points_of(indicator: &Indicator) -> u32 {
    let Weight { each, new_for_account: new, .. } = weight(indicator.kind());
    match indicator {
        Indicator::TtpObserved { further: true, .. } => 0,
        Indicator::TtpObserved { tactic, successes, .. } => {
            let whole = tactic_points(*tactic);
            if *successes > 0 { whole } else { whole / 2 }
        }
        Indicator::NewGeolocation { new_for_account: true, .. }
        | Indicator::NewNetwork { new_for_account: true, .. }
        | Indicator::NewUserAgent { new_for_account: true, .. } => new,
        _ => each,
    }
}

/// What an indicator is, in words.
fn text(indicator: &Indicator) -> String {
    let for_account = |new: &bool| if *new { ", also for the account" } else { "" };
    match indicator {
        Indicator::TtpObserved { tactic, technique, procedure, successes, .. } => {
            format!("{technique} ({}): {procedure}{}", tactic.as_str(), if *successes > 0 { "" } else { "; every call failed" })
        }
        Indicator::ImpossibleTravel { start_place, end_place, hours, .. } => format!("calls from {start_place} and {end_place} within {} hours", hours + 1),
        Indicator::FlaggedAddress { address, list, category } if category.is_empty() => format!("{address} is in the threat list {list}"),
        Indicator::FlaggedAddress { address, list, category } => format!("{address} is in the threat list {list}: {category}"),
        Indicator::NewGeolocation { place, new_for_account, .. } => format!("new country {place}{}", for_account(new_for_account)),
        Indicator::NewNetwork { organization, new_for_account } => format!("new network {organization}{}", for_account(new_for_account)),
        Indicator::NewUserAgent { user_agent, new_for_account } => format!("new user agent {user_agent}{}", for_account(new_for_account)),
        Indicator::RelatedFinding { id, finding_type, .. } => format!("finding {finding_type}, {id}"),
        Indicator::RelatedFindingGroup { id } => format!("finding group {id}"),
    }
}

/// One principal and how grave its indicators are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assessed {
    /// The principal, as `type:id`.
    pub principal: String,
    /// How grave.
    #[serde(flatten)]
    pub assessment: Assessment,
}

/// How grave a whole investigation is: as grave as its gravest principal, and a little more for others that are grave too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Of all principals together.
    #[serde(flatten)]
    pub whole: Assessment,
    /// The principals, gravest first.
    pub principals: Vec<Assessed>,
}

impl Report {
    /// Of principals.
    #[must_use]
    pub fn of(mut principals: Vec<Assessed>) -> Self {
        principals.sort_by_key(|one| Reverse(one.assessment.points));
        let Some((gravest, others)) = principals.split_first() else { return Self::default() };
        let mut whole = gravest.assessment.clone();
        let mut left = OTHERS_MOST;
        for (each, least, greatest) in OTHERS {
            let number = others.iter().filter(|other| (least..=greatest).contains(&other.assessment.severity())).count();
            let points = each.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX)).min(left).min(MAX_POINTS - whole.points);
            left -= points;
            whole.points += points;
            if points > 0 {
                whole.reasons.push(Reason { kind: None, points, text: format!("other principals of at least {}: {number}", least.as_str()) });
            }
        }
        Self { whole, principals }
    }

    /// The severity of the whole.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.whole.severity()
    }
}

/// Points of indicators, 0 to [`MAX_POINTS`].
#[must_use]
pub fn points(indicators: &[Indicator]) -> u32 {
    Assessment::of(indicators).points
}

/// The severity of indicators.
#[must_use]
pub fn of(indicators: &[Indicator]) -> Severity {
    Assessment::of(indicators).severity()
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
    fn further_techniques_of_a_rule_make_no_points() {
        let first = technique(Tactic::Persistence, "T1098.001", 3);
        let Indicator::TtpObserved { tactic, procedure, address, operation, successes, failures, .. } = first.clone() else { panic!() };
        let technique = "T1556".to_owned();
        let further = Indicator::TtpObserved { tactic, technique, further: true, procedure, address, operation, successes, failures };
        assert_eq!((points(std::slice::from_ref(&further)), points(&[further, first])), (0, 15));
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
    fn reasons_add_up_to_the_points() {
        let mut indicators = samples();
        indicators.extend((0..9).map(|number| technique(Tactic::Impact, &format!("T1{number:03}"), 1)));
        indicators.extend([agent(true), agent(true), finding(), finding(), finding()]);
        for end in 0..=indicators.len() {
            let Assessment { points, reasons } = Assessment::of(&indicators[..end]);
            assert_eq!(reasons.iter().map(|reason| reason.points).sum::<u32>(), points);
            assert!(reasons.is_sorted_by_key(|reason| Reverse(reason.points)));
        }
        let told: Vec<_> = Assessment::of(&[finding(), agent(true)]).reasons.into_iter().map(|reason| (reason.points, reason.text)).collect();
        assert_eq!(told, [(15, "finding t, f".to_owned()), (8, "new user agent curl/8, also for the account".to_owned())]);
    }

    #[test]
    fn a_whole_is_as_grave_as_its_gravest_and_a_little_more() {
        let with = |points| Assessed { principal: format!("user:{points}"), assessment: Assessment { points, reasons: Vec::new() } };
        let whole = |points: &[u32]| Report::of(points.iter().map(|points| with(*points)).collect()).whole.points;
        assert_eq!([whole(&[]), whole(&[44]), whole(&[4, 44]), whole(&[44, 20]), whole(&[45, 66])], [0, 44, 44, 46, 71]);
        assert_eq!([whole(&[60; 4]), whole(&[60; 9]), whole(&[98, 60]), whole(&[50, 45, 45, 45, 20, 20])], [75, 75, 100, 65]);
        let report = Report::of([20, 90, 50].map(with).to_vec());
        assert_eq!(report.principals.iter().map(|one| one.principal.as_str()).collect::<Vec<_>>(), ["user:90", "user:50", "user:20"]);
        assert_eq!((report.severity(), report.whole.reasons.len()), (Severity::Critical, 2));
        assert_eq!(serde_json::from_str::<Report>(&serde_json::to_string(&report).unwrap()).unwrap(), report);
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
