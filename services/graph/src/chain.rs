//! Who became whom: address, federated or source identity, session, role, next role.

use std::collections::{BTreeMap, BTreeSet};

use gumshoe_api::{
    convert::{entity_to_proto, measures_to_proto, relation_to_proto},
    graph::v1::ChainStep,
};
use gumshoe_lake::GraphLake;
use gumshoe_model::{EntityKey, EntityType, Measures, Relation, TimeWindow};

use crate::{
    activity::is_own_session,
    rows::{self, Answer, Parameters, SUMS},
    search,
};

/// Steps in one answer.
pub(crate) const MAX_STEPS: usize = 1_000;

/// Types that can act under another identity.
const IDENTITIES: &str = "'user', 'role', 'role_session', 'federated_user', 'root', 'aws_service', 'kubernetes_subject'";

/// The steps around an entity.
#[derive(Debug)]
pub(crate) struct Chain {
    /// From the origin on.
    pub(crate) steps: Vec<ChainStep>,
    /// Whether there were more.
    pub(crate) truncated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Towards the origin.
    Back,
    /// Towards what was done with it.
    On,
}

impl Way {
    /// Rows of an entity that lead one step this way.
    ///
    /// For `assumed` and `logged_in` the subject comes first; for `used` the object does: an address or key is there
    /// before whoever uses it.
    fn condition(self) -> String {
        match self {
            Self::Back => "((side = 'in' AND relation IN ('assumed', 'logged_in')) \
                 OR (side = 'out' AND relation = 'used' AND peer_type IN ('ip_address', 'access_key')))"
                .to_owned(),
            Self::On => format!(
                "((side = 'out' AND relation IN ('assumed', 'logged_in')) \
                 OR (side = 'in' AND relation = 'used' AND entity_type IN ('ip_address', 'access_key') AND peer_type IN ({IDENTITIES})))"
            ),
        }
    }
}

/// One step: from, to, relation.
type StepKey = (EntityKey, EntityKey, Relation);

/// Follows the chain both ways, breadth first, `depth` steps each.
pub(crate) async fn follow(lake: &GraphLake, entity: &EntityKey, scope: Option<TimeWindow>, depth: i32) -> Answer<Chain> {
    let mut steps: BTreeMap<StepKey, (i32, Measures)> = BTreeMap::new();
    let mut truncated = false;
    let mut sessions = Vec::new();
    if entity.kind == EntityType::Role {
        let known = search::summaries(lake, std::slice::from_ref(entity)).await?;
        let aliases = known.get(entity).map(|summary| summary.aliases.clone()).unwrap_or_default();
        let (found, more) = level(lake, std::slice::from_ref(entity), scope, Way::Back, MAX_STEPS).await?;
        truncated |= more;
        // A role acts through its sessions: what they became, it became.
        sessions.extend(found.into_iter().map(|((from, _, _), _)| from).filter(|peer| is_own_session(entity, &aliases, peer)));
    }
    for way in [Way::Back, Way::On] {
        let mut frontier = vec![entity.clone()];
        if way == Way::On {
            frontier.append(&mut sessions);
        }
        let mut visited: BTreeSet<EntityKey> = frontier.iter().cloned().collect();
        for distance in 1..=depth {
            let room = MAX_STEPS.saturating_sub(steps.len());
            if frontier.is_empty() {
                break;
            }
            let (found, more) = level(lake, &frontier, scope, way, room).await?;
            truncated |= more;
            frontier.clear();
            for (key, measures) in found {
                let next = if way == Way::Back { &key.0 } else { &key.1 };
                if visited.insert(next.clone()) {
                    frontier.push(next.clone());
                }
                // A session leads to its own role, which is where a role's chain began.
                if way == Way::On && key.1 == *entity {
                    continue;
                }
                let signed = if way == Way::Back { -distance } else { distance };
                steps.entry(key).or_insert((signed, measures));
            }
        }
    }
    let mut steps: Vec<_> = steps.into_iter().collect();
    steps.sort_by(|(left, (one, _)), (right, (other, _))| one.cmp(other).then_with(|| left.cmp(right)));
    let steps = steps
        .into_iter()
        .map(|((from, to, relation), (distance, measures))| ChainStep {
            from: Some(entity_to_proto(&from)),
            to: Some(entity_to_proto(&to)),
            relation: relation_to_proto(relation),
            distance,
            measures: Some(measures_to_proto(&measures)),
        })
        .collect();
    Ok(Chain { steps, truncated })
}

/// The steps one way from any of these entities, the most frequent `room` of them, and whether there are more.
async fn level(lake: &GraphLake, frontier: &[EntityKey], scope: Option<TimeWindow>, way: Way, room: usize) -> Answer<(Vec<(StepKey, Measures)>, bool)> {
    let mut parameters = Parameters::new();
    let mut condition = parameters.entities("e", "entity_type", "entity_id", frontier);
    condition += " AND ";
    condition += &way.condition();
    if let Some(scope) = scope {
        condition += " AND ";
        condition += &parameters.within("hour", scope.to_hours());
    }
    let sql = format!(
        "SELECT entity_type, entity_id, peer_type, peer_id, relation, side, {SUMS} FROM edges WHERE {condition} \
         GROUP BY entity_type, entity_id, peer_type, peer_id, relation, side \
         ORDER BY count DESC, entity_type, entity_id, peer_type, peer_id, relation, side LIMIT {}",
        room + 1
    );
    let mut found = Vec::new();
    rows::each(lake, &sql, parameters, |columns| {
        let (types, ids) = (columns.texts("entity_type")?, columns.texts("entity_id")?);
        let (peer_types, peer_ids) = (columns.texts("peer_type")?, columns.texts("peer_id")?);
        let relations = columns.texts("relation")?;
        let measures = columns.measures()?;
        for row in 0..columns.len() {
            let here = rows::entity(types.get(row), ids.get(row))?;
            let peer = rows::entity(peer_types.get(row), peer_ids.get(row))?;
            let relation = rows::relation(relations.get(row))?;
            let key = if way == Way::Back { (peer, here, relation) } else { (here, peer, relation) };
            found.push((key, measures.get(row)));
        }
        Ok(true)
    })
    .await?;
    let more = found.len() > room;
    found.truncate(room);
    Ok((found, more))
}
