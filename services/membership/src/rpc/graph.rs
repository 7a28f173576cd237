//! Accounts and graphs.

use gumshoe_api::{convert::time_to_proto, membership::v1 as api};
use gumshoe_model::{AccountId, GraphArn};
use gumshoe_runtime::{Caller, Scope};
use tonic::Request;

use super::{Membership, after, authorized, owned_graph, parsed, tag::tags};
use crate::{account::Account, error::Refusal, graph::Graph};

/// Who may ask whose logs a graph takes.
const INGEST: &str = "ingest";

impl Membership {
    pub(super) async fn create_account(&self, request: Request<api::CreateAccountRequest>) -> Result<api::CreateAccountResponse, Refusal> {
        let caller = authorized(&request, "gumshoe:CreateAccount")?;
        let message = request.into_inner();
        let account = Account {
            id: parsed("account_id", &message.account_id)?,
            name: parsed("name", &message.name)?,
            email: parsed("email", &message.email)?,
            create_time: self.0.clock.now(),
        };
        self.0.store.create_account(&caller, &account).await.map_err(Refusal::about("account", &message.account_id, ""))?;
        Ok(api::CreateAccountResponse { account: Some(account_to_proto(&account)) })
    }

    pub(super) async fn list_accounts(&self, request: Request<api::ListAccountsRequest>) -> Result<api::ListAccountsResponse, Refusal> {
        let caller = authorized(&request, "gumshoe:ListAccounts")?;
        let message = request.into_inner();
        let scope = Scope::new("ListAccounts", caller.as_str(), "");
        let page = self.page(&scope, message.page_size, &message.page_token)?;
        let mut accounts = self.0.store.list_accounts(&caller, after::<AccountId>(page.after)?.as_ref(), page.limit + 1).await?;
        let next_page_token = self.next_page(&scope, &mut accounts, page.limit, |account| account.id.to_string())?;
        Ok(api::ListAccountsResponse { accounts: accounts.iter().map(account_to_proto).collect(), next_page_token })
    }

    pub(super) async fn create_graph(&self, request: Request<api::CreateGraphRequest>) -> Result<api::CreateGraphResponse, Refusal> {
        let caller = authorized(&request, "detective:CreateGraph")?;
        let message = request.into_inner();
        let region = self.region(&message.region)?;
        let tags = tags(&message.tags, true)?;
        let graph = Graph::new(region, &caller, self.0.clock.now()).map_err(|error| Refusal::field("region", error.reason))?;
        let graph = self.0.store.create_graph(&graph, &tags, &self.0.packages).await.map_err(Refusal::about("account", caller.as_str(), ""))?;
        Ok(api::CreateGraphResponse { graph: Some(graph_to_proto(&graph)) })
    }

    pub(super) async fn get_graph(&self, request: Request<api::GetGraphRequest>) -> Result<api::GetGraphResponse, Refusal> {
        let caller = authorized(&request, "detective:GetGraphIngestState")?;
        let arn = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let graph = self.0.store.graph(&arn).await.map_err(Refusal::about("graph", &arn.to_string(), ""))?;
        Ok(api::GetGraphResponse { graph: Some(graph_to_proto(&graph)) })
    }

    pub(super) async fn list_graphs(&self, request: Request<api::ListGraphsRequest>) -> Result<api::ListGraphsResponse, Refusal> {
        let caller = authorized(&request, "detective:ListGraphs")?;
        let message = request.into_inner();
        let scope = Scope::new("ListGraphs", caller.as_str(), "");
        let page = self.page(&scope, message.page_size, &message.page_token)?;
        let mut graphs = self.0.store.list_graphs(&caller, after::<GraphArn>(page.after)?.as_ref(), page.limit + 1).await?;
        let next_page_token = self.next_page(&scope, &mut graphs, page.limit, |graph| graph.arn.to_string())?;
        Ok(api::ListGraphsResponse { graphs: graphs.iter().map(graph_to_proto).collect(), next_page_token })
    }

    pub(super) async fn delete_graph(&self, request: Request<api::DeleteGraphRequest>) -> Result<api::DeleteGraphResponse, Refusal> {
        let caller = authorized(&request, "detective:DeleteGraph")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        self.0.store.delete_graph(&graph, self.0.clock.now()).await.map_err(Refusal::about("graph", &graph.to_string(), ""))?;
        self.0.removals.notify_one();
        Ok(api::DeleteGraphResponse {})
    }

    pub(super) async fn get_graph_accounts(&self, request: Request<api::GetGraphAccountsRequest>) -> Result<api::GetGraphAccountsResponse, Refusal> {
        Caller::of(&request)?.require_issuer(&[INGEST])?;
        let graph: GraphArn = parsed("graph_arn", &request.get_ref().graph_arn)?;
        let Some(known) = self.0.store.graph_accounts(&graph).await? else { return Ok(api::GetGraphAccountsResponse::default()) };
        let accounts = known.accounts.into_iter().map(|(account, enabled)| api::GraphAccount { account_id: account.to_string(), enabled });
        let packages = known.packages.iter().map(|package| package.to_proto().into());
        Ok(api::GetGraphAccountsResponse { exists: true, accounts: accounts.collect(), packages: packages.collect() })
    }
}

fn account_to_proto(account: &Account) -> api::Account {
    api::Account {
        account_id: account.id.to_string(),
        name: account.name.as_str().to_owned(),
        email: account.email.as_str().to_owned(),
        create_time: Some(time_to_proto(account.create_time)),
    }
}

fn graph_to_proto(graph: &Graph) -> api::Graph {
    api::Graph { arn: graph.arn.to_string(), create_time: Some(time_to_proto(graph.create_time)) }
}
