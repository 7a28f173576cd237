//! With how many principals and machines entities have to do: what many share ties nobody to anybody.

use std::collections::HashMap;

use gumshoe_lake::GraphLake;
use gumshoe_model::EntityKey;

use crate::rows::{self, Answer, Parameters};

/// Who acts. Sessions count for their roles, but for a role itself they tell how widely it is used.
const ACTORS: &str = "peer_type IN ('user', 'role', 'federated_user', 'root', 'kubernetes_subject', 'ec2_instance') \
     OR (peer_type = 'role_session' AND entity_type = 'role')";

/// How many actors have an edge with each entity, in the order given.
pub(crate) async fn count(lake: &GraphLake, entities: &[EntityKey]) -> Answer<Vec<u64>> {
    let mut parameters = Parameters::new();
    let which = parameters.entities("e", "entity_type", "entity_id", entities);
    let sql = format!(
        "SELECT entity_type, entity_id, count(*) AS actors FROM \
         (SELECT DISTINCT entity_type, entity_id, peer_type, peer_id FROM edges WHERE {which} AND ({ACTORS})) GROUP BY entity_type, entity_id"
    );
    let mut counts = HashMap::new();
    rows::each(lake, &sql, parameters, |columns| {
        let (types, ids, actors) = (columns.texts("entity_type")?, columns.texts("entity_id")?, columns.numbers("actors")?);
        for row in 0..columns.len() {
            counts.insert(rows::entity(types.get(row), ids.get(row))?, actors.count(row));
        }
        Ok(true)
    })
    .await?;
    Ok(entities.iter().map(|entity| counts.get(entity).copied().unwrap_or_default()).collect())
}
