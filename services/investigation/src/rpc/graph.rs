//! Reads what the graph service knows, in the service's own name.

use std::sync::Arc;

use gumshoe_api::{
    common::v1::{RecordKind, Relation},
    convert::{entity_from_proto, entity_to_proto, entity_type_to_proto, time_from_proto, window_to_proto},
    graph::v1::{self as proto, graph_service_client::GraphServiceClient},
};
use gumshoe_model::{EntityKey, EntityType, GraphArn, TimeWindow, Timestamp};
use gumshoe_runtime::{Caller, PrincipalChannel, Signed, TokenSigner};
use serde_json::Value;
use tonic::Code;

use crate::{
    detectors::techniques::Wanted,
    error::GraphError,
    facts::{Call, Habits, RelatedFinding, Seen},
    finding::Finding,
    investigation::Subject,
    suppression::Pattern,
    verdict::FindingId,
};

mod administration;

/// A profile of full lists, or a page of records with their text, is larger than what gRPC takes by default.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// The most values that the graph lists of a kind.
const LIST_SIZE: i32 = 1_000;
const PAGE_SIZE: i32 = 1_000;
/// Records have text of up to 256 KiB.
const PAGE_SIZE_WITH_RECORDS: i32 = 100;
/// Calls of one operation that are looked at, the latest.
const MAX_CALLS: usize = 5_000;
/// The same where what they asked for matters.
const MAX_CALLS_WITH_RECORDS: usize = 1_000;
/// Calls looked at for travels, the latest.
const MAX_TRAVELS: usize = 20_000;
const MAX_FINDINGS: i32 = 100;
/// Findings looked at for how many of them a pattern covers.
const MAX_COUNTED: usize = 10_000;

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

    /// The subject's own calls of an operation in a scope time, the latest few thousand.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn calls(&self, subject: &Subject, habits: &Habits, scope: TimeWindow, wanted: &Wanted) -> Result<Vec<Call>, GraphError> {
        let filter = proto::EventFilter { service: wanted.service.clone(), operation: wanted.operation.clone(), ..Self::filter(subject, scope) };
        let most = if wanted.records { MAX_CALLS_WITH_RECORDS } else { MAX_CALLS };
        self.events(subject, habits, filter, wanted.records, most).await
    }

    /// All of the subject's own calls in a scope time, the latest few ten thousand.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn all_calls(&self, subject: &Subject, habits: &Habits, scope: TimeWindow) -> Result<Vec<Call>, GraphError> {
        self.events(subject, habits, Self::filter(subject, scope), false, MAX_TRAVELS).await
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
        let mut findings = Vec::with_capacity(listed.len());
        for finding in listed {
            let address = self.address_of(&finding.id).await?;
            findings.push(RelatedFinding { id: finding.id, finding_type: finding.r#type, address });
        }
        Ok(findings)
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

    /// An address that a finding names, or empty.
    async fn address_of(&self, finding: &str) -> Result<String, GraphError> {
        let Ok(entity) = EntityKey::new(EntityType::Finding, finding) else { return Ok(String::new()) };
        let request = proto::ListNeighborsRequest {
            graph_arn: self.arn.clone(),
            entity: Some(entity_to_proto(&entity)),
            relations: vec![Relation::AffectedBy.into()],
            peer_type: entity_type_to_proto(EntityType::IpAddress),
            page_size: 1,
            ..proto::ListNeighborsRequest::default()
        };
        let neighbors = self.client.clone().list_neighbors(request).await?.into_inner().neighbors;
        Ok(neighbors.into_iter().next().and_then(|neighbor| neighbor.entity).map(|entity| entity.id).unwrap_or_default())
    }

    fn filter(subject: &Subject, scope: TimeWindow) -> proto::EventFilter {
        proto::EventFilter {
            entity: Some(entity_to_proto(&subject.entity())),
            scope: Some(window_to_proto(scope)),
            kind: RecordKind::Cloudtrail.into(),
            ..proto::EventFilter::default()
        }
    }

    async fn events(&self, subject: &Subject, habits: &Habits, filter: proto::EventFilter, records: bool, most: usize) -> Result<Vec<Call>, GraphError> {
        let page_size = if records { PAGE_SIZE_WITH_RECORDS } else { PAGE_SIZE };
        let mut request =
            proto::ListEventsRequest { graph_arn: self.arn.clone(), filter: Some(filter), page_size, page_token: String::new(), omit_raw: !records };
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
        record: serde_json::from_str(&event.raw).unwrap_or(Value::Null),
    })
}

fn time(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(|time| time_from_proto("time", time).ok())
}

fn habits(profile: proto::EntityProfile) -> Habits {
    let list = |list: Option<proto::ActivityList>| list.unwrap_or_default().items.into_iter().map(seen).collect();
    Habits {
        aliases: profile.aliases,
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
