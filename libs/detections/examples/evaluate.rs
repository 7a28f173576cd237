//! Measures the shipped rules on labelled logs: `evaluate CORPUS [--all] [--benign FOLDER] [--rules FOLDER]`.
//!
//! `CORPUS/data/open/truth.jsonl` names scenarios with their files, labels, techniques and principals. Records go through the parser and
//! the rules, without a baseline: everything is new. Every second scenario, by file name, is held out: rules are changed by the misses
//! of the others, and how the held-out ones fare is told as numbers alone, unless `--all` asks for all misses.
//!
//! - **attack**: whether its principal has a match with the right technique, or one of level high or more;
//! - **to be alerted**: whether anything matches, and whether with the right technique;
//! - **benign**: how many records have a match of level high or more. `--benign` adds a folder of logs that hold no attack.
//!
//! `--rules` takes the rules of a folder over the shipped ones.
//!
//! Ends with `N passed, N failed`: of the attacks, 95% must be told, and of 100,000 benign records one may be high.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use gumshoe_detections::{Correlations, Rule, RuleSet};
use gumshoe_model::{DeadLetter, Event, Level};
use gumshoe_records::{Options, Sink, Stop, read};
use serde_json::Value;

/// A rule that matched, and whom.
struct Match {
    rule: Arc<Rule>,
    level: Level,
    /// Identifiers of who acted.
    whom: BTreeSet<String>,
}

/// Takes events to the rules.
struct Matcher<'r> {
    rules: &'r RuleSet,
    correlations: Correlations,
    found: Vec<Match>,
    events: u64,
    high: u64,
    dead: u64,
}

impl Matcher<'_> {
    fn new(rules: &RuleSet) -> Matcher<'_> {
        Matcher { rules, correlations: Correlations::new(), found: Vec::new(), events: 0, high: 0, dead: 0 }
    }
}

impl Sink for Matcher<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        self.events += 1;
        let entities = [&event.actor, &event.parent, &event.origin].into_iter().flatten().map(|entity| entity.id.to_string());
        let names = [&event.actor_alias, &event.actor_name, &event.account].into_iter().filter(|name| !name.is_empty()).map(|name| name.to_string());
        let whom: BTreeSet<String> = entities.chain(names).collect();
        let several = self.correlations.observe(self.rules, event).into_iter().map(|found| (found.rule.level, found.rule));
        let rules: Vec<(Level, Arc<Rule>)> = self.rules.matches(event).map(|rule| (rule.level_of(event), Arc::clone(rule))).chain(several).collect();
        self.high += u64::from(rules.iter().any(|(level, _)| *level >= Level::High));
        self.found.extend(rules.into_iter().map(|(level, rule)| Match { rule, level, whom: whom.clone() }));
        Ok(())
    }

    fn dead_letter(&mut self, _: &DeadLetter<'_>) -> Result<(), Stop> {
        self.dead += 1;
        Ok(())
    }
}

/// One scenario of the truth.
struct Scenario<'t> {
    id: &'t str,
    label: &'t str,
    file: &'t str,
    techniques: BTreeSet<&'t str>,
    principals: BTreeSet<&'t str>,
    test: Option<u64>,
}

impl<'t> Scenario<'t> {
    fn new(value: &'t Value) -> Option<Self> {
        let texts = |key: &str| value.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect::<BTreeSet<&str>>();
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let mut techniques = texts("mitre");
        techniques.extend(texts("mitre_from_docs"));
        let mut principals = texts("principal_arns");
        principals.extend(text("user"));
        let file = texts("files").first().copied()?;
        Some(Self { id: text("id")?, label: text("label")?, file, techniques, principals, test: value.get("test_index").and_then(Value::as_u64) })
    }

    /// The scenario's records as text, without what names the tool that made them.
    fn records(&self, folder: &Path) -> Result<String, Box<dyn Error>> {
        let text = fs::read_to_string(folder.join(self.file))?;
        let text = match self.test {
            Some(index) => {
                let file: Value = serde_json::from_str(&text)?;
                let log = file.pointer(&format!("/tests/{index}/log")).ok_or("a test without a log")?;
                log.as_str().map_or_else(|| timed(log).to_string(), str::to_owned)
            }
            None => text,
        };
        Ok(text.replace("stratus-red-team_", "agent_"))
    }

    fn right_technique(&self, rule: &Rule) -> bool {
        let main = |id: &str| id.split('.').next().unwrap_or_default().to_owned();
        rule.techniques.iter().any(|technique| self.techniques.iter().any(|wanted| technique.main() == main(wanted)))
    }

    fn exact_technique(&self, rule: &Rule) -> bool {
        rule.techniques.iter().any(|technique| self.techniques.contains(technique.id()))
    }

    fn right_principal(&self, found: &Match) -> bool {
        self.principals.is_empty()
            || self.principals.iter().any(|principal| found.whom.iter().any(|whom| whom == principal || whom.ends_with(&format!("/{principal}"))))
    }
}

/// A record with a time, which records made for tests may lack.
fn timed(record: &Value) -> Value {
    let mut record = record.clone();
    if let Some(fields) = record.as_object_mut() {
        let time = || Value::from("2024-05-01T10:00:00Z");
        if fields.contains_key("eventName") {
            fields.entry("eventTime").or_insert_with(time);
        } else if fields.contains_key("verb") && !fields.contains_key("stageTimestamp") {
            fields.entry("requestReceivedTimestamp").or_insert_with(time);
        }
    }
    record
}

/// Counts of one group of scenarios.
#[derive(Default)]
struct Tally {
    scenarios: u64,
    told: u64,
    right: u64,
    exact: u64,
    misses: Vec<String>,
}

#[derive(Default)]
struct Benign {
    records: u64,
    high: u64,
    alarms: Vec<String>,
}

fn percent(part: u64, of: u64) -> f64 {
    100.0 * part as f64 / (of as f64).max(1.0)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files(&path, found)? } else { found.push(path) }
    }
    found.sort();
    Ok(())
}

fn run() -> Result<bool, Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let corpus = PathBuf::from(arguments.next().ok_or("usage: evaluate CORPUS [--all] [--benign FOLDER] [--rules FOLDER]")?);
    let (mut all, mut more, mut rules) = (false, None, RuleSet::shipped()?);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--all" => all = true,
            "--benign" => more = Some(PathBuf::from(arguments.next().ok_or("--benign takes a folder")?)),
            "--rules" => rules = RuleSet::load(Path::new(&arguments.next().ok_or("--rules takes a folder")?))?,
            other => return Err(format!("`{other}` is not known").into()),
        }
    }
    let folder = corpus.join("data/open");
    let truth: Vec<Value> = fs::read_to_string(folder.join("truth.jsonl"))?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let scenarios: Vec<Scenario<'_>> = truth.iter().filter_map(Scenario::new).collect();
    // Every second file of a data set is held out, with all its cases.
    let names: BTreeSet<(&str, &str)> = scenarios.iter().map(|scenario| (scenario.file.split('/').next().unwrap_or_default(), scenario.file)).collect();
    let mut held_out = BTreeSet::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (set, file) in names {
        let place = places.entry(set).or_default();
        if *place % 2 == 1 {
            held_out.insert(file);
        }
        *place += 1;
    }

    let mut tallies: BTreeMap<(&str, bool), Tally> = BTreeMap::new();
    let mut benign = Benign::default();
    let mut unread = Vec::new();
    for scenario in &scenarios {
        let held = held_out.contains(scenario.file);
        let mut matcher = Matcher::new(&rules);
        read(scenario.records(&folder)?.as_bytes(), &Options::default(), &mut matcher)?;
        if matcher.events == 0 {
            unread.push(scenario.id);
            continue;
        }
        if matches!(scenario.label, "should_not_alert" | "benign-admin") {
            benign.records += matcher.events;
            benign.high += matcher.high;
            for found in matcher.found.iter().filter(|found| found.level >= Level::High) {
                benign.alarms.push(if held && !all { "a held-out record".to_owned() } else { format!("{}: {}", scenario.id, found.rule.source) });
            }
            continue;
        }
        let tally = tallies.entry((scenario.label, held)).or_default();
        tally.scenarios += 1;
        let of_principal: Vec<&Match> = matcher.found.iter().filter(|found| scenario.right_principal(found)).collect();
        let right = of_principal.iter().any(|found| scenario.right_technique(&found.rule));
        let high = of_principal.iter().any(|found| found.level >= Level::High);
        let told = if scenario.label == "attack" { right || high } else { !of_principal.is_empty() };
        tally.told += u64::from(told);
        tally.right += u64::from(right || high);
        tally.exact += u64::from(of_principal.iter().any(|found| scenario.exact_technique(&found.rule)));
        if !(told && (right || high)) && (all || !held) {
            let found: Vec<&str> = of_principal.iter().map(|found| found.rule.source.as_str()).collect();
            tally.misses.push(format!("{}: wanted {:?}, found {found:?}", scenario.id, scenario.techniques));
        }
    }
    if let Some(folder) = more {
        let mut paths = Vec::new();
        files(&folder, &mut paths)?;
        for path in paths {
            let mut matcher = Matcher::new(&rules);
            read(fs::File::open(&path)?, &Options::default(), &mut matcher)?;
            benign.records += matcher.events;
            benign.high += matcher.high;
            let high = matcher.found.iter().filter(|found| found.level >= Level::High);
            benign.alarms.extend(high.map(|found| format!("{}: {}", path.display(), found.rule.source)));
        }
    }

    println!("{} rules; scenarios that hold no record of a known format: {}", rules.len(), unread.len());
    for ((label, held), tally) in &tallies {
        let name = if *held { format!("{label}, held out") } else { (*label).to_owned() };
        for miss in &tally.misses {
            println!("  {miss}");
        }
        let Tally { scenarios, told, right, exact, .. } = tally;
        println!(
            "{name}: {told} of {scenarios} told ({:.1}%), {right} with the right technique or high ({:.1}%), {exact} with the exact one",
            percent(*told, *scenarios),
            percent(*right, *scenarios)
        );
    }
    for alarm in &benign.alarms {
        println!("  false alarm: {alarm}");
    }
    let rate = 100_000.0 * benign.high as f64 / (benign.records as f64).max(1.0);
    println!("benign: {} of {} records have a high alarm ({rate:.1} of 100,000)", benign.high, benign.records);
    let sum = |of: fn(&Tally) -> u64| tallies.iter().filter(|((label, _), _)| *label == "attack").map(|(_, tally)| of(tally)).sum::<u64>();
    let (attacks, told) = (sum(|tally| tally.scenarios), sum(|tally| tally.told));
    let recall = attacks > 0 && 20 * told >= 19 * attacks;
    let quiet = benign.records > 0 && rate <= 1.0;
    println!("{} passed, {} failed", u8::from(recall) + u8::from(quiet), u8::from(!recall) + u8::from(!quiet));
    Ok(recall && quiet)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
