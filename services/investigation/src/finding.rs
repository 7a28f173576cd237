//! A finding, as far as triage needs to know it.

use gumshoe_api::{
    convert::{entity_from_proto, time_from_proto},
    graph::v1::FindingSummary,
};
use gumshoe_model::{EntityKey, Timestamp};

/// What a finding says that verdicts and suppressions go by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finding {
    /// Its ARN, or the id its product gives.
    pub id: String,
    /// Its type.
    pub finding_type: String,
    /// The product that said it: `GuardDuty`, or a Security Hub product ARN.
    pub product: String,
    /// Its account; may be empty.
    pub account: String,
    /// Its region; may be empty.
    pub region: String,
    /// Entities that it affects.
    pub entities: Vec<EntityKey>,
    /// When the behaviour was first seen.
    pub first_time: Timestamp,
    /// When it was last seen.
    pub last_time: Timestamp,
}

impl Finding {
    /// Out of a message of the graph service; entities of unknown types are left out.
    #[must_use]
    pub fn of(summary: &FindingSummary) -> Self {
        let time = |time: Option<&prost_types::Timestamp>| time.and_then(|time| time_from_proto("time", time).ok()).unwrap_or_default();
        Self {
            id: summary.id.clone(),
            finding_type: summary.r#type.clone(),
            product: summary.product.clone(),
            account: summary.account_id.clone(),
            region: summary.region.clone(),
            entities: summary.entities.iter().filter_map(|entity| entity_from_proto("entities", Some(entity)).ok()).collect(),
            first_time: time(summary.first_time.as_ref()),
            last_time: time(summary.last_time.as_ref()),
        }
    }
}
