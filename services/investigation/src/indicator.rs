//! Indicators: what an investigation has found.

use gumshoe_api::{convert::entity_to_proto, investigation::v1 as api};
use gumshoe_model::EntityKey;
use serde::{Deserialize, Serialize};

use crate::techniques::Tactic;

/// Kinds of indicators, those of the Amazon Detective API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A technique of MITRE ATT&CK.
    TtpObserved,
    /// Places too far apart for the time between.
    ImpossibleTravel,
    /// An address that threat intelligence knows.
    FlaggedIpAddress,
    /// A place not seen before.
    NewGeolocation,
    /// A network not seen before.
    NewNetwork,
    /// A user agent not seen before.
    NewUserAgent,
    /// A finding about the entity.
    RelatedFinding,
    /// A group of findings about the entity.
    RelatedFindingGroup,
}

impl Kind {
    /// Every kind, in the order in which indicators are listed.
    pub const ALL: [Self; 8] = [
        Self::TtpObserved,
        Self::ImpossibleTravel,
        Self::FlaggedIpAddress,
        Self::NewGeolocation,
        Self::NewNetwork,
        Self::NewUserAgent,
        Self::RelatedFinding,
        Self::RelatedFindingGroup,
    ];

    /// The name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TtpObserved => "TTP_OBSERVED",
            Self::ImpossibleTravel => "IMPOSSIBLE_TRAVEL",
            Self::FlaggedIpAddress => "FLAGGED_IP_ADDRESS",
            Self::NewGeolocation => "NEW_GEOLOCATION",
            Self::NewNetwork => "NEW_ASO",
            Self::NewUserAgent => "NEW_USER_AGENT",
            Self::RelatedFinding => "RELATED_FINDING",
            Self::RelatedFindingGroup => "RELATED_FINDING_GROUP",
        }
    }

    /// As in messages.
    #[must_use]
    pub fn to_proto(self) -> api::IndicatorType {
        match self {
            Self::TtpObserved => api::IndicatorType::TtpObserved,
            Self::ImpossibleTravel => api::IndicatorType::ImpossibleTravel,
            Self::FlaggedIpAddress => api::IndicatorType::FlaggedIpAddress,
            Self::NewGeolocation => api::IndicatorType::NewGeolocation,
            Self::NewNetwork => api::IndicatorType::NewAso,
            Self::NewUserAgent => api::IndicatorType::NewUserAgent,
            Self::RelatedFinding => api::IndicatorType::RelatedFinding,
            Self::RelatedFindingGroup => api::IndicatorType::RelatedFindingGroup,
        }
    }

    /// Out of a message; `None` for unspecified or unknown numbers.
    #[must_use]
    pub fn from_proto(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.to_proto() as i32 == number)
    }
}

/// One thing that an investigation has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Indicator {
    /// A technique of MITRE ATT&CK, seen in calls of one operation from one address.
    TtpObserved {
        /// The tactic that it serves.
        tactic: Tactic,
        /// Its id, `T1098.001`.
        technique: String,
        /// Whether another indicator of the same rule makes its points: a rule can name several techniques.
        #[serde(default)]
        further: bool,
        /// What was done, in words.
        procedure: String,
        /// From where; empty if not known.
        address: String,
        /// The operation.
        operation: String,
        /// Calls that succeeded.
        successes: u64,
        /// Calls that failed.
        failures: u64,
    },
    /// Calls from two countries in too short a time.
    ImpossibleTravel {
        /// The first address.
        start_address: String,
        /// The second address.
        end_address: String,
        /// The first country.
        start_place: String,
        /// The second country.
        end_place: String,
        /// Whole hours between them.
        hours: i32,
    },
    /// An address that a threat list has.
    FlaggedAddress {
        /// The address.
        address: String,
        /// The list.
        list: String,
        /// What the list says of it; may be empty.
        category: String,
    },
    /// A country not seen before.
    NewGeolocation {
        /// The country.
        place: String,
        /// The address there that called most; empty if not known.
        address: String,
        /// Whether the account had not seen the country either.
        new_for_account: bool,
    },
    /// A network not seen before.
    NewNetwork {
        /// The autonomous system's organisation, or its number.
        organization: String,
        /// Whether the account had not seen the network either.
        new_for_account: bool,
    },
    /// A user agent not seen before.
    NewUserAgent {
        /// The user agent.
        user_agent: String,
        /// Whether the account had not seen it either.
        new_for_account: bool,
    },
    /// A finding about the entity.
    RelatedFinding {
        /// The finding's ARN or id.
        id: String,
        /// Its type.
        finding_type: String,
        /// An address that it names, or empty.
        address: String,
    },
    /// A group of findings about the entity.
    RelatedFindingGroup {
        /// Its id.
        id: String,
    },
}

impl Indicator {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::TtpObserved { .. } => Kind::TtpObserved,
            Self::ImpossibleTravel { .. } => Kind::ImpossibleTravel,
            Self::FlaggedAddress { .. } => Kind::FlaggedIpAddress,
            Self::NewGeolocation { .. } => Kind::NewGeolocation,
            Self::NewNetwork { .. } => Kind::NewNetwork,
            Self::NewUserAgent { .. } => Kind::NewUserAgent,
            Self::RelatedFinding { .. } => Kind::RelatedFinding,
            Self::RelatedFindingGroup { .. } => Kind::RelatedFindingGroup,
        }
    }

    /// As a message.
    #[must_use]
    pub fn to_proto(&self) -> api::Indicator {
        use api::indicator::Detail;
        let detail = match self.clone() {
            Self::TtpObserved { tactic, technique, procedure, address, operation, successes, failures, further: _ } => {
                Detail::TtpsObserved(api::TtpsObservedDetail {
                    tactic: tactic.as_str().to_owned(),
                    technique,
                    procedure,
                    ip_address: address,
                    api_name: operation,
                    api_success_count: successes,
                    api_failure_count: failures,
                })
            }
            Self::ImpossibleTravel { start_address, end_address, start_place, end_place, hours } => Detail::ImpossibleTravel(api::ImpossibleTravelDetail {
                starting_ip_address: start_address,
                ending_ip_address: end_address,
                starting_location: start_place,
                ending_location: end_place,
                hourly_time_delta: hours,
            }),
            Self::FlaggedAddress { address, list, category } => {
                Detail::FlaggedIpAddress(api::FlaggedIpAddressDetail { ip_address: address, reason: list, category })
            }
            Self::NewGeolocation { place, address, new_for_account } => {
                Detail::NewGeolocation(api::NewGeolocationDetail { location: place, ip_address: address, is_new_for_entire_account: new_for_account })
            }
            Self::NewNetwork { organization, new_for_account } => {
                Detail::NewAso(api::NewAsoDetail { aso: organization, is_new_for_entire_account: new_for_account })
            }
            Self::NewUserAgent { user_agent, new_for_account } => {
                Detail::NewUserAgent(api::NewUserAgentDetail { user_agent, is_new_for_entire_account: new_for_account })
            }
            Self::RelatedFinding { id, finding_type, address } => {
                Detail::RelatedFinding(api::RelatedFindingDetail { arn: id, r#type: finding_type, ip_address: address })
            }
            Self::RelatedFindingGroup { id } => Detail::RelatedFindingGroup(api::RelatedFindingGroupDetail { id }),
        };
        api::Indicator { r#type: self.kind().to_proto().into(), detail: Some(detail), principal: None }
    }
}

/// An indicator and whom it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributed {
    /// The principal.
    pub principal: EntityKey,
    /// What was found.
    pub indicator: Indicator,
}

impl Attributed {
    /// As a message.
    #[must_use]
    pub fn to_proto(&self) -> api::Indicator {
        api::Indicator { principal: Some(entity_to_proto(&self.principal)), ..self.indicator.to_proto() }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One of each kind that there is.
    pub(crate) fn samples() -> Vec<Indicator> {
        let text = |text: &str| text.to_owned();
        vec![
            technique(Tactic::Persistence, "T1098.001", 1),
            Indicator::ImpossibleTravel {
                start_address: text("198.51.100.1"),
                end_address: text("203.0.113.9"),
                start_place: text("DE"),
                end_place: text("BR"),
                hours: 1,
            },
            Indicator::FlaggedAddress { address: text("203.0.113.9"), list: text("tor"), category: String::new() },
            Indicator::NewGeolocation { place: text("BR"), address: text("203.0.113.9"), new_for_account: true },
            Indicator::NewNetwork { organization: text("Example Ürünler"), new_for_account: false },
            Indicator::NewUserAgent { user_agent: text("curl/8 \0 '; --"), new_for_account: true },
            Indicator::RelatedFinding { id: text("arn:x"), finding_type: text("UnauthorizedAccess:IAMUser/TorIPCaller"), address: String::new() },
            Indicator::RelatedFindingGroup { id: text("0197b2f4-0000-7000-8000-000000000001") },
        ]
    }

    pub(crate) fn technique(tactic: Tactic, technique: &str, successes: u64) -> Indicator {
        Indicator::TtpObserved {
            tactic,
            technique: technique.to_owned(),
            further: false,
            procedure: "did something".to_owned(),
            address: "203.0.113.9".to_owned(),
            operation: "CreateAccessKey".to_owned(),
            successes,
            failures: 2,
        }
    }

    #[test]
    fn kinds_agree_with_the_messages_by_name() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_proto().as_str_name(), format!("INDICATOR_TYPE_{}", kind.as_str()));
            assert_eq!(Kind::from_proto(kind.to_proto() as i32), Some(kind));
        }
        assert_eq!((Kind::from_proto(0), Kind::from_proto(99)), (None, None));
        assert!(Kind::ALL.is_sorted());
    }

    #[test]
    fn indicators_are_stored_whole_and_sent_under_their_kind() {
        for indicator in samples() {
            let text = serde_json::to_string(&indicator).unwrap();
            assert!(!text.contains('\0'), "Postgres cannot store it");
            assert_eq!(serde_json::from_str::<Indicator>(&text).unwrap(), indicator);
            assert_eq!(indicator.to_proto().r#type(), indicator.kind().to_proto());
        }
    }
}
