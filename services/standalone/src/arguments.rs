//! The command line: every command, option and environment variable.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use gumshoe_model::{AccountId, EntityType, GraphArn, RecordKind, Relation, Timestamp};
use secrecy::SecretString;

use crate::{generate, quantity};

mod access;
mod behavior;
mod rules;
mod triage;

pub use access::{Accounts, Keys, Policies, Principals};
pub use behavior::{Criticality, Watchlist};
pub use rules::{RuleFilter, RuleOrigin, Rules};
pub use triage::{FindingStatus, Findings, SuppressionFilter, SuppressionState, Suppressions, Verdict};

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 failed; 2 wrong arguments; 3 not signed in or not allowed; 4 not found; 5 the server does not answer

Sign in with `gumshoe login`, or set GUMSHOE_ACCESS_KEY_ID and GUMSHOE_SECRET_ACCESS_KEY.";

/// A self-hosted behaviour graph of security logs: the server, and the client of a server.
#[derive(Debug, Parser)]
#[command(name = "gumshoe", version, after_help = AFTER_HELP, max_term_width = 120, arg_required_else_help = true)]
pub struct Arguments {
    /// How results are printed; json prints the API's own messages.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table, env = "GUMSHOE_OUTPUT")]
    pub output: Format,
    /// Where the server is and who calls.
    #[command(flatten)]
    pub remote: Remote,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: one JSON document.
    Json,
}

/// Where the server is and who calls.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Server")]
pub struct Remote {
    /// The server's address [default: http://127.0.0.1:8443, or what `login` kept].
    #[arg(long, global = true, env = "GUMSHOE_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<String>,
    /// Certificate of the authority that signed an https server's certificate, PEM.
    #[arg(long, global = true, env = "GUMSHOE_CERTIFICATE_AUTHORITY", value_name = "FILE")]
    pub certificate_authority: Option<PathBuf>,
    /// Id of the access key.
    #[arg(long, global = true, env = "GUMSHOE_ACCESS_KEY_ID", value_name = "ID", hide_env_values = true)]
    pub access_key_id: Option<String>,
    /// Secret of the access key; better given by the environment than here, where others can see it.
    #[arg(long, global = true, env = "GUMSHOE_SECRET_ACCESS_KEY", value_name = "SECRET", hide_env_values = true)]
    pub secret_access_key: Option<SecretString>,
    /// A bearer token, instead of an access key.
    #[arg(long, global = true, env = "GUMSHOE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<SecretString>,
    /// The graph [default: the account's only one].
    #[arg(long, global = true, env = "GUMSHOE_GRAPH", value_name = "ARN")]
    pub graph: Option<GraphArn>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole server in this process, on files in one folder.
    Serve(Serve),
    /// Check the server's configuration and print it, secrets masked.
    CheckConfig(Serve),
    /// Keep an access key, and the token it gives, for later commands.
    Login(Login),
    /// Forget what `login` kept.
    Logout,
    /// Send log files and folders; sending them again counts nothing twice.
    Ingest(Ingest),
    /// List findings, worst first.
    Findings(Findings),
    /// Show one finding, its entities and what was unusual about them.
    Finding {
        /// The finding's id or ARN.
        id: String,
    },
    /// Sum up an entity over a time, against the 45 days before.
    Profile(Profile),
    /// Find entities by id, name or alias.
    Search {
        /// Text; `*` stands for any characters, `?` for one; a CIDR block for its addresses.
        text: String,
        /// Only entities of this type; may be repeated.
        #[arg(long = "type", value_name = "TYPE", value_parser = entity_type)]
        types: Vec<EntityType>,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// List what an entity is tied to.
    Neighbors(Neighbors),
    /// Show who became whom around an entity: address, identity, session, role, next role.
    Chain {
        /// `type:id`, or an id or name alone.
        entity: String,
        /// Only what happened in a time.
        #[command(flatten)]
        scope: ScopeTime,
        /// Steps to follow each way, 1 to 10.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=10))]
        depth: u8,
    },
    /// List log records, latest first.
    Events(Events),
    /// Say how risky entities are, and why.
    Risk {
        /// `type:id`, or an id or name alone.
        #[arg(required_unless_present = "min_level")]
        entities: Vec<String>,
        /// As of when [default: now].
        #[arg(long, value_name = "TIME", value_parser = quantity::time, conflicts_with = "watch")]
        at: Option<Timestamp>,
        /// Go on, and print each change on a line.
        #[arg(long)]
        watch: bool,
        /// Watch all entities that findings name, from a level on.
        #[arg(long, requires = "watch", conflicts_with = "entities", value_parser = ["low", "medium", "high", "critical"])]
        min_level: Option<String>,
    },
    /// Say what is unusual about an entity, and against which baseline.
    Anomalies {
        /// `type:id`, or an id or name alone.
        entity: String,
        /// The time to look at, at most 31 days [default: the 24 hours that end with the last record].
        #[command(flatten)]
        scope: ScopeTime,
    },
    /// Say which entities matter more than others, for their risk.
    Watchlist {
        /// What to do; without it, list.
        #[command(subcommand)]
        command: Option<Watchlist>,
    },
    /// Look now for what is unusual in all hours that are complete.
    Sweep {
        /// Begin anew at this time.
        #[arg(long, alias = "since", value_name = "TIME", value_parser = quantity::time)]
        from: Option<Timestamp>,
    },
    /// Decide on a finding.
    Verdict {
        /// The finding's id or ARN.
        finding: String,
        /// What it turned out to be.
        #[arg(value_enum)]
        verdict: Verdict,
        /// Why.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Investigate a principal, access key, finding, account or the whole graph, and say what is suspicious.
    Investigate(Investigate),
    /// List investigations, latest first.
    Investigations {
        /// Show this one, with what it has found.
        id: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// What false positives teach: which findings are left out of listings.
    Suppressions {
        /// What to do; without it, list.
        #[command(subcommand)]
        command: Option<Suppressions>,
    },
    /// Detection rules.
    Rules {
        /// What to do; without it, list.
        #[command(subcommand)]
        command: Option<Rules>,
    },
    /// Folders and buckets that the server pulls from.
    Sources {
        /// What to do; without it, list.
        #[command(subcommand)]
        command: Option<Sources>,
    },
    /// List records that could not be parsed, with the reason.
    DeadLetters {
        /// Only from this file or object.
        #[arg(long, value_name = "URL")]
        source_object: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Say how much the graph holds.
    Statistics,
    /// Write all of something as JSON lines.
    Export {
        /// Of what.
        #[command(subcommand)]
        what: Export,
    },
    /// List the account's graphs.
    Graphs,
    /// Accounts of the installation.
    Accounts {
        /// What to do.
        #[command(subcommand)]
        command: Accounts,
    },
    /// Users and roles of your account.
    Principals {
        /// What to do.
        #[command(subcommand)]
        command: Principals,
    },
    /// What users and roles may do.
    Policies {
        /// What to do.
        #[command(subcommand)]
        command: Policies,
    },
    /// Access keys.
    Keys {
        /// What to do.
        #[command(subcommand)]
        command: Keys,
    },
    /// Write sample logs of any size.
    Generate(Generate),
    /// Measure what is detected in labelled logs, on a server of its own.
    Evaluate(Evaluate),
    /// Print a completion script.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// How to serve.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// The folder that holds everything: databases, lake and keys.
    #[arg(long, default_value = "gumshoe-data", env = "GUMSHOE_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8443", env = "GUMSHOE_LISTEN", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// The administrator account, 12 digits; decided on first start [default: 111122223333].
    #[arg(long, value_name = "ID")]
    pub account: Option<AccountId>,
    /// The graph's region; decided on first start [default: us-east-1].
    #[arg(long)]
    pub region: Option<String>,
    /// The account's e-mail address; used on first start.
    #[arg(long, default_value = "security@example.com")]
    pub email: String,
    /// A country database readable with maxminddb.
    #[arg(long, env = "GUMSHOE_PLACES_COUNTRY", value_name = "FILE")]
    pub places_country: Option<PathBuf>,
    /// An autonomous system database readable with maxminddb.
    #[arg(long, env = "GUMSHOE_PLACES_ASN", value_name = "FILE")]
    pub places_asn: Option<PathBuf>,
    /// A folder of detection rules beside those that come with Gumshoe, read again every few seconds.
    #[arg(long, env = "GUMSHOE_RULES_DIRECTORY", value_name = "DIR")]
    pub rules_directory: Option<PathBuf>,
    /// A threat list, or a folder of some: text, CSV or STIX 2.1; may be repeated.
    #[arg(long = "threat-list", value_name = "PATH")]
    pub threat_lists: Vec<PathBuf>,
    /// A folder that `file://` sources may lie in; may be repeated.
    #[arg(long = "source-directory", value_name = "DIR")]
    pub source_directories: Vec<PathBuf>,
    /// Sets a key of one service's configuration, such as `graph.telemetry.level=debug`; may be repeated.
    #[arg(long = "set", value_name = "SERVICE.KEY=VALUE", value_parser = setting)]
    pub settings: Vec<Setting>,
    /// What to log.
    #[arg(long, default_value = "warn", env = "GUMSHOE_LOG", value_name = "FILTER")]
    pub log: String,
}

/// One key of one service's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The service.
    pub service: String,
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// What to keep for later commands.
#[derive(Debug, Args)]
pub struct Login {
    /// How long tokens live, such as 1h; 15m to 12h.
    #[arg(long, default_value = "1h", value_parser = quantity::duration)]
    pub lifetime: Duration,
}

/// What to send.
#[derive(Debug, Args)]
pub struct Ingest {
    /// Files and folders; `-` is standard input.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Files in flight.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
    /// The EKS cluster of audit logs that do not name it.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    pub eks_cluster: String,
}

/// A span of time. Times are RFC 3339, a date, or an age such as `24h` or `7d`; all UTC.
#[derive(Debug, Clone, Default, Args)]
pub struct ScopeTime {
    /// Begin of the time [default: the earliest record].
    #[arg(long, alias = "since", value_name = "TIME", value_parser = quantity::time)]
    pub from: Option<Timestamp>,
    /// End of the time [default: now].
    #[arg(long, alias = "until", value_name = "TIME", value_parser = quantity::time)]
    pub to: Option<Timestamp>,
}

/// Whose profile.
#[derive(Debug, Args)]
pub struct Profile {
    /// `type:id`, or an id or name alone: an address, ARN, `AKIA…`, `i-…`, user name.
    pub entity: String,
    /// The time to sum up [default: the 24 hours that end with the last record].
    #[command(flatten)]
    pub scope: ScopeTime,
    /// Entries of each list, 1 to 1000.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub top: u16,
}

/// Which neighbours.
#[derive(Debug, Args)]
pub struct Neighbors {
    /// `type:id`, or an id or name alone.
    pub entity: String,
    /// Only in a time.
    #[command(flatten)]
    pub scope: ScopeTime,
    /// Only this relation; may be repeated.
    #[arg(long, value_parser = relation)]
    pub relation: Vec<Relation>,
    /// Only neighbours of this type.
    #[arg(long = "type", value_name = "TYPE", value_parser = entity_type)]
    pub peer_type: Option<EntityType>,
    /// Only this way.
    #[arg(long, value_enum)]
    pub direction: Option<Direction>,
    /// At most this many.
    #[arg(long, default_value_t = 100)]
    pub limit: u32,
}

/// Which end of a relation the entity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// The entity acted.
    Out,
    /// The entity was acted upon.
    In,
}

/// Which records.
#[derive(Debug, Clone, Default, Args)]
pub struct EventFilter {
    /// Only records of this entity.
    #[arg(long, value_name = "ENTITY")]
    pub entity: Option<String>,
    /// Only in a time.
    #[command(flatten)]
    pub scope: ScopeTime,
    /// Only of this kind: cloudtrail, vpc_flow, guardduty, security_hub, eks_audit.
    #[arg(long, value_parser = record_kind)]
    pub kind: Option<RecordKind>,
    /// Only calls of this service, such as s3.amazonaws.com.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub service: String,
    /// Only calls of this operation.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub operation: String,
    /// Only from or with this address.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub address: String,
    /// Only with this user agent.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub user_agent: String,
    /// Only with this error code; `*` for any.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub error: String,
    /// Only the record with this id.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub event_id: String,
    /// Only flows with this service port.
    #[arg(long, default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(i32).range(0..=65535))]
    pub port: i32,
    /// Only those that the rule of this id matched; `*` for any rule.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    pub rule: String,
}

/// Which records, and how.
#[derive(Debug, Args)]
pub struct Events {
    /// Which.
    #[command(flatten)]
    pub filter: EventFilter,
    /// Print the records as they came, a line each.
    #[arg(long)]
    pub raw: bool,
    /// At most this many.
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
}

/// What to do with sources.
#[derive(Debug, Subcommand)]
pub enum Sources {
    /// List sources with their progress, lag and gaps.
    List,
    /// Add a folder (`file:///…` or a path) or a bucket (`s3://…`).
    Add(AddSource),
    /// Pull now, and wait until all that is there is in.
    Sync {
        /// The source.
        name: String,
    },
    /// List a source's objects by state.
    Objects {
        /// The source.
        name: String,
        /// Only in this state.
        #[arg(long, value_enum)]
        state: Option<ObjectState>,
        /// At most this many.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Stop pulling and forget the ledger; what is in the graph stays.
    Remove {
        /// The source.
        name: String,
    },
}

/// A source to add.
#[derive(Debug, Args)]
pub struct AddSource {
    /// Its name.
    pub name: String,
    /// A folder or `s3://bucket/prefix`.
    pub url: String,
    /// How often to list [default: 60s].
    #[arg(long, value_parser = quantity::duration)]
    pub poll_interval: Option<Duration>,
    /// How far back to list each time [default: 3d; 0s lists everything].
    #[arg(long, value_parser = quantity::duration)]
    pub lookback: Option<Duration>,
    /// A queue that gets the bucket's notifications.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "URL")]
    pub sqs_queue_url: String,
    /// Region of bucket and queue.
    #[arg(long = "bucket-region", default_value = "", hide_default_value = true)]
    pub region: String,
    /// Endpoint of an S3-compatible server.
    #[arg(long = "s3-endpoint", default_value = "", hide_default_value = true, value_name = "URL")]
    pub endpoint_url: String,
    /// The EKS cluster of audit logs that do not name it.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    pub eks_cluster: String,
}

/// How far an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ObjectState {
    /// Not yet in.
    Seen,
    /// In.
    Done,
    /// Could not be read; tried again.
    Failed,
}

/// Of what to write everything.
#[derive(Debug, Subcommand)]
pub enum Export {
    /// Hourly edges.
    Edges {
        /// Only in a time.
        #[command(flatten)]
        scope: ScopeTime,
    },
    /// Log records.
    Events(EventFilter),
}

/// What to generate.
#[derive(Debug, Args)]
pub struct Generate {
    /// What.
    #[arg(long, value_enum)]
    pub kind: generate::Kind,
    /// Bytes before compression, such as 500MB or 1GB.
    #[arg(long, value_parser = quantity::bytes, required_unless_present = "records", conflicts_with = "records")]
    pub size: Option<u64>,
    /// Records, instead of bytes.
    #[arg(long)]
    pub records: Option<u64>,
    /// The same seed and options give the same bytes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The folder to fill.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Compress with gzip.
    #[arg(long)]
    pub gzip: bool,
    /// Bytes of a file before compression [default: by size and days, at most 64MB].
    #[arg(long, value_parser = quantity::bytes)]
    pub file_size: Option<u64>,
    /// The first instant.
    #[arg(long, default_value = "2026-01-05", value_parser = quantity::time, value_name = "TIME")]
    pub start: Timestamp,
    /// Days to spread the records over.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3650))]
    pub days: u64,
    /// Instead: minutes that a file spans, as of one account and region as busy as that.
    #[arg(long, conflicts_with = "days", value_parser = clap::value_parser!(u64).range(1..=1440))]
    pub minutes_per_file: Option<u64>,
    /// No attack among mixed logs.
    #[arg(long)]
    pub no_attack: bool,
}

/// What to investigate.
#[derive(Debug, Args)]
pub struct Investigate {
    /// `type:id`, or an id or name alone [default: the whole graph].
    pub target: Option<String>,
    /// The time to look at, 3 hours to 30 days [default: the last 24 hours].
    #[command(flatten)]
    pub scope: ScopeTime,
}

/// What to measure. The format of DIR and what the numbers mean is in docs/evaluate.md.
#[derive(Debug, Clone, Args)]
pub struct Evaluate {
    /// The folder with `truth.jsonl` and the logs that it names.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Only scenarios of this label; may be repeated [default: all].
    #[arg(long = "label", value_name = "LABEL")]
    pub labels: Vec<String>,
    /// Text to take out of records before they are sent, such as the name of the tool that made them; may be repeated.
    #[arg(long = "blank", value_name = "TEXT")]
    pub blanks: Vec<String>,
    /// Days that the accounts in the logs are known before the scenario begins; with fewer than 14 nothing is new.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(0..=45), value_name = "DAYS")]
    pub history: u8,
    /// Generated records without an attack to look for false alarms in.
    #[arg(long, default_value_t = 0, value_name = "RECORDS")]
    pub background: u64,
    /// Days that they are spread over; the last one is looked at.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=365), value_name = "DAYS")]
    pub background_days: u64,
    /// The same seed gives the same background.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Principals of the background to investigate, the riskiest; risks are asked for of all.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub principals: u32,
    /// Scenarios at the same time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub jobs: u8,
    /// Fail if a smaller share of the attacks is told, 0 to 1.
    #[arg(long, value_parser = share, value_name = "SHARE")]
    pub min_recall: Option<f64>,
    /// Fail if there are more false alarms in a million benign events.
    #[arg(long, value_parser = rate, value_name = "NUMBER")]
    pub max_alarms: Option<f64>,
    /// A country database for the server.
    #[arg(long, env = "GUMSHOE_PLACES_COUNTRY", value_name = "FILE")]
    pub places_country: Option<PathBuf>,
    /// An autonomous system database for the server.
    #[arg(long, env = "GUMSHOE_PLACES_ASN", value_name = "FILE")]
    pub places_asn: Option<PathBuf>,
    /// Sets a key of the server's configuration, as with `serve`; may be repeated.
    #[arg(long = "set", value_name = "SERVICE.KEY=VALUE", value_parser = setting)]
    pub settings: Vec<Setting>,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate >= 0.0).ok_or_else(|| "expected a number from 0 on".to_owned())
}

fn entity_type(text: &str) -> Result<EntityType, String> {
    text.parse().map_err(|_| {
        let names: Vec<_> = EntityType::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

fn relation(text: &str) -> Result<Relation, String> {
    text.parse().map_err(|_| {
        let names: Vec<_> = Relation::ALL.iter().map(|relation| relation.as_str()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

fn record_kind(text: &str) -> Result<RecordKind, String> {
    text.parse().map_err(|_| {
        let names: Vec<_> = RecordKind::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

fn setting(text: &str) -> Result<Setting, String> {
    let bad = || "expected SERVICE.KEY=VALUE, such as graph.telemetry.level=debug".to_owned();
    let (path, value) = text.split_once('=').ok_or_else(bad)?;
    let (service, key) = path.split_once('.').ok_or_else(bad)?;
    if !crate::serve::SERVICES.contains(&service) {
        return Err(format!("expected one of {} before the dot", crate::serve::SERVICES.join(", ")));
    }
    Ok(Setting { service: service.to_owned(), key: key.to_owned(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_argument_is_explained() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Arguments::command());
    }

    #[test]
    fn values_are_checked_where_they_are_given() {
        for line in [
            "gumshoe findings --min-severity 11",
            "gumshoe findings --max-severity worst",
            "gumshoe findings --status closed",
            "gumshoe suppressions accept",
            "gumshoe search x --type nothing",
            "gumshoe serve --account 123",
            "gumshoe serve --set lake.url=file:///x",
            "gumshoe generate --kind mixed --out x",
            "gumshoe generate --kind mixed --out x --size 1GB --records 3",
            "gumshoe evaluate x --min-recall 95",
            "gumshoe evaluate x --max-alarms nan",
            "gumshoe evaluate",
            "gumshoe events --kind csv",
            "gumshoe profile x --from yesterday",
            "gumshoe --graph arn:aws:s3:::x statistics",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
        let line = "gumshoe findings --min-severity high --max-severity high --since 2026-01-05 --until 2026-01-06T10:00:00Z";
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        let Command::Findings(findings) = arguments.command else { panic!("{arguments:?}") };
        assert_eq!(findings.min_severity, Some(7.0));
        assert!(findings.max_severity.is_some_and(|most| (8.99..9.0).contains(&most)));
        assert_eq!(findings.scope.from.unwrap().to_string(), "2026-01-05T00:00:00Z");
        assert_eq!(findings.scope.to.unwrap().to_string(), "2026-01-06T10:00:00Z");
    }
}
