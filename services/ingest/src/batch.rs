//! One batch: its bytes to records, records to parts, parts to the graph.
//!
//! A batch is cut into parts by its content alone, and a part's id names the records in it: `BATCH#FIRST-END`. Sent
//! again, a batch gives the same parts, which the graph knows. Should it be cut otherwise one day, by another
//! `commit_bytes` or parser, then its parts have other ids, and the records' own identities keep them from counting twice.

use std::sync::Arc;

use gumshoe_api::graph::v1::{CommitBatchResponse, DeadLetterRecord};
use gumshoe_detections::{LoadError, RuleSet};
use gumshoe_model::{DeadLetter, Event, GraphArn};
use gumshoe_records::{
    Options, ReadError, Sink, Stop,
    events::{self, EventsWriter, ParquetError},
};
use gumshoe_runtime::{PrincipalChannel, TokenSigner};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinSet,
};

use crate::{
    config,
    error::Error,
    input::{Input, InputReader},
    rpc::{
        accounts::{Accounts, Gate},
        graph::{Committer, Part},
        rules::Rules,
    },
    store::Counts,
};

/// What an empty dead letter weighs.
const DEAD_LETTER_BYTES: usize = 64;

/// What a batch is, beside its bytes.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The graph that it goes to.
    pub graph: GraphArn,
    /// Its id, unique in the graph.
    pub id: String,
    /// What the bytes are called.
    pub source_object: String,
    /// The EKS cluster of audit logs that do not name one, or empty.
    pub eks_cluster: String,
    /// The outside request that it belongs to.
    pub request_id: String,
}

/// Takes batches in.
#[derive(Debug, Clone)]
pub struct Batches {
    committer: Committer,
    accounts: Accounts,
    rules: Rules,
    commit_bytes: usize,
    keep_text: bool,
}

impl Batches {
    /// Commits through `channel`, in calls that `signer` signs, what `accounts` lets in.
    ///
    /// # Errors
    /// [`LoadError`] if the rules that come with Gumshoe are not right, which tests exclude.
    pub fn new(channel: PrincipalChannel, signer: Arc<TokenSigner>, accounts: Accounts, config: &config::Batches) -> Result<Self, LoadError> {
        let rules = Rules::new(channel.clone(), Arc::clone(&signer))?;
        Ok(Self { committer: Committer::new(channel, signer, config), accounts, rules, commit_bytes: config.commit_bytes, keep_text: config.keep_text })
    }

    /// Reads `input` to its end and returns when all of it is durable. `slot` is given back when it has been read.
    ///
    /// # Errors
    /// [`Error::Broken`] when the input ends early: its tail is not committed, what was cut before may be.
    /// [`Error::MembershipUnavailable`] and [`Error::GraphGone`] before anything is read; [`Error::GraphUnavailable`] and
    /// [`Error::GraphRefused`] when a part cannot be committed.
    pub async fn ingest(&self, batch: Batch, input: Input, slot: OwnedSemaphorePermit) -> Result<Counts, Error> {
        let batch = Arc::new(batch);
        let (sender, mut parts) = mpsc::channel(1);
        let gate = self.accounts.gate(&batch.graph).await?;
        let rules = self.rules.of(&batch.graph).await;
        let cutter = Cutter::new(self, gate, rules, &batch, sender);
        let options = Options { eks_cluster: Some(batch.eks_cluster.clone()).filter(|cluster| !cluster.is_empty()), ..Options::default() };
        let reading = tokio::task::spawn_blocking(move || {
            let read = read(input, &options, cutter);
            drop(slot);
            read
        });
        let mut commits = JoinSet::new();
        let mut counts = Counts { already_committed: true, ..Counts::default() };
        let outcome = loop {
            tokio::select! {
                Some(part) = parts.recv() => {
                    let (committer, batch) = (self.committer.clone(), Arc::clone(&batch));
                    commits.spawn(async move { committer.commit(&batch.graph, &batch.request_id, &batch.source_object, part).await });
                }
                Some(committed) = commits.join_next() => match committed {
                    Ok(Ok(response)) => add(&mut counts, &response),
                    Ok(Err(error)) => break Err(error),
                    Err(error) => break Err(Error::Internal("a commit ended early", Box::new(error))),
                },
                else => break Ok(()),
            }
        };
        // Whoever still reads learns by it that nobody wants the batch any more.
        drop(parts);
        outcome?;
        counts.bytes = reading.await.map_err(|error| Error::Internal("the parser ended early", Box::new(error)))??;
        counts.records = counts.events + counts.duplicates + counts.dead_letters;
        Ok(counts)
    }
}

fn add(counts: &mut Counts, response: &CommitBatchResponse) {
    counts.events += response.events;
    counts.duplicates += response.duplicates;
    counts.dead_letters += response.dead_letters;
    counts.already_committed &= response.already_committed;
}

/// Reads a batch to its end, on a blocking thread: bytes after decompression.
fn read(input: Input, options: &Options, mut cutter: Cutter) -> Result<u64, Error> {
    let parts = cutter.parts.clone();
    let stopped = || parts.is_closed();
    let mut reader = InputReader::new(input, &stopped);
    let outcome = gumshoe_records::read(&mut reader, options, &mut cutter);
    if let Some(failure) = cutter.failure {
        return Err(failure);
    }
    match (outcome, reader.problem) {
        (_, Some(reason)) => Err(Error::Broken(reason)),
        (Ok(summary), None) => {
            cutter.cut_last()?;
            Ok(summary.bytes)
        }
        (Err(ReadError::Io(error)), None) => Err(Error::Internal("a temporary file cannot be used", Box::new(error))),
        (Err(ReadError::Stopped), None) => Err(stopped_early()),
    }
}

fn stopped_early() -> Error {
    Error::Broken("no longer wanted".to_owned())
}

/// Collects records and cuts them into parts.
struct Cutter {
    batch_id: String,
    gate: Arc<Gate>,
    rules: Arc<RuleSet>,
    /// Of the event at hand.
    marks: String,
    committer: Committer,
    runtime: Handle,
    commit_bytes: usize,
    parts: mpsc::Sender<Part>,
    source_object: String,
    events: EventsWriter,
    dead_letters: Vec<DeadLetterRecord>,
    /// What dead letters and refused events weigh.
    dead_letter_bytes: usize,
    /// Records in parts that are cut.
    cut: u64,
    failure: Option<Error>,
}

impl Cutter {
    fn new(batches: &Batches, gate: Arc<Gate>, rules: Arc<RuleSet>, batch: &Batch, parts: mpsc::Sender<Part>) -> Self {
        Self {
            batch_id: batch.id.clone(),
            gate,
            rules,
            marks: String::new(),
            committer: batches.committer.clone(),
            runtime: Handle::current(),
            commit_bytes: batches.commit_bytes,
            parts,
            source_object: batch.source_object.clone(),
            events: EventsWriter::new(&batch.id).keep_text(batches.keep_text),
            dead_letters: Vec::new(),
            dead_letter_bytes: 0,
            cut: 0,
            failure: None,
        }
    }

    fn bytes(&self) -> usize {
        self.events.bytes() + self.dead_letter_bytes
    }

    fn cut_if_full(&mut self) -> Result<(), Stop> {
        if self.bytes() < self.commit_bytes {
            return Ok(());
        }
        let outcome = self.cut();
        self.stop_on(outcome)
    }

    fn stop_on(&mut self, outcome: Result<(), Error>) -> Result<(), Stop> {
        outcome.map_err(|error| {
            self.failure = Some(error);
            Stop
        })
    }

    /// The last part; of an empty batch its only one, so that the graph remembers it.
    fn cut_last(&mut self) -> Result<(), Error> {
        if self.cut == 0 || !self.events.is_empty() || !self.dead_letters.is_empty() { self.cut() } else { Ok(()) }
    }

    fn cut(&mut self) -> Result<(), Error> {
        let end = self.cut + u64::try_from(self.events.len() + self.dead_letters.len()).unwrap_or(u64::MAX);
        let batch_id = format!("{}#{}-{end}", self.batch_id, self.cut);
        let events = self.events.finish(&batch_id).map_err(unencodable)?;
        let dead_letters = std::mem::take(&mut self.dead_letters);
        let bytes = events.len() + dead_letters.iter().map(|letter| DEAD_LETTER_BYTES + letter.raw.len()).sum::<usize>();
        let share = self.runtime.block_on(self.committer.share(bytes))?;
        let part = Part { batch_id, events, dead_letters, share };
        self.dead_letter_bytes = 0;
        self.cut = end;
        self.parts.blocking_send(part).map_err(|_| stopped_early())
    }
}

fn unencodable(error: ParquetError) -> Error {
    Error::Internal("a batch cannot be encoded", Box::new(error))
}

impl Sink for Cutter {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        match self.gate.refusal(event) {
            None => {
                self.rules.mark(event, &mut self.marks);
                let pushed = self.events.push_marked(event, &self.marks, &self.source_object).map_err(unencodable);
                self.stop_on(pushed)?;
            }
            Some(reason) => {
                // INVARIANT: it weighs what it would weigh as an event, so that parts are the same whoever is a member.
                self.dead_letter_bytes += events::weight(event);
                let length = u64::try_from(event.raw.len()).unwrap_or(u64::MAX);
                self.dead_letters.push(DeadLetterRecord { offset: event.offset, length, reason, raw: String::new() });
            }
        }
        self.cut_if_full()
    }

    fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> Result<(), Stop> {
        self.dead_letter_bytes += DEAD_LETTER_BYTES + letter.reason.len() + letter.raw.len();
        self.dead_letters.push(DeadLetterRecord {
            offset: letter.offset,
            length: letter.length,
            reason: letter.reason.clone(),
            raw: letter.raw.clone().into_owned(),
        });
        self.cut_if_full()
    }
}
