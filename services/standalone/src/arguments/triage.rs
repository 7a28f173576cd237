//! Findings: which, what they turned out to be, and what is suppressed.

use clap::{Args, Subcommand, ValueEnum};
use gumshoe_model::AccountId;

use super::ScopeTime;

/// Which findings.
#[derive(Debug, Args)]
pub struct Findings {
    /// Only of at least this severity: 0 to 10, or low, medium, high, critical.
    #[arg(long, value_parser = severity, value_name = "SEVERITY")]
    pub min_severity: Option<f64>,
    /// Only of at most this severity; a word stands for all of its band.
    #[arg(long, value_parser = most_severity, value_name = "SEVERITY")]
    pub max_severity: Option<f64>,
    /// Only types that start with this, or match it: `*` stands for any characters, `?` for one.
    #[arg(long = "type", default_value = "", hide_default_value = true, value_name = "TYPE")]
    pub finding_type: String,
    /// Only of this product: `guardduty`, `securityhub`, `gumshoe`, or its name or ARN, with `*` and `?`.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub product: String,
    /// Only of this status; may be repeated. Also those archived at their source.
    #[arg(long, value_enum)]
    pub status: Vec<FindingStatus>,
    /// Only of this account.
    #[arg(long, value_name = "ID")]
    pub account: Option<AccountId>,
    /// Only those that affect this entity.
    #[arg(long, value_name = "ENTITY")]
    pub entity: Option<String>,
    /// Also archived and resolved ones.
    #[arg(long)]
    pub archived: bool,
    /// Also suppressed ones.
    #[arg(long)]
    pub suppressed: bool,
    /// Only those active in a time.
    #[command(flatten)]
    pub scope: ScopeTime,
    /// At most this many.
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
}

/// What is to be done about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FindingStatus {
    /// Nobody has decided yet, or it was reopened.
    Open,
    /// Judged an attack.
    TruePositive,
    /// Judged wrong.
    FalsePositive,
    /// Judged right, but allowed.
    Benign,
    /// Without a verdict, but archived or resolved at its source.
    Archived,
}

/// What a finding turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Verdict {
    /// An attack.
    TruePositive,
    /// The detector was wrong.
    FalsePositive,
    /// The detector was right, but it was allowed.
    Benign,
    /// Taken back: open again.
    Reopened,
}

/// What to do with suppressions.
#[derive(Debug, Subcommand)]
pub enum Suppressions {
    /// List them, latest first.
    List(SuppressionFilter),
    /// Put one in force: what it covers is left out of listings.
    Accept {
        /// Its id.
        id: String,
    },
    /// Do not have it proposed again.
    Dismiss {
        /// Its id.
        id: String,
    },
    /// End it: what it covered is listed again.
    Delete {
        /// Its id.
        id: String,
    },
}

/// Which suppressions.
#[derive(Debug, Args)]
pub struct SuppressionFilter {
    /// Only of this state; may be repeated [default: all but deleted].
    #[arg(long, value_enum)]
    pub state: Vec<SuppressionState>,
    /// At most this many.
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
}

impl Default for SuppressionFilter {
    fn default() -> Self {
        Self { state: Vec::new(), limit: 50 }
    }
}

/// Whether a suppression is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SuppressionState {
    /// To be accepted or dismissed.
    Proposed,
    /// In force.
    Accepted,
    /// Not wanted.
    Dismissed,
    /// Over.
    Deleted,
}

fn severity(text: &str) -> Result<f64, String> {
    let number = match text.to_lowercase().as_str() {
        "informational" => 0.0,
        "low" => 1.0,
        "medium" => 4.0,
        "high" => 7.0,
        "critical" => 9.0,
        other => other.parse().unwrap_or(f64::NAN),
    };
    if (0.0..=10.0).contains(&number) { Ok(number) } else { Err("expected 0 to 10, or low, medium, high, critical".to_owned()) }
}

/// As [`severity`], but a word is the end of its band.
fn most_severity(text: &str) -> Result<f64, String> {
    match text.to_lowercase().as_str() {
        "informational" => Ok(1_f64.next_down()),
        "low" => Ok(4_f64.next_down()),
        "medium" => Ok(7_f64.next_down()),
        "high" => Ok(9_f64.next_down()),
        "critical" => Ok(10.0),
        _ => severity(text),
    }
}
