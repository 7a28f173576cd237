//! Organizations.

use gumshoe_api::{
    convert::time_to_proto,
    membership::v1::{self as api, organization_service_server::OrganizationService},
};
use gumshoe_model::AccountId;
use gumshoe_runtime::Scope;
use tonic::{Request, Response, Status};

use super::{MAX_BATCH, Membership, accounts, after, authorized, owned_graph, parsed, split};
use crate::{
    error::Refusal,
    graph::Graph,
    organization::{NotDesignated, OrganizationAccount},
    store::StoreError,
};

#[tonic::async_trait]
impl OrganizationService for Membership {
    async fn create_organization(&self, request: Request<api::CreateOrganizationRequest>) -> Result<Response<api::CreateOrganizationResponse>, Status> {
        let caller = authorized(&request, "gumshoe:CreateOrganization")?;
        self.0.store.create_organization(&caller, self.0.clock.now()).await.map_err(|error| match error {
            StoreError::AlreadyExists => Refusal::Conflict("the account belongs to another organization"),
            error => Refusal::about("account", caller.as_str(), "")(error),
        })?;
        Ok(Response::new(api::CreateOrganizationResponse { management_account_id: caller.to_string() }))
    }

    async fn add_organization_accounts(
        &self,
        request: Request<api::AddOrganizationAccountsRequest>,
    ) -> Result<Response<api::AddOrganizationAccountsResponse>, Status> {
        let caller = authorized(&request, "gumshoe:AddOrganizationAccounts")?;
        let accounts = accounts("account_ids", &request.get_ref().account_ids, MAX_BATCH)?;
        let outcomes = self.0.store.add_accounts(&caller, &accounts, self.0.clock.now()).await.map_err(managers_only)?;
        let (added, unprocessed_accounts) = split(outcomes, |refused| refused.reason());
        Ok(Response::new(api::AddOrganizationAccountsResponse { account_ids: names(added), unprocessed_accounts }))
    }

    async fn remove_organization_accounts(
        &self,
        request: Request<api::RemoveOrganizationAccountsRequest>,
    ) -> Result<Response<api::RemoveOrganizationAccountsResponse>, Status> {
        let caller = authorized(&request, "gumshoe:RemoveOrganizationAccounts")?;
        let accounts = accounts("account_ids", &request.get_ref().account_ids, MAX_BATCH)?;
        let outcomes = self.0.store.remove_accounts(&caller, &accounts, self.0.clock.now()).await.map_err(managers_only)?;
        let (removed, unprocessed_accounts) = split(outcomes, |refused| refused.reason());
        Ok(Response::new(api::RemoveOrganizationAccountsResponse { account_ids: names(removed), unprocessed_accounts }))
    }

    async fn list_organization_accounts(
        &self,
        request: Request<api::ListOrganizationAccountsRequest>,
    ) -> Result<Response<api::ListOrganizationAccountsResponse>, Status> {
        let caller = authorized(&request, "gumshoe:ListOrganizationAccounts")?;
        let message = request.into_inner();
        let scope = Scope::new("ListOrganizationAccounts", caller.as_str(), "");
        let page = self.page(&scope, message.page_size, &message.page_token)?;
        let listed = self.0.store.list_organization_accounts(&caller, after::<AccountId>(page.after)?.as_ref(), page.limit + 1).await;
        let mut accounts = listed.map_err(managers_only)?;
        let next_page_token = self.next_page(&scope, &mut accounts, page.limit, |account| account.account.to_string())?;
        Ok(Response::new(api::ListOrganizationAccountsResponse { accounts: accounts.iter().map(account_to_proto).collect(), next_page_token }))
    }

    async fn enable_organization_admin_account(
        &self,
        request: Request<api::EnableOrganizationAdminAccountRequest>,
    ) -> Result<Response<api::EnableOrganizationAdminAccountResponse>, Status> {
        let caller = authorized(&request, "detective:EnableOrganizationAdminAccount")?;
        let account: AccountId = parsed("account_id", &request.get_ref().account_id)?;
        let region = self.region(&request.get_ref().region)?;
        let now = self.0.clock.now();
        let graph = Graph::new(region, &account, now).map_err(|error| Refusal::field("region", error.reason))?;
        let designated = self.0.store.designate(&caller, &graph, &self.0.packages, now).await;
        match self.of_manager(&caller, designated).await? {
            Ok(()) => Ok(Response::new(api::EnableOrganizationAdminAccountResponse {})),
            Err(NotDesignated::IsOutside) => Err(Refusal::field("account_id", "must be an account of the organization").into()),
            Err(NotDesignated::IsTaken) => Err(Refusal::field("account_id", "another account administers the organization's graph in the region").into()),
        }
    }

    async fn disable_organization_admin_account(
        &self,
        request: Request<api::DisableOrganizationAdminAccountRequest>,
    ) -> Result<Response<api::DisableOrganizationAdminAccountResponse>, Status> {
        let caller = authorized(&request, "detective:DisableOrganizationAdminAccount")?;
        let region = self.region(&request.get_ref().region)?;
        let withdrawn = self.0.store.withdraw(&caller, region, self.0.clock.now()).await;
        if self.of_manager(&caller, withdrawn).await? {
            self.0.removals.notify_one();
        }
        Ok(Response::new(api::DisableOrganizationAdminAccountResponse {}))
    }

    async fn list_organization_admin_accounts(
        &self,
        request: Request<api::ListOrganizationAdminAccountsRequest>,
    ) -> Result<Response<api::ListOrganizationAdminAccountsResponse>, Status> {
        let caller = authorized(&request, "detective:ListOrganizationAdminAccount")?;
        let message = request.into_inner();
        let region = self.region(&message.region)?;
        // There is one at most, and so never a token that could be given back.
        self.page::<String>(&Scope::new("ListOrganizationAdminAccounts", caller.as_str(), region), message.page_size, &message.page_token)?;
        let administrator = self.0.store.administrator(&caller, region).await;
        let administrator = self.of_manager(&caller, administrator).await?;
        let administrators = administrator.into_iter().map(|administrator| api::Administrator {
            account_id: administrator.account.to_string(),
            graph_arn: administrator.graph.to_string(),
            delegation_time: Some(time_to_proto(administrator.delegation_time)),
        });
        Ok(Response::new(api::ListOrganizationAdminAccountsResponse { administrators: administrators.collect(), next_page_token: String::new() }))
    }

    async fn describe_organization_configuration(
        &self,
        request: Request<api::DescribeOrganizationConfigurationRequest>,
    ) -> Result<Response<api::DescribeOrganizationConfigurationResponse>, Status> {
        let caller = authorized(&request, "detective:DescribeOrganizationConfiguration")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let auto_enable = self.0.store.auto_enable(&graph).await.map_err(organizations_only)?;
        Ok(Response::new(api::DescribeOrganizationConfigurationResponse { auto_enable }))
    }

    async fn update_organization_configuration(
        &self,
        request: Request<api::UpdateOrganizationConfigurationRequest>,
    ) -> Result<Response<api::UpdateOrganizationConfigurationResponse>, Status> {
        let caller = authorized(&request, "detective:UpdateOrganizationConfiguration")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        match request.get_ref().auto_enable {
            Some(auto_enable) => self.0.store.set_auto_enable(&graph, auto_enable).await.map_err(organizations_only)?,
            None => self.0.store.auto_enable(&graph).await.map(|_| ()).map_err(organizations_only)?,
        }
        Ok(Response::new(api::UpdateOrganizationConfigurationResponse {}))
    }
}

impl Membership {
    /// What only the management account gets. As Amazon Detective does, an account of no organization is told so.
    async fn of_manager<T>(&self, caller: &AccountId, outcome: Result<T, StoreError>) -> Result<T, Refusal> {
        match outcome {
            Err(StoreError::NotFound) if !self.0.store.is_in_organization(caller).await? => {
                Err(Refusal::field("account", "account is not a member of an organization"))
            }
            outcome => outcome.map_err(managers_only),
        }
    }
}

fn managers_only(error: StoreError) -> Refusal {
    match error {
        StoreError::NotFound => Refusal::Denied("the account does not manage an organization"),
        error => error.into(),
    }
}

/// The service model has no not-found error for these operations.
fn organizations_only(error: StoreError) -> Refusal {
    match error {
        StoreError::NotFound => Refusal::field("graph_arn", "must be the graph of an organization"),
        error => error.into(),
    }
}

fn names(accounts: Vec<(AccountId, ())>) -> Vec<String> {
    accounts.into_iter().map(|(account, ())| account.to_string()).collect()
}

fn account_to_proto(account: &OrganizationAccount) -> api::OrganizationAccount {
    api::OrganizationAccount { account_id: account.account.to_string(), management: account.management, join_time: Some(time_to_proto(account.join_time)) }
}
