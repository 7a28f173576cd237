//! Where verdicts, suppressions, investigations and finding groups are kept.
//!
//! Each method is one transaction. Reads see every write that was acknowledged before. What belongs to a graph is seen
//! through that graph only.

use std::collections::HashMap;

use async_trait::async_trait;
use gumshoe_model::{GraphArn, Severity, TimeWindow, Timestamp};
use gumshoe_runtime::store::DatabaseError;
use serde::{Deserialize, Serialize};

use crate::{
    indicator::{Attributed, Kind},
    investigation::{Explained, Investigation, InvestigationId, NewInvestigation, Progress, State, Status, Target},
    severity::Report,
    suppression::{self, Pattern, Suppression, SuppressionId},
    verdict::{FindingId, NewVerdict, Verdict},
};

pub mod groups;
pub mod sql;

#[cfg(test)]
mod conformance;

/// Why the store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The request id stands for another call.
    #[error("the request id was used for another call")]
    RequestReused,
    /// So many investigations of the graph are running that no more may be started.
    #[error("{0} investigations of this graph are running already")]
    TooManyRunning(u32),
    /// So many suppressions of the graph are accepted that no more may be.
    #[error("{0} suppressions of this graph are accepted already")]
    TooManyAccepted(u32),
    /// The graph has no such thing.
    #[error("the {0} does not exist")]
    NotFound(&'static str),
    /// The suppression is in a state that does not allow it.
    #[error("the suppression is {}", .0.as_str().to_lowercase())]
    NotAllowed(suppression::State),
    /// The finding group is dissolved.
    #[error("the finding group is dissolved")]
    Dissolved,
    /// The schema is not the one that this program needs.
    #[error("the schema has version {found}, but {expected} is needed: run `migrate`")]
    SchemaVersion {
        /// What this program needs.
        expected: i64,
        /// What is there.
        found: i64,
    },
    /// The database does not answer.
    #[error("the database does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database answered with something that should not be.
    #[error("the database failed")]
    Fault(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::SchemaVersion { expected, found } => Self::SchemaVersion { expected, found },
            DatabaseError::Unavailable(source) => Self::Unavailable(source),
            DatabaseError::Taken(source) | DatabaseError::Missing(source) | DatabaseError::Fault(source) => Self::Fault(source),
        }
    }
}

gumshoe_runtime::from_driver!(StoreError);

/// The store. [`StoreError::Unavailable`] and [`StoreError::Fault`] can come from every method; the others are named.
#[async_trait]
pub trait Store: groups::Groups + Investigations + Outbox + Suppressions + Send + Sync + 'static {
    /// Checks that the database answers and its schema fits: [`StoreError::SchemaVersion`] if not.
    async fn ready(&self) -> Result<(), StoreError>;

    /// Records a verdict, which is then the one in force, and puts it into the outbox, to be delivered if `deliver`; an
    /// earlier one of the finding that is still there is superseded, a suppression that it proposed goes unless it is decided,
    /// and the graph's findings are to be grouped anew. A request id that the graph has seen gives back the verdict recorded then, also to all but one of several
    /// concurrent calls; [`StoreError::RequestReused`] if that one differs.
    async fn create_verdict(&self, graph: &GraphArn, verdict: &NewVerdict, deliver: bool, now: Timestamp) -> Result<Verdict, StoreError>;

    /// The verdict in force of each finding that has one.
    async fn verdicts_in_force(&self, graph: &GraphArn, findings: &[FindingId]) -> Result<HashMap<FindingId, Verdict>, StoreError>;

    /// A finding's verdicts, latest first; those older than the one with sequence number `before`, if given.
    async fn list_verdicts(&self, graph: &GraphArn, finding: &FindingId, before: Option<i64>, limit: u32) -> Result<Vec<Verdict>, StoreError>;
}

/// What there is to do about a verdict, given to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// Its graph.
    pub graph: GraphArn,
    /// The verdict in force of a finding.
    pub verdict: Verdict,
    /// Whether an earlier verdict had the finding put away.
    pub was_put_away: bool,
    /// How often it has been tried, this time included.
    pub attempts: u32,
}

/// How an errand ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The product has the verdict.
    Delivered,
    /// It was given up, and why.
    Failed(String),
    /// Nobody takes it, and why.
    Skipped(String),
    /// There was nothing to deliver.
    Done,
}

/// A suppression to propose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSuppression {
    /// Which findings it covers.
    pub pattern: Pattern,
    /// Findings that it covers now.
    pub past_findings: u64,
}

/// The part of the store that hands verdicts on: one errand a finding, which is about the verdict in force.
///
/// A claim is a worker's until its lease ends; then another may have the errand. While one has it nobody else works on
/// the finding, even if a later verdict is recorded: what the worker then writes about the earlier one is passed over.
#[async_trait]
pub trait Outbox {
    /// Gives `worker` up to `limit` errands that are due and that nobody has, longest due first; nobody else gets them
    /// before `until`. One call counts one attempt.
    async fn claim_errands(&self, worker: &str, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Errand>, StoreError>;

    /// Gives an errand back, to be claimed again from `next_try` on, and notes why; the attempt counts if `counts`.
    async fn postpone_errand(&self, worker: &str, errand: &Errand, next_try: Timestamp, reason: &str, counts: bool, now: Timestamp) -> Result<(), StoreError>;

    /// Ends an errand and writes down how; `false` if the worker has lost it, or a later verdict has come, and then nothing is
    /// written.
    async fn settle_errand(&self, worker: &str, errand: &Errand, settled: &Settled, now: Timestamp) -> Result<bool, StoreError>;

    /// Gives all errands of `worker` back at once; the attempts do not count.
    async fn give_up_errands(&self, worker: &str) -> Result<(), StoreError>;

    /// Proposes a suppression for a claimed errand, unless one with the same pattern is there or the worker has lost it; whether
    /// it did.
    async fn propose(&self, worker: &str, errand: &Errand, proposed: &NewSuppression, now: Timestamp) -> Result<bool, StoreError>;
}

/// The part of the store that holds suppressions.
#[async_trait]
pub trait Suppressions {
    /// Whether the graph has a suppression with this pattern that is not deleted.
    async fn has_suppression(&self, graph: &GraphArn, pattern: &Pattern) -> Result<bool, StoreError>;

    /// Suppressions of a graph in these states, latest first, those before `before`.
    async fn list_suppressions(
        &self,
        graph: &GraphArn,
        states: &[suppression::State],
        before: Option<SuppressionId>,
        limit: u32,
    ) -> Result<Vec<Suppression>, StoreError>;

    /// Writes down what was decided on a suppression: [`StoreError::NotAllowed`] if its state does not allow it,
    /// [`StoreError::NotFound`] if the graph has none of that id, [`StoreError::TooManyAccepted`] if `accepted_limit` are
    /// accepted. One on which the same was decided already stays as it is.
    async fn decide_suppression(
        &self,
        graph: &GraphArn,
        id: SuppressionId,
        decision: suppression::Decision,
        by: &suppression::Mark,
        accepted_limit: u32,
    ) -> Result<Suppression, StoreError>;
}

/// Which investigations; what is absent allows all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this severity.
    pub severity: Option<Severity>,
    /// Of this status.
    pub status: Option<Status>,
    /// Of this state.
    pub state: Option<State>,
    /// Of this.
    pub target: Option<Target>,
    /// Started from here on.
    pub from: Option<Timestamp>,
    /// Started up to here, inclusive.
    pub to: Option<Timestamp>,
}

/// By what investigations are sorted; those that are the same in it, by id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Field {
    /// The time at which they were started.
    #[default]
    CreateTime,
    /// The severity, by gravity; those that have none are the least.
    Severity,
    /// The status, by name.
    Status,
}

/// The order of a listing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Order {
    /// By what.
    pub field: Field,
    /// Whether the least comes first.
    pub ascending: bool,
}

/// Where a page of investigations ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The last one's value of the field sorted by.
    pub value: i64,
    /// Its id.
    pub id: String,
}

/// An investigation given to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Its graph.
    pub graph: GraphArn,
    /// Its id.
    pub id: InvestigationId,
    /// Of what.
    pub target: Target,
    /// Over which time.
    pub scope: TimeWindow,
    /// When it was started.
    pub create_time: Timestamp,
    /// How often it has been tried, this time included.
    pub attempts: u32,
}

/// How an investigation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It could not be finished.
    Failed,
    /// It was.
    Successful {
        /// How grave it is, and why.
        report: Report,
        /// What it has found, in order.
        indicators: Vec<Attributed>,
    },
}

/// The part of the store that holds investigations and hands them to workers.
///
/// A claim is a worker's until its lease ends; then another may have the investigation, and what the first one writes is
/// passed over.
#[async_trait]
pub trait Investigations {
    /// Starts an investigation, of which at most `running_limit` of a graph may run: [`StoreError::TooManyRunning`]. A
    /// request id that the principal has used on the graph gives back the investigation started then, also to all but one
    /// of several concurrent calls; [`StoreError::RequestReused`] if target or scope differ.
    async fn start_investigation(
        &self,
        graph: &GraphArn,
        investigation: &NewInvestigation,
        now: Timestamp,
        running_limit: u32,
    ) -> Result<InvestigationId, StoreError>;

    /// One investigation: [`StoreError::NotFound`] if the graph has none of that id.
    async fn investigation(&self, graph: &GraphArn, id: &InvestigationId) -> Result<Explained, StoreError>;

    /// Investigations of a graph in order, after `after`, each with where a page would end with it.
    async fn list_investigations(
        &self,
        graph: &GraphArn,
        filter: &Filter,
        order: Order,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<(Investigation, Cursor)>, StoreError>;

    /// Archives an investigation or takes it back: [`StoreError::NotFound`] if the graph has none of that id.
    async fn set_state(&self, graph: &GraphArn, id: &InvestigationId, state: State) -> Result<(), StoreError>;

    /// What an investigation has found, in order, each with its place: those of a kind, if given, after the place `after`.
    /// [`StoreError::NotFound`] if the graph has no investigation of that id.
    async fn list_indicators(
        &self,
        graph: &GraphArn,
        id: &InvestigationId,
        kind: Option<Kind>,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<(i64, Attributed)>, StoreError>;

    /// Gives `worker` up to `limit` running investigations that nobody has, oldest first; nobody else gets them before
    /// `until`. One call counts one attempt.
    async fn claim(&self, worker: &str, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<Claimed>, StoreError>;

    /// Prolongs a claim; `false` if the worker has lost it.
    async fn renew(&self, worker: &str, claimed: &Claimed, until: Timestamp) -> Result<bool, StoreError>;

    /// Writes down how far a claimed investigation is; nothing if the worker has lost it.
    async fn note_progress(&self, worker: &str, claimed: &Claimed, progress: Progress) -> Result<(), StoreError>;

    /// Gives a claim back, to be claimed again from `next_try` on; the attempt counts if `counts`.
    async fn postpone(&self, worker: &str, claimed: &Claimed, next_try: Timestamp, counts: bool) -> Result<(), StoreError>;

    /// Gives all claims of `worker` back at once; the attempts do not count.
    async fn give_up(&self, worker: &str) -> Result<(), StoreError>;

    /// Writes down how a claimed investigation ended, with what it has found; `false` if the worker has lost it, and then
    /// nothing is written.
    async fn finish(&self, worker: &str, claimed: &Claimed, outcome: &Outcome) -> Result<bool, StoreError>;
}
