//! What a finding of peer groups told, to be learned once it was judged to be usual.

use gumshoe_behavior::risk::Source;
use gumshoe_lake::GraphLake;
use gumshoe_model::PRODUCT;
use serde::Deserialize;

use crate::{
    rows::{self, Answer, Parameters},
    store::usual::Usual,
};

/// Of the text of our findings.
#[derive(Deserialize)]
struct Told {
    source: String,
    entity: String,
    #[serde(default)]
    items: Vec<String>,
}

/// Which principal did what, as all updates of a finding say; nothing if it is not one of peer groups.
pub(crate) async fn told(lake: &GraphLake, finding: &str) -> Answer<Usual> {
    let mut parameters = Parameters::new();
    parameters.text("finding", finding);
    parameters.text("product", PRODUCT);
    let mut usual = Usual::new();
    rows::each(lake, "SELECT raw FROM findings WHERE finding_id = $finding AND product = $product", parameters, |columns| {
        let raws = columns.texts("raw")?;
        for row in 0..columns.len() {
            let told = serde_json::from_str::<Told>(raws.get(row)).ok().filter(|told| told.source == Source::Peers.as_str());
            let Some(Told { entity, items, .. }) = told else { continue };
            // Postgres cannot store NUL.
            usual.extend(items.into_iter().map(|item| (entity.clone(), item)).filter(|(entity, item)| !entity.contains('\0') && !item.contains('\0')));
        }
        Ok(true)
    })
    .await?;
    Ok(usual)
}
