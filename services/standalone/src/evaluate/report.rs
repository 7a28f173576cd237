//! What comes out of all scenarios: recall, false alarms, and time.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    background::Background,
    judge::Verdict,
    scenario::{Expected, Scenario},
};
use crate::{
    output::{Output, Rows},
    quantity::show_count,
    rpc::Failure,
};

/// One scenario, judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    id: String,
    label: String,
    #[serde(skip)]
    expected: Expected,
    events: u64,
    /// Whether there is any technique, or a high alarm, of the right principal.
    told: bool,
    /// Whether the right technique was told, of the right principal.
    right_technique: bool,
    /// Whether the right principal has a high risk, or its indicators are HIGH or CRITICAL.
    high: bool,
    /// Whether the gravest principal is the right one.
    right_principal: bool,
    /// High alarms of whomever.
    alarms: u64,
    /// Techniques told of whomever.
    techniques: Vec<String>,
    seconds: f64,
}

/// Everything that was measured.
#[derive(Debug, Default, PartialEq)]
pub struct Report {
    rows: Vec<Row>,
    /// The background, if there was one.
    pub background: Option<Background>,
}

/// Counts of scenarios of one label.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
struct Tally {
    scenarios: u64,
    /// Those whose logs hold no record of a known format: not counted otherwise.
    unread: u64,
    told: u64,
    right_technique: u64,
    right_principal: u64,
    /// Those of which the right principal has the right technique, or is high.
    found: u64,
    alarms: u64,
    events: u64,
}

/// What everything comes to.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Summary {
    /// Attacks found, of all attacks; none without attacks.
    recall: Option<f64>,
    /// Attacks whose right technique was told.
    technique_recall: Option<f64>,
    /// Attacks whose right principal was the gravest.
    principal_recall: Option<f64>,
    benign_events: u64,
    false_alarms: u64,
    false_alarms_per_million_events: Option<f64>,
    seconds_to_verdict_p50: Option<f64>,
    seconds_to_verdict_p95: Option<f64>,
}

impl Report {
    /// Adds a scenario.
    pub fn add(&mut self, scenario: Scenario, verdict: Verdict) {
        let right: Vec<_> = verdict.suspects.iter().filter(|suspect| scenario.is_principal(&suspect.entity)).collect();
        let high = right.iter().any(|suspect| suspect.grave || suspect.risky);
        let mut techniques: Vec<String> = verdict.suspects.iter().flat_map(|suspect| suspect.techniques.iter().cloned()).collect();
        techniques.sort();
        techniques.dedup();
        self.rows.push(Row {
            events: verdict.events,
            told: high || right.iter().any(|suspect| !suspect.techniques.is_empty()),
            right_technique: right.iter().any(|suspect| suspect.techniques.iter().any(|technique| scenario.is_right(technique))),
            high,
            right_principal: verdict.suspects.first().is_some_and(|gravest| gravest.points > 0 && scenario.is_principal(&gravest.entity)),
            alarms: verdict.alarms(),
            techniques,
            seconds: verdict.time.as_secs_f64(),
            id: scenario.id,
            label: scenario.label,
            expected: scenario.expected,
        });
    }

    fn tallies(&self) -> BTreeMap<(Expected, &str), Tally> {
        let mut tallies: BTreeMap<(Expected, &str), Tally> = BTreeMap::new();
        for row in &self.rows {
            let tally = tallies.entry((row.expected, row.label.as_str())).or_default();
            if row.events == 0 {
                tally.unread += 1;
                continue;
            }
            tally.scenarios += 1;
            tally.told += u64::from(row.told);
            tally.right_technique += u64::from(row.right_technique);
            tally.right_principal += u64::from(row.right_principal);
            tally.found += u64::from(row.right_technique || row.high);
            tally.alarms += row.alarms;
            tally.events += row.events;
        }
        tallies
    }

    fn summary(&self) -> Summary {
        let tallies = self.tallies();
        let of = |expected: Expected, count: fn(&Tally) -> u64| tallies.iter().filter(|((one, _), _)| *one == expected).map(|(_, tally)| count(tally)).sum();
        // An attack that cannot even be read is not told.
        let attacks: u64 = of(Expected::Attack, |tally| tally.scenarios + tally.unread);
        let share = |count: fn(&Tally) -> u64| (attacks > 0).then(|| of(Expected::Attack, count) as f64 / attacks as f64);
        let background = self.background.as_ref();
        let benign_events: u64 = of(Expected::Nothing, |tally| tally.events) + background.map_or(0, |background| background.events);
        let alarms = |background: &Background| u64::try_from(background.alarms.len()).unwrap_or(u64::MAX);
        let false_alarms: u64 = of(Expected::Nothing, |tally| tally.alarms) + background.map_or(0, alarms);
        let mut times: Vec<f64> = self.rows.iter().filter(|row| row.events > 0).map(|row| row.seconds).collect();
        times.sort_by(f64::total_cmp);
        Summary {
            recall: share(|tally| tally.found),
            technique_recall: share(|tally| tally.right_technique),
            principal_recall: share(|tally| tally.right_principal),
            benign_events,
            false_alarms,
            false_alarms_per_million_events: (benign_events > 0).then(|| 1e6 * false_alarms as f64 / benign_events as f64),
            seconds_to_verdict_p50: percentile(&times, 50),
            seconds_to_verdict_p95: percentile(&times, 95),
        }
    }

    /// Prints it.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn print(&self, output: Output) -> Result<(), Failure> {
        let (tallies, summary) = (self.tallies(), self.summary());
        if output.is_json() {
            let labels: BTreeMap<&str, &Tally> = tallies.iter().map(|((_, label), tally)| (*label, tally)).collect();
            return output.json(&serde_json::json!({ "scenarios": self.rows, "labels": labels, "background": self.background, "summary": summary }));
        }
        let mut rows = Rows::new(&["scenario", "label", "#events", "told", "technique", "principal", "high", "#alarms", "#seconds", "techniques"]);
        let yes = |yes: bool| if yes { "yes" } else { "" }.to_owned();
        for row in &self.rows {
            rows.add([
                row.id.clone(),
                row.label.clone(),
                show_count(row.events),
                yes(row.told),
                yes(row.right_technique),
                yes(row.right_principal),
                yes(row.high),
                show_count(row.alarms),
                format!("{:.2}", row.seconds),
                row.techniques.join(" "),
            ]);
        }
        output.table(&rows)?;
        let mut rows = Rows::new(&["label", "#scenarios", "#not readable", "#told", "#technique right", "#principal right", "#found", "#alarms", "#events"]);
        for ((_, label), tally) in &tallies {
            let counts = [tally.scenarios, tally.unread, tally.told, tally.right_technique, tally.right_principal, tally.found, tally.alarms, tally.events];
            let [scenarios, unread, told, technique, principal, found, alarms, events] = counts.map(show_count);
            rows.add([(*label).to_owned(), scenarios, unread, told, technique, principal, found, alarms, events]);
        }
        output.section("By label", &rows)?;
        if let Some(background) = &self.background {
            output.line("")?;
            output.line(&format!(
                "background: {} events, {} principals, {} investigated, {} alarms, in {:.0} s",
                show_count(background.events),
                show_count(background.principals),
                show_count(background.investigated),
                background.alarms.len(),
                background.seconds
            ))?;
            background.alarms.iter().try_for_each(|alarm| output.line(&format!("  false alarm: {alarm}")))?;
        }
        let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1}%", 100.0 * share));
        let number = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.2}"));
        output.line("")?;
        output.line(&format!(
            "attacks found: {} (technique {}, principal {})",
            percent(summary.recall),
            percent(summary.technique_recall),
            percent(summary.principal_recall)
        ))?;
        output.line(&format!(
            "false alarms: {} in {} benign events ({} in a million)",
            summary.false_alarms,
            show_count(summary.benign_events),
            number(summary.false_alarms_per_million_events)
        ))?;
        output.line(&format!(
            "time to verdict: {} s median, {} s at the 95th percentile",
            number(summary.seconds_to_verdict_p50),
            number(summary.seconds_to_verdict_p95)
        ))
    }

    /// Whether the limits are kept.
    ///
    /// # Errors
    /// [`Failure::Partial`] when one is not, or there was nothing to hold to it.
    pub fn check(&self, min_recall: Option<f64>, max_alarms: Option<f64>) -> Result<(), Failure> {
        let summary = self.summary();
        if let Some(least) = min_recall {
            match summary.recall {
                Some(recall) if recall >= least => {}
                Some(recall) => return Err(Failure::Partial(format!("{:.1}% of the attacks were found, fewer than {:.1}%", 100.0 * recall, 100.0 * least))),
                None => return Err(Failure::Partial("there is no attack to find".to_owned())),
            }
        }
        if let Some(most) = max_alarms {
            match summary.false_alarms_per_million_events {
                Some(rate) if rate <= most => {}
                Some(rate) => return Err(Failure::Partial(format!("there are {rate:.2} false alarms in a million benign events, more than {most:.2}"))),
                None => return Err(Failure::Partial("there is no benign event to look for false alarms in".to_owned())),
            }
        }
        Ok(())
    }
}

/// The value that so many percent are at or below; `None` of nothing.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::judge::Suspect;

    fn scenario(label: &str, expected: Expected) -> Scenario {
        Scenario {
            id: label.to_owned(),
            label: label.to_owned(),
            expected,
            files: Vec::new(),
            test: None,
            techniques: ["T1098.001".to_owned()].into(),
            principals: ["arn:aws:iam::111122223333:user/ann".to_owned()].into(),
            start: None,
        }
    }

    fn suspect(name: &str, techniques: &[&str], grave: bool) -> Suspect {
        let entity = format!("user:arn:aws:iam::111122223333:user/{name}").parse().unwrap();
        Suspect { entity, techniques: techniques.iter().map(|id| (*id).to_owned()).collect(), points: 20, grave, risky: false }
    }

    fn report(cases: Vec<(Scenario, Vec<Suspect>, u64)>) -> Report {
        let mut report = Report::default();
        for (number, (scenario, suspects, events)) in (1..).zip(cases) {
            report.add(scenario, Verdict { events, suspects, findings: 0, time: Duration::from_secs(number) });
        }
        report
    }

    #[test]
    fn recall_asks_for_the_right_principal_and_technique_or_a_high_alarm() {
        let attack = || scenario("attack", Expected::Attack);
        let of = |suspects| report(vec![(attack(), suspects, 5)]).summary();
        assert_eq!(of(vec![suspect("ann", &["T1098"], false)]).recall, Some(1.0));
        assert_eq!(of(vec![suspect("ann", &[], true)]).recall, Some(1.0));
        assert_eq!(of(vec![suspect("ann", &["T1485"], false)]).recall, Some(0.0));
        assert_eq!(of(vec![suspect("bob", &["T1098"], true)]).recall, Some(0.0));
        let behind = of(vec![suspect("bob", &["T1485"], true), suspect("ann", &["T1098"], false)]);
        assert_eq!((behind.recall, behind.technique_recall, behind.principal_recall), (Some(1.0), Some(1.0), Some(0.0)));
        // What cannot be read is not found.
        let unread = report(vec![(attack(), vec![suspect("ann", &["T1098"], false)], 5), (attack(), Vec::new(), 0)]);
        assert_eq!(unread.summary().recall, Some(0.5));
        assert!(unread.check(Some(0.5), None).is_ok() && unread.check(Some(0.51), None).is_err() && unread.check(None, Some(1.0)).is_err());
        assert!(Report::default().check(Some(0.0), None).is_err());
    }

    #[test]
    fn alarms_of_benign_scenarios_are_false() {
        let benign = scenario("benign", Expected::Nothing);
        let notable = scenario("suspicious", Expected::Notable);
        let cases = vec![
            (benign.clone(), vec![suspect("ann", &[], true), suspect("bob", &[], false)], 1_000),
            (benign, Vec::new(), 1_000),
            (notable, vec![suspect("ann", &[], true)], 7),
        ];
        let mut report = report(cases);
        let summary = report.summary();
        assert_eq!((summary.false_alarms, summary.benign_events, summary.false_alarms_per_million_events), (1, 2_000, Some(500.0)));
        assert_eq!((summary.seconds_to_verdict_p50, summary.seconds_to_verdict_p95, summary.recall), (Some(2.0), Some(3.0), None));
        report.background = Some(Background { events: 998_000, alarms: vec!["x".to_owned()], ..Background::default() });
        assert_eq!(report.summary().false_alarms_per_million_events, Some(2.0));
        assert!(report.check(None, Some(2.0)).is_ok() && report.check(None, Some(1.9)).is_err());
    }
}
