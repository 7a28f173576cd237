//! Organizations and their administrators.

use gumshoe_api::{common::v1::ErrorReason, membership::v1 as api};
use tonic::{Code, Status};

use crate::harness::{ACCOUNT, OTHER, Service, THIRD, refused};

const FOURTH: &str = "444444444444";

struct Organization(Service);

impl Organization {
    /// Managed by the first of four accounts; the first three belong to it.
    async fn start() -> Self {
        let service = Service::with_accounts().await;
        for account in [THIRD, FOURTH] {
            service.register(ACCOUNT, account).await.unwrap();
        }
        let organization = Self(service);
        let created = organization.0.organizations(ACCOUNT, "gumshoe:CreateOrganization").create_organization(api::CreateOrganizationRequest {}).await;
        assert_eq!(created.unwrap().into_inner().management_account_id, ACCOUNT);
        assert_eq!(organization.add(ACCOUNT, &[OTHER, THIRD]).await.unwrap().account_ids, [OTHER, THIRD]);
        organization
    }

    async fn add(&self, manager: &str, accounts: &[&str]) -> Result<api::AddOrganizationAccountsResponse, Status> {
        let request = api::AddOrganizationAccountsRequest { account_ids: accounts.iter().map(|id| (*id).to_owned()).collect() };
        self.0.organizations(manager, "gumshoe:AddOrganizationAccounts").add_organization_accounts(request).await.map(tonic::Response::into_inner)
    }

    async fn remove(&self, manager: &str, accounts: &[&str]) -> Result<api::RemoveOrganizationAccountsResponse, Status> {
        let request = api::RemoveOrganizationAccountsRequest { account_ids: accounts.iter().map(|id| (*id).to_owned()).collect() };
        self.0.organizations(manager, "gumshoe:RemoveOrganizationAccounts").remove_organization_accounts(request).await.map(tonic::Response::into_inner)
    }

    async fn enable(&self, manager: &str, account: &str, region: &str) -> Result<(), Status> {
        let request = api::EnableOrganizationAdminAccountRequest { account_id: account.to_owned(), region: region.to_owned() };
        self.0.organizations(manager, "detective:EnableOrganizationAdminAccount").enable_organization_admin_account(request).await.map(|_| ())
    }

    async fn disable(&self, manager: &str, region: &str) -> Result<(), Status> {
        let request = api::DisableOrganizationAdminAccountRequest { region: region.to_owned() };
        self.0.organizations(manager, "detective:DisableOrganizationAdminAccount").disable_organization_admin_account(request).await.map(|_| ())
    }

    async fn administrators(&self, manager: &str, region: &str) -> Result<Vec<api::Administrator>, Status> {
        let request = api::ListOrganizationAdminAccountsRequest { region: region.to_owned(), ..Default::default() };
        let mut client = self.0.organizations(manager, "detective:ListOrganizationAdminAccount");
        client.list_organization_admin_accounts(request).await.map(|response| response.into_inner().administrators)
    }

    async fn auto_enable(&self, account: &str, graph: &str) -> Result<bool, Status> {
        let request = api::DescribeOrganizationConfigurationRequest { graph_arn: graph.to_owned() };
        let mut client = self.0.organizations_on(account, "detective:DescribeOrganizationConfiguration", graph);
        client.describe_organization_configuration(request).await.map(|response| response.into_inner().auto_enable)
    }

    async fn set_auto_enable(&self, account: &str, graph: &str, auto_enable: Option<bool>) -> Result<(), Status> {
        let request = api::UpdateOrganizationConfigurationRequest { graph_arn: graph.to_owned(), auto_enable };
        let mut client = self.0.organizations_on(account, "detective:UpdateOrganizationConfiguration", graph);
        client.update_organization_configuration(request).await.map(|_| ())
    }
}

#[tokio::test]
async fn accounts_join_and_leave() {
    let organization = Organization::start().await;
    let request = api::CreateOrganizationRequest {};
    let mut creating = organization.0.organizations(OTHER, "gumshoe:CreateOrganization");
    refused(creating.create_organization(request).await, Code::FailedPrecondition, ErrorReason::Conflict);
    let added = organization.add(ACCOUNT, &[OTHER, "999999999999"]).await.unwrap();
    assert_eq!((added.account_ids, added.unprocessed_accounts[0].reason.as_str()), (vec![OTHER.to_owned()], "account is not registered"));
    for bad in [&[][..], &["1"], &[OTHER; 51]] {
        refused(organization.add(ACCOUNT, bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
        refused(organization.remove(ACCOUNT, bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    refused(organization.add(OTHER, &[FOURTH]).await, Code::PermissionDenied, ErrorReason::AccessDenied);
    refused(organization.remove(OTHER, &[THIRD]).await, Code::PermissionDenied, ErrorReason::AccessDenied);

    let mut client = organization.0.organizations(ACCOUNT, "gumshoe:ListOrganizationAccounts");
    let list = |page_token: &str| api::ListOrganizationAccountsRequest { page_size: 2, page_token: page_token.to_owned() };
    let first = client.list_organization_accounts(list("")).await.unwrap().into_inner();
    let second = client.list_organization_accounts(list(&first.next_page_token)).await.unwrap().into_inner();
    let listed: Vec<_> = first.accounts.iter().chain(&second.accounts).map(|account| (account.account_id.as_str(), account.management)).collect();
    assert_eq!((listed, second.next_page_token.as_str()), (vec![(ACCOUNT, true), (OTHER, false), (THIRD, false)], ""));
    let mut stranger = organization.0.organizations(FOURTH, "gumshoe:ListOrganizationAccounts");
    refused(stranger.list_organization_accounts(list("")).await, Code::PermissionDenied, ErrorReason::AccessDenied);

    let removed = organization.remove(ACCOUNT, &[THIRD, FOURTH, ACCOUNT]).await.unwrap();
    let reasons: Vec<_> = removed.unprocessed_accounts.iter().map(|account| account.reason.as_str()).collect();
    assert_eq!(
        (removed.account_ids, reasons),
        (vec![THIRD.to_owned()], vec!["account does not belong to the organization", "account manages the organization"])
    );
}

#[tokio::test]
async fn the_management_account_names_an_administrator_in_each_region() {
    let organization = Organization::start().await;
    refused(organization.enable(OTHER, OTHER, "").await, Code::PermissionDenied, ErrorReason::AccessDenied);
    refused(organization.enable(ACCOUNT, FOURTH, "").await, Code::InvalidArgument, ErrorReason::InvalidField);
    refused(organization.enable(ACCOUNT, "x", "").await, Code::InvalidArgument, ErrorReason::InvalidField);
    refused(organization.enable(ACCOUNT, OTHER, "mars-1").await, Code::InvalidArgument, ErrorReason::InvalidField);
    organization.enable(ACCOUNT, OTHER, "").await.unwrap();
    organization.enable(ACCOUNT, OTHER, "us-east-1").await.unwrap();
    refused(organization.enable(ACCOUNT, THIRD, "").await, Code::InvalidArgument, ErrorReason::InvalidField);
    organization.enable(ACCOUNT, THIRD, "eu-west-1").await.unwrap();
    let listed = organization.administrators(ACCOUNT, "").await.unwrap();
    let [administrator] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!(administrator.account_id, OTHER);
    assert_eq!(organization.0.create_graph(OTHER, "").await.unwrap(), administrator.graph_arn, "it has a graph now");
    assert_eq!(organization.administrators(ACCOUNT, "eu-west-1").await.unwrap()[0].account_id, THIRD);
    refused(organization.administrators(OTHER, "").await, Code::PermissionDenied, ErrorReason::AccessDenied);
    refused(organization.administrators(FOURTH, "").await, Code::InvalidArgument, ErrorReason::InvalidField);
    refused(organization.disable(FOURTH, "").await, Code::InvalidArgument, ErrorReason::InvalidField);
    refused(organization.administrators(ACCOUNT, "mars-1").await, Code::InvalidArgument, ErrorReason::InvalidField);
    let request = api::ListOrganizationAdminAccountsRequest { page_token: "x".to_owned(), ..Default::default() };
    let mut client = organization.0.organizations(ACCOUNT, "detective:ListOrganizationAdminAccount");
    refused(client.list_organization_admin_accounts(request).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);

    refused(organization.disable(OTHER, "").await, Code::PermissionDenied, ErrorReason::AccessDenied);
    refused(organization.disable(ACCOUNT, "mars-1").await, Code::InvalidArgument, ErrorReason::InvalidField);
    organization.disable(ACCOUNT, "").await.unwrap();
    organization.disable(ACCOUNT, "").await.unwrap();
    assert!(organization.administrators(ACCOUNT, "").await.unwrap().is_empty());
    assert_ne!(organization.0.create_graph(OTHER, "").await.unwrap(), administrator.graph_arn, "its graph is gone");
}

#[tokio::test]
async fn accounts_of_the_organization_are_enabled_at_once() {
    let organization = Organization::start().await;
    organization.enable(ACCOUNT, OTHER, "").await.unwrap();
    let graph = organization.administrators(ACCOUNT, "").await.unwrap()[0].graph_arn.clone();
    let service = &organization.0;
    let made = service.invite(OTHER, &graph, &[THIRD, FOURTH]).await.unwrap().members;
    let how: Vec<_> = made.iter().map(|member| (member.status(), member.invitation_type())).collect();
    assert_eq!(how, [(api::MemberStatus::Enabled, api::InvitationType::Organization), (api::MemberStatus::Invited, api::InvitationType::Invitation)]);
    let text = refused(service.disassociate(THIRD, &graph).await, Code::FailedPrecondition, ErrorReason::Conflict);
    assert_eq!(text, "the administrator of its organization decides about the account");

    assert!(!organization.auto_enable(OTHER, &graph).await.unwrap());
    organization.set_auto_enable(OTHER, &graph, Some(true)).await.unwrap();
    organization.set_auto_enable(OTHER, &graph, None).await.unwrap();
    assert!(organization.auto_enable(OTHER, &graph).await.unwrap(), "without a value nothing changes");
    organization.add(ACCOUNT, &[FOURTH]).await.unwrap();
    let fourth = service.members(OTHER, &graph).await.into_iter().find(|member| member.account_id == FOURTH).unwrap();
    assert_eq!((fourth.status(), fourth.invitation_type()), (api::MemberStatus::Enabled, api::InvitationType::Organization));
    organization.remove(ACCOUNT, &[FOURTH]).await.unwrap();
    assert_eq!(service.members(OTHER, &graph).await.len(), 1);

    let own = service.create_graph(FOURTH, "").await.unwrap();
    refused(organization.auto_enable(FOURTH, &own).await, Code::InvalidArgument, ErrorReason::InvalidField);
    for auto_enable in [Some(true), None] {
        refused(organization.set_auto_enable(FOURTH, &own, auto_enable).await, Code::InvalidArgument, ErrorReason::InvalidField);
        refused(organization.set_auto_enable(FOURTH, &graph, auto_enable).await, Code::NotFound, ErrorReason::NotFound);
    }
}
