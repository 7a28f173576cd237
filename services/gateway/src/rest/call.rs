//! One call of an operation: its input, its authorisation, its way to the service, its answer.

use std::{cell::RefCell, sync::Arc, time::Instant};

use bytes::Bytes;
use gumshoe_api::{
    investigation::v1::investigation_service_client::InvestigationServiceClient,
    membership::v1::{membership_service_client::MembershipServiceClient, organization_service_client::OrganizationServiceClient},
};
use gumshoe_iam::actions;
use gumshoe_model::GraphArn;
use gumshoe_runtime::{Caller, client::Signed, status};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};
use tonic::{Request, body::Body};

use super::{
    error::{ApiError, ErrorCode, Kind, Refusal},
    operation::Operation,
    validate::{self, Input},
};
use crate::{
    decision::{Asked, Facts, RequestTags, Resource, decide},
    forward::Correlation,
    identity::Identity,
    proxy::{Parts, caller},
};

/// What becomes of a call.
pub type Outcome = Result<Response<Body>, Refusal>;

/// A call that is authenticated.
pub struct Call<'a> {
    /// What all calls share.
    pub parts: &'a Parts,
    /// What is called.
    pub operation: &'static Operation,
    /// Who calls.
    pub identity: Arc<Identity>,
    /// Where from, and when.
    pub facts: Facts<'a>,
    /// Under which names.
    pub correlation: &'a Correlation,
    /// Until when.
    pub deadline: Instant,
    /// The region that the request is signed for.
    pub signed_region: Option<&'a str>,
    /// The part of the path that names what is tagged, as it was sent.
    pub tagged: Option<&'a str>,
    /// The query, as it was sent.
    pub query: &'a str,
    /// The body.
    pub body: &'a Bytes,
}

impl Call<'_> {
    /// The input, built out of the body's members; every member at fault is named.
    pub fn read<T>(&self, build: impl FnOnce(&Input<'_>) -> T) -> Result<T, Refusal> {
        let members = match serde_json::from_slice(if self.body.is_empty() { b"{}" } else { self.body }) {
            Ok(Value::Object(members)) => members,
            Ok(_) => return Err(unreadable("it is not a JSON object")),
            // What is wrong is told, and where, but never what is there.
            Err(error) => return Err(unreadable(&format!("it is not JSON, line {} column {}", error.line(), error.column()))),
        };
        checked(&members, build)
    }

    /// The input of an operation without a body.
    pub fn read_nothing<T>(build: impl FnOnce(&Input<'_>) -> T) -> Result<T, Refusal> {
        checked(&Map::new(), build)
    }

    /// The region of what names none: the signature's, else the gateway's.
    pub fn region(&self) -> String {
        self.signed_region.unwrap_or(&self.parts.region).to_owned()
    }

    /// Whether a thing of that ARN belongs to the region that the request is signed for.
    pub fn is_here(&self, arn: &str) -> bool {
        self.signed_region.is_none_or(|region| arn.split(':').nth(3) == Some(region))
    }

    /// The membership service, once the policies allow the operation.
    pub async fn membership(&self, resource: Resource<'_>) -> Result<MembershipServiceClient<Signed>, Refusal> {
        self.tagging(resource, &RequestTags::default()).await
    }

    /// The same for an operation with tags.
    pub async fn tagging(&self, resource: Resource<'_>, tags: &RequestTags) -> Result<MembershipServiceClient<Signed>, Refusal> {
        self.authorize(resource, tags).await.map(MembershipServiceClient::new)
    }

    /// The organization service, once the policies allow the operation.
    pub async fn organization(&self, resource: Resource<'_>) -> Result<OrganizationServiceClient<Signed>, Refusal> {
        self.authorize(resource, &RequestTags::default()).await.map(OrganizationServiceClient::new)
    }

    /// The investigation service, once the policies allow the operation.
    pub async fn investigation(&self, graph: &str) -> Result<InvestigationServiceClient<Signed>, Refusal> {
        self.authorize(Resource::Graph(graph), &RequestTags::default()).await.map(InvestigationServiceClient::new)
    }

    async fn authorize(&self, resource: Resource<'_>, tags: &RequestTags) -> Result<Signed, Refusal> {
        let action = actions::of_operation(self.operation.name).ok_or_else(|| status::unavailable("the operation"))?.name;
        if let Resource::Graph(arn) | Resource::MemberGraph(arn) = resource
            && !self.is_here(arn)
        {
            let member = if self.tagged.is_some() { "resourceArn" } else { "graphArn" };
            let reason = format!("Member must be of the region that the request is signed for: {}", self.region());
            let error = ApiError::new(Kind::Validation, validate::violation(member, &reason));
            return Err(ApiError { code: Some(ErrorCode::InvalidGraphArn), ..error }.into());
        }
        let graph: Option<GraphArn> = decide(&self.parts.policies, &self.identity, &Asked { action, resource, tags }, &self.facts).await?;
        self.parts.operations.take(&self.identity.account, action)?;
        let caller = Caller { graph, ..caller(self.identity.principal.arn(), &self.identity.account, action, &self.facts) };
        Ok(self.parts.channel(self.operation.upstream, caller, self.deadline)?)
    }

    /// A message under the call's names.
    pub fn message<T>(&self, message: T) -> Request<T> {
        self.correlation.request(message)
    }
}

fn checked<T>(members: &Map<String, Value>, build: impl FnOnce(&Input<'_>) -> T) -> Result<T, Refusal> {
    let faults = RefCell::default();
    let built = build(&Input::new(members, &faults));
    match validate::error(&faults.into_inner()) {
        None => Ok(built),
        Some(error) => Err(error.into()),
    }
}

fn unreadable(reason: &str) -> Refusal {
    let error = ApiError::new(Kind::Validation, format!("The request body cannot be read: {reason}."));
    ApiError { code: Some(ErrorCode::InvalidRequestBody), ..error }.into()
}

/// Success with what was asked for.
pub fn reply(content: &impl Serialize) -> Outcome {
    Ok(super::json(StatusCode::OK, content))
}

/// Success without anything to tell.
pub fn done() -> Outcome {
    Ok(Response::new(Body::empty()))
}

/// Success without anything to tell, as tags have it.
pub fn no_content() -> Outcome {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
