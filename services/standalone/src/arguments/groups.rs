//! Finding groups: which, and as what.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gumshoe_model::AccountId;

use super::{ScopeTime, triage};

/// Which groups.
#[derive(Debug, Args)]
pub struct Groups {
    /// Only of at least this severity: 0 to 10, or low, medium, high, critical.
    #[arg(long, value_parser = triage::severity, value_name = "SEVERITY")]
    pub min_severity: Option<f64>,
    /// Only of at most this severity; a word stands for all of its band.
    #[arg(long, value_parser = triage::most_severity, value_name = "SEVERITY")]
    pub max_severity: Option<f64>,
    /// Only of this status; may be repeated [default: open and closed].
    #[arg(long, value_enum)]
    pub status: Vec<GroupStatus>,
    /// Only with findings about this account.
    #[arg(long, value_name = "ID")]
    pub account: Option<AccountId>,
    /// Only with findings that name this entity.
    #[arg(long, value_name = "ENTITY")]
    pub entity: Option<String>,
    /// Only the one that has this finding.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    pub finding: String,
    /// Only with findings in a time.
    #[command(flatten)]
    pub scope: ScopeTime,
    /// At most this many.
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
}

/// One group, and what to do with it.
#[derive(Debug, Args)]
pub struct Group {
    /// The group's id, or that of one that was merged into it.
    pub id: String,
    /// Write it as a document.
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with_all = ["close", "open"])]
    pub export: Option<GroupFormat>,
    /// The file to write [default: standard output].
    #[arg(long, value_name = "FILE", requires = "export")]
    pub out: Option<PathBuf>,
    /// Be done with it. It opens again when it gets new findings.
    #[arg(long, conflicts_with = "open")]
    pub close: bool,
    /// Open it again.
    #[arg(long)]
    pub open: bool,
    /// Why it is closed or opened.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub note: String,
}

/// What is to be done about a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GroupStatus {
    /// To be looked at.
    Open,
    /// Done with.
    Closed,
    /// Its findings are not tied any more.
    Dissolved,
}

/// Forms of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GroupFormat {
    /// Markdown.
    Markdown,
    /// One HTML file.
    Html,
    /// JSON.
    Json,
    /// A bundle of STIX 2.1.
    Stix,
}
