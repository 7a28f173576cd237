//! The gRPC services: decode, call, encode. Everything is held to the caller's account.

use std::{str::FromStr, sync::Arc};

use gumshoe_api::{
    convert::FieldError,
    membership::v1::{
        self as api, credential_service_server::CredentialServiceServer, membership_service_server::MembershipServiceServer,
        organization_service_server::OrganizationServiceServer, principal_service_server::PrincipalServiceServer,
    },
};
use gumshoe_model::{AccountId, GraphArn, Invalid};
use gumshoe_runtime::{Caller, Clock, PageTokens, Scope};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Notify;
use tonic::{Request, service::Routes};

use crate::{
    bearer::BearerSigner,
    datasource::Package,
    error::Refusal,
    secret::Keyring,
    store::{Outcomes, Store},
    usage::Prices,
    volumes::Volumes,
};

mod credential;
mod datasource;
mod graph;
mod lake;
mod member;
mod membership;
mod organization;
mod principal;
mod session;
mod tag;

pub use lake::GraphService;

/// Full names of the services, for health.
pub const NAMES: &[&str] = &[
    "gumshoe.membership.v1.MembershipService",
    "gumshoe.membership.v1.OrganizationService",
    "gumshoe.membership.v1.PrincipalService",
    "gumshoe.membership.v1.CredentialService",
];

/// Only the gateway has checked a principal's policies.
const GATEWAY: &str = "gateway";
const DEFAULT_PAGE: u32 = 50;
const MAX_PAGE: u32 = 200;
const MAX_BATCH: usize = 50;

/// The service's state; clones share it.
#[derive(Clone)]
pub struct Membership(Arc<Parts>);

/// What the services are made of.
pub struct Parts {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// The present time.
    pub clock: Arc<dyn Clock>,
    /// Seals page tokens.
    pub page_tokens: PageTokens,
    /// Signs bearer tokens.
    pub bearer: BearerSigner,
    /// Seals secrets; without it no request can be signed.
    pub keyring: Option<Keyring>,
    /// How much accounts give.
    pub volumes: Volumes,
    /// What a new graph ingests.
    pub packages: Vec<Package>,
    /// What a month's bytes cost.
    pub prices: Prices,
    /// Regions in which graphs can be created; the first is the default.
    pub regions: Vec<String>,
    /// Told of every graph that is removed.
    pub removals: Arc<Notify>,
}

impl Membership {
    /// The services over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The four services.
    #[must_use]
    pub fn routes(&self, max_message_bytes: usize) -> Routes {
        Routes::new(MembershipServiceServer::new(self.clone()).max_decoding_message_size(max_message_bytes))
            .add_service(OrganizationServiceServer::new(self.clone()).max_decoding_message_size(max_message_bytes))
            .add_service(PrincipalServiceServer::new(self.clone()).max_decoding_message_size(max_message_bytes))
            .add_service(CredentialServiceServer::new(self.clone()).max_decoding_message_size(max_message_bytes))
    }

    /// The region asked for, which must be one that is served; the first if none is.
    fn region(&self, asked: &str) -> Result<&str, Refusal> {
        let region = self.0.regions.iter().find(|region| asked.is_empty() || *region == asked);
        region.map(String::as_str).ok_or_else(|| Refusal::field("region", format!("must be one of {}", self.0.regions.join(", "))))
    }

    fn page<C: DeserializeOwned>(&self, scope: &Scope, size: i32, token: &str) -> Result<Page<C>, Refusal> {
        let limit = match u32::try_from(size) {
            Ok(0) => DEFAULT_PAGE,
            Ok(size) if size <= MAX_PAGE => size,
            _ => return Err(Refusal::field("page_size", format!("must be 0 to {MAX_PAGE}"))),
        };
        Ok(Page { after: self.0.page_tokens.resume(token, scope)?, limit })
    }

    /// Cuts the item that was read beyond the page, and seals the last one left as the place to go on from.
    fn next_page<T, C: Serialize>(&self, scope: &Scope, items: &mut Vec<T>, limit: u32, cursor: impl FnOnce(&T) -> C) -> Result<String, Refusal> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if items.len() <= limit {
            return Ok(String::new());
        }
        items.truncate(limit);
        items.last().map_or_else(|| Ok(String::new()), |last| Ok(self.0.page_tokens.seal(&cursor(last), scope)?))
    }
}

struct Page<C> {
    after: Option<C>,
    limit: u32,
}

/// The account in whose name the gateway passes the call on; the token must be for this very action.
fn authorized<T>(request: &Request<T>, action: &str) -> Result<AccountId, Refusal> {
    let caller = Caller::of(request)?;
    caller.require_issuer(&[GATEWAY])?;
    if caller.action != action {
        return Err(Refusal::Action);
    }
    caller.account.parse().map_err(|_| Refusal::Action)
}

/// The graph that the call was allowed for, if the caller's account administers it.
fn owned_graph<T>(request: &Request<T>, account: &AccountId, arn: &str) -> Result<GraphArn, Refusal> {
    let graph = Caller::of(request)?.require_graph(arn)?;
    if graph.account() == account { Ok(graph) } else { Err(no_graph(arn)) }
}

fn no_graph(arn: &str) -> Refusal {
    Refusal::NotFound { what: "graph", name: arn.to_owned() }
}

/// A cursor that is a newtype of text.
fn after<T: FromStr<Err = Invalid>>(cursor: Option<String>) -> Result<Option<T>, Refusal> {
    cursor.map(|text| parsed("page_token", &text)).transpose()
}

fn parsed<T: FromStr<Err = Invalid>>(field: &str, value: &str) -> Result<T, Refusal> {
    value.parse().map_err(|error: Invalid| Refusal::Field(FieldError::new(field, error.reason)))
}

/// Accounts, at most `most` of them.
fn accounts(field: &str, ids: &[String], most: usize) -> Result<Vec<AccountId>, Refusal> {
    batch(field, ids, most)?;
    ids.iter().enumerate().map(|(index, id)| parsed(&format!("{field}[{index}]"), id)).collect()
}

fn batch<T>(field: &str, items: &[T], most: usize) -> Result<(), Refusal> {
    if (1..=most).contains(&items.len()) { Ok(()) } else { Err(Refusal::field(field, format!("must hold 1 to {most} entries"))) }
}

/// What was done, and what was not with the reason.
fn split<T, R>(outcomes: Outcomes<T, R>, reason: impl Fn(&R) -> &'static str) -> (Vec<(AccountId, T)>, Vec<api::UnprocessedAccount>) {
    let (mut processed, mut unprocessed) = (Vec::new(), Vec::new());
    for (account, outcome) in outcomes {
        match outcome {
            Ok(value) => processed.push((account, value)),
            Err(refused) => unprocessed.push(api::UnprocessedAccount { account_id: account.to_string(), reason: reason(&refused).to_owned() }),
        }
    }
    (processed, unprocessed)
}
