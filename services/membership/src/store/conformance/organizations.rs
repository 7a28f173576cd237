//! Organizations.

use std::collections::HashSet;

use gumshoe_model::{AccountId, GraphArn};

use super::{CORE, Fixture, NOW, account, conforms, graph_of, id, later, new_member};
use crate::{
    graph::Graph,
    member::{Event, InvitationType, Load, Refused as MemberRefused, Standing, Status},
    organization::{NotDesignated, Refused},
    store::{GraphStore as _, MemberStore as _, OrganizationStore as _, StoreError},
};

conforms! {
    an_account_belongs_to_one_organization,
    an_administrator_is_named_once_a_region,
    accounts_of_an_organization_are_enabled_without_an_invitation,
    new_accounts_become_members_where_that_is_on,
    accounts_that_leave_leave_its_graphs,
    withdrawing_removes_the_graph,
    joining_leaving_and_inviting_at_once_agree_in_the_end,
}

const MANAGER: u32 = 1;
const ADMINISTRATOR: u32 = 2;
const ORGANIZATION: Standing = Standing { status: Status::Enabled, invitation_type: InvitationType::Organization };

fn new_graph(last: u32) -> Graph {
    Graph::new("us-east-1", &id(last), NOW).unwrap()
}

/// Accounts 1 to 6, of which 1 manages an organization of 1 to 4.
async fn organization(fixture: &Fixture) {
    let store = &fixture.store;
    for last in 1..=6 {
        store.create_account(&id(MANAGER), &account(last)).await.unwrap();
    }
    store.create_organization(&id(MANAGER), NOW).await.unwrap();
    let outcomes = store.add_accounts(&id(MANAGER), &[id(2), id(3), id(4)], NOW).await.unwrap();
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
}

async fn designated(fixture: &Fixture) -> GraphArn {
    fixture.store.designate(&id(MANAGER), &new_graph(ADMINISTRATOR), CORE, NOW).await.unwrap().unwrap();
    fixture.store.administrator(&id(MANAGER), "us-east-1").await.unwrap().unwrap().graph
}

async fn standings(fixture: &Fixture, graph: &GraphArn) -> Vec<(AccountId, Standing)> {
    fixture.store.list_members(graph, None, 100).await.unwrap().into_iter().map(|member| (member.account, member.standing)).collect()
}

async fn an_account_belongs_to_one_organization(fixture: Fixture) {
    let store = &fixture.store;
    organization(&fixture).await;
    store.create_organization(&id(MANAGER), later(1)).await.unwrap();
    assert!(store.is_in_organization(&id(MANAGER)).await.unwrap() && store.is_in_organization(&id(2)).await.unwrap());
    assert!(!store.is_in_organization(&id(5)).await.unwrap() && !store.is_in_organization(&id(99)).await.unwrap());
    assert!(matches!(store.create_organization(&id(3), NOW).await, Err(StoreError::AlreadyExists)));
    assert!(matches!(store.create_organization(&id(99), NOW).await, Err(StoreError::NotFound)));
    assert!(matches!(store.add_accounts(&id(3), &[id(5)], NOW).await, Err(StoreError::NotFound)));
    store.create_organization(&id(5), NOW).await.unwrap();
    let outcomes = store.add_accounts(&id(5), &[id(6), id(3), id(99), id(6)], NOW).await.unwrap();
    let expected = [(id(6), Ok(())), (id(3), Err(Refused::IsElsewhere)), (id(99), Err(Refused::IsNotRegistered)), (id(6), Ok(()))];
    assert_eq!(outcomes, expected);
    let listed = store.list_organization_accounts(&id(MANAGER), None, 3).await.unwrap();
    assert_eq!(listed.iter().map(|account| (account.account.clone(), account.management)).collect::<Vec<_>>(), [(id(1), true), (id(2), false), (id(3), false)]);
    assert_eq!(store.list_organization_accounts(&id(MANAGER), Some(&id(3)), 3).await.unwrap().len(), 1);
    assert!(matches!(store.list_organization_accounts(&id(2), None, 3).await, Err(StoreError::NotFound)));
    let outcomes = store.remove_accounts(&id(5), &[id(5), id(3), id(6)], NOW).await.unwrap();
    assert_eq!(outcomes, [(id(5), Err(Refused::Manages)), (id(3), Err(Refused::IsOutside)), (id(6), Ok(()))]);
    assert!(matches!(store.remove_accounts(&id(3), &[id(5)], NOW).await, Err(StoreError::NotFound)));
}

async fn an_administrator_is_named_once_a_region(fixture: Fixture) {
    let store = &fixture.store;
    organization(&fixture).await;
    assert_eq!(store.administrator(&id(MANAGER), "us-east-1").await.unwrap(), None);
    assert!(matches!(store.administrator(&id(3), "us-east-1").await, Err(StoreError::NotFound)));
    assert!(matches!(store.designate(&id(3), &new_graph(2), CORE, NOW).await, Err(StoreError::NotFound)));
    assert_eq!(store.designate(&id(MANAGER), &new_graph(5), CORE, NOW).await.unwrap(), Err(NotDesignated::IsOutside));
    let calls = [2, 3, 2, 3, 2, 3].map(|last| {
        let store = fixture.store.clone();
        tokio::spawn(async move { (last, store.designate(&id(MANAGER), &new_graph(last), CORE, NOW).await.unwrap()) })
    });
    let outcomes: Vec<_> = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    let administrator = store.administrator(&id(MANAGER), "us-east-1").await.unwrap().unwrap();
    for (last, outcome) in outcomes {
        assert_eq!(outcome, if id(last) == administrator.account { Ok(()) } else { Err(NotDesignated::IsTaken) });
    }
    assert_eq!(store.list_graphs(&administrator.account, None, 10).await.unwrap().first().unwrap().arn, administrator.graph);
    // Another region has another administrator.
    store.designate(&id(MANAGER), &Graph::new("eu-west-1", &id(4), NOW).unwrap(), CORE, NOW).await.unwrap().unwrap();
    assert_eq!(store.administrator(&id(MANAGER), "eu-west-1").await.unwrap().unwrap().account, id(4));
    assert_eq!(store.list_organization_accounts(&id(4), None, 10).await.unwrap().len(), 4, "administrators see the organization too");
}

async fn accounts_of_an_organization_are_enabled_without_an_invitation(fixture: Fixture) {
    let store = &fixture.store;
    organization(&fixture).await;
    // A graph from before, with one member of the organization and one stranger.
    let graph = store.create_graph(&new_graph(ADMINISTRATOR), &super::Tags::new(), CORE).await.unwrap().arn;
    store.create_members(&graph, &[new_member(3), new_member(5)], NOW).await.unwrap();
    assert_eq!(designated(&fixture).await, graph);
    let invited = Standing { status: Status::Invited, invitation_type: InvitationType::Invitation };
    assert_eq!(standings(&fixture, &graph).await, [(id(3), ORGANIZATION), (id(5), invited)]);
    let wrong = crate::member::NewMember { account: id(4), email: "wrong@example.com".parse().unwrap() };
    store.create_members(&graph, &[wrong, new_member(6)], NOW).await.unwrap();
    assert_eq!(standings(&fixture, &graph).await, [(id(3), ORGANIZATION), (id(4), ORGANIZATION), (id(5), invited), (id(6), invited)]);
    let leave = store.change_member(&graph, &id(4), Event::Disassociate, Load::Fits, NOW).await.unwrap();
    assert_eq!(leave, Err(MemberRefused::OfOrganization));
    store.delete_members(&graph, &[id(4)], NOW).await.unwrap().into_iter().for_each(|(_, outcome)| outcome.unwrap());
}

async fn new_accounts_become_members_where_that_is_on(fixture: Fixture) {
    let store = &fixture.store;
    organization(&fixture).await;
    let graph = designated(&fixture).await;
    assert!(!store.auto_enable(&graph).await.unwrap());
    store.add_accounts(&id(MANAGER), &[id(5)], NOW).await.unwrap();
    assert!(standings(&fixture, &graph).await.is_empty());
    store.set_auto_enable(&graph, true).await.unwrap();
    assert!(store.auto_enable(&graph).await.unwrap());
    store.add_accounts(&id(MANAGER), &[id(5), id(6)], NOW).await.unwrap();
    assert_eq!(standings(&fixture, &graph).await, [(id(6), ORGANIZATION)], "who was in before is not new");
    let other = graph_of(&fixture, 7).await;
    assert!(matches!(store.auto_enable(&other).await, Err(StoreError::NotFound)));
    assert!(matches!(store.set_auto_enable(&other, true).await, Err(StoreError::NotFound)));
    // An invited stranger who joins is a member by the organization from then on.
    store.create_members(&graph, &[new_member(7)], NOW).await.unwrap();
    store.set_auto_enable(&graph, false).await.unwrap();
    store.add_accounts(&id(MANAGER), &[id(7)], NOW).await.unwrap();
    assert_eq!(standings(&fixture, &graph).await, [(id(6), ORGANIZATION), (id(7), ORGANIZATION)]);
}

async fn accounts_that_leave_leave_its_graphs(fixture: Fixture) {
    let store = &fixture.store;
    organization(&fixture).await;
    let graph = designated(&fixture).await;
    let elsewhere = graph_of(&fixture, 7).await;
    store.create_members(&graph, &[new_member(3), new_member(4)], NOW).await.unwrap();
    store.create_members(&elsewhere, &[new_member(3)], NOW).await.unwrap();
    let outcomes = store.remove_accounts(&id(MANAGER), &[id(ADMINISTRATOR), id(3)], NOW).await.unwrap();
    assert_eq!(outcomes, [(id(ADMINISTRATOR), Err(Refused::Administers)), (id(3), Ok(()))]);
    assert_eq!(standings(&fixture, &graph).await, [(id(4), ORGANIZATION)]);
    assert_eq!(standings(&fixture, &elsewhere).await.len(), 1, "graphs of others are not the organization's");
}

async fn withdrawing_removes_the_graph(fixture: Fixture) {
    let store = &fixture.store;
    organization(&fixture).await;
    assert!(!store.withdraw(&id(MANAGER), "us-east-1", NOW).await.unwrap());
    let graph = designated(&fixture).await;
    store.create_members(&graph, &[new_member(3)], NOW).await.unwrap();
    assert!(matches!(store.withdraw(&id(3), "us-east-1", NOW).await, Err(StoreError::NotFound)));
    assert!(!store.withdraw(&id(MANAGER), "eu-west-1", NOW).await.unwrap());
    assert!(store.withdraw(&id(MANAGER), "us-east-1", later(1)).await.unwrap());
    assert!(matches!(store.graph(&graph).await, Err(StoreError::NotFound)));
    assert!(store.list_memberships(&id(3), None, 10).await.unwrap().is_empty());
    assert_eq!(store.claim_removal(later(1), later(2)).await.unwrap().unwrap().graph, graph);
    assert_eq!(store.administrator(&id(MANAGER), "us-east-1").await.unwrap(), None);
    // An administrator that removes the graph itself is none afterwards.
    let graph = designated(&fixture).await;
    store.delete_graph(&graph, later(3)).await.unwrap();
    assert_eq!(store.administrator(&id(MANAGER), "us-east-1").await.unwrap(), None);
    store.remove_accounts(&id(MANAGER), &[id(ADMINISTRATOR)], NOW).await.unwrap().into_iter().for_each(|(_, outcome)| outcome.unwrap());
}

async fn joining_leaving_and_inviting_at_once_agree_in_the_end(fixture: Fixture) {
    organization(&fixture).await;
    let graph = designated(&fixture).await;
    fixture.store.set_auto_enable(&graph, true).await.unwrap();
    let clients = (0..60_u32).map(|client| {
        let (store, graph) = (fixture.store.clone(), graph.clone());
        tokio::spawn(async move {
            let account = id(3 + client % 4);
            let accounts = std::slice::from_ref(&account);
            let now = later(i64::from(client));
            // The database may ask for a repetition; nothing else may go wrong.
            while let Err(error) = match client / 4 % 5 {
                0 => store.add_accounts(&id(MANAGER), accounts, now).await.map(|_| ()),
                1 => store.remove_accounts(&id(MANAGER), accounts, now).await.map(|_| ()),
                2 => store.create_members(&graph, &[new_member(3 + client % 4)], now).await.map(|_| ()),
                3 => store.change_member(&graph, &account, Event::Accept, Load::Fits, now).await.map(|_| ()),
                _ => store.change_member(&graph, &account, Event::Disassociate, Load::Fits, now).await.map(|_| ()),
            } {
                assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
            }
        })
    });
    futures::future::join_all(clients).await.into_iter().for_each(Result::unwrap);
    let inside: HashSet<_> =
        fixture.store.list_organization_accounts(&id(MANAGER), None, 100).await.unwrap().into_iter().map(|account| account.account).collect();
    for (account, standing) in standings(&fixture, &graph).await {
        assert!(standing.is_legal(), "{account}: {standing:?}");
        let by_organization = standing.invitation_type == InvitationType::Organization;
        assert_eq!(by_organization, inside.contains(&account), "{account}: {standing:?}");
    }
}
