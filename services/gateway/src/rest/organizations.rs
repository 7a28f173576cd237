//! Organizations and their administrators.

use gumshoe_api::membership::v1::{
    self as membership, DescribeOrganizationConfigurationRequest, DisableOrganizationAdminAccountRequest, EnableOrganizationAdminAccountRequest,
    ListOrganizationAdminAccountsRequest, UpdateOrganizationConfigurationRequest,
};
use serde::Serialize;

use super::{
    call::{Call, Outcome, done, reply},
    shapes::{given, time},
    validate::Text,
};
use crate::decision::Resource;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListOrganizationAdminAccountsResponse {
    administrators: Vec<Administrator>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Administrator {
    account_id: String,
    graph_arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    delegation_time: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeOrganizationConfigurationResponse {
    auto_enable: bool,
}

impl From<membership::Administrator> for Administrator {
    fn from(message: membership::Administrator) -> Self {
        Self { delegation_time: time(message.delegation_time.as_ref()), account_id: message.account_id, graph_arn: message.graph_arn }
    }
}

/// `EnableOrganizationAdminAccount`.
pub async fn enable(call: &Call<'_>) -> Outcome {
    let account_id = call.read(|input| input.required_text("AccountId", &Text::ACCOUNT_ID))?;
    let mut client = call.organization(Resource::Nothing).await?;
    client.enable_organization_admin_account(call.message(EnableOrganizationAdminAccountRequest { account_id, region: call.region() })).await?;
    done()
}

/// `DisableOrganizationAdminAccount`, which has no input: SDKs send no body.
pub async fn disable(call: &Call<'_>) -> Outcome {
    let mut client = call.organization(Resource::Nothing).await?;
    client.disable_organization_admin_account(call.message(DisableOrganizationAdminAccountRequest { region: call.region() })).await?;
    done()
}

/// `ListOrganizationAdminAccounts`.
pub async fn list(call: &Call<'_>) -> Outcome {
    let request = call.read(|input| ListOrganizationAdminAccountsRequest {
        page_size: input.page_size(200),
        page_token: input.page_token(1_024),
        region: call.region(),
    })?;
    let mut client = call.organization(Resource::Nothing).await?;
    let answer = client.list_organization_admin_accounts(call.message(request)).await?.into_inner();
    let administrators = answer.administrators.into_iter().map(Administrator::from).collect();
    reply(&ListOrganizationAdminAccountsResponse { administrators, next_token: given(answer.next_page_token) })
}

/// `DescribeOrganizationConfiguration`.
pub async fn describe(call: &Call<'_>) -> Outcome {
    let request = call.read(|input| DescribeOrganizationConfigurationRequest { graph_arn: input.graph() })?;
    let mut client = call.organization(Resource::Graph(&request.graph_arn)).await?;
    let answer = client.describe_organization_configuration(call.message(request)).await?.into_inner();
    reply(&DescribeOrganizationConfigurationResponse { auto_enable: answer.auto_enable })
}

/// `UpdateOrganizationConfiguration`. The model's `Boolean` is false by default, and the SDK for Go, with it Terraform,
/// leaves out what is false.
pub async fn update(call: &Call<'_>) -> Outcome {
    let request = call
        .read(|input| UpdateOrganizationConfigurationRequest { graph_arn: input.graph(), auto_enable: Some(input.flag("AutoEnable").unwrap_or_default()) })?;
    let mut client = call.organization(Resource::Graph(&request.graph_arn)).await?;
    client.update_organization_configuration(call.message(request)).await?;
    done()
}
