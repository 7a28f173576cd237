//! Members, as their administrator sees them.

use gumshoe_api::membership::v1::{
    CreateMembersRequest, DeleteMembersRequest, GetMembersRequest, ListMembersRequest, Member, NewMember, StartMonitoringMemberRequest,
};
use serde::Serialize;

use super::{
    call::{Call, Outcome, done, reply},
    shapes::{MemberDetail, UnprocessedAccount, given, unprocessed},
    validate::Text,
};
use crate::decision::Resource;

const MAX_ACCOUNTS: usize = 50;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CreateMembersResponse {
    members: Vec<MemberDetail>,
    unprocessed_accounts: Vec<UnprocessedAccount>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GetMembersResponse {
    member_details: Vec<MemberDetail>,
    unprocessed_accounts: Vec<UnprocessedAccount>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListMembersResponse {
    member_details: Vec<MemberDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeleteMembersResponse {
    account_ids: Vec<String>,
    unprocessed_accounts: Vec<UnprocessedAccount>,
}

impl Call<'_> {
    /// Members in the model's shape.
    pub fn members(&self, members: Vec<Member>) -> Vec<MemberDetail> {
        members.into_iter().map(|member| MemberDetail::new(member, self.parts.volume_limit_bytes)).collect()
    }
}

/// `CreateMembers`.
pub async fn create(call: &Call<'_>) -> Outcome {
    let request = call.read(|input| CreateMembersRequest {
        graph_arn: input.graph(),
        members: input.objects("Accounts", MAX_ACCOUNTS, |account| NewMember {
            account_id: account.required_text("AccountId", &Text::ACCOUNT_ID),
            email: account.required_text("EmailAddress", &Text::EMAIL_ADDRESS),
        }),
        message: input.text("Message", &Text::EMAIL_MESSAGE).unwrap_or_default(),
        disable_email_notification: input.flag("DisableEmailNotification").unwrap_or_default(),
    })?;
    let mut client = call.membership(Resource::Graph(&request.graph_arn)).await?;
    let answer = client.create_members(call.message(request)).await?.into_inner();
    reply(&CreateMembersResponse { members: call.members(answer.members), unprocessed_accounts: unprocessed(answer.unprocessed_accounts) })
}

/// `GetMembers`.
pub async fn get(call: &Call<'_>) -> Outcome {
    let request = call.read(|input| GetMembersRequest { graph_arn: input.graph(), account_ids: input.texts("AccountIds", MAX_ACCOUNTS, &Text::ACCOUNT_ID) })?;
    let mut client = call.membership(Resource::Graph(&request.graph_arn)).await?;
    let answer = client.get_members(call.message(request)).await?.into_inner();
    reply(&GetMembersResponse { member_details: call.members(answer.members), unprocessed_accounts: unprocessed(answer.unprocessed_accounts) })
}

/// `ListMembers`.
pub async fn list(call: &Call<'_>) -> Outcome {
    let request = call.read(|input| ListMembersRequest { graph_arn: input.graph(), page_size: input.page_size(200), page_token: input.page_token(1_024) })?;
    let mut client = call.membership(Resource::Graph(&request.graph_arn)).await?;
    let answer = client.list_members(call.message(request)).await?.into_inner();
    reply(&ListMembersResponse { member_details: call.members(answer.members), next_token: given(answer.next_page_token) })
}

/// `DeleteMembers`.
pub async fn delete(call: &Call<'_>) -> Outcome {
    let request =
        call.read(|input| DeleteMembersRequest { graph_arn: input.graph(), account_ids: input.texts("AccountIds", MAX_ACCOUNTS, &Text::ACCOUNT_ID) })?;
    let mut client = call.membership(Resource::Graph(&request.graph_arn)).await?;
    let answer = client.delete_members(call.message(request)).await?.into_inner();
    reply(&DeleteMembersResponse { account_ids: answer.account_ids, unprocessed_accounts: unprocessed(answer.unprocessed_accounts) })
}

/// `StartMonitoringMember`.
pub async fn start_monitoring(call: &Call<'_>) -> Outcome {
    let request =
        call.read(|input| StartMonitoringMemberRequest { graph_arn: input.graph(), account_id: input.required_text("AccountId", &Text::ACCOUNT_ID) })?;
    let mut client = call.membership(Resource::Graph(&request.graph_arn)).await?;
    client.start_monitoring_member(call.message(request)).await?;
    done()
}
