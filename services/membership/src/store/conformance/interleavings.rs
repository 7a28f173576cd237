//! Many clients do everything to the same few memberships at once: whatever the order was, there was one.

use std::collections::{BTreeMap, HashSet};

use gumshoe_model::GraphArn;

use super::{Fixture, account, conforms, graph_of, id, later, new_member};
use crate::{
    datasource::{Package, PackageState},
    member::{Event, Facts, Load, NewMember, Refused, Registration, Standing, transition},
    store::{GraphStore as _, MemberStore as _, StoreError},
};

conforms! { every_acknowledged_outcome_is_explained_by_an_order }

const CLIENTS: u32 = 200;
const CALLS: u32 = 3;
const ROUNDS: u64 = 3;
/// Orders looked at before a membership counts as undecided.
const SEARCH_LIMIT: usize = 3_000_000;

/// Splitmix64: the same numbers for the same seed, on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// One call, as far as it decides what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Call {
    event: Event,
    load: Load,
    /// For creations: whether the address is right.
    matching: bool,
}

/// What the caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Told {
    Done,
    /// By creations.
    Stands(Standing),
    Refused(Refused),
}

impl Call {
    fn random(random: &mut Random) -> Self {
        // Invitations are what the rest lives on.
        let events = [
            Event::Create,
            Event::Create,
            Event::Create,
            Event::Accept,
            Event::Accept,
            Event::Reject,
            Event::StartMonitoring,
            Event::Disassociate,
            Event::Delete,
        ];
        let event = events[usize::try_from(random.below(9)).unwrap()];
        let asks = matches!(event, Event::Accept | Event::StartMonitoring);
        let load = if asks { [Load::Fits, Load::TooHigh, Load::Unknown][usize::try_from(random.below(3)).unwrap()] } else { Load::Unknown };
        Self { event, load, matching: event == Event::Create && random.below(5) > 0 }
    }

    /// Where the call leads from a state, if it can have told what it told.
    fn leads(self, told: Told, present: Option<Standing>) -> Option<Option<Standing>> {
        let registration = if self.matching { Registration::Matching } else { Registration::Differing };
        let after = transition(present, self.event, &Facts { registration, in_organization: false, load: self.load });
        match (after, told) {
            (Ok(after), Told::Done) => Some(after),
            (Ok(after), Told::Stands(standing)) => (after == Some(standing)).then_some(after),
            (Err(refused), Told::Refused(same)) => (refused == same).then_some(present),
            _ => None,
        }
    }
}

/// Whether some order of all calls leads from no membership to `end`, each having told what it told.
fn explained(calls: &BTreeMap<usize, (Call, Told, usize)>, end: Option<Standing>) -> bool {
    let kinds: Vec<(Call, Told)> = calls.values().map(|(call, told, _)| (*call, *told)).collect();
    let counts: Vec<usize> = calls.values().map(|(_, _, count)| *count).collect();
    let mut seen = HashSet::new();
    let mut open = vec![(counts, None)];
    while let Some((mut counts, present)) = open.pop() {
        // What was refused has changed nothing, wherever it stood: all of it may as well stand here.
        for (left, (call, told)) in counts.iter_mut().zip(&kinds) {
            if matches!(told, Told::Refused(_)) && call.leads(*told, present).is_some() {
                *left = 0;
            }
        }
        if counts.iter().all(|left| *left == 0) && present == end {
            return true;
        }
        if !seen.insert((counts.clone(), present)) {
            continue;
        }
        assert!(seen.len() < SEARCH_LIMIT, "undecided after {SEARCH_LIMIT} orders");
        for (kind, (call, told)) in kinds.iter().enumerate() {
            if counts[kind] > 0
                && let Some(after) = call.leads(*told, present)
            {
                let mut rest = counts.clone();
                rest[kind] -= 1;
                open.push((rest, after));
            }
        }
    }
    false
}

async fn perform(fixture: &super::SqlStore, graph: &GraphArn, last: u32, call: Call, time: i64) -> Told {
    let (account, now) = (id(last), later(time));
    loop {
        let outcome = match call.event {
            Event::Create => {
                let email = if call.matching { new_member(last).email } else { "wrong@example.com".parse().unwrap() };
                fixture.create_members(graph, &[NewMember { account: account.clone(), email }], now).await.map(|outcomes| {
                    let outcome = outcomes.into_iter().next().unwrap().1;
                    outcome.map_or_else(Told::Refused, |member| Told::Stands(member.standing))
                })
            }
            Event::Delete => fixture.delete_members(graph, std::slice::from_ref(&account), now).await.map(|outcomes| {
                let outcome = outcomes.into_iter().next().unwrap().1;
                outcome.map_or_else(Told::Refused, |()| Told::Done)
            }),
            event => fixture.change_member(graph, &account, event, call.load, now).await.map(|outcome| outcome.map_or_else(Told::Refused, |()| Told::Done)),
        };
        match outcome {
            Ok(told) => return told,
            // Not acknowledged, and nothing has happened.
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn every_acknowledged_outcome_is_explained_by_an_order(fixture: Fixture) {
    let members = 10..14;
    for last in members.clone() {
        fixture.store.create_account(&id(last), &account(last)).await.unwrap();
    }
    for seed in 0..ROUNDS {
        let administrators = [100 + u32::try_from(seed).unwrap() * 2, 101 + u32::try_from(seed).unwrap() * 2];
        let graphs = [graph_of(&fixture, administrators[0]).await, graph_of(&fixture, administrators[1]).await];
        let clients = (0..CLIENTS).map(|client| {
            let (store, graphs) = (fixture.store.clone(), graphs.clone());
            tokio::spawn(async move {
                let mut random = Random(seed << 32 | u64::from(client));
                let mut told = Vec::new();
                for number in 0..CALLS {
                    let graph = usize::try_from(random.below(2)).unwrap();
                    let last = 10 + u32::try_from(random.below(4)).unwrap();
                    let call = Call::random(&mut random);
                    // The clients' clocks are not in step either.
                    let time = i64::try_from(random.below(1_000)).unwrap();
                    told.push((graph, last, call, perform(&store, &graphs[graph], last, call, time).await));
                    if number % 2 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                told
            })
        });
        let told: Vec<_> = futures::future::join_all(clients).await.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(told.len(), usize::try_from(CLIENTS * CALLS).unwrap());
        for (index, graph) in graphs.iter().enumerate() {
            let listed = fixture.store.list_members(graph, None, 100).await.unwrap();
            let taking: HashSet<_> = fixture.store.graph_accounts(graph).await.unwrap().unwrap().accounts.into_iter().filter(|(_, enabled)| *enabled).collect();
            for last in members.clone() {
                let member = listed.iter().find(|member| member.account == id(last));
                let end = member.map(|member| member.standing);
                assert!(end.is_none_or(|standing| standing.is_legal()), "seed {seed}: {end:?}");
                assert!(member.is_none_or(|member| member.invite_time <= member.update_time), "seed {seed}: {member:?}");

                // The history's last entry is what the status says, and so is what is taken.
                let changes = fixture.store.package_changes(graph, &id(last)).await.unwrap();
                let latest = changes.iter().filter(|change| change.package == Package::DetectiveCore).max_by_key(|change| change.time);
                let state = end.map_or(PackageState::Disabled, |standing| PackageState::of_member(standing.status));
                assert_eq!(latest.map_or(PackageState::Disabled, |change| change.state), state, "seed {seed}, account {last}: {changes:?}");
                assert_eq!(taking.contains(&(id(last), true)), state == PackageState::Started);

                let mut calls: BTreeMap<usize, (Call, Told, usize)> = BTreeMap::new();
                for (_, _, call, outcome) in told.iter().filter(|(of, account, _, _)| (*of, *account) == (index, last)) {
                    let place = calls.iter().find(|(_, (known, same, _))| (known, same) == (call, outcome)).map_or(calls.len(), |(place, _)| *place);
                    calls.entry(place).or_insert((*call, *outcome, 0)).2 += 1;
                }
                assert!(explained(&calls, end), "seed {seed}, account {last}: no order explains {calls:?} and then {end:?}");
            }
        }
    }
}

#[test]
fn the_search_tells_possible_from_impossible() {
    let call = |event| Call { event, load: Load::Unknown, matching: true };
    let invited = Standing { status: crate::member::Status::Invited, invitation_type: crate::member::InvitationType::Invitation };
    let calls = |list: &[(Call, Told, usize)]| list.iter().copied().enumerate().collect();
    let create = (call(Event::Create), Told::Stands(invited), 1);
    assert!(explained(&calls(&[create]), Some(invited)));
    assert!(!explained(&calls(&[create]), None));
    assert!(explained(&calls(&[create, (call(Event::Reject), Told::Done, 1)]), None));
    assert!(!explained(&calls(&[create, (call(Event::Reject), Told::Done, 2)]), None), "one invitation is not refused twice");
    assert!(explained(&calls(&[create, (call(Event::Reject), Told::Refused(Refused::IsNoMember), 3)]), Some(invited)));
}
