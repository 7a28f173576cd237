//! The part of the store that holds finding groups, and hands graphs to be grouped to workers.

use async_trait::async_trait;
use gumshoe_model::{EntityKey, GraphArn, TimeWindow, Timestamp};
use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::groups::{Body, Decision, Group, GroupId, Overview, Status, reconcile::Known};

/// A graph given to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedGraph {
    /// The graph.
    pub graph: GraphArn,
    /// How far its findings were when it was claimed.
    pub version: i64,
    /// When that was noted.
    pub noted: Timestamp,
    /// How many verdicts of its findings were noted then.
    pub verdicts: i64,
}

/// A group as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupWrite {
    /// Its id.
    pub id: GroupId,
    /// What it is in short.
    pub overview: Overview,
    /// All that it holds.
    pub body: Body,
    /// Groups that are merged into it.
    pub merged: Vec<GroupId>,
    /// For a new one, the group that its findings were in before.
    pub split_from: Option<GroupId>,
    /// Findings that it did not have: if it was closed, it opens.
    pub news: usize,
}

/// Which groups; what is absent allows all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroupFilter {
    /// With findings in this time.
    pub scope: Option<TimeWindow>,
    /// Of at least this severity, in thousandths.
    pub min_severity: i64,
    /// Of at most this severity, in thousandths.
    pub max_severity: Option<i64>,
    /// Of these statuses; at least one.
    pub statuses: Vec<Status>,
    /// With findings about all of these.
    pub entities: Vec<EntityKey>,
    /// With this finding.
    pub finding: Option<String>,
}

/// Where a page of groups ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCursor {
    /// The last one's severity, in thousandths.
    pub severity: i64,
    /// When its latest finding was last seen.
    pub last: i64,
    /// Its id.
    pub id: String,
}

/// A severity as the store has it.
#[must_use]
pub fn thousandths(severity: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "0 to 10,000")]
    let thousandths = (severity.clamp(0.0, 10.0) * 1_000.0).round() as i64;
    thousandths
}

/// Finding groups.
///
/// A claim is a worker's until its lease ends; then another may have the graph, and what the first one writes is passed over.
#[async_trait]
pub trait Groups {
    /// Notes how far the findings of graphs are.
    async fn note_findings(&self, versions: &[(GraphArn, i64)], now: Timestamp) -> Result<(), StoreError>;

    /// Gives `worker` up to `limit` graphs whose findings or verdicts have changed and that nobody has, longest due first; nobody else gets them
    /// before `until`.
    async fn claim_graphs(&self, worker: &str, now: Timestamp, until: Timestamp, limit: u32) -> Result<Vec<ClaimedGraph>, StoreError>;

    /// Prolongs a claim; `false` if the worker has lost it.
    async fn renew_graph(&self, worker: &str, graph: &GraphArn, until: Timestamp) -> Result<bool, StoreError>;

    /// Gives a claim back, to be claimed again from `next_try` on; if it was `done`, only for what has changed since it was claimed.
    async fn release_graph(&self, worker: &str, claimed: &ClaimedGraph, next_try: Timestamp, done: bool) -> Result<(), StoreError>;

    /// Gives all claims of `worker` back at once.
    async fn give_up_graphs(&self, worker: &str) -> Result<(), StoreError>;

    /// Groups that are neither merged nor dissolved, with their findings.
    async fn known_groups(&self, graph: &GraphArn) -> Result<Vec<Known>, StoreError>;

    /// Writes a group down as it is now: new, or in place of what it was. Groups that are merged into it stand for it from then on, and it
    /// is open if one of them was. `false` if the worker has lost the graph, and then nothing is written.
    async fn write_group(&self, worker: &str, graph: &GraphArn, group: &GroupWrite, now: Timestamp) -> Result<bool, StoreError>;

    /// Ends a group whose findings are not tied any more; it keeps what it held. `false` if the worker has lost the graph.
    async fn dissolve_group(&self, worker: &str, graph: &GraphArn, id: &GroupId, now: Timestamp) -> Result<bool, StoreError>;

    /// A group, by its id or that of one that was merged into it: [`StoreError::NotFound`] if the graph has none.
    async fn group(&self, graph: &GraphArn, id: &GroupId) -> Result<(Group, Body), StoreError>;

    /// Groups, worst first, then latest, each with where a page would end with it.
    async fn list_groups(
        &self,
        graph: &GraphArn,
        filter: &GroupFilter,
        after: Option<&GroupCursor>,
        limit: u32,
    ) -> Result<Vec<(Group, GroupCursor)>, StoreError>;

    /// Open groups that were active in a time and name the entity or hold one of the findings, worst first, at most 100.
    async fn related_groups(&self, graph: &GraphArn, entity: &EntityKey, findings: &[&str], scope: TimeWindow) -> Result<Vec<GroupId>, StoreError>;

    /// Writes a decision down and gives the group back, by its id or that of one merged into it: [`StoreError::NotFound`] if the graph has
    /// none, [`StoreError::Dissolved`] if it is dissolved. The same decision again is kept too.
    async fn decide_group(&self, graph: &GraphArn, id: &GroupId, decision: &Decision) -> Result<Group, StoreError>;

    /// Decisions on a group and on those merged into it, latest first, at most 100.
    async fn group_decisions(&self, graph: &GraphArn, id: &GroupId) -> Result<Vec<Decision>, StoreError>;
}
