//! Members: their life in one graph and in many.

use gumshoe_model::{AccountId, GraphArn};

use super::{Fixture, NOW, account, conforms, graph_of, id, later, new_member};
use crate::{
    datasource::{Package, PackageState},
    graph::Graph,
    member::{DisabledReason, Event, InvitationType, Load, MAX_MEMBERS, Member, NewMember, Refused, Standing, Status},
    store::{GraphStore as _, MemberStore as _, StoreError},
};

conforms! {
    members_follow_their_rules,
    an_invitation_is_answered_once,
    an_invitation_waits_for_its_account,
    registering_and_inviting_at_once_leave_nobody_waiting,
    an_account_is_in_many_graphs,
    a_graph_has_a_limit_of_members,
    histories_follow_the_status,
}

const DISABLED: Status = Status::AcceptedButDisabled(DisabledReason::VolumeTooHigh);

fn invited(status: Status) -> Standing {
    Standing { status, invitation_type: InvitationType::Invitation }
}

fn standings(outcomes: &[(AccountId, Result<Member, Refused>)]) -> Vec<Result<Standing, Refused>> {
    outcomes.iter().map(|(_, outcome)| outcome.as_ref().map(|member| member.standing).map_err(|refused| *refused)).collect()
}

async fn status(fixture: &Fixture, graph: &GraphArn, last: u32) -> Option<Status> {
    let members = fixture.store.members(graph, &[id(last)]).await.unwrap();
    members.into_iter().next().unwrap().1.ok().map(|member| member.standing.status)
}

async fn members_follow_their_rules(fixture: Fixture) {
    let store = &fixture.store;
    let graph = graph_of(&fixture, 1).await;
    for last in [2, 3] {
        store.create_account(&id(last), &account(last)).await.unwrap();
    }
    let mistaken = NewMember { account: id(3), email: "wrong@example.com".parse().unwrap() };
    let outcomes = store.create_members(&graph, &[new_member(2), mistaken, new_member(4), new_member(1), new_member(2)], NOW).await.unwrap();
    let expected = [
        Ok(invited(Status::Invited)),
        Ok(invited(Status::VerificationFailed)),
        Ok(invited(Status::VerificationInProgress)),
        Err(Refused::IsAdministrator),
        Ok(invited(Status::Invited)),
    ];
    assert_eq!(standings(&outcomes), expected);
    // Repeated with the same words, nothing changes.
    let again = store.create_members(&graph, &[new_member(2)], later(3)).await.unwrap();
    assert_eq!(again.first(), outcomes.first());
    // The right address mends what the wrong one broke.
    let again = store.create_members(&graph, &[new_member(3)], later(5)).await.unwrap();
    let mended = again.into_iter().next().unwrap().1.unwrap();
    assert_eq!((mended.standing, mended.invite_time, mended.update_time), (invited(Status::Invited), later(5), later(5)));
    let listed = store.list_members(&graph, None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|member| member.account.clone()).collect::<Vec<_>>(), [id(2), id(3), id(4)]);
    assert_eq!(store.list_members(&graph, Some(&id(2)), 1).await.unwrap().as_slice(), std::slice::from_ref(&mended));
    let got = store.members(&graph, &[id(3), id(9), id(1)]).await.unwrap();
    assert_eq!(got, [(id(3), Ok(mended)), (id(9), Err(Refused::IsNoMember)), (id(1), Err(Refused::IsAdministrator))]);

    let other = graph_of(&fixture, 5).await;
    assert!(store.list_members(&other, None, 10).await.unwrap().is_empty());
    let outcomes = store.delete_members(&graph, &[id(2), id(9), id(1)], NOW).await.unwrap();
    assert_eq!(outcomes, [(id(2), Ok(())), (id(9), Err(Refused::IsNoMember)), (id(1), Err(Refused::IsAdministrator))]);
    assert_eq!(store.list_members(&graph, None, 10).await.unwrap().len(), 2);
    let missing = Graph::new("us-east-1", &id(1), NOW).unwrap().arn;
    assert!(matches!(store.create_members(&missing, &[new_member(2)], NOW).await, Err(StoreError::NotFound)));
    assert!(matches!(store.delete_members(&missing, &[id(2)], NOW).await, Err(StoreError::NotFound)));
    assert!(matches!(store.members(&missing, &[id(2)]).await, Err(StoreError::NotFound)));
    assert!(matches!(store.change_member(&missing, &id(2), Event::Accept, Load::Fits, NOW).await, Err(StoreError::NotFound)));
}

async fn an_invitation_is_answered_once(fixture: Fixture) {
    let store = &fixture.store;
    let graph = graph_of(&fixture, 1).await;
    for last in [2, 3] {
        store.create_account(&id(last), &account(last)).await.unwrap();
    }
    store.create_members(&graph, &[new_member(2), new_member(3)], NOW).await.unwrap();
    let answers = [Event::Accept, Event::Accept, Event::Reject, Event::Accept].map(|event| {
        let (store, graph) = (fixture.store.clone(), graph.clone());
        tokio::spawn(async move { store.change_member(&graph, &id(2), event, Load::TooHigh, later(1)).await.unwrap() })
    });
    let outcomes: Vec<_> = futures::future::join_all(answers).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    let accepted = outcomes.iter().zip([true, true, false, true]).any(|(outcome, accepts)| accepts && outcome.is_ok());
    assert_eq!(status(&fixture, &graph, 2).await, accepted.then_some(DISABLED));

    let third = id(3);
    let change = |event, load| store.change_member(&graph, &third, event, load, later(2));
    assert_eq!(change(Event::Disassociate, Load::Fits).await.unwrap(), Err(Refused::Status(Status::Invited)));
    assert_eq!(change(Event::Accept, Load::TooHigh).await.unwrap(), Ok(()));
    assert_eq!(change(Event::StartMonitoring, Load::TooHigh).await.unwrap(), Err(Refused::TooHigh));
    assert_eq!(status(&fixture, &graph, 3).await, Some(DISABLED));
    assert_eq!(change(Event::StartMonitoring, Load::Fits).await.unwrap(), Ok(()));
    assert_eq!(change(Event::StartMonitoring, Load::Fits).await.unwrap(), Ok(()), "it is enabled already");
    assert_eq!(status(&fixture, &graph, 3).await, Some(Status::Enabled));
    assert_eq!(change(Event::Disassociate, Load::Fits).await.unwrap(), Ok(()));
    assert_eq!(change(Event::Disassociate, Load::Fits).await.unwrap(), Err(Refused::IsNoMember));
    assert_eq!(status(&fixture, &graph, 3).await, None);
}

async fn an_invitation_waits_for_its_account(fixture: Fixture) {
    let store = &fixture.store;
    let (graph, other) = (graph_of(&fixture, 1).await, graph_of(&fixture, 2).await);
    let mistaken = NewMember { account: id(3), email: "wrong@example.com".parse().unwrap() };
    store.create_members(&graph, &[new_member(3)], NOW).await.unwrap();
    store.create_members(&other, &[mistaken], NOW).await.unwrap();
    assert_eq!(status(&fixture, &graph, 3).await, Some(Status::VerificationInProgress));
    assert!(store.list_memberships(&id(3), None, 10).await.unwrap().is_empty(), "the account is not told before");
    store.create_account(&id(3), &account(3)).await.unwrap();
    assert_eq!(status(&fixture, &graph, 3).await, Some(Status::Invited));
    assert_eq!(status(&fixture, &other, 3).await, Some(Status::VerificationFailed));
    let visible = store.list_memberships(&id(3), None, 10).await.unwrap();
    assert_eq!(visible.iter().map(|member| &member.graph).collect::<Vec<_>>(), [&graph]);
}

async fn registering_and_inviting_at_once_leave_nobody_waiting(fixture: Fixture) {
    let graph = graph_of(&fixture, 1).await;
    for last in 100..120 {
        let (store, arn) = (fixture.store.clone(), graph.clone());
        let inviting = tokio::spawn(async move { store.create_members(&arn, &[new_member(last), new_member(last + 1_000)], NOW).await.map(|_| ()) });
        let store = fixture.store.clone();
        let registering = tokio::spawn(async move { store.create_account(&id(1), &account(last)).await });
        inviting.await.unwrap().unwrap();
        registering.await.unwrap().unwrap();
        assert_eq!(status(&fixture, &graph, last).await, Some(Status::Invited));
        assert_eq!(status(&fixture, &graph, last + 1_000).await, Some(Status::VerificationInProgress));
    }
}

async fn an_account_is_in_many_graphs(fixture: Fixture) {
    let store = &fixture.store;
    store.create_account(&id(9), &account(9)).await.unwrap();
    let mut graphs = Vec::new();
    for last in 1..=4 {
        let graph = graph_of(&fixture, last).await;
        store.create_members(&graph, &[new_member(9)], NOW).await.unwrap();
        graphs.push(graph);
    }
    graphs.sort();
    let [a, b, ..] = graphs.as_slice() else { panic!("four graphs") };
    store.change_member(a, &id(9), Event::Accept, Load::Fits, NOW).await.unwrap().unwrap();
    let listed = store.list_memberships(&id(9), None, 2).await.unwrap();
    assert_eq!(listed.iter().map(|member| (&member.graph, member.standing.status)).collect::<Vec<_>>(), [(a, Status::Enabled), (b, Status::Invited)]);
    let rest = store.list_memberships(&id(9), Some(b), 10).await.unwrap();
    assert_eq!(rest.iter().map(|member| member.graph.clone()).collect::<Vec<_>>(), graphs.get(2..).unwrap());
    let mut taking = vec![a.clone()];
    assert_eq!(store.graphs_of_data(&id(9)).await.unwrap(), taking);
    taking.push(store.create_graph(&Graph::new("eu-west-1", &id(9), NOW).unwrap(), &super::Tags::new(), super::CORE).await.unwrap().arn);
    taking.sort_by_key(ToString::to_string);
    assert_eq!(store.graphs_of_data(&id(9)).await.unwrap(), taking, "its own graph takes its logs too");
}

async fn a_graph_has_a_limit_of_members(fixture: Fixture) {
    let store = &fixture.store;
    let graph = graph_of(&fixture, 1).await;
    let last = 1_001 + u32::try_from(MAX_MEMBERS).unwrap();
    let all: Vec<_> = (1_001..last).map(new_member).collect();
    for part in all.chunks(50) {
        assert!(store.create_members(&graph, part, NOW).await.unwrap().iter().all(|(_, outcome)| outcome.is_ok()));
    }
    assert!(matches!(store.create_members(&graph, &[new_member(last)], NOW).await, Err(StoreError::QuotaExceeded)));
    assert!(store.list_members(&graph, Some(&id(last - 1)), 10).await.unwrap().is_empty(), "nothing is added beyond the limit");
    assert!(store.create_members(&graph, &[new_member(1_001)], NOW).await.is_ok(), "a call that adds nothing is within the limit");
}

async fn histories_follow_the_status(fixture: Fixture) {
    let store = &fixture.store;
    let graph = graph_of(&fixture, 1).await;
    let member = id(2);
    store.create_account(&member, &account(2)).await.unwrap();
    let history = async || {
        let changes = store.package_changes(&graph, &member).await.unwrap();
        changes.into_iter().map(|change| (change.package, change.state, change.time)).collect::<Vec<_>>()
    };
    let (core, hub) = (Package::DetectiveCore, Package::AsffSecurityHubFinding);
    let (disabled, started) = (PackageState::Disabled, PackageState::Started);
    store.create_members(&graph, &[new_member(2)], NOW).await.unwrap();
    assert_eq!(history().await, [(core, disabled, NOW)]);
    store.change_member(&graph, &member, Event::Accept, Load::TooHigh, later(10)).await.unwrap().unwrap();
    assert_eq!(history().await, [(core, disabled, NOW)], "it was disabled before");
    store.start_packages(&graph, &[hub], later(20)).await.unwrap();
    assert_eq!(history().await, [(hub, disabled, later(20)), (core, disabled, NOW)]);
    store.change_member(&graph, &member, Event::StartMonitoring, Load::Fits, later(30)).await.unwrap().unwrap();
    let enabled = [(hub, disabled, later(20)), (hub, started, later(30)), (core, disabled, NOW), (core, started, later(30))];
    assert_eq!(history().await, enabled);
    // A replica whose clock is behind does not turn the history around.
    store.delete_members(&graph, std::slice::from_ref(&member), later(5)).await.unwrap();
    let gone = [(hub, disabled, later(31)), (hub, started, later(30)), (core, disabled, later(31)), (core, started, later(30))];
    assert_eq!(history().await, gone);
}
