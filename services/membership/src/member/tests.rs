//! Tests of the states of members.

use super::*;

const FACTS: Facts = Facts { registration: Registration::Matching, in_organization: false, load: Load::Fits };
const TOO_HIGH: Status = Status::AcceptedButDisabled(DisabledReason::VolumeTooHigh);
const UNKNOWN: Status = Status::AcceptedButDisabled(DisabledReason::VolumeUnknown);
const EVENTS: [Event; 8] =
    [Event::Create, Event::Register, Event::Accept, Event::Reject, Event::StartMonitoring, Event::Disassociate, Event::Delete, Event::JoinOrganization];

fn of(status: Status) -> Option<Standing> {
    Some(Standing::invited(status))
}

fn organization(status: Status) -> Option<Standing> {
    Some(Standing { status, invitation_type: InvitationType::Organization })
}

fn all_facts() -> impl Iterator<Item = Facts> {
    [Registration::Missing, Registration::Matching, Registration::Differing].into_iter().flat_map(|registration| {
        [false, true].into_iter().flat_map(move |in_organization| {
            [Load::Fits, Load::TooHigh, Load::Unknown].into_iter().map(move |load| Facts { registration, in_organization, load })
        })
    })
}

#[test]
fn names_agree_with_the_messages() {
    for status in Status::ALL {
        assert_eq!(status.to_proto().as_str_name(), format!("MEMBER_STATUS_{}", status.as_str()));
        let reason = status.disabled_reason();
        assert_eq!(Status::from_names(status.as_str(), reason.map(DisabledReason::as_str)), Some(status));
        if let Some(reason) = reason {
            assert_eq!(reason.to_proto().as_str_name(), format!("MEMBER_DISABLED_REASON_{}", reason.as_str()));
        }
    }
    assert_eq!(Status::from_names("ENABLED", Some("VOLUME_UNKNOWN")), None);
    assert_eq!(Status::from_names("ACCEPTED_BUT_DISABLED", None), None);
    assert_eq!(Status::from_names("enabled", None), None);
    for kind in [InvitationType::Invitation, InvitationType::Organization] {
        assert_eq!(kind.to_proto().as_str_name(), format!("INVITATION_TYPE_{}", kind.as_str()));
        assert_eq!(InvitationType::from_name(kind.as_str()), Some(kind));
    }
}

#[test]
fn an_invitation_waits_for_the_right_address() {
    let create = |present, registration| transition(present, Event::Create, &Facts { registration, ..FACTS });
    assert_eq!(create(None, Registration::Matching), Ok(of(Status::Invited)));
    assert_eq!(create(None, Registration::Differing), Ok(of(Status::VerificationFailed)));
    assert_eq!(create(None, Registration::Missing), Ok(of(Status::VerificationInProgress)));
    assert_eq!(create(of(Status::VerificationFailed), Registration::Matching), Ok(of(Status::Invited)), "the right address mends the wrong one");
    for status in [Status::Invited, Status::VerificationInProgress, Status::VerificationFailed] {
        let registration = match status {
            Status::Invited => Registration::Matching,
            Status::VerificationInProgress => Registration::Missing,
            _ => Registration::Differing,
        };
        assert_eq!(create(of(status), registration), Ok(of(status)), "repeated, it changes nothing");
    }
    assert_eq!(create(of(Status::Invited), Registration::Differing), Err(Refused::IsInvited));
    for status in [Status::Enabled, TOO_HIGH, UNKNOWN] {
        assert_eq!(create(of(status), Registration::Matching), Err(Refused::IsMember));
    }
    let register = |registration| transition(of(Status::VerificationInProgress), Event::Register, &Facts { registration, ..FACTS });
    assert_eq!(register(Registration::Matching), Ok(of(Status::Invited)));
    assert_eq!(register(Registration::Differing), Ok(of(Status::VerificationFailed)));
}

#[test]
fn accepting_enables_what_fits() {
    let accept = |load| transition(of(Status::Invited), Event::Accept, &Facts { load, ..FACTS });
    assert_eq!(accept(Load::Fits), Ok(of(Status::Enabled)));
    assert_eq!(accept(Load::TooHigh), Ok(of(TOO_HIGH)));
    assert_eq!(accept(Load::Unknown), Ok(of(UNKNOWN)));
    let start = |present, load| transition(of(present), Event::StartMonitoring, &Facts { load, ..FACTS });
    for status in [TOO_HIGH, UNKNOWN] {
        assert_eq!(start(status, Load::Fits), Ok(of(Status::Enabled)));
        assert_eq!(start(status, Load::Unknown), Ok(of(Status::Enabled)));
        assert_eq!(start(status, Load::TooHigh), Err(Refused::TooHigh));
    }
    assert_eq!(start(Status::Enabled, Load::TooHigh), Ok(of(Status::Enabled)), "it is in already");
}

#[test]
fn accounts_of_the_organization_are_not_asked_and_cannot_leave() {
    let inside = Facts { in_organization: true, registration: Registration::Differing, ..FACTS };
    assert_eq!(transition(None, Event::Create, &inside), Ok(organization(Status::Enabled)));
    assert_eq!(transition(of(Status::Invited), Event::Create, &inside), Ok(organization(Status::Enabled)));
    assert_eq!(transition(organization(Status::Enabled), Event::Create, &inside), Err(Refused::IsMember));
    assert_eq!(transition(organization(Status::Enabled), Event::Disassociate, &FACTS), Err(Refused::OfOrganization));
    assert_eq!(transition(of(Status::Enabled), Event::Disassociate, &FACTS), Ok(None));
    assert_eq!(transition(of(Status::Invited), Event::JoinOrganization, &FACTS), Ok(organization(Status::Enabled)));
    assert_eq!(transition(of(TOO_HIGH), Event::JoinOrganization, &FACTS), Ok(organization(TOO_HIGH)), "joining lifts no limit");
    assert_eq!(transition(organization(Status::Enabled), Event::Delete, &FACTS), Ok(None));
}

#[test]
fn what_a_status_does_not_allow_is_refused() {
    for status in Status::ALL {
        let refused = |event| transition(of(status), event, &FACTS) == Err(Refused::Status(status));
        assert_eq!(refused(Event::Accept), status != Status::Invited);
        assert_eq!(refused(Event::Reject), status != Status::Invited);
        assert_eq!(refused(Event::Disassociate), !status.is_accepted());
        assert_eq!(refused(Event::StartMonitoring), !status.is_accepted());
        assert_eq!(refused(Event::Register), status != Status::VerificationInProgress);
        assert_eq!(transition(of(status), Event::Delete, &FACTS), Ok(None));
    }
    for event in EVENTS {
        let outcome = transition(None, event, &FACTS);
        assert_eq!(outcome == Err(Refused::IsNoMember), !matches!(event, Event::Create | Event::JoinOrganization), "{event:?}");
    }
}

#[test]
fn every_path_leads_to_legal_states_only() {
    let mut reached = vec![None];
    let mut next = 0;
    while let Some(present) = reached.get(next).copied() {
        next += 1;
        for (event, facts) in EVENTS.into_iter().flat_map(|event| all_facts().map(move |facts| (event, facts))) {
            if let Ok(after) = transition(present, event, &facts)
                && !reached.contains(&after)
            {
                reached.push(after);
            }
        }
    }
    assert!(reached.iter().flatten().all(|standing| standing.is_legal()), "{reached:?}");
    assert_eq!(reached.len(), 1 + Status::ALL.len() + 3, "no membership, six of invitations, three of the organization");
}
