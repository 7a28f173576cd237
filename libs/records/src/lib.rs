//! Security logs to events: AWS CloudTrail, VPC flow logs, Amazon GuardDuty, AWS Security Hub and Kubernetes audit.
//!
//! [`read`] takes one object as it lies in a bucket or folder and gives its records to a [`Sink`], each as an
//! [`Event`](gumshoe_model::Event) or a [`DeadLetter`](gumshoe_model::DeadLetter). Memory is bounded by the longest record,
//! whatever the object's size.
//!
//! # What counts as a record
//! `records = events + dead_letters`, always:
//! - An **empty** object, or one of white space, has none.
//! - Of **JSON text**, each value is one: an element of an array, of `{"Records":[…]}` or of another envelope, a line, a value
//!   after another. An envelope is opened, so `{"Records":[]}` has none. A value that is no known record is one dead letter; so
//!   is a value that is broken, up to where the next can begin. The rules of envelopes are in the module `find`, those of broken
//!   text in `split`.
//! - Of a **flow log**, each line is one but for blank lines and headers; in Parquet each row.
//! - An object that is **cut short** (gzip that ends early or fails its checksum, an array without its end) has one dead letter
//!   more, unless its last record already is one for that reason.
//! - **Anything else** is one dead letter as a whole.
//!
//! # Offsets and raw text
//! `offset` counts bytes of the unpacked object. `raw` is the record's exact text, without its envelope. A record that came as a
//! string inside JSON has the offset of that string, or of its row in query results, and its text is unescaped. For Parquet `offset` is the row's number.
//!
//! | module | holds |
//! |---|---|
//! | [`read`](fn@read) | the way in; flow log lines |
//! | `source` | bytes: gzip, one growing buffer |
//! | `detect` | the format of an object |
//! | `split`, `skip` | JSON text to values; past what is broken |
//! | `engine`, `find` | a value to its records: which format, which envelope |
//! | `cloudtrail`, `flow`, `flow_parquet`, `guardduty`, `securityhub`, `kubernetes` | a record to an event |
//! | `json`, `arn`, `address` | lenient fields; names and addresses made canonical |
//! | [`events`] | events as a Parquet file |
//! | [`coded`] | columns of texts that repeat, written without looking at each |

use std::io;

use gumshoe_model::{DeadLetter, Event};

mod address;
mod arn;
mod cloudtrail;
pub mod coded;
mod detect;
mod engine;
pub mod events;
mod find;
mod flow;
mod flow_parquet;
mod guardduty;
mod json;
mod kubernetes;
mod read;
mod securityhub;
mod skip;
mod source;
mod split;

pub use arn::entity_of_arn;
pub use read::read;

/// What to accept, and what the content does not say.
#[derive(Debug, Clone)]
pub struct Options {
    /// The longest record, in bytes; a longer one is a dead letter. At least 256 KiB are allowed whatever this says.
    pub max_record_bytes: usize,
    /// The most bytes that one object may unpack to; the rest of a longer one is one dead letter. `None` allows any size.
    pub max_decompressed_bytes: Option<u64>,
    /// The EKS cluster (ARN or name) whose audit log this is, where no log group says it.
    pub eks_cluster: Option<String>,
    /// The fields of flow logs that have no header, such as those in CloudWatch Logs. `None` is the default format, version 2.
    pub flow_fields: Option<Vec<String>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_record_bytes: 16 * 1024 * 1024, max_decompressed_bytes: None, eks_cluster: None, flow_fields: None }
    }
}

impl Options {
    fn flow_layout(&self) -> flow::Layout {
        match &self.flow_fields {
            Some(fields) => flow::Layout::new(fields.iter().map(String::as_str)),
            None => flow::Layout::new(flow::DEFAULT_FIELDS),
        }
    }
}

/// The consumer wants no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop;

/// Takes what an object holds, in the order of the object.
pub trait Sink {
    /// Takes a record.
    ///
    /// # Errors
    /// [`Stop`] ends the reading.
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop>;

    /// Takes a record that could not be parsed.
    ///
    /// # Errors
    /// [`Stop`] ends the reading.
    fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> Result<(), Stop>;
}

/// How an object is laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Nothing in it.
    #[default]
    Empty,
    /// JSON text with records in it.
    Json,
    /// Lines of a VPC flow log.
    FlowText,
    /// A VPC flow log in Parquet.
    FlowParquet,
    /// Nothing that is known.
    Unknown,
}

impl Format {
    /// The name used in messages and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Json => "json",
            Self::FlowText => "flow_text",
            Self::FlowParquet => "flow_parquet",
            Self::Unknown => "unknown",
        }
    }
}

/// What an object held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records: events and dead letters.
    pub records: u64,
    /// Records that became events.
    pub events: u64,
    /// Records that could not be parsed.
    pub dead_letters: u64,
    /// Bytes of the object after decompression.
    pub bytes: u64,
    /// How it was laid out.
    pub format: Format,
}

/// Why an object was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The object's bytes could not be had.
    #[error("the object could not be read")]
    Io(#[source] io::Error),
    /// The consumer wanted no more.
    #[error("the consumer stopped")]
    Stopped,
}

impl From<Stop> for ReadError {
    fn from(_: Stop) -> Self {
        Self::Stopped
    }
}
