//! Heavy questions, answered by the query engine that graph is configured with.
//!
//! | module | holds |
//! |---|---|
//! | `hunt` | records by patterns, over any time |
//! | `baselines` | what is usual for every entity |
//! | `pairs` | findings that share what few findings name |
//!
//! Every query gives its rows in a total order: one that lost an executor half-way goes on where it was.

use futures::{Stream, TryStreamExt};
use gumshoe_lake::{Engine, GraphLake, Query};
use gumshoe_model::TimeWindow;

use crate::rows::{self, Answer, Parameters, Records};

pub(crate) mod baselines;
pub(crate) mod hunt;
pub(crate) mod pairs;

/// An order of records that is total.
pub(crate) const RECORDS_ORDER: &str = "time, event_id, kind, source_object, \"offset\"";

/// Runs a query. Of events and edges, only what may lie in `window` is read.
pub(crate) async fn run(
    engine: &Engine,
    lake: &GraphLake,
    sql: String,
    parameters: Parameters,
    window: Option<TimeWindow>,
) -> Answer<impl Stream<Item = Answer<Records>> + use<>> {
    let query = Query { sql, parameters: parameters.into_values(), window };
    let rows = Box::pin(engine.run(lake, &query)).await.map_err(rows::failure)?;
    Ok(rows.map_err(rows::failure))
}
