//! Runs folders of IAM cases against the evaluator: `cargo run -p gumshoe-iam --example conformance -- FOLDER`.
//!
//! Files of evaluation cases (`policies`, `request`, `expected`) and of validation cases (`document`, `valid`,
//! `aws_message`) are told apart by their content. The gate: every case that two other implementations agree on, 99% of
//! those with one verdict, every validation case. Disputed cases are only shown.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

use std::{error::Error, fs, path::PathBuf, process::ExitCode};

use gumshoe_iam::{Kind, Policy};
use serde_json::Value;

#[path = "../tests/cases/reader.rs"]
mod reader;

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn add(&mut self, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Whether at least `share` of the cases passed.
    fn reaches(&self, share: f64) -> bool {
        let total = (self.passed + self.failed) as f64;
        self.passed as f64 >= total * share
    }
}

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: conformance FOLDER");
        return ExitCode::from(2);
    };
    match run(&PathBuf::from(folder)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(folder: &PathBuf) -> Result<bool, Box<dyn Error>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let (mut agreed, mut single, mut disputed, mut validation) = (Tally::default(), Tally::default(), Tally::default(), Tally::default());
    for path in files {
        println!("{}", path.display());
        let cases: Vec<Value> = serde_json::from_str(&fs::read_to_string(&path)?)?;
        for case in &cases {
            let text = |name: &str| case.get(name).and_then(Value::as_str).unwrap_or_default();
            let (tally, outcome) = match (case.get("document"), text("confidence")) {
                (Some(document), _) => (&mut validation, validate(case, document)),
                (None, "two_oracles") => (&mut agreed, evaluate(case)),
                (None, "one_oracle") => (&mut single, evaluate(case)),
                (None, _) => (&mut disputed, evaluate(case)),
            };
            if let Err(difference) = &outcome {
                println!("  {} ({}): {difference}", text("name"), text("confidence"));
            }
            tally.add(outcome.is_ok());
        }
    }
    for (name, tally) in [("two oracles", &agreed), ("one oracle", &single), ("disputed", &disputed), ("validation", &validation)] {
        println!("{name}: {} passed, {} failed", tally.passed, tally.failed);
    }
    let gated = [&agreed, &single, &validation];
    let (passed, failed) = gated.iter().fold((0, 0), |(passed, failed), tally| (passed + tally.passed, failed + tally.failed));
    println!("{passed} passed, {failed} failed");
    Ok(passed > 0 && agreed.reaches(1.0) && single.reaches(0.99) && validation.reaches(1.0))
}

fn evaluate(case: &Value) -> Result<(), String> {
    let expected = case.get("expected").and_then(Value::as_str).unwrap_or_default();
    let (verdict, explanation) = reader::decide(case)?;
    if verdict == expected { Ok(()) } else { Err(format!("expected {expected}, got {verdict}\n    {explanation}")) }
}

fn validate(case: &Value, document: &Value) -> Result<(), String> {
    let text = document.as_str().map_or_else(|| document.to_string(), str::to_owned);
    let expected = case.get("aws_message").and_then(Value::as_str);
    match (Policy::parse_as(Kind::Identity, &text), expected) {
        (Ok(_), None) => Ok(()),
        (Err(error), Some(message)) if error.to_string() == message => Ok(()),
        (Ok(_), Some(message)) => Err(format!("expected `{message}`, got a policy")),
        (Err(error), expected) => Err(format!("expected `{}`, got `{error}`", expected.unwrap_or("a policy"))),
    }
}
