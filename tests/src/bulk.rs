//! Larger logs out of `gumshoe generate`, with what real deliveries have besides: duplicates and broken records.

use std::{fs, path::Path};

use gumshoe_testkit::Cli;

use crate::LogFile;

/// About `records` records in many files, the same for the same seed; then a file that repeats another, and one with
/// broken records.
///
/// # Panics
/// When they cannot be generated.
pub async fn generate(records: usize, seed: u64) -> Vec<LogFile> {
    let folder = tempfile::tempdir().unwrap();
    let (count, seed_text) = (records.to_string(), seed.to_string());
    let out = folder.path().display().to_string();
    let cli = Cli::with([]);
    cli.json(&["generate", "--kind", "mixed", "--records", &count, "--seed", &seed_text, "--out", &out, "--gzip", "--file-size", "80KB", "--days", "2"]).await;
    let mut files = Vec::new();
    collect(folder.path(), folder.path(), &mut files);
    assert!(files.len() > 10, "{} files are too few to be killed between", files.len());
    files.sort_by(|one, other| one.name.cmp(&other.name));

    let twice = files.iter().find(|file| file.name.contains("CloudTrail")).expect("a CloudTrail file");
    let mut repeated = twice.clone();
    repeated.name = "late/again.json.gz".to_owned();
    let broken = String::from_utf8(twice.unpacked().to_vec()).unwrap();
    let broken: Vec<String> = broken
        .match_indices("{\"eventVersion\"")
        .take(20)
        .enumerate()
        .map(|(number, _)| format!("{{\"eventVersion\":\"1.11\",\"eventTime\":\"soon\",\"eventSource\":\"x.amazonaws.com\",\"eventName\":\"Broken{number}\"}}"))
        .collect();
    assert_eq!(broken.len(), 20);
    files.extend([repeated, LogFile::new("late/broken.json", &broken.join("\n"))]);
    files
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<LogFile>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            files.push(LogFile { name, data: fs::read(&path).unwrap().into() });
        }
    }
}
