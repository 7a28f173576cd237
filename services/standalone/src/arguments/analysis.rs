//! Heavy questions: over months of records, or all findings.

use clap::Args;
use gumshoe_model::{EntityType, RecordKind, Relation};

use super::{ScopeTime, entity_type, record_kind, relation, triage::severity};

/// What to hunt for. In patterns `*` stands for any characters and `?` for one; each may be repeated: one of them must match.
#[derive(Debug, Args)]
pub struct Hunt {
    /// Only in a time.
    #[command(flatten)]
    pub scope: ScopeTime,
    /// Only of this kind: cloudtrail, vpc_flow, guardduty, security_hub, eks_audit.
    #[arg(long, value_parser = record_kind)]
    pub kind: Option<RecordKind>,
    /// The service called, such as s3.amazonaws.com.
    #[arg(long = "service", value_name = "PATTERN")]
    pub services: Vec<String>,
    /// The operation called, such as `Get*`.
    #[arg(long = "operation", value_name = "PATTERN")]
    pub operations: Vec<String>,
    /// Who acted: an id, name, role or access key.
    #[arg(long = "actor", value_name = "PATTERN")]
    pub actors: Vec<String>,
    /// The address, such as `203.0.113.*`.
    #[arg(long = "address", value_name = "PATTERN")]
    pub addresses: Vec<String>,
    /// The user agent.
    #[arg(long = "user-agent", value_name = "PATTERN")]
    pub user_agents: Vec<String>,
    /// The error code; `*` for any.
    #[arg(long = "error", value_name = "PATTERN")]
    pub errors: Vec<String>,
    /// The account that recorded it.
    #[arg(long = "account", value_name = "PATTERN")]
    pub account_ids: Vec<String>,
    /// Print the records as they came, a line each.
    #[arg(long)]
    pub raw: bool,
    /// At most this many, the earliest; 0 for all.
    #[arg(long, default_value_t = 1_000)]
    pub limit: u32,
}

/// Which findings to pair.
#[derive(Debug, Args)]
pub struct Pairs {
    /// Only findings active in a time.
    #[command(flatten)]
    pub scope: ScopeTime,
    /// Only findings of at least this severity: 0 to 10, or low, medium, high, critical.
    #[arg(long, value_parser = severity, value_name = "SEVERITY")]
    pub min_severity: Option<f64>,
    /// Also archived and resolved ones.
    #[arg(long)]
    pub archived: bool,
    /// An entity counts if at most so many findings name it, 2 to 1000.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i32).range(2..=1_000), value_name = "NUMBER")]
    pub max_findings: i32,
    /// Hours that may lie between two findings, 1 to 8784.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(i32).range(1..=8_784), value_name = "HOURS")]
    pub within: i32,
}

/// Of what to compute baselines.
#[derive(Debug, Args)]
pub struct Baselines {
    /// Only over a time.
    #[command(flatten)]
    pub scope: ScopeTime,
    /// Only entities of this type; may be repeated.
    #[arg(long = "type", value_name = "TYPE", value_parser = entity_type)]
    pub types: Vec<EntityType>,
    /// Only this relation; may be repeated.
    #[arg(long = "relation", value_parser = relation)]
    pub relations: Vec<Relation>,
}
