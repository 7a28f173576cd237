//! Looking for what a rule matches in what was ingested before: day by day, the latest first.

use std::sync::Arc;

use arrow::{
    array::{PrimitiveArray, RecordBatch},
    compute::take_record_batch,
    datatypes::UInt32Type,
};
use futures::{Stream, TryStreamExt};
use gumshoe_api::graph::v1::{Event, HuntRuleResponse};
use gumshoe_detections::{Rule, RuleSet};
use gumshoe_lake::{Engine, GraphLake};
use gumshoe_model::{RecordKind, TimeWindow, Timestamp, time::MICROS_PER_DAY};
use gumshoe_records::events::EventBatch;
use gumshoe_runtime::status;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    analysis::{self, RECORDS_ORDER},
    events,
    rows::{self, Answer, Columns, Parameters},
    rpc::page,
};

/// Messages that wait for their reader.
const WAITING: usize = 4;
/// Events read between two messages that tell nothing but progress.
const PROGRESS: i64 = 200_000;

type Messages = mpsc::Sender<Answer<HuntRuleResponse>>;

struct Hunt {
    engine: Engine,
    lake: Arc<GraphLake>,
    rule: Arc<Rule>,
    /// For what the events matched when they were ingested.
    known: Arc<RuleSet>,
    most: usize,
    messages: Messages,
    read: i64,
    told: i64,
    found: usize,
    days_read: i32,
    days: i32,
}

/// Why a hunt ends before its time.
enum End {
    /// Nobody reads any more.
    Gone,
    /// As many were found as asked for.
    Enough,
    Failed(status::Failure),
}

impl From<status::Failure> for End {
    fn from(failure: status::Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What a rule about one event matches in `scope`: at most `most` events.
pub(crate) fn hunt(
    engine: Engine,
    lake: Arc<GraphLake>,
    rule: Arc<Rule>,
    known: Arc<RuleSet>,
    scope: TimeWindow,
    most: usize,
) -> impl Stream<Item = Answer<HuntRuleResponse>> + use<> {
    let (messages, stream) = mpsc::channel(WAITING);
    let (first, last) = (scope.start().day(), Timestamp(scope.end().0 - 1).day());
    let days = i32::try_from(last - first + 1).unwrap_or(i32::MAX);
    let mut hunt = Hunt { engine, lake, rule, known, most, messages, read: 0, told: 0, found: 0, days_read: 0, days };
    tokio::spawn(async move {
        let outcome = async {
            for day in (first..=last).rev() {
                let start = Timestamp((day * MICROS_PER_DAY).max(scope.start().0));
                let end = Timestamp(((day + 1) * MICROS_PER_DAY).min(scope.end().0));
                let window = TimeWindow::new(start, end).map_err(|error| status::internal(&error))?;
                hunt.day(window).await?;
                hunt.days_read += 1;
                hunt.tell(Vec::new(), false).await?;
            }
            Ok(())
        };
        match outcome.await {
            Err(End::Failed(failure)) => drop(hunt.messages.send(Err(failure)).await),
            Ok(()) | Err(End::Gone | End::Enough) => {}
        }
    });
    ReceiverStream::new(stream)
}

impl Hunt {
    async fn tell(&mut self, matches: Vec<Event>, limited: bool) -> Result<(), End> {
        self.told = self.read;
        let message = HuntRuleResponse {
            matches,
            events_read: self.read,
            matches_found: i64::try_from(self.found).unwrap_or(i64::MAX),
            days_read: self.days_read,
            days: self.days,
            limited,
        };
        self.messages.send(Ok(message)).await.map_err(|_| End::Gone)
    }

    async fn day(&mut self, window: TimeWindow) -> Result<(), End> {
        let mut parameters = Parameters::new();
        let mut condition = parameters.within("time", window);
        condition += &format!(" AND kind = '{}'", self.rule.kind);
        // The engine skips what cannot match.
        if self.rule.kind == RecordKind::CloudTrail
            && let Some(operations) = self.rule.operations().filter(|operations| operations.len() <= 1_000)
        {
            condition += &format!(" AND lower(operation) IN ({})", parameters.texts("o", operations));
        }
        let sql = format!("SELECT * FROM events WHERE {condition} ORDER BY {RECORDS_ORDER}");
        let batches = analysis::run(&self.engine, &self.lake, sql, parameters, Some(window)).await?;
        let mut batches = std::pin::pin!(batches);
        while let Some(batch) = batches.try_next().await? {
            self.read += i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
            let (rule, known) = (Arc::clone(&self.rule), Arc::clone(&self.known));
            let room = self.most - self.found;
            let matched = tokio::task::spawn_blocking(move || matched(&batch, &rule, &known, room)).await;
            let matched = matched.map_err(|error| status::internal(&error))??;
            self.found += matched.len();
            let limited = self.found >= self.most;
            let mut messages = page::messages(matched, usize::MAX, page::MESSAGE_BYTES).into_iter().peekable();
            while let Some(matches) = messages.next() {
                let last = messages.peek().is_none();
                self.tell(matches, limited && last).await?;
            }
            if limited {
                return Err(End::Enough);
            }
            if self.read - self.told >= PROGRESS {
                self.tell(Vec::new(), false).await?;
            }
        }
        Ok(())
    }
}

/// Rows that a rule matches, at most `room`.
fn matched(batch: &RecordBatch, rule: &Rule, known: &RuleSet, room: usize) -> Answer<Vec<Event>> {
    let read = |error| rows::failure(gumshoe_lake::LakeError::Parquet(error));
    let events = EventBatch::of_rows(batch).map_err(read)?;
    let raw = Columns(batch).texts("raw")?;
    let all = events.rows().map_err(read)?;
    let matches = |row: &usize| all.event(*row, raw.get(*row)).is_some_and(|event| rule.matches(&event));
    let rows: Vec<u32> = (0..all.len()).filter(matches).take(room).filter_map(|row| u32::try_from(row).ok()).collect();
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let rows = take_record_batch(batch, &PrimitiveArray::<UInt32Type>::from(rows)).map_err(|error| rows::failure(error.into()))?;
    Ok(events::events(Columns(&rows), true, known)?.into_iter().map(|(event, _)| event).collect())
}
