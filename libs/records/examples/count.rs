//! Reads every file under the folder `CORPUS` and prints a JSON line for each: what it held.
//!
//! `CORPUS=folder cargo run --example count` for the lines; `LETTERS=1` adds each file's dead letters.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

use gumshoe_model::{DeadLetter, Event};
use gumshoe_records::{Options, Sink, Stop, read};

#[derive(Default)]
struct Count {
    kinds: BTreeMap<&'static str, u64>,
    letters: Vec<String>,
}

impl Sink for Count {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        *self.kinds.entry(event.kind.as_str()).or_default() += 1;
        Ok(())
    }

    fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> Result<(), Stop> {
        let start: String = letter.raw.chars().take(80).collect();
        self.letters.push(format!("{}+{}: {} | {start}", letter.offset, letter.length, letter.reason));
        Ok(())
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn run(corpus: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut found = Vec::new();
    files(corpus, &mut found)?;
    found.sort();
    for path in found {
        let mut count = Count::default();
        let summary = read(BufReader::new(fs::File::open(&path)?), &Options::default(), &mut count)?;
        let mut line = serde_json::json!({
            "file": path.strip_prefix(corpus)?, "records": summary.records, "events": summary.events, "dead_letters": summary.dead_letters,
            "bytes": summary.bytes, "format": summary.format.as_str(), "kinds": count.kinds,
        });
        if env::var_os("LETTERS").is_some()
            && let Some(object) = line.as_object_mut()
        {
            object.insert("letters".to_owned(), count.letters.into());
        }
        println!("{line}");
    }
    Ok(())
}

fn main() -> ExitCode {
    let Some(corpus) = env::var_os("CORPUS") else {
        eprintln!("set CORPUS to a folder of logs");
        return ExitCode::FAILURE;
    };
    match run(Path::new(&corpus)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
