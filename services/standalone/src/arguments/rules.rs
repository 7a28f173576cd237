//! Detection rules.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::ScopeTime;

/// What to do with rules.
#[derive(Debug, Subcommand)]
pub enum Rules {
    /// List rules.
    List(RuleFilter),
    /// Show a rule and its text.
    Show {
        /// Its id.
        id: String,
    },
    /// Add a rule to the graph; one with the id of another takes its place.
    Create {
        /// A rule in Sigma; `-` is standard input.
        file: PathBuf,
    },
    /// Write a rule of the graph anew.
    Update {
        /// A rule in Sigma; `-` is standard input.
        file: PathBuf,
    },
    /// Remove a rule of the graph.
    Delete {
        /// Its id.
        id: String,
    },
    /// Check a rule, and try it on its cases and on records.
    Validate {
        /// A rule in Sigma; `-` is standard input.
        file: PathBuf,
        /// Records to try it on, at most 1 MiB.
        #[arg(long, value_name = "FILE")]
        records: Option<PathBuf>,
    },
    /// Look for what a rule matches in what was ingested before.
    Hunt {
        /// A rule's id, or a file with one.
        rule: String,
        /// When [default: the last 30 days].
        #[command(flatten)]
        scope: ScopeTime,
        /// At most this many matches.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
    },
}

/// Which rules.
#[derive(Debug, Args)]
pub struct RuleFilter {
    /// Only those whose title, id, tactics or techniques hold this.
    #[arg(default_value = "", hide_default_value = true)]
    pub text: String,
    /// Only those from here.
    #[arg(long, value_enum)]
    pub origin: Option<RuleOrigin>,
    /// At most this many.
    #[arg(long, default_value_t = 1_000)]
    pub limit: u32,
}

impl Default for RuleFilter {
    fn default() -> Self {
        Self { text: String::new(), origin: None, limit: 1_000 }
    }
}

/// Who rules are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RuleOrigin {
    /// They come with Gumshoe.
    Shipped,
    /// They are in the operator's directory.
    Directory,
    /// They were written for the graph.
    Graph,
}
