//! Findings that the graph makes itself, and the files that they become.

use gumshoe_detections::RuleSet;
use gumshoe_enrich::Places;
use gumshoe_lake::{DataFile, LakeError};
use gumshoe_model::{EntityKey, Finding, GraphArn};
use xxhash_rust::xxh3::xxh3_128;

use crate::{extract::Extraction, tabulate};

/// A finding that the graph made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Made {
    /// What it says.
    pub(crate) finding: Finding<'static>,
    /// The account that it is about.
    pub(crate) account: String,
    /// The region that it is about.
    pub(crate) region: String,
    /// Tells this update from the others of the finding. Of two updates of one time, the one whose id is larger counts.
    pub(crate) event_id: String,
    /// Whom it is about, whom it concerns most first.
    pub(crate) entities: Vec<EntityKey>,
    /// Its text: JSON.
    pub(crate) raw: String,
}

/// The id of a finding, the same whenever and wherever it is made of the same: `what` are its kind, entity and day, or the like.
pub(crate) fn id(graph: &GraphArn, what: &[&str]) -> String {
    format!("{graph}/finding/{:032x}", xxh3_128(what.join("\n").as_bytes()))
}

/// The files of findings, with the entities and edges that tie them to what they affect.
pub(crate) fn files(made: &[Made], places: &Places) -> Result<Vec<DataFile>, LakeError> {
    // What is made has no events that rules could match.
    let rules = RuleSet::default();
    let mut extraction = Extraction::new(&rules);
    for made in made {
        extraction.add_made(made);
    }
    let mut graph = extraction.finish();
    let mut files = tabulate::edges(&mut graph, places)?;
    files.extend(tabulate::entities(&graph)?);
    files.extend(tabulate::made_findings(made)?);
    Ok(files)
}
