//! Behaviour graphs.

use gumshoe_model::{AccountId, GraphArn, Timestamp};

/// A behaviour graph; its ARN holds the administrator account and the region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// Its ARN.
    pub arn: GraphArn,
    /// When it was created.
    pub create_time: Timestamp,
}

impl Graph {
    /// A graph with a new random id.
    ///
    /// # Errors
    /// [`gumshoe_model::Invalid`] when `region` is not one.
    pub fn new(region: &str, account: &AccountId, create_time: Timestamp) -> Result<Self, gumshoe_model::Invalid> {
        let arn = GraphArn::new("aws", region, account, &uuid::Uuid::new_v4().simple().to_string())?;
        Ok(Self { arn, create_time })
    }
}
