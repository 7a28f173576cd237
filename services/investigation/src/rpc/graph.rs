//! Reads what the graph service knows, in the service's own name.

use std::sync::Arc;

use gumshoe_api::{
    common::v1::{self as common, Relation},
    convert::{entity_from_proto, entity_to_proto, entity_type_to_proto, record_kind_to_proto, time_from_proto, time_to_proto, window_to_proto},
    graph::v1::{self as proto, graph_service_client::GraphServiceClient},
};
use gumshoe_model::{AccountId, EntityKey, EntityType, GraphArn, TimeWindow, Timestamp};
use gumshoe_runtime::{Caller, PrincipalChannel, Signed, TokenSigner};
use tonic::Code;

use crate::{
    error::GraphError,
    facts::{Call, Habits, RelatedFinding, Seen},
    finding::Finding,
    investigation::Subject,
    suppression::Pattern,
    techniques::Technique,
    verdict::FindingId,
};

mod administration;

/// A profile of full lists, or a page of records with their text, is larger than what gRPC takes by default.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// The most values that the graph lists of a kind.
const LIST_SIZE: i32 = 1_000;
const PAGE_SIZE: i32 = 1_000;
/// Calls that rules matched that are looked at, the latest.
const MAX_MATCHED: usize = 20_000;
/// Calls looked at for travels, the latest.
const MAX_TRAVELS: usize = 20_000;
const MAX_FINDINGS: i32 = 100;
/// What the ids of findings begin with that the graph makes of a rule's matches.
const RULE_FINDING: &str = "gumshoe:rule:";
/// Findings looked at for how many of them a pattern covers.
const MAX_COUNTED: usize = 10_000;

/// Pages of principals, and of findings that name them, that are looked at for the most suspicious.
const MAX_CANDIDATE_PAGES: usize = 10;

/// Risks of one call.
const RISKS: usize = 10;

/// Which principals are tied to an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Those who used it: an address, an access key.
    Users,
    /// Those who did something to it: a resource.
    Touchers,
}

/// A principal of the graph, and when it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The principal.
    pub entity: EntityKey,
    /// When it was first seen.
    pub first: Timestamp,
    /// When it was last seen.
    pub last: Timestamp,
}

/// Principals that may have been active in a scope time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownPrincipals {
    /// The principals.
    pub principals: Vec<Known>,
    /// At least so many more there are.
    pub left_out: u64,
}

/// Reads graphs.
#[derive(Debug, Clone)]
pub struct Graphs {
    channel: PrincipalChannel,
    signer: Arc<TokenSigner>,
}

impl Graphs {
    /// Reads through `channel`, which leads to the graph service.
    #[must_use]
    pub fn new(channel: PrincipalChannel, signer: Arc<TokenSigner>) -> Self {
        Self { channel, signer }
    }

    /// One graph.
    #[must_use]
    pub fn open(&self, graph: &GraphArn) -> Graph {
        let caller = Caller::service("investigation", "detective:SearchGraph").with_graph(graph.clone());
        let client = GraphServiceClient::new(self.channel.signed(Arc::clone(&self.signer), caller)).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Graph { arn: graph.to_string(), client }
    }
}

/// One graph. [`GraphError`] can come from every method.
#[derive(Debug, Clone)]
pub struct Graph {
    arn: String,
    client: GraphServiceClient<Signed>,
}

impl Graph {
    /// What an entity did in a scope time; `None` if the graph has never seen it.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn habits(&self, entity: &EntityKey, scope: TimeWindow) -> Result<Option<Habits>, GraphError> {
        let request = proto::GetEntityProfileRequest {
            graph_arn: self.arn.clone(),
            entity: Some(entity_to_proto(entity)),
            scope: Some(window_to_proto(scope)),
            list_size: LIST_SIZE,
        };
        match self.client.clone().get_entity_profile(request).await {
            Ok(answer) => Ok(answer.into_inner().profile.map(habits)),
            Err(refusal) if refusal.code() == Code::NotFound => Ok(None),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// The subject's own calls in a scope time that detection rules matched, the latest few ten thousand.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn matched_calls(&self, subject: &Subject, habits: &Habits, scope: TimeWindow) -> Result<Vec<Call>, GraphError> {
        let filter = proto::EventFilter { rule_id: "*".to_owned(), ..Self::filter(subject, scope) };
        self.events(subject, habits, filter, MAX_MATCHED).await
    }

    /// All of the subject's own calls in a scope time, the latest few ten thousand.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn all_calls(&self, subject: &Subject, habits: &Habits, scope: TimeWindow) -> Result<Vec<Call>, GraphError> {
        self.events(subject, habits, Self::filter(subject, scope), MAX_TRAVELS).await
    }

    /// Findings that affect an entity and were active in a scope time, worst first; not those that are archived.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn findings(&self, entity: &EntityKey, scope: TimeWindow) -> Result<Vec<RelatedFinding>, GraphError> {
        let request = proto::ListFindingsRequest {
            graph_arn: self.arn.clone(),
            scope: Some(window_to_proto(scope)),
            entity: Some(entity_to_proto(entity)),
            page_size: MAX_FINDINGS,
            ..proto::ListFindingsRequest::default()
        };
        let listed = self.client.clone().list_findings(request).await?.into_inner().findings;
        // What a rule says of single calls is told by the calls.
        let listed = listed.into_iter().filter(|finding| !finding.id.starts_with(RULE_FINDING));
        let is_address = |entity: &&common::EntityKey| entity.r#type() == common::EntityType::IpAddress;
        let related = |finding: proto::FindingSummary| RelatedFinding {
            address: finding.entities.iter().find(is_address).map(|entity| entity.id.clone()).unwrap_or_default(),
            id: finding.id,
            finding_type: finding.r#type,
        };
        Ok(listed.map(related).collect())
    }

    /// A page of findings, and the token of the next.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn list_findings(&self, request: &proto::ListFindingsRequest) -> Result<(Vec<proto::FindingSummary>, String), GraphError> {
        let request = proto::ListFindingsRequest { graph_arn: self.arn.clone(), ..request.clone() };
        let page = self.client.clone().list_findings(request).await?.into_inner();
        Ok((page.findings, page.next_page_token))
    }

    /// A finding; `None` if the graph does not have it.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn finding(&self, id: &FindingId) -> Result<Option<Finding>, GraphError> {
        let request =
            proto::ListFindingsRequest { ids: vec![id.as_str().to_owned()], include_archived: true, page_size: 1, ..proto::ListFindingsRequest::default() };
        let (findings, _) = self.list_findings(&request).await?;
        Ok(findings.first().map(Finding::of))
    }

    /// How many of the graph's findings a pattern covers; counting ends after 10,000 that have its type and an entity of it.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn count_covered(&self, pattern: &Pattern) -> Result<u64, GraphError> {
        let mut request = proto::ListFindingsRequest {
            type_prefix: pattern.finding_type.clone(),
            entity: pattern.entities.first().map(entity_to_proto),
            include_archived: true,
            page_size: PAGE_SIZE,
            ..proto::ListFindingsRequest::default()
        };
        let (mut covered, mut looked_at) = (0, 0);
        loop {
            let (findings, next) = self.list_findings(&request).await?;
            looked_at += findings.len();
            covered += findings.iter().map(Finding::of).filter(|finding| pattern.covers(finding)).count();
            if next.is_empty() || looked_at >= MAX_COUNTED {
                return Ok(u64::try_from(covered).unwrap_or(u64::MAX));
            }
            request.page_token = next;
        }
    }

    /// Principals tied to an entity in a scope time, those of most records first.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn reached(&self, entity: &EntityKey, reached: Reached, scope: TimeWindow) -> Result<Vec<EntityKey>, GraphError> {
        let (relation, direction) = match reached {
            Reached::Users => (Relation::Used, proto::Direction::In),
            Reached::Touchers => (Relation::AffectedBy, proto::Direction::Out),
        };
        let request = proto::ListNeighborsRequest {
            graph_arn: self.arn.clone(),
            entity: Some(entity_to_proto(entity)),
            scope: Some(window_to_proto(scope.to_hours())),
            relations: vec![relation.into()],
            direction: direction.into(),
            page_size: PAGE_SIZE,
            ..proto::ListNeighborsRequest::default()
        };
        let mut found: Vec<(u64, EntityKey)> = Vec::new();
        for neighbor in self.client.clone().list_neighbors(request).await?.into_inner().neighbors {
            let Ok(peer) = entity_from_proto("entity", neighbor.entity.as_ref()) else { continue };
            if Subject::KINDS.contains(&peer.kind) {
                let measures = neighbor.measures.unwrap_or_default();
                found.push((measures.successes + measures.failures, peer));
            }
        }
        found.sort_by(|(one, _), (other, _)| other.cmp(one));
        Ok(found.into_iter().map(|(_, peer)| peer).collect())
    }

    /// The role of a session, if the graph knows it.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn role_of(&self, session: &EntityKey) -> Result<Option<EntityKey>, GraphError> {
        let request = proto::ListNeighborsRequest {
            graph_arn: self.arn.clone(),
            entity: Some(entity_to_proto(session)),
            relations: vec![Relation::Assumed.into()],
            peer_type: entity_type_to_proto(EntityType::Role),
            direction: proto::Direction::In.into(),
            page_size: 1,
            ..proto::ListNeighborsRequest::default()
        };
        let neighbors = self.client.clone().list_neighbors(request).await?.into_inner().neighbors;
        Ok(neighbors.first().and_then(|neighbor| entity_from_proto("entity", neighbor.entity.as_ref()).ok()))
    }

    /// Users, roles, root users, federated users and Kubernetes subjects, of an account or of all, that may have been active in
    /// a scope time.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn principals(&self, account: Option<&AccountId>, scope: TimeWindow) -> Result<KnownPrincipals, GraphError> {
        let text = account.map_or_else(|| "*".to_owned(), |account| format!("*:{account}:*"));
        let by_arn = self.search(text, &[EntityType::User, EntityType::Role, EntityType::Root], account, scope);
        let others = self.search("*".to_owned(), &[EntityType::FederatedUser, EntityType::KubernetesSubject], account, scope);
        let (mut all, others) = futures::try_join!(by_arn, others)?;
        all.principals.extend(others.principals);
        all.left_out += others.left_out;
        Ok(all)
    }

    async fn search(&self, text: String, kinds: &[EntityType], account: Option<&AccountId>, scope: TimeWindow) -> Result<KnownPrincipals, GraphError> {
        let types = kinds.iter().map(|kind| entity_type_to_proto(*kind)).collect();
        let mut request = proto::SearchEntitiesRequest { graph_arn: self.arn.clone(), text, types, page_size: PAGE_SIZE, page_token: String::new() };
        let mut known = KnownPrincipals::default();
        for _ in 0..MAX_CANDIDATE_PAGES {
            let page = self.client.clone().search_entities(request.clone()).await?.into_inner();
            for found in page.entities {
                let (first, last) = (time(found.first_time.as_ref()).unwrap_or_default(), time(found.last_time.as_ref()).unwrap_or_default());
                let Ok(entity) = entity_from_proto("entity", found.entity.as_ref()) else { continue };
                // A root user's, or a user's, stands in its ARN.
                let of_account = |account: &AccountId| {
                    found.account_id == account.as_str() || Subject::of(entity.clone()).is_ok_and(|subject| subject.account() == Some(account))
                };
                if account.is_none_or(of_account) && first < scope.end() && last >= scope.start() {
                    known.principals.push(Known { entity, first, last });
                }
            }
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return Ok(known);
            }
        }
        // How many more there are nobody has counted.
        known.left_out = 1;
        Ok(known)
    }

    /// Entities that findings active in a scope time name, of an account or of all, with the findings' severity in tenths.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn named_by_findings(&self, account: Option<&AccountId>, scope: TimeWindow) -> Result<Vec<(EntityKey, u32)>, GraphError> {
        let request = proto::ListFindingsRequest {
            scope: Some(window_to_proto(scope)),
            account_id: account.map(ToString::to_string).unwrap_or_default(),
            page_size: PAGE_SIZE,
            ..proto::ListFindingsRequest::default()
        };
        // Worst first: what is on later pages weighs less.
        let (findings, _) = self.list_findings(&request).await?;
        let mut named = Vec::new();
        for finding in findings {
            // 0 to 10.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "held to 0 to 100")]
            let severity = (finding.severity * 10.0).clamp(0.0, 100.0) as u32;
            named.extend(Finding::of(&finding).entities.into_iter().map(|entity| (entity, severity)));
        }
        Ok(named)
    }

    /// The risks of entities at a time, 0 to 100, in their order.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn risks(&self, entities: &[EntityKey], at: Timestamp) -> Result<Vec<f64>, GraphError> {
        let mut risks = Vec::with_capacity(entities.len());
        // Those of the past are read from the lake: a few a call, so that each call ends in time.
        for some in entities.chunks(RISKS) {
            let entities = some.iter().map(entity_to_proto).collect();
            let request = proto::BatchGetRiskRequest { graph_arn: self.arn.clone(), entities, time: Some(time_to_proto(at)) };
            risks.extend(self.client.clone().batch_get_risk(request).await?.into_inner().risks.into_iter().map(|risk| risk.score));
        }
        Ok(risks)
    }

    fn filter(subject: &Subject, scope: TimeWindow) -> proto::EventFilter {
        proto::EventFilter {
            entity: Some(entity_to_proto(&subject.entity())),
            scope: Some(window_to_proto(scope)),
            kind: record_kind_to_proto(subject.records()),
            ..proto::EventFilter::default()
        }
    }

    async fn events(&self, subject: &Subject, habits: &Habits, filter: proto::EventFilter, most: usize) -> Result<Vec<Call>, GraphError> {
        let mut request =
            proto::ListEventsRequest { graph_arn: self.arn.clone(), filter: Some(filter), page_size: PAGE_SIZE, page_token: String::new(), omit_raw: true };
        let (mut calls, mut looked_at) = (Vec::new(), 0);
        loop {
            let page = self.client.clone().list_events(request.clone()).await?.into_inner();
            looked_at += page.events.len();
            // Records of an entity are also those of others that did something to it.
            calls.extend(page.events.into_iter().filter_map(|event| call(subject, habits, event)));
            if page.next_page_token.is_empty() || looked_at >= most {
                return Ok(calls);
            }
            request.page_token = page.next_page_token;
        }
    }
}

fn call(subject: &Subject, habits: &Habits, event: proto::Event) -> Option<Call> {
    let actor = entity_from_proto("actor", event.actor.as_ref()).ok().filter(|actor| subject.acts_as(actor, &habits.aliases))?;
    Some(Call {
        time: time(event.time.as_ref())?,
        actor: actor.to_string(),
        service: event.service,
        operation: event.operation,
        failed: !event.error.is_empty(),
        address: event.address,
        techniques: event.rules.into_iter().filter_map(Technique::of).collect(),
    })
}

fn time(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(|time| time_from_proto("time", time).ok())
}

fn habits(profile: proto::EntityProfile) -> Habits {
    let list = |list: Option<proto::ActivityList>| list.unwrap_or_default().items.into_iter().map(seen).collect();
    Habits {
        aliases: profile.aliases,
        account: profile.account_id.parse().ok(),
        baseline_days: profile.baseline_days,
        operations: list(profile.operations),
        addresses: list(profile.addresses),
        countries: list(profile.countries),
        networks: list(profile.networks),
        user_agents: list(profile.user_agents),
    }
}

fn seen(activity: proto::Activity) -> Seen {
    let measures = activity.measures.unwrap_or_default();
    Seen {
        name: activity.name,
        service: activity.service,
        country: activity.place.filter(|place| !place.private).map(|place| place.country).unwrap_or_default(),
        count: measures.successes + measures.failures,
        first: time(measures.first_time.as_ref()).unwrap_or_default(),
        last: time(measures.last_time.as_ref()).unwrap_or_default(),
        new: activity.new_in_scope,
    }
}
