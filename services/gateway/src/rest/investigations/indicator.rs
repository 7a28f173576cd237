//! Indicators in the model's shapes.

use gumshoe_api::investigation::v1::{self as api, indicator::Detail as Message};
use serde::Serialize;

use super::super::shapes::{given, name, signed};

/// The only reason that the model knows.
const FLAGGED: &str = "AWS_THREAT_INTELLIGENCE";

/// `Indicator`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Indicator {
    indicator_type: String,
    indicator_detail: Detail,
}

/// `IndicatorDetail`, which has one member.
#[derive(Serialize)]
enum Detail {
    #[serde(rename = "TTPsObservedDetail")]
    TtpsObserved(TtpsObserved),
    #[serde(rename = "ImpossibleTravelDetail")]
    ImpossibleTravel(ImpossibleTravel),
    #[serde(rename = "FlaggedIpAddressDetail")]
    FlaggedIpAddress(FlaggedIpAddress),
    #[serde(rename = "NewGeolocationDetail")]
    NewGeolocation(NewGeolocation),
    #[serde(rename = "NewAsoDetail")]
    NewAso(NewAso),
    #[serde(rename = "NewUserAgentDetail")]
    NewUserAgent(NewUserAgent),
    #[serde(rename = "RelatedFindingDetail")]
    RelatedFinding(RelatedFinding),
    #[serde(rename = "RelatedFindingGroupDetail")]
    RelatedFindingGroup(RelatedFindingGroup),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TtpsObserved {
    #[serde(skip_serializing_if = "Option::is_none")]
    tactic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    technique: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    procedure: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<String>,
    #[serde(rename = "APIName", skip_serializing_if = "Option::is_none")]
    api_name: Option<String>,
    #[serde(rename = "APISuccessCount")]
    api_success_count: i64,
    #[serde(rename = "APIFailureCount")]
    api_failure_count: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ImpossibleTravel {
    #[serde(skip_serializing_if = "Option::is_none")]
    starting_ip_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ending_ip_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    starting_location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ending_location: Option<String>,
    hourly_time_delta: i32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct FlaggedIpAddress {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<String>,
    reason: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NewGeolocation {
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<String>,
    is_new_for_entire_account: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NewAso {
    #[serde(skip_serializing_if = "Option::is_none")]
    aso: Option<String>,
    is_new_for_entire_account: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NewUserAgent {
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    is_new_for_entire_account: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RelatedFinding {
    #[serde(skip_serializing_if = "Option::is_none")]
    arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RelatedFindingGroup {
    id: String,
}

impl Indicator {
    /// An indicator; none if it is of a kind that this API does not have.
    pub fn new(indicator: api::Indicator) -> Option<Self> {
        let indicator_type = name(indicator.r#type().as_str_name(), "INDICATOR_TYPE_")?;
        Some(Self { indicator_type, indicator_detail: detail(indicator.detail?) })
    }
}

fn detail(message: Message) -> Detail {
    match message {
        Message::TtpsObserved(ttps) => Detail::TtpsObserved(TtpsObserved {
            tactic: given(ttps.tactic),
            technique: given(ttps.technique),
            procedure: given(ttps.procedure),
            ip_address: given(ttps.ip_address),
            api_name: given(ttps.api_name),
            api_success_count: signed(ttps.api_success_count),
            api_failure_count: signed(ttps.api_failure_count),
        }),
        Message::ImpossibleTravel(travel) => Detail::ImpossibleTravel(ImpossibleTravel {
            starting_ip_address: given(travel.starting_ip_address),
            ending_ip_address: given(travel.ending_ip_address),
            starting_location: given(travel.starting_location),
            ending_location: given(travel.ending_location),
            hourly_time_delta: travel.hourly_time_delta,
        }),
        // Who knows the address is told over gRPC; here the model leaves one answer.
        Message::FlaggedIpAddress(flagged) => Detail::FlaggedIpAddress(FlaggedIpAddress { ip_address: given(flagged.ip_address), reason: FLAGGED }),
        Message::NewGeolocation(place) => Detail::NewGeolocation(NewGeolocation {
            location: given(place.location),
            ip_address: given(place.ip_address),
            is_new_for_entire_account: place.is_new_for_entire_account,
        }),
        Message::NewAso(aso) => Detail::NewAso(NewAso { aso: given(aso.aso), is_new_for_entire_account: aso.is_new_for_entire_account }),
        Message::NewUserAgent(agent) => {
            Detail::NewUserAgent(NewUserAgent { user_agent: given(agent.user_agent), is_new_for_entire_account: agent.is_new_for_entire_account })
        }
        Message::RelatedFinding(finding) => {
            // The model wants an ARN; findings of other products have ids of their own.
            let arn = given(finding.arn).filter(|arn| arn.starts_with("arn:"));
            Detail::RelatedFinding(RelatedFinding { arn, r#type: given(finding.r#type), ip_address: given(finding.ip_address) })
        }
        Message::RelatedFindingGroup(group) => Detail::RelatedFindingGroup(RelatedFindingGroup { id: group.id }),
    }
}
