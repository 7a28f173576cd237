//! The life of members, with what they give.

use gumshoe_api::{
    common::v1::{ErrorReason, RecordKind},
    membership::v1 as api,
};
use tonic::Code;

use crate::harness::{ACCOUNT, OTHER, Service, THIRD, new_member, refused};

fn status_of(members: &[api::Member], account: &str) -> Option<(api::MemberStatus, api::MemberDisabledReason)> {
    members.iter().find(|member| member.account_id == account).map(|member| (member.status(), member.disabled_reason()))
}

const NO_REASON: api::MemberDisabledReason = api::MemberDisabledReason::Unspecified;

#[tokio::test]
async fn members_are_invited_listed_and_removed() {
    let service = Service::with_accounts().await;
    let graph = service.create_graph(ACCOUNT, "").await.unwrap();
    let create = |members| api::CreateMembersRequest { graph_arn: graph.clone(), members, message: "Join us".to_owned(), disable_email_notification: true };
    let mut client = service.on_graph(ACCOUNT, "detective:CreateMembers", &graph);
    let asked = vec![new_member(OTHER, "222222222222@EXAMPLE.com"), new_member(THIRD, "c@example.com"), new_member(ACCOUNT, "a@example.com")];
    let made = client.create_members(create(asked.clone())).await.unwrap().into_inner();
    let [first, second] = made.members.as_slice() else { panic!("{made:?}") };
    assert_eq!((first.account_id.as_str(), first.status(), first.invitation_type()), (OTHER, api::MemberStatus::Invited, api::InvitationType::Invitation));
    assert_eq!((first.graph_arn.as_str(), first.administrator_id.as_str(), first.email.as_str()), (graph.as_str(), ACCOUNT, "222222222222@EXAMPLE.com"));
    assert_eq!((first.disabled_reason(), first.volume_usage_bytes), (NO_REASON, None));
    let [package] = first.packages.as_slice() else { panic!("{first:?}") };
    assert_eq!((package.package(), package.state()), (api::DatasourcePackage::DetectiveCore, api::PackageState::Disabled));
    assert_eq!((second.account_id.as_str(), second.status()), (THIRD, api::MemberStatus::VerificationInProgress));
    let reasons: Vec<_> = made.unprocessed_accounts.iter().map(|account| (account.account_id.as_str(), account.reason.as_str())).collect();
    assert_eq!(reasons, [(ACCOUNT, "account administers the graph")]);
    assert_eq!(client.create_members(create(asked)).await.unwrap().into_inner(), made, "repeated, the call gives the same");
    for bad in [vec![], vec![new_member(OTHER, "b@example.com"); 51], vec![new_member("x", "b@example.com")], vec![new_member(OTHER, "b")]] {
        refused(client.create_members(create(bad)).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    let long = api::CreateMembersRequest { message: "m".repeat(1_001), ..create(vec![new_member(OTHER, "b@example.com")]) };
    assert!(refused(client.create_members(long).await, Code::InvalidArgument, ErrorReason::InvalidField).starts_with("`message`"));
    assert_eq!(service.members(ACCOUNT, &graph).await, made.members);

    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let get = |accounts| api::GetMembersRequest { graph_arn: graph.clone(), account_ids: accounts };
    let mut getting = service.on_graph(ACCOUNT, "detective:GetMembers", &graph);
    let got = getting.get_members(get(ids(&[THIRD, "999999999999", OTHER]))).await.unwrap().into_inner();
    assert_eq!(got.members.iter().map(|member| member.account_id.as_str()).collect::<Vec<_>>(), [THIRD, OTHER]);
    assert_eq!(got.unprocessed_accounts[0].reason, "account is not a member");
    for bad in [vec![], ids(&["1"]), vec![OTHER.to_owned(); 51]] {
        refused(getting.get_members(get(bad)).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }

    let delete = api::DeleteMembersRequest { graph_arn: graph.clone(), account_ids: ids(&[OTHER, "999999999999", ACCOUNT]) };
    let deleted = service.on_graph(ACCOUNT, "detective:DeleteMembers", &graph).delete_members(delete).await.unwrap().into_inner();
    let reasons: Vec<_> = deleted.unprocessed_accounts.iter().map(|account| account.reason.as_str()).collect();
    assert_eq!((deleted.account_ids, reasons), (ids(&[OTHER]), vec!["account is not a member", "account administers the graph"]));
}

#[tokio::test]
async fn members_come_page_by_page() {
    let service = Service::with_accounts().await;
    let graph = service.create_graph(ACCOUNT, "").await.unwrap();
    let accounts: Vec<String> = (1..=5).map(|number| format!("{number:012}")).collect();
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    service.invite(ACCOUNT, &graph, &accounts).await.unwrap();
    let mut client = service.on_graph(ACCOUNT, "detective:ListMembers", &graph);
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = api::ListMembersRequest { graph_arn: graph.clone(), page_size: 2, page_token };
        let page = client.list_members(request).await.unwrap().into_inner();
        listed.extend(page.members.into_iter().map(|member| member.account_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, accounts);
    for (page_size, page_token) in [(201, ""), (-1, "")] {
        let request = api::ListMembersRequest { graph_arn: graph.clone(), page_size, page_token: page_token.to_owned() };
        refused(client.list_members(request).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    let request = api::ListMembersRequest { graph_arn: graph.clone(), page_size: 0, page_token: "x".to_owned() };
    refused(client.list_members(request).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);
}

#[tokio::test]
async fn an_invitation_is_accepted_and_left() {
    let service = Service::with_accounts().await;
    let graph = service.create_graph(ACCOUNT, "").await.unwrap();
    // A graph that does not know the account, and one that does not exist, look the same to it.
    let missing = "arn:aws:detective:us-east-1:111111111111:graph:00000000000000000000000000000000";
    for arn in [graph.as_str(), missing] {
        for outcome in [service.accept(OTHER, arn).await, service.reject(OTHER, arn).await, service.disassociate(OTHER, arn).await] {
            assert_eq!(refused(outcome, Code::NotFound, ErrorReason::NotFound), format!("graph `{arn}` does not exist"));
        }
    }
    service.invite(ACCOUNT, &graph, &[OTHER]).await.unwrap();
    refused(service.disassociate(OTHER, &graph).await, Code::FailedPrecondition, ErrorReason::Conflict);
    refused(service.start_monitoring(ACCOUNT, &graph, OTHER).await, Code::FailedPrecondition, ErrorReason::Conflict);
    let invitations = service.invitations(OTHER).await;
    assert_eq!(
        invitations.iter().map(|invitation| (invitation.graph_arn.as_str(), invitation.status())).collect::<Vec<_>>(),
        [(graph.as_str(), api::MemberStatus::Invited)]
    );

    service.accept(OTHER, &graph).await.unwrap();
    assert_eq!(status_of(&service.members(ACCOUNT, &graph).await, OTHER), Some((api::MemberStatus::Enabled, NO_REASON)));
    assert_eq!(service.members(ACCOUNT, &graph).await[0].packages[0].state(), api::PackageState::Started);
    let text = refused(service.accept(OTHER, &graph).await, Code::FailedPrecondition, ErrorReason::Conflict);
    assert_eq!(text, "the member is ENABLED");
    refused(service.reject(OTHER, &graph).await, Code::FailedPrecondition, ErrorReason::Conflict);
    service.start_monitoring(ACCOUNT, &graph, OTHER).await.unwrap();
    refused(service.start_monitoring(ACCOUNT, &graph, THIRD).await, Code::NotFound, ErrorReason::NotFound);
    refused(service.start_monitoring(ACCOUNT, &graph, ACCOUNT).await, Code::FailedPrecondition, ErrorReason::Conflict);
    refused(service.start_monitoring(ACCOUNT, &graph, "1").await, Code::InvalidArgument, ErrorReason::InvalidField);
    let again = service.invite(ACCOUNT, &graph, &[OTHER]).await.unwrap();
    assert_eq!(again.unprocessed_accounts[0].reason, "account is already a member");

    service.disassociate(OTHER, &graph).await.unwrap();
    assert!(service.invitations(OTHER).await.is_empty());
    assert!(service.members(ACCOUNT, &graph).await.is_empty());
    service.invite(ACCOUNT, &graph, &[OTHER]).await.unwrap();
    service.reject(OTHER, &graph).await.unwrap();
    refused(service.reject(OTHER, &graph).await, Code::NotFound, ErrorReason::NotFound);
    // The administrator has nothing to answer.
    refused(service.accept(ACCOUNT, &graph).await, Code::FailedPrecondition, ErrorReason::Conflict);
}

#[tokio::test]
async fn an_invitation_waits_until_its_account_is_registered() {
    let service = Service::with_accounts().await;
    let graph = service.create_graph(ACCOUNT, "").await.unwrap();
    let wrong = api::CreateMembersRequest { graph_arn: graph.clone(), members: vec![new_member(OTHER, "wrong@example.com")], ..Default::default() };
    service.on_graph(ACCOUNT, "detective:CreateMembers", &graph).create_members(wrong).await.unwrap();
    service.invite(ACCOUNT, &graph, &[THIRD]).await.unwrap();
    let members = service.members(ACCOUNT, &graph).await;
    assert_eq!(status_of(&members, OTHER), Some((api::MemberStatus::VerificationFailed, NO_REASON)));
    assert_eq!(status_of(&members, THIRD), Some((api::MemberStatus::VerificationInProgress, NO_REASON)));
    // Neither has been told of the graph.
    for account in [OTHER, THIRD] {
        assert!(service.invitations(account).await.is_empty());
        refused(service.accept(account, &graph).await, Code::NotFound, ErrorReason::NotFound);
    }
    service.register(OTHER, THIRD).await.unwrap();
    service.accept(THIRD, &graph).await.unwrap();
    assert_eq!(status_of(&service.members(ACCOUNT, &graph).await, THIRD), Some((api::MemberStatus::Enabled, NO_REASON)));
}

#[tokio::test]
async fn a_member_that_gives_too_much_stays_disabled() {
    let service = Service::with_accounts().await;
    let graph = service.create_graph(ACCOUNT, "").await.unwrap();
    let elsewhere = service.create_graph(OTHER, "").await.unwrap();
    // The limit is 1,000 bytes a day: 700 there, and 400 that the account is known to give.
    service.lake.give(&graph, ACCOUNT, RecordKind::Cloudtrail, 1, 700);
    service.lake.give(&elsewhere, OTHER, RecordKind::Cloudtrail, 1, 300);
    service.lake.give(&elsewhere, OTHER, RecordKind::VpcFlow, 1, 100);
    service.invite(ACCOUNT, &graph, &[OTHER]).await.unwrap();
    service.accept(OTHER, &graph).await.unwrap();
    let disabled = Some((api::MemberStatus::AcceptedButDisabled, api::MemberDisabledReason::VolumeTooHigh));
    let members = service.members(ACCOUNT, &graph).await;
    assert_eq!(status_of(&members, OTHER), disabled);
    assert_eq!(members[0].packages[0].state(), api::PackageState::Disabled);
    let text = refused(service.start_monitoring(ACCOUNT, &graph, OTHER).await, Code::ResourceExhausted, ErrorReason::QuotaExceeded);
    assert_eq!(text, "with the account the graph would take in more than its limit a day");
    assert_eq!(status_of(&service.invitations(OTHER).await, OTHER), disabled, "the account sees itself so");
    service.disassociate(OTHER, &graph).await.unwrap();
}

#[tokio::test]
async fn a_member_of_unknown_volume_is_enabled_by_hand() {
    let service = Service::with(|config| config.graph = None).await;
    service.register_all().await;
    let graph = service.create_graph(ACCOUNT, "").await.unwrap();
    service.invite(ACCOUNT, &graph, &[OTHER]).await.unwrap();
    service.accept(OTHER, &graph).await.unwrap();
    let disabled = Some((api::MemberStatus::AcceptedButDisabled, api::MemberDisabledReason::VolumeUnknown));
    assert_eq!(status_of(&service.members(ACCOUNT, &graph).await, OTHER), disabled);
    service.start_monitoring(ACCOUNT, &graph, OTHER).await.unwrap();
    assert_eq!(status_of(&service.members(ACCOUNT, &graph).await, OTHER), Some((api::MemberStatus::Enabled, NO_REASON)));
}

#[tokio::test]
async fn members_show_what_they_gave_yesterday() {
    let service = Service::with_accounts().await;
    let graph = service.create_graph(ACCOUNT, "").await.unwrap();
    for (kind, days_ago, bytes) in
        [(RecordKind::Cloudtrail, 1, 10), (RecordKind::Guardduty, 1, 5), (RecordKind::Cloudtrail, 0, 1), (RecordKind::EksAudit, 2, 7)]
    {
        service.lake.give(&graph, OTHER, kind, days_ago, bytes);
    }
    service.invite(ACCOUNT, &graph, &[OTHER, THIRD]).await.unwrap();
    let members = service.members(ACCOUNT, &graph).await;
    assert_eq!((members[0].volume_usage_bytes, members[1].volume_usage_bytes), (Some(15), None));
    assert!(members[0].volume_update_time.is_some() && members[1].volume_update_time.is_none());
    let core = &members[0].packages[0];
    assert_eq!((core.package(), core.volume_usage_bytes), (api::DatasourcePackage::DetectiveCore, Some(15)));
    assert_eq!(service.lake.asked(), 1, "both calls together ask once");
}

#[tokio::test]
async fn a_lake_that_fails_leaves_volumes_out() {
    let service = Service::with_accounts().await;
    let graph = service.create_graph(ACCOUNT, "").await.unwrap();
    service.lake.give(&graph, OTHER, RecordKind::Cloudtrail, 1, 10);
    service.lake.fail(1_000);
    service.invite(ACCOUNT, &graph, &[OTHER]).await.unwrap();
    assert_eq!(service.members(ACCOUNT, &graph).await[0].volume_usage_bytes, None);
    let request = api::GetUsageRequest { graph_arn: graph.clone(), days: 0 };
    refused(service.on_graph(ACCOUNT, "detective:GetUsageInformation", &graph).get_usage(request).await, Code::Unavailable, ErrorReason::Unavailable);
}

#[tokio::test]
async fn invitations_come_page_by_page_and_from_many_graphs() {
    let service = Service::with_accounts().await;
    let mut graphs = vec![service.create_graph(ACCOUNT, "us-east-1").await.unwrap(), service.create_graph(ACCOUNT, "eu-west-1").await.unwrap()];
    service.register(ACCOUNT, THIRD).await.unwrap();
    graphs.push(service.create_graph(THIRD, "").await.unwrap());
    for graph in &graphs {
        let administrator = graph.split(':').nth(4).unwrap();
        service.invite(administrator, graph, &[OTHER]).await.unwrap();
    }
    graphs.sort();
    let mut client = service.membership(OTHER, "detective:ListInvitations");
    let first = client.list_invitations(api::ListInvitationsRequest { page_size: 2, page_token: String::new() }).await.unwrap().into_inner();
    let next = api::ListInvitationsRequest { page_size: 2, page_token: first.next_page_token };
    let second = client.list_invitations(next.clone()).await.unwrap().into_inner();
    let listed: Vec<_> = first.invitations.iter().chain(&second.invitations).map(|invitation| invitation.graph_arn.clone()).collect();
    assert_eq!((listed, second.next_page_token.as_str()), (graphs, ""));
    refused(service.membership(ACCOUNT, "detective:ListInvitations").list_invitations(next).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);
}
