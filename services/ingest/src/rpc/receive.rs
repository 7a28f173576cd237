//! A caller's stream of pieces to batches, each answered as soon as it is durable.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use gumshoe_api::ingest::v1::{BatchResult, RecordsPiece};
use gumshoe_model::GraphArn;
use gumshoe_runtime::{Caller, Failure, status};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};
use tonic::{Code, Status};

use crate::{
    batch::{Batch, Batches},
    config,
    error::Error,
    input::{Input, Piece},
    store::Counts,
};

/// The longest batch id, in bytes.
const MAX_BATCH_ID_BYTES: usize = 256;
/// The longest name of a source object or cluster, in bytes.
const MAX_NAME_BYTES: usize = 2048;
/// The largest piece, in bytes.
const MAX_PIECE_BYTES: usize = 2 << 20;
/// A batch of up to about this many bytes and pieces is parsed once it is here as a whole, so that a caller who is slow
/// holds no parser.
const HEAD_BYTES: usize = 512 << 10;
const HEAD_PIECES: usize = 64;
/// Pieces that wait for the parser of a larger batch.
const PIECES_WAITING: usize = 2;
/// Batches of one stream that may be on their way to the graph.
const BATCHES_IN_FLIGHT: usize = 64;
/// Whole batches of all streams that may wait for a parser, in units of 1 KiB.
const WAITING_UNITS: usize = 64 << 10;
const UNIT_BYTES: usize = 1 << 10;

/// A message of either streaming call.
#[derive(Debug)]
pub struct Message {
    /// The graph, or empty.
    pub graph_arn: String,
    /// The piece, which is required.
    pub piece: Option<RecordsPiece>,
}

/// Receives streams of pieces, within limits that all streams share.
#[derive(Debug, Clone)]
pub struct Receiver {
    batches: Batches,
    /// For batches that are here as a whole, shared with the sources.
    parsers: Arc<Semaphore>,
    /// For batches that are still arriving.
    stream_parsers: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    idle: Duration,
}

impl Receiver {
    /// Takes batches in through `batches`; `parsers` is how many whole objects are parsed at once.
    #[must_use]
    pub fn new(batches: Batches, parsers: Arc<Semaphore>, config: &config::Batches) -> Self {
        Self {
            batches,
            parsers,
            stream_parsers: Arc::new(Semaphore::new(config.parallel_streams)),
            waiting: Arc::new(Semaphore::new(WAITING_UNITS)),
            idle: Duration::from_secs(config.stream_idle_seconds),
        }
    }

    /// Reads `stream` to its end and gives the result of each batch, with its place in the stream, to `results`.
    ///
    /// At the first error nothing more is read, batches received before it are brought to their end, and the error is
    /// returned.
    ///
    /// # Errors
    /// What the stream's caller is told.
    pub async fn receive(
        &self,
        stream: impl Stream<Item = Result<Message, Status>> + Unpin,
        caller: &Caller,
        results: mpsc::Sender<(usize, BatchResult)>,
    ) -> Result<(), Failure> {
        let mut session = Session { receiver: self, stream, caller, graph: None, open: None, count: 0, running: JoinSet::new(), results };
        let mut outcome = session.run().await;
        session.open = None;
        while let Some(finished) = session.running.join_next().await {
            outcome = outcome.and(flatten(finished));
        }
        outcome.map_err(Failure::from)
    }
}

type Finished = Result<(), Error>;

fn flatten(finished: Result<Finished, tokio::task::JoinError>) -> Finished {
    finished.unwrap_or_else(|error| Err(Error::Internal("a batch ended early", Box::new(error))))
}

/// The batch that is being received.
struct Open {
    batch: Batch,
    head: VecDeque<Bytes>,
    head_bytes: usize,
    /// Where the pieces go once the batch is larger than a head.
    rest: Option<mpsc::Sender<Piece>>,
}

struct Session<'r, S> {
    receiver: &'r Receiver,
    stream: S,
    caller: &'r Caller,
    graph: Option<GraphArn>,
    open: Option<Open>,
    count: usize,
    running: JoinSet<Finished>,
    results: mpsc::Sender<(usize, BatchResult)>,
}

impl<S: Stream<Item = Result<Message, Status>> + Unpin> Session<'_, S> {
    async fn run(&mut self) -> Result<(), Error> {
        loop {
            let idle = async {
                match self.open {
                    Some(_) => tokio::time::sleep(self.receiver.idle).await,
                    None => std::future::pending().await,
                }
            };
            let message = tokio::select! {
                Some(finished) = self.running.join_next() => {
                    flatten(finished)?;
                    continue;
                }
                message = self.stream.next() => message,
                () = idle => return Err(Error::Idle),
            };
            match message {
                Some(Ok(message)) => self.take(message).await?,
                Some(Err(broken)) if broken.code() == Code::OutOfRange => {
                    return Err(Error::field("piece.data", format!("must be at most {MAX_PIECE_BYTES} bytes")));
                }
                Some(Err(broken)) => {
                    tracing::debug!(code = ?broken.code(), "the caller's stream broke");
                    return Err(Error::Broken("the stream broke".to_owned()));
                }
                None => {
                    return match &self.open {
                        Some(open) => Err(Error::Broken(format!("the stream ended inside batch {}", status::quoted(&open.batch.id)))),
                        None => Ok(()),
                    };
                }
            }
        }
    }

    async fn take(&mut self, message: Message) -> Result<(), Error> {
        let graph = self.graph(&message.graph_arn)?;
        let piece = message.piece.ok_or_else(|| Error::field("piece", "is required"))?;
        let first = self.open.is_none();
        check(&piece, self.open.as_ref().map(|open| &open.batch))?;
        let RecordsPiece { batch_id, source_object, data, last, eks_cluster } = piece;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let batch = Batch { graph, id: batch_id, source_object, eks_cluster, request_id: self.caller.request_id.clone() };
                Open { batch, head: VecDeque::new(), head_bytes: 0, rest: None }
            }
        };
        if first {
            // Here, between batches, and not before, so that a batch once begun is received to its end.
            while self.running.len() >= BATCHES_IN_FLIGHT {
                if let Some(finished) = self.running.join_next().await {
                    flatten(finished)?;
                }
            }
        }
        if let Some(rest) = &open.rest {
            let sending = rest.clone();
            if !data.is_empty() {
                self.send(&sending, Piece::Data(data)).await?;
            }
            if last {
                self.send(&sending, Piece::End).await?;
            }
        } else {
            open.head_bytes += data.len();
            if !data.is_empty() {
                open.head.push_back(data);
            }
            if last {
                let waiting = self.wait(&self.receiver.waiting, open.head_bytes / UNIT_BYTES + 1).await?;
                let input = Input::Whole(std::mem::take(&mut open.head));
                self.start(open.batch.clone(), input, None, Some(waiting));
            } else if open.head_bytes > HEAD_BYTES || open.head.len() >= HEAD_PIECES {
                let parser = self.wait(&self.receiver.stream_parsers, 1).await?;
                let (sender, receiver) = mpsc::channel(PIECES_WAITING);
                let input = Input::Pieces(std::mem::take(&mut open.head), receiver);
                self.start(open.batch.clone(), input, Some(parser), None);
                open.rest = Some(sender);
            }
        }
        if !last {
            self.open = Some(open);
        }
        Ok(())
    }

    /// The stream's graph: named by the first message, and only repeated by later ones.
    fn graph(&mut self, graph_arn: &str) -> Result<GraphArn, Error> {
        match &self.graph {
            Some(graph) if graph_arn.is_empty() || graph.to_string() == graph_arn => Ok(graph.clone()),
            Some(_) => Err(Error::field("graph_arn", "must be that of the first message")),
            None if graph_arn.is_empty() => Err(Error::field("graph_arn", "is required in the first message")),
            None => {
                let graph = self.caller.require_graph(graph_arn).map_err(|_| Error::Denied)?;
                self.graph = Some(graph.clone());
                Ok(graph)
            }
        }
    }

    /// Passes a piece on to the parser, unless a batch of this stream fails meanwhile.
    async fn send(&mut self, rest: &mpsc::Sender<Piece>, piece: Piece) -> Result<(), Error> {
        let mut sending = std::pin::pin!(rest.send(piece));
        loop {
            tokio::select! {
                Some(finished) = self.running.join_next() => flatten(finished)?,
                sent = &mut sending => {
                    if sent.is_ok() {
                        return Ok(());
                    }
                    // The batch has ended before its end: its task says why.
                    while let Some(finished) = self.running.join_next().await {
                        flatten(finished)?;
                    }
                    return Err(Error::Broken("the batch ended early".to_owned()));
                }
            }
        }
    }

    async fn wait(&self, semaphore: &Arc<Semaphore>, permits: usize) -> Result<OwnedSemaphorePermit, Error> {
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        Arc::clone(semaphore).acquire_many_owned(permits).await.map_err(|closed| Error::Internal("a limit is closed", Box::new(closed)))
    }

    fn start(&mut self, batch: Batch, input: Input, parser: Option<OwnedSemaphorePermit>, waiting: Option<OwnedSemaphorePermit>) {
        let place = self.count;
        self.count += 1;
        let (batches, parsers, results) = (self.receiver.batches.clone(), Arc::clone(&self.receiver.parsers), self.results.clone());
        self.running.spawn(async move {
            let parser = match parser {
                Some(parser) => parser,
                None => parsers.acquire_owned().await.map_err(|closed| Error::Internal("a limit is closed", Box::new(closed)))?,
            };
            let id = batch.id.clone();
            let counts = batches.ingest(batch, input, parser).await?;
            drop(waiting);
            // Nobody waits for the result of a call that was cancelled.
            let _ = results.send((place, result(id, &counts))).await;
            Ok(())
        });
    }
}

/// Checks a piece; `open` is the batch that it must continue.
fn check(piece: &RecordsPiece, open: Option<&Batch>) -> Result<(), Error> {
    if piece.batch_id.is_empty() || piece.batch_id.len() > MAX_BATCH_ID_BYTES {
        return Err(Error::field("piece.batch_id", format!("must be 1 to {MAX_BATCH_ID_BYTES} bytes")));
    }
    if piece.data.len() > MAX_PIECE_BYTES {
        return Err(Error::field("piece.data", format!("must be at most {MAX_PIECE_BYTES} bytes")));
    }
    for (field, value) in [("piece.source_object", &piece.source_object), ("piece.eks_cluster", &piece.eks_cluster)] {
        if value.len() > MAX_NAME_BYTES {
            return Err(Error::field(field, format!("must be at most {MAX_NAME_BYTES} bytes")));
        }
    }
    match open {
        None if piece.source_object.is_empty() => Err(Error::field("piece.source_object", "is required in the first piece of a batch")),
        None => Ok(()),
        Some(open) if open.id != piece.batch_id => {
            Err(Error::field("piece.batch_id", format!("batch {} is not complete: pieces of two batches must not be interleaved", status::quoted(&open.id))))
        }
        Some(open) if !piece.source_object.is_empty() && open.source_object != piece.source_object => {
            Err(Error::field("piece.source_object", "must be that of the batch's first piece"))
        }
        Some(open) if !piece.eks_cluster.is_empty() && open.eks_cluster != piece.eks_cluster => {
            Err(Error::field("piece.eks_cluster", "must be that of the batch's first piece"))
        }
        Some(_) => Ok(()),
    }
}

/// What became of a batch, as a message.
pub(crate) fn result(batch_id: String, counts: &Counts) -> BatchResult {
    BatchResult {
        batch_id,
        records: counts.records,
        events: counts.events,
        duplicates: counts.duplicates,
        dead_letters: counts.dead_letters,
        bytes: counts.bytes,
        already_committed: counts.already_committed,
    }
}
