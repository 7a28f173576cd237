//! Members, as their administrator sees them and as they see themselves.

use std::{collections::HashMap, sync::Arc};

use gumshoe_api::{convert::time_to_proto, membership::v1 as api};
use gumshoe_model::{AccountId, GraphArn};
use gumshoe_runtime::{Caller, Scope};
use tonic::Request;

use super::{MAX_BATCH, Membership, accounts, after, authorized, batch, no_graph, owned_graph, parsed, split};
use crate::{
    datasource::{Package, PackageState},
    error::Refusal,
    member::{Event, Load, Member, NewMember, Refused, Status},
    store::StoreError,
    volumes::{DAYS, Measured},
};

const MEMBER_QUOTA: &str = "the graph can have at most 1200 members";
const MAX_MESSAGE: usize = 1_000;

impl Membership {
    pub(super) async fn create_members(&self, request: Request<api::CreateMembersRequest>) -> Result<api::CreateMembersResponse, Refusal> {
        let caller = authorized(&request, "detective:CreateMembers")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let message = request.into_inner();
        batch("members", &message.members, MAX_BATCH)?;
        if message.message.chars().count() > MAX_MESSAGE {
            return Err(Refusal::field("message", format!("must have at most {MAX_MESSAGE} characters")));
        }
        let members: Vec<NewMember> = (0..).zip(&message.members).map(|(index, member)| new_member(index, member)).collect::<Result<_, _>>()?;
        let outcomes = self.0.store.create_members(&graph, &members, self.0.clock.now()).await;
        let (members, unprocessed_accounts) = split(outcomes.map_err(Refusal::about("graph", &message.graph_arn, MEMBER_QUOTA))?, |refused| refused.reason());
        let members = self.describe(members.into_iter().map(|(_, member)| member).collect()).await?;
        Ok(api::CreateMembersResponse { members, unprocessed_accounts })
    }

    pub(super) async fn get_members(&self, request: Request<api::GetMembersRequest>) -> Result<api::GetMembersResponse, Refusal> {
        let caller = authorized(&request, "detective:GetMembers")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let accounts = accounts("account_ids", &request.get_ref().account_ids, MAX_BATCH)?;
        let outcomes = self.0.store.members(&graph, &accounts).await.map_err(Refusal::about("graph", &graph.to_string(), ""))?;
        let (members, unprocessed_accounts) = split(outcomes, |refused| refused.reason());
        let members = self.describe(members.into_iter().map(|(_, member)| member).collect()).await?;
        Ok(api::GetMembersResponse { members, unprocessed_accounts })
    }

    pub(super) async fn list_members(&self, request: Request<api::ListMembersRequest>) -> Result<api::ListMembersResponse, Refusal> {
        let caller = authorized(&request, "detective:ListMembers")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let message = request.into_inner();
        let scope = Scope::new("ListMembers", &message.graph_arn, "");
        let page = self.page(&scope, message.page_size, &message.page_token)?;
        self.0.store.graph(&graph).await.map_err(Refusal::about("graph", &message.graph_arn, ""))?;
        let mut members = self.0.store.list_members(&graph, after::<AccountId>(page.after)?.as_ref(), page.limit + 1).await?;
        let next_page_token = self.next_page(&scope, &mut members, page.limit, |member| member.account.to_string())?;
        Ok(api::ListMembersResponse { members: self.describe(members).await?, next_page_token })
    }

    pub(super) async fn delete_members(&self, request: Request<api::DeleteMembersRequest>) -> Result<api::DeleteMembersResponse, Refusal> {
        let caller = authorized(&request, "detective:DeleteMembers")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let accounts = accounts("account_ids", &request.get_ref().account_ids, MAX_BATCH)?;
        let outcomes = self.0.store.delete_members(&graph, &accounts, self.0.clock.now()).await;
        let (deleted, unprocessed_accounts) = split(outcomes.map_err(Refusal::about("graph", &graph.to_string(), ""))?, |refused| refused.reason());
        Ok(api::DeleteMembersResponse { account_ids: deleted.into_iter().map(|(account, ())| account.to_string()).collect(), unprocessed_accounts })
    }

    pub(super) async fn start_monitoring_member(
        &self,
        request: Request<api::StartMonitoringMemberRequest>,
    ) -> Result<api::StartMonitoringMemberResponse, Refusal> {
        let caller = authorized(&request, "detective:StartMonitoringMember")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let account: AccountId = parsed("account_id", &request.get_ref().account_id)?;
        let load = self.load(&graph, &account, |status| matches!(status, Status::AcceptedButDisabled(_))).await?;
        let outcome = self.0.store.change_member(&graph, &account, Event::StartMonitoring, load, self.0.clock.now()).await;
        match outcome.map_err(Refusal::about("graph", &graph.to_string(), ""))? {
            Ok(()) => Ok(api::StartMonitoringMemberResponse {}),
            Err(Refused::IsNoMember) => Err(Refusal::NotFound { what: "member", name: account.to_string() }),
            Err(refused @ Refused::TooHigh) => Err(Refusal::QuotaExceeded(refused.reason())),
            Err(refused) => Err(Refusal::Conflict(refused.reason())),
        }
    }

    pub(super) async fn accept_invitation(&self, request: Request<api::AcceptInvitationRequest>) -> Result<api::AcceptInvitationResponse, Refusal> {
        let (caller, graph) = invited(&request, "detective:AcceptInvitation", &request.get_ref().graph_arn)?;
        let load = self.load(&graph, &caller, |status| status == Status::Invited).await?;
        self.answer(&graph, &caller, Event::Accept, load).await?;
        Ok(api::AcceptInvitationResponse {})
    }

    pub(super) async fn reject_invitation(&self, request: Request<api::RejectInvitationRequest>) -> Result<api::RejectInvitationResponse, Refusal> {
        let (caller, graph) = invited(&request, "detective:RejectInvitation", &request.get_ref().graph_arn)?;
        self.answer(&graph, &caller, Event::Reject, Load::Unknown).await?;
        Ok(api::RejectInvitationResponse {})
    }

    pub(super) async fn disassociate_membership(
        &self,
        request: Request<api::DisassociateMembershipRequest>,
    ) -> Result<api::DisassociateMembershipResponse, Refusal> {
        let (caller, graph) = invited(&request, "detective:DisassociateMembership", &request.get_ref().graph_arn)?;
        self.answer(&graph, &caller, Event::Disassociate, Load::Unknown).await?;
        Ok(api::DisassociateMembershipResponse {})
    }

    pub(super) async fn list_invitations(&self, request: Request<api::ListInvitationsRequest>) -> Result<api::ListInvitationsResponse, Refusal> {
        let caller = authorized(&request, "detective:ListInvitations")?;
        let message = request.into_inner();
        let scope = Scope::new("ListInvitations", caller.as_str(), "");
        let page = self.page(&scope, message.page_size, &message.page_token)?;
        let mut members = self.0.store.list_memberships(&caller, after::<GraphArn>(page.after)?.as_ref(), page.limit + 1).await?;
        let next_page_token = self.next_page(&scope, &mut members, page.limit, |member| member.graph.to_string())?;
        Ok(api::ListInvitationsResponse { invitations: self.describe(members).await?, next_page_token })
    }

    /// What a member does itself. A graph that does not know it, and one whose invitation has not been sent yet, do not
    /// exist for it.
    async fn answer(&self, graph: &GraphArn, account: &AccountId, event: Event, load: Load) -> Result<(), Refusal> {
        let outcome = self.0.store.change_member(graph, account, event, load, self.0.clock.now()).await;
        outcome.map_err(Refusal::about("graph", &graph.to_string(), ""))?.map_err(|refused| match refused {
            Refused::IsNoMember => no_graph(&graph.to_string()),
            Refused::Status(status) if !status.is_visible_to_member() => no_graph(&graph.to_string()),
            refused => Refusal::Conflict(refused.reason()),
        })
    }

    /// Whether an account's logs fit, if its present status makes that a question. Should the status change meanwhile,
    /// the volume counts as unknown.
    async fn load(&self, graph: &GraphArn, account: &AccountId, asks: impl Fn(Status) -> bool) -> Result<Load, Refusal> {
        let members = match self.0.store.members(graph, std::slice::from_ref(account)).await {
            Ok(members) => members,
            Err(StoreError::NotFound) => return Ok(Load::Unknown),
            Err(error) => return Err(error.into()),
        };
        if members.iter().any(|(_, member)| member.as_ref().is_ok_and(|member| asks(member.standing.status))) {
            let elsewhere = self.0.store.graphs_of_data(account).await?;
            return Ok(self.0.volumes.load(graph, account, &elsewhere).await);
        }
        Ok(Load::Unknown)
    }

    /// Members as in messages, with their packages and volumes. Graphs are asked about all at once.
    async fn describe(&self, members: Vec<Member>) -> Result<Vec<api::Member>, Refusal> {
        let mut graphs: Vec<&GraphArn> = members.iter().map(|member| &member.graph).collect();
        graphs.sort_unstable();
        graphs.dedup();
        let facts = graphs.into_iter().map(|graph| async move {
            let (packages, measured) = futures::join!(self.started_packages(graph), self.0.volumes.of_graph(graph, DAYS));
            packages.map(|packages| (graph, Facts { packages, measured }))
        });
        let facts: HashMap<&GraphArn, Facts> = futures::future::try_join_all(facts).await?.into_iter().collect();
        let daily: HashMap<&GraphArn, _> = facts.iter().filter_map(|(graph, facts)| Some((*graph, facts.measured.as_ref()?.daily()))).collect();
        let described = members.iter().map(|member| {
            let packages = facts.get(&member.graph).map(|facts| facts.packages.as_slice()).unwrap_or_default();
            let volumes = daily.get(&member.graph).and_then(|daily| daily.get(member.account.as_str()));
            let state = PackageState::of_member(member.standing.status).to_proto();
            let mut message = member_to_proto(member);
            if let Some(volumes) = volumes {
                message.volume_usage_bytes = Some(volumes.values().fold(0, |sum: u64, daily| sum.saturating_add(daily.bytes)));
                message.volume_update_time = volumes.values().map(|daily| daily.time).max().map(time_to_proto);
            }
            message.packages = packages
                .iter()
                .map(|package| {
                    let volume = volumes.and_then(|volumes| volumes.get(package));
                    api::MemberPackage {
                        package: package.to_proto().into(),
                        state: state.into(),
                        volume_usage_bytes: volume.map(|daily| daily.bytes),
                        volume_update_time: volume.map(|daily| time_to_proto(daily.time)),
                    }
                })
                .collect();
            message
        });
        Ok(described.collect())
    }
}

/// What members of one graph have in common.
struct Facts {
    packages: Vec<Package>,
    measured: Option<Arc<Measured>>,
}

/// The caller, and the graph of another account that the call was allowed for.
fn invited<T>(request: &Request<T>, action: &str, arn: &str) -> Result<(AccountId, GraphArn), Refusal> {
    let caller = authorized(request, action)?;
    Ok((caller, Caller::of(request)?.require_graph(arn)?))
}

fn new_member(index: usize, member: &api::NewMember) -> Result<NewMember, Refusal> {
    Ok(NewMember {
        account: parsed(&format!("members[{index}].account_id"), &member.account_id)?,
        email: parsed(&format!("members[{index}].email"), &member.email)?,
    })
}

fn member_to_proto(member: &Member) -> api::Member {
    let reason = member.standing.status.disabled_reason().map_or(api::MemberDisabledReason::Unspecified, |reason| reason.to_proto());
    api::Member {
        account_id: member.account.to_string(),
        email: member.email.as_str().to_owned(),
        status: member.standing.status.to_proto().into(),
        invite_time: Some(time_to_proto(member.invite_time)),
        update_time: Some(time_to_proto(member.update_time)),
        graph_arn: member.graph.to_string(),
        administrator_id: member.graph.account().to_string(),
        disabled_reason: reason.into(),
        invitation_type: member.standing.invitation_type.to_proto().into(),
        volume_usage_bytes: None,
        volume_update_time: None,
        packages: Vec::new(),
    }
}
