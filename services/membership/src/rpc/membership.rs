//! Accounts, graphs and members.

use gumshoe_api::{
    convert::time_to_proto,
    membership::v1::{self as api, membership_service_server::MembershipService},
};
use gumshoe_model::{AccountId, GraphArn};
use gumshoe_runtime::Scope;
use tonic::{Request, Response, Status};

use super::{Membership, after, authorized, batch, owned_graph, parsed};
use crate::{
    account::Account,
    error::Refusal,
    graph::{Graph, Member, NewMember},
    store::Outcomes,
};

const MEMBER_QUOTA: &str = "the graph can have at most 1200 members";

#[tonic::async_trait]
impl MembershipService for Membership {
    async fn create_account(&self, request: Request<api::CreateAccountRequest>) -> Result<Response<api::CreateAccountResponse>, Status> {
        let caller = authorized(&request, "gumshoe:CreateAccount")?;
        let message = request.into_inner();
        let account = Account {
            id: parsed("account_id", &message.account_id)?,
            name: parsed("name", &message.name)?,
            email: parsed("email", &message.email)?,
            create_time: self.0.clock.now(),
        };
        self.0.store.create_account(&caller, &account).await.map_err(Refusal::about("account", &message.account_id, ""))?;
        Ok(Response::new(api::CreateAccountResponse { account: Some(account_to_proto(&account)) }))
    }

    async fn list_accounts(&self, request: Request<api::ListAccountsRequest>) -> Result<Response<api::ListAccountsResponse>, Status> {
        let caller = authorized(&request, "gumshoe:ListAccounts")?;
        let message = request.into_inner();
        let scope = Scope::new("ListAccounts", caller.as_str(), "");
        let page = self.page(&scope, message.page_size, &message.page_token)?;
        let mut accounts = self.0.store.list_accounts(&caller, after::<AccountId>(page.after)?.as_ref(), page.limit + 1).await.map_err(Refusal::from)?;
        let next_page_token = self.next_page(&scope, &mut accounts, page.limit, |account| account.id.to_string())?;
        Ok(Response::new(api::ListAccountsResponse { accounts: accounts.iter().map(account_to_proto).collect(), next_page_token }))
    }

    async fn create_graph(&self, request: Request<api::CreateGraphRequest>) -> Result<Response<api::CreateGraphResponse>, Status> {
        let caller = authorized(&request, "detective:CreateGraph")?;
        let asked = request.into_inner().region;
        let region = self
            .0
            .regions
            .iter()
            .find(|region| asked.is_empty() || **region == asked)
            .ok_or_else(|| Refusal::field("region", format!("must be one of {}", self.0.regions.join(", "))))?;
        let graph = Graph::new(region, &caller, self.0.clock.now()).map_err(|error| Refusal::field("region", error.reason))?;
        let graph = self.0.store.create_graph(&graph).await.map_err(Refusal::about("account", caller.as_str(), ""))?;
        Ok(Response::new(api::CreateGraphResponse { graph: Some(graph_to_proto(&graph)) }))
    }

    async fn get_graph(&self, request: Request<api::GetGraphRequest>) -> Result<Response<api::GetGraphResponse>, Status> {
        let caller = authorized(&request, "detective:GetGraphIngestState")?;
        let arn = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let graph = self.0.store.graph(&arn).await.map_err(Refusal::about("graph", &arn.to_string(), ""))?;
        Ok(Response::new(api::GetGraphResponse { graph: Some(graph_to_proto(&graph)) }))
    }

    async fn list_graphs(&self, request: Request<api::ListGraphsRequest>) -> Result<Response<api::ListGraphsResponse>, Status> {
        let caller = authorized(&request, "detective:ListGraphs")?;
        let message = request.into_inner();
        let scope = Scope::new("ListGraphs", caller.as_str(), "");
        let page = self.page(&scope, message.page_size, &message.page_token)?;
        let mut graphs = self.0.store.list_graphs(&caller, after::<GraphArn>(page.after)?.as_ref(), page.limit + 1).await.map_err(Refusal::from)?;
        let next_page_token = self.next_page(&scope, &mut graphs, page.limit, |graph| graph.arn.to_string())?;
        Ok(Response::new(api::ListGraphsResponse { graphs: graphs.iter().map(graph_to_proto).collect(), next_page_token }))
    }

    async fn create_members(&self, request: Request<api::CreateMembersRequest>) -> Result<Response<api::CreateMembersResponse>, Status> {
        let caller = authorized(&request, "detective:CreateMembers")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let message = request.into_inner();
        batch("members", &message.members)?;
        let members: Vec<NewMember> = (0..).zip(&message.members).map(|(index, member)| new_member(index, member)).collect::<Result<_, _>>()?;
        let outcomes = self.0.store.create_members(&graph, &members, self.0.clock.now()).await;
        let (members, unprocessed_accounts) = split(outcomes.map_err(Refusal::about("graph", &message.graph_arn, MEMBER_QUOTA))?);
        Ok(Response::new(api::CreateMembersResponse { members: members.iter().map(|(_, member)| member_to_proto(member)).collect(), unprocessed_accounts }))
    }

    async fn list_members(&self, request: Request<api::ListMembersRequest>) -> Result<Response<api::ListMembersResponse>, Status> {
        let caller = authorized(&request, "detective:ListMembers")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let message = request.into_inner();
        let scope = Scope::new("ListMembers", &message.graph_arn, "");
        let page = self.page(&scope, message.page_size, &message.page_token)?;
        self.0.store.graph(&graph).await.map_err(Refusal::about("graph", &message.graph_arn, ""))?;
        let mut members = self.0.store.list_members(&graph, after::<AccountId>(page.after)?.as_ref(), page.limit + 1).await.map_err(Refusal::from)?;
        let next_page_token = self.next_page(&scope, &mut members, page.limit, |member| member.account.to_string())?;
        Ok(Response::new(api::ListMembersResponse { members: members.iter().map(member_to_proto).collect(), next_page_token }))
    }

    async fn delete_members(&self, request: Request<api::DeleteMembersRequest>) -> Result<Response<api::DeleteMembersResponse>, Status> {
        let caller = authorized(&request, "detective:DeleteMembers")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let message = request.into_inner();
        batch("account_ids", &message.account_ids)?;
        let accounts: Vec<AccountId> =
            message.account_ids.iter().enumerate().map(|(index, id)| parsed(&format!("account_ids[{index}]"), id)).collect::<Result<_, _>>()?;
        let outcomes = self.0.store.delete_members(&graph, &accounts).await;
        let (deleted, unprocessed_accounts) = split(outcomes.map_err(Refusal::about("graph", &message.graph_arn, MEMBER_QUOTA))?);
        Ok(Response::new(api::DeleteMembersResponse {
            account_ids: deleted.into_iter().map(|(account, ())| account.to_string()).collect(),
            unprocessed_accounts,
        }))
    }
}

fn new_member(index: usize, member: &api::NewMember) -> Result<NewMember, Refusal> {
    Ok(NewMember {
        account: parsed(&format!("members[{index}].account_id"), &member.account_id)?,
        email: parsed(&format!("members[{index}].email"), &member.email)?,
    })
}

fn split<T>(outcomes: Outcomes<T>) -> (Vec<(AccountId, T)>, Vec<api::UnprocessedAccount>) {
    let (mut processed, mut unprocessed) = (Vec::new(), Vec::new());
    for (account, outcome) in outcomes {
        match outcome {
            Ok(value) => processed.push((account, value)),
            Err(reason) => unprocessed.push(api::UnprocessedAccount { account_id: account.to_string(), reason: reason.reason().to_owned() }),
        }
    }
    (processed, unprocessed)
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

fn member_to_proto(member: &Member) -> api::Member {
    api::Member {
        account_id: member.account.to_string(),
        email: member.email.as_str().to_owned(),
        status: member.status.to_proto().into(),
        invite_time: Some(time_to_proto(member.invite_time)),
        update_time: Some(time_to_proto(member.update_time)),
    }
}
