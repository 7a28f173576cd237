//! Whom an investigation looks at: from a finding, an account or a whole graph to principals, the most suspicious first.

use std::collections::{BTreeMap, BTreeSet};

use gumshoe_model::{AccountId, EntityKey, EntityType, TimeWindow, Timestamp, time::MICROS_PER_HOUR};

use crate::{
    error::GraphError,
    finding::Finding,
    investigation::{Subject, Target},
    rpc::graph::{Graph, Known, Reached},
};

/// Principals whose risk is asked for, of all that may be looked at.
const MAX_RANKED: usize = 50;
/// Entities of a finding whose principals are looked for.
const MAX_NAMED: usize = 50;

/// Whom an investigation looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The principals, most suspicious first.
    pub subjects: Vec<Subject>,
    /// The time that is looked at.
    pub scope: TimeWindow,
    /// Principals that would have been looked at too, were there no limit.
    pub left_out: u64,
}

/// The principals of a target, at most `limit`.
///
/// # Errors
/// [`GraphError`].
pub async fn choose(graph: &Graph, target: &Target, scope: TimeWindow, limit: usize) -> Result<Chosen, GraphError> {
    match target {
        Target::Principal(subject) => Ok(Chosen { subjects: vec![subject.clone()], scope, left_out: 0 }),
        Target::AccessKey(id) => {
            let key = EntityKey { kind: EntityType::AccessKey, id: id.clone() };
            let users = graph.reached(&key, Reached::Users, scope).await?;
            Ok(first(resolve(graph, users).await?, scope, limit))
        }
        Target::Finding(id) => {
            let Some(finding) = graph.finding(id).await? else { return Ok(Chosen { subjects: Vec::new(), scope, left_out: 0 }) };
            let Some(scope) = time_of(&finding, scope) else { return Ok(Chosen { subjects: Vec::new(), scope, left_out: 0 }) };
            let entities = of_finding(graph, &finding, scope).await?;
            Ok(first(resolve(graph, entities).await?, scope, limit))
        }
        Target::Account(account) => ranked(graph, Some(account), scope, limit).await,
        Target::Graph => ranked(graph, None, scope, limit).await,
    }
}

/// The time of a finding, widened to whole hours, as far as it lies in the scope; `None` if it does not.
#[must_use]
pub fn time_of(finding: &Finding, scope: TimeWindow) -> Option<TimeWindow> {
    let start = finding.first_time.hour().start().0.max(scope.start().0);
    let end = finding.last_time.hour().start().0.saturating_add(MICROS_PER_HOUR).min(scope.end().0);
    TimeWindow::new(Timestamp(start), Timestamp(end)).ok()
}

/// Whom a finding names, then who used the keys and addresses, and who touched the resources, that it names.
async fn of_finding(graph: &Graph, finding: &Finding, scope: TimeWindow) -> Result<Vec<EntityKey>, GraphError> {
    let (named, others): (Vec<_>, Vec<_>) = finding.entities.iter().take(MAX_NAMED).cloned().partition(|entity| Subject::KINDS.contains(&entity.kind));
    let mut found = named;
    for entity in others {
        let reached = match entity.kind {
            EntityType::AccessKey | EntityType::IpAddress => Reached::Users,
            EntityType::Account | EntityType::AwsService | EntityType::Finding | EntityType::UserAgent => continue,
            _ => Reached::Touchers,
        };
        found.extend(graph.reached(&entity, reached, scope).await?);
    }
    Ok(found)
}

/// Principals in place of entities, each once: of sessions their roles, where the graph knows them, and no AWS services.
async fn resolve(graph: &Graph, entities: Vec<EntityKey>) -> Result<Vec<Subject>, GraphError> {
    let (mut seen, mut subjects) = (BTreeSet::new(), Vec::new());
    for entity in entities {
        if !seen.insert(entity.clone()) {
            continue;
        }
        let entity = if entity.kind == EntityType::RoleSession { graph.role_of(&entity).await?.unwrap_or(entity) } else { entity };
        // What the graph holds may come from records whose ARNs are none.
        let Ok(subject) = Subject::of(entity) else { continue };
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    Ok(subjects)
}

fn first(mut subjects: Vec<Subject>, scope: TimeWindow, limit: usize) -> Chosen {
    let left_out = u64::try_from(subjects.len().saturating_sub(limit)).unwrap_or(u64::MAX);
    subjects.truncate(limit);
    Chosen { subjects, scope, left_out }
}

/// The most suspicious principals of an account or of the graph: those of the highest risk at the end of the scope time. Whose risk
/// is asked for is decided by findings that name them, then by whether they are new, then by when they were last seen.
async fn ranked(graph: &Graph, account: Option<&AccountId>, scope: TimeWindow, limit: usize) -> Result<Chosen, GraphError> {
    let (known, findings) = futures::try_join!(graph.principals(account, scope), graph.named_by_findings(account, scope))?;
    let left_out = known.left_out;
    let mut weights: BTreeMap<EntityKey, u32> = BTreeMap::new();
    for (entity, severity) in findings {
        let weight = weights.entry(entity).or_default();
        *weight = (*weight).max(severity);
    }
    let mut candidates: BTreeMap<EntityKey, (u32, bool, Timestamp)> = BTreeMap::new();
    for Known { entity, first, last } in known.principals {
        let weight = weights.remove(&entity).unwrap_or_default();
        candidates.insert(entity, (weight, scope.contains(first), last));
    }
    // Named by findings, and not seen to act, or sessions.
    let named: Vec<EntityKey> = weights.keys().filter(|entity| Subject::KINDS.contains(&entity.kind)).take(MAX_RANKED).cloned().collect();
    for entity in named {
        let weight = weights.get(&entity).copied().unwrap_or_default();
        for subject in resolve(graph, vec![entity]).await? {
            let candidate = candidates.entry(subject.entity()).or_insert((0, false, scope.start()));
            candidate.0 = candidate.0.max(weight);
        }
    }
    let mut candidates: Vec<_> = candidates.into_iter().collect();
    candidates.sort_by(|(one, one_rank), (other, other_rank)| other_rank.cmp(one_rank).then_with(|| one.cmp(other)));
    let left_out = left_out.saturating_add(u64::try_from(candidates.len().saturating_sub(MAX_RANKED)).unwrap_or(u64::MAX));
    candidates.truncate(MAX_RANKED);
    let entities: Vec<EntityKey> = candidates.into_iter().map(|(entity, _)| entity).collect();
    let risks = graph.risks(&entities, scope.end()).await?;
    let mut subjects: Vec<(f64, Subject)> = entities.into_iter().zip(risks).filter_map(|(entity, risk)| Some((risk, Subject::of(entity).ok()?))).collect();
    // Stable: of the same risk, those whom findings name stay first.
    subjects.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let chosen = first(subjects.into_iter().map(|(_, subject)| subject).collect(), scope, limit);
    Ok(Chosen { left_out: chosen.left_out.saturating_add(left_out), ..chosen })
}
