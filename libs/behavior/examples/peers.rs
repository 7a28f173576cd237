//! Measures peer groups against plain newness on held-out days: the area under the curve of each.
//!
//! `cargo run --release --example peers < pairs.tsv`: lines of day, principal, item and attack, with tabs between; a day is a whole
//! number, and an attack is `1`. The last three days are held out; the model is trained on the others without their attacks, and then
//! day by day on what it admits, attacks among it. Plain newness says 1 of a pair that was not seen before and 0 of others; peer
//! groups say how surprising it is. Fails where they are not better.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    process::ExitCode,
};

use gumshoe_behavior::peers::{Peers, Settings};

/// Days that are held out.
const HELD_OUT: usize = 3;

type Pair = (String, String);

/// By day, the pairs, and whether each is an attack.
fn read() -> io::Result<BTreeMap<i64, BTreeMap<Pair, bool>>> {
    let mut days: BTreeMap<i64, BTreeMap<Pair, bool>> = BTreeMap::new();
    for line in io::stdin().lines() {
        let line = line?;
        let fields: Vec<&str> = line.split('\t').collect();
        let [day, principal, item, attack] = fields.as_slice() else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("not a pair: {line}")));
        };
        let day = day.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("not a day: {day}")))?;
        *days.entry(day).or_default().entry(((*principal).to_owned(), (*item).to_owned())).or_default() |= *attack == "1";
    }
    Ok(days)
}

/// The chance that an attack scores more than what is none; ties count half.
fn area(scores: &[(f64, bool)]) -> f64 {
    let mut ranked = scores.to_vec();
    ranked.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (mut below, mut pairs, mut attacks) = (0.0, 0.0, 0.0);
    for group in ranked.chunk_by(|left, right| left.0 == right.0) {
        let positive = group.iter().filter(|(_, attack)| *attack).count() as f64;
        let negative = group.len() as f64 - positive;
        pairs += positive * (below + negative / 2.0);
        below += negative;
        attacks += positive;
    }
    pairs / (attacks * below)
}

fn train<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Peers {
    Peers::train(pairs, Settings::default())
}

fn main() -> ExitCode {
    let days = match read() {
        Ok(days) if days.len() > HELD_OUT => days,
        Ok(_) => {
            eprintln!("error: too few days");
            return ExitCode::FAILURE;
        }
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let split = days.len() - HELD_OUT;
    let mut seen: BTreeSet<&Pair> = days.values().take(split).flatten().filter(|(_, attack)| !**attack).map(|(pair, _)| pair).collect();
    let mut peers = train(seen.iter().map(|(principal, item)| (principal.as_str(), item.as_str())));
    let (mut ours, mut newness, mut among_new) = (Vec::new(), Vec::new(), Vec::new());
    for pairs in days.values().skip(split) {
        for (pair, attack) in pairs {
            let (principal, item) = (pair.0.as_str(), pair.1.as_str());
            // As the sweep scores: what was learned is usual.
            let score = if peers.knows(principal, item) { 0.0 } else { peers.surprise(principal, item) };
            ours.push((score, *attack));
            newness.push((f64::from(u8::from(!seen.contains(pair))), *attack));
            if !seen.contains(pair) {
                among_new.push((score, *attack));
            }
        }
        seen.extend(pairs.keys());
        peers = train(peers.admitted(seen.iter().map(|(principal, item)| (principal.as_str(), item.as_str()))));
    }
    let [ours, newness, new] = [&ours, &newness, &among_new].map(|scores| area(scores));
    let count = |attack: bool| days.values().skip(split).flatten().filter(|(_, is)| **is == attack).count();
    println!("  {} usual pairs and {} attacks on {HELD_OUT} held-out days", count(false), count(true));
    println!("  area under the curve: peer groups {ours:.4}, plain newness {newness:.4}; among new pairs alone {new:.4}, newness 0.5");
    if ours > newness && new > 0.5 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
