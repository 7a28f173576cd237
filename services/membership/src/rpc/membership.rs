//! `MembershipService`: each RPC stands with its like in the modules beside this one.

use gumshoe_api::membership::v1::{self as api, membership_service_server::MembershipService};
use tonic::{Request, Response, Status};

use super::Membership;

/// Forwards an RPC to the method of the same name.
macro_rules! forward {
    ($($method:ident($request:ident) -> $response:ident),+ $(,)?) => {
        #[tonic::async_trait]
        impl MembershipService for Membership {
            $(async fn $method(&self, request: Request<api::$request>) -> Result<Response<api::$response>, Status> {
                Ok(Response::new(Membership::$method(self, request).await?))
            })+
        }
    };
}

forward! {
    create_account(CreateAccountRequest) -> CreateAccountResponse,
    list_accounts(ListAccountsRequest) -> ListAccountsResponse,
    create_graph(CreateGraphRequest) -> CreateGraphResponse,
    get_graph(GetGraphRequest) -> GetGraphResponse,
    list_graphs(ListGraphsRequest) -> ListGraphsResponse,
    create_members(CreateMembersRequest) -> CreateMembersResponse,
    list_members(ListMembersRequest) -> ListMembersResponse,
    delete_members(DeleteMembersRequest) -> DeleteMembersResponse,
    delete_graph(DeleteGraphRequest) -> DeleteGraphResponse,
    get_members(GetMembersRequest) -> GetMembersResponse,
    start_monitoring_member(StartMonitoringMemberRequest) -> StartMonitoringMemberResponse,
    accept_invitation(AcceptInvitationRequest) -> AcceptInvitationResponse,
    reject_invitation(RejectInvitationRequest) -> RejectInvitationResponse,
    disassociate_membership(DisassociateMembershipRequest) -> DisassociateMembershipResponse,
    list_invitations(ListInvitationsRequest) -> ListInvitationsResponse,
    list_datasource_packages(ListDatasourcePackagesRequest) -> ListDatasourcePackagesResponse,
    update_datasource_packages(UpdateDatasourcePackagesRequest) -> UpdateDatasourcePackagesResponse,
    batch_get_graph_member_datasources(BatchGetGraphMemberDatasourcesRequest) -> BatchGetGraphMemberDatasourcesResponse,
    batch_get_membership_datasources(BatchGetMembershipDatasourcesRequest) -> BatchGetMembershipDatasourcesResponse,
    list_tags_for_resource(ListTagsForResourceRequest) -> ListTagsForResourceResponse,
    tag_resource(TagResourceRequest) -> TagResourceResponse,
    untag_resource(UntagResourceRequest) -> UntagResourceResponse,
    get_usage(GetUsageRequest) -> GetUsageResponse,
    get_graph_accounts(GetGraphAccountsRequest) -> GetGraphAccountsResponse,
}
