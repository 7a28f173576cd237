//! What membership needs of the lake, which the graph service keeps.

use async_trait::async_trait;
use gumshoe_model::GraphArn;

use crate::datasource::Package;

/// What one account gave through one package on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// 12 digits, or empty for records that name no account.
    pub account: String,
    /// Which package.
    pub package: Package,
    /// The UTC day, `2024-06-30`.
    pub day: String,
    /// Records that are in the graph.
    pub records: u64,
    /// Bytes of their raw text.
    pub bytes: u64,
}

/// The lake did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the graph service does not answer")]
pub struct Unreachable(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// The lake.
#[async_trait]
pub trait Lake: Send + Sync + 'static {
    /// What a graph has taken in over the last `days` UTC days, today included; one entry for each account, package and
    /// day.
    async fn volumes(&self, graph: &GraphArn, days: u32) -> Result<Vec<Volume>, Unreachable>;

    /// Removes all data of a graph. Called again, it goes on where it was cut off.
    async fn delete_graph(&self, graph: &GraphArn) -> Result<(), Unreachable>;
}
