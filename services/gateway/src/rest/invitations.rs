//! Memberships, as members see them: graphs of other accounts.

use gumshoe_api::membership::v1::{AcceptInvitationRequest, DisassociateMembershipRequest, ListInvitationsRequest, RejectInvitationRequest};
use serde::Serialize;

use super::{
    call::{Call, Outcome, done, reply},
    shapes::{MemberDetail, given},
};
use crate::decision::Resource;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListInvitationsResponse {
    invitations: Vec<MemberDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

/// `AcceptInvitation`.
pub async fn accept(call: &Call<'_>) -> Outcome {
    let request = call.read(|input| AcceptInvitationRequest { graph_arn: input.graph() })?;
    let mut client = call.membership(Resource::MemberGraph(&request.graph_arn)).await?;
    client.accept_invitation(call.message(request)).await?;
    done()
}

/// `RejectInvitation`.
pub async fn reject(call: &Call<'_>) -> Outcome {
    let request = call.read(|input| RejectInvitationRequest { graph_arn: input.graph() })?;
    let mut client = call.membership(Resource::MemberGraph(&request.graph_arn)).await?;
    client.reject_invitation(call.message(request)).await?;
    done()
}

/// `DisassociateMembership`.
pub async fn disassociate(call: &Call<'_>) -> Outcome {
    let request = call.read(|input| DisassociateMembershipRequest { graph_arn: input.graph() })?;
    let mut client = call.membership(Resource::MemberGraph(&request.graph_arn)).await?;
    client.disassociate_membership(call.message(request)).await?;
    done()
}

/// `ListInvitations`: to graphs of the region. A page may hold fewer than asked for, and yet not be the last.
pub async fn list(call: &Call<'_>) -> Outcome {
    let request = call.read(|input| ListInvitationsRequest { page_size: input.page_size(200), page_token: input.page_token(1_024) })?;
    let mut client = call.membership(Resource::Nothing).await?;
    let mut answer = client.list_invitations(call.message(request)).await?.into_inner();
    answer.invitations.retain(|member| call.is_here(&member.graph_arn));
    reply(&ListInvitationsResponse { invitations: call.members(answer.invitations), next_token: given(answer.next_page_token) })
}
