//! Findings with what analysts decided about them: the graph's listing, joined with verdicts and suppressions.

use std::collections::HashMap;

use gumshoe_api::{
    convert::time_from_proto,
    graph::v1::{FindingSummary, ListFindingsRequest},
    investigation::v1 as api,
};
use gumshoe_model::{GraphArn, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    error::Refusal,
    finding::Finding,
    rpc::graph::Graph,
    store::Store,
    suppression::{self, State, Suppression, SuppressionId},
    verdict::{FindingId, Kind, Verdict},
};

/// Suppressions of one graph that may be accepted.
pub const MAX_ACCEPTED: u32 = 1_000;
/// Findings that one call looks at.
const MAX_LOOKED_AT: usize = 10_000;
/// The largest page that the graph gives.
const MAX_PAGE: usize = 1_000;

/// What is to be done about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
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

impl Status {
    const ALL: [Self; 5] = [Self::Open, Self::TruePositive, Self::FalsePositive, Self::Benign, Self::Archived];

    /// By the verdict in force, and whether it is archived at its source.
    #[must_use]
    pub fn of(verdict: Option<Kind>, archived: bool) -> Self {
        match verdict {
            Some(Kind::TruePositive) => Self::TruePositive,
            Some(Kind::FalsePositive) => Self::FalsePositive,
            Some(Kind::Benign) => Self::Benign,
            Some(Kind::Reopened) => Self::Open,
            None if archived => Self::Archived,
            None => Self::Open,
        }
    }

    /// As in messages.
    #[must_use]
    pub fn to_proto(self) -> api::FindingStatus {
        match self {
            Self::Open => api::FindingStatus::Open,
            Self::TruePositive => api::FindingStatus::TruePositive,
            Self::FalsePositive => api::FindingStatus::FalsePositive,
            Self::Benign => api::FindingStatus::Benign,
            Self::Archived => api::FindingStatus::Archived,
        }
    }

    /// Out of a message; `None` for unspecified or unknown numbers.
    #[must_use]
    pub fn from_proto(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.to_proto() as i32 == number)
    }
}

/// Which findings.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// What the graph tells apart by itself.
    pub findings: ListFindingsRequest,
    /// Of these statuses; empty for all.
    pub statuses: Vec<Status>,
    /// Also suppressed ones.
    pub include_suppressed: bool,
}

/// A finding with what was decided about it.
#[derive(Debug, Clone)]
pub struct Triaged {
    /// The finding.
    pub finding: FindingSummary,
    /// What is to be done about it.
    pub status: Status,
    /// The verdict in force.
    pub verdict: Option<Verdict>,
    /// The suppression that covers it.
    pub suppression: Option<SuppressionId>,
}

/// A finding's place in the graph's order: worst, then latest, then by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// Bits of the severity, so that it comes back exactly. Severities are not negative: their bits are in their order.
    severity: u64,
    last: i64,
    id: String,
}

impl Place {
    fn of(finding: &FindingSummary) -> Self {
        let last = finding.last_time.as_ref().and_then(|time| time_from_proto("last_time", time).ok());
        // Adding zero makes a negative zero positive.
        Self { severity: (finding.severity + 0.0).to_bits(), last: last.unwrap_or(Timestamp::MIN).0, id: finding.id.clone() }
    }

    fn is_before(&self, other: &Self) -> bool {
        (other.severity, other.last, &self.id) < (self.severity, self.last, &other.id)
    }
}

/// Where a page ends: in which of the graph's pages, and after which finding of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    token: String,
    after: Option<Place>,
}

/// A page of findings.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The findings.
    pub findings: Vec<Triaged>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// A page of at most `size` findings of which `fits` says that they fit in. It may have fewer, or none, before the last one.
///
/// # Errors
/// [`Refusal`].
pub async fn search(
    store: &dyn Store,
    arn: &GraphArn,
    graph: &Graph,
    filter: &Filter,
    size: usize,
    from: Option<Cursor>,
    mut fits: impl FnMut(&Triaged) -> bool,
) -> Result<Page, Refusal> {
    let accepted = store.list_suppressions(arn, &[State::Accepted], None, MAX_ACCEPTED).await?;
    let passes = |triaged: &Triaged| {
        (filter.statuses.is_empty() || filter.statuses.contains(&triaged.status)) && (filter.include_suppressed || triaged.suppression.is_none())
    };
    // Where all pass, the graph's pages are just as large as what is needed.
    let all_pass = filter.statuses.is_empty() && (filter.include_suppressed || accepted.is_empty());
    let mut page = Page::default();
    let mut cursor = from.unwrap_or_default();
    let mut looked_at = 0;
    loop {
        let room = if all_pass { size - page.findings.len() } else { MAX_PAGE };
        let request = ListFindingsRequest {
            page_size: i32::try_from(room).unwrap_or(i32::MAX),
            page_token: cursor.token.clone(),
            include_archived: filter.findings.include_archived || !filter.statuses.is_empty(),
            ..filter.findings.clone()
        };
        let (found, next) = graph.list_findings(&request).await?;
        looked_at += found.len();
        for triaged in joined(store, arn, &accepted, found).await? {
            let place = Place::of(&triaged.finding);
            if cursor.after.as_ref().is_some_and(|after| !after.is_before(&place)) || !passes(&triaged) {
                continue;
            }
            if page.findings.len() >= size || !fits(&triaged) {
                page.next = Some(cursor);
                return Ok(page);
            }
            cursor.after = Some(place);
            page.findings.push(triaged);
        }
        if next.is_empty() {
            return Ok(page);
        }
        cursor = Cursor { token: next, after: None };
        if page.findings.len() >= size || looked_at >= MAX_LOOKED_AT {
            page.next = Some(cursor);
            return Ok(page);
        }
    }
}

async fn joined(store: &dyn Store, arn: &GraphArn, accepted: &[Suppression], found: Vec<FindingSummary>) -> Result<Vec<Triaged>, Refusal> {
    let ids: Vec<FindingId> = found.iter().filter_map(|finding| finding.id.parse().ok()).collect();
    let mut verdicts: HashMap<String, Verdict> =
        store.verdicts_in_force(arn, &ids).await?.into_iter().map(|(id, verdict)| (id.as_str().to_owned(), verdict)).collect();
    let join = |finding: FindingSummary| {
        let verdict = verdicts.remove(&finding.id);
        let kind = verdict.as_ref().map(|verdict| verdict.content.kind);
        let suppression = if accepted.is_empty() { None } else { suppression::covering(accepted, &Finding::of(&finding), kind) };
        Triaged { status: Status::of(kind, finding.archived), suppression: suppression.map(|covering| covering.id), verdict, finding }
    };
    Ok(found.into_iter().map(join).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_agree_with_the_messages() {
        for status in Status::ALL {
            assert_eq!(Status::from_proto(status.to_proto() as i32), Some(status));
        }
        assert_eq!((Status::from_proto(0), Status::from_proto(99)), (None, None));
    }

    #[test]
    fn a_verdict_counts_more_than_the_source() {
        for (verdict, archived, status) in [
            (None, false, Status::Open),
            (None, true, Status::Archived),
            (Some(Kind::Reopened), true, Status::Open),
            (Some(Kind::FalsePositive), true, Status::FalsePositive),
            (Some(Kind::Benign), false, Status::Benign),
            (Some(Kind::TruePositive), true, Status::TruePositive),
        ] {
            assert_eq!(Status::of(verdict, archived), status);
        }
    }

    #[test]
    fn places_are_in_the_graphs_order() {
        let place = |severity: f64, last: i64, id: &str| Place { severity: severity.to_bits(), last, id: id.to_owned() };
        let sorted = [place(8.0, 5, "b"), place(8.0, 4, "a"), place(8.0, 4, "b"), place(2.5, 9, "a"), place(0.0, 9, "a")];
        for (index, one) in sorted.iter().enumerate() {
            for (other_index, other) in sorted.iter().enumerate() {
                assert_eq!(one.is_before(other), index < other_index, "{one:?} {other:?}");
            }
        }
    }
}
