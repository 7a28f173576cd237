//! Tests of the operations on investigations.

use std::cell::RefCell;

use gumshoe_api::investigation::v1 as api;
use gumshoe_model::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::rest::validate;

fn listing(input: &Value) -> Result<ListInvestigationsRequest, String> {
    let faults = RefCell::default();
    let request = list_request(&Input::new(input.as_object().unwrap(), &faults));
    validate::error(&faults.into_inner()).map_or(Ok(request), |error| Err(error.message))
}

const GRAPH: &str = "arn:aws:detective:us-east-1:111122223333:graph:0123456789abcdef0123456789abcdef";

#[test]
fn filters_and_order_are_passed_on() {
    let request = listing(&json!({
        "GraphArn": GRAPH, "MaxResults": 7, "NextToken": "t",
        "FilterCriteria": {
            "Severity": {"Value": "HIGH"}, "Status": {"Value": "FAILED"}, "State": {"Value": "ARCHIVED"}, "EntityArn": {"Value": "arn:x"},
            "CreatedTime": {"StartInclusive": 1, "EndInclusive": "1970-01-01T00:00:02Z"},
        },
        "SortCriteria": {"Field": "SEVERITY", "SortOrder": "ASC"},
    }))
    .unwrap();
    let expected = ListInvestigationsRequest {
        graph_arn: GRAPH.to_owned(),
        page_size: 7,
        page_token: "t".to_owned(),
        severity: InvestigationSeverity::High.into(),
        status: InvestigationStatus::Failed.into(),
        state: InvestigationState::Archived.into(),
        entity_arn: "arn:x".to_owned(),
        start_time: Some(time_to_proto(Timestamp(1_000_000))),
        end_time: Some(time_to_proto(Timestamp(2_000_000))),
        sort_field: InvestigationField::Severity.into(),
        ascending: true,
        ..ListInvestigationsRequest::default()
    };
    assert_eq!(request, expected);
    let bare = listing(&json!({"GraphArn": GRAPH, "FilterCriteria": {}, "SortCriteria": {"SortOrder": "DESC"}})).unwrap();
    assert_eq!(bare, ListInvestigationsRequest { graph_arn: GRAPH.to_owned(), ..ListInvestigationsRequest::default() });
}

#[test]
fn filters_are_checked() {
    for (filter, words) in [
        (json!({"Severity": {}}), "'filterCriteria.severity.value' failed to satisfy constraint: Member must not be null"),
        (
            json!({"Severity": {"Value": "GRAVE"}}),
            "Value 'GRAVE' at 'filterCriteria.severity.value' failed to satisfy constraint: Member must satisfy enum value set: [INFORMATIONAL",
        ),
        (json!({"State": {"Value": ""}}), "'filterCriteria.state.value' failed to satisfy constraint: Member must have length greater than or equal to 1"),
        (json!({"State": "ACTIVE"}), "'filterCriteria.state' failed to satisfy constraint: Member must be a structure"),
        (json!({"CreatedTime": {"StartInclusive": 1}}), "Value null at 'filterCriteria.createdTime.endInclusive'"),
        (json!({"EntityArn": {"Value": "x".repeat(501)}}), "'filterCriteria.entityArn.value'"),
        (json!("x"), "'filterCriteria'"),
    ] {
        let text = listing(&json!({"GraphArn": GRAPH, "FilterCriteria": filter})).unwrap_err();
        assert!(text.contains(words), "{text}");
    }
    assert!(listing(&json!({"GraphArn": GRAPH, "SortCriteria": {"Field": "NAME"}})).unwrap_err().contains("'sortCriteria.field'"));
    assert!(listing(&json!({"GraphArn": GRAPH, "MaxResults": 101})).unwrap_err().contains("less than or equal to 100"));
}

#[test]
fn names_agree_with_the_services() {
    for (name, severity) in SEVERITIES {
        assert_eq!(severity.as_str_name(), format!("INVESTIGATION_SEVERITY_{name}"));
    }
    for (name, kind) in INDICATORS {
        assert_eq!(kind.as_str_name(), format!("INDICATOR_TYPE_{name}"));
    }
}

#[test]
fn an_investigation_is_whole_alone_and_short_in_a_list() {
    let investigation = Investigation {
        id: "1".repeat(21),
        graph_arn: GRAPH.to_owned(),
        entity_arn: "arn:aws:iam::111122223333:role/Deployer".to_owned(),
        entity_type: EntityType::Role.into(),
        scope: Some(TimeRange { start_time: Some(time_to_proto(Timestamp(0))), end_time: Some(time_to_proto(Timestamp(1_500_000))) }),
        status: InvestigationStatus::Running.into(),
        severity: InvestigationSeverity::Unspecified.into(),
        state: InvestigationState::Active.into(),
        create_time: Some(time_to_proto(Timestamp(2_000_000))),
        ..Investigation::default()
    };
    let short = json!({
        "InvestigationId": "111111111111111111111", "EntityArn": "arn:aws:iam::111122223333:role/Deployer", "EntityType": "IAM_ROLE",
        "CreatedTime": "1970-01-01T00:00:02Z", "Status": "RUNNING", "State": "ACTIVE",
    });
    assert_eq!(serde_json::to_value(Detail::listed(investigation.clone())).unwrap(), short);
    let mut whole = short;
    for (member, value) in [("GraphArn", GRAPH), ("ScopeStartTime", "1970-01-01T00:00:00Z"), ("ScopeEndTime", "1970-01-01T00:00:01.500Z")] {
        whole[member] = value.into();
    }
    assert_eq!(serde_json::to_value(Detail::whole(investigation.clone())).unwrap(), whole);
    // What the model has no words for: of an account, say.
    let other = Investigation { entity_arn: String::new(), entity_type: EntityType::Account.into(), ..investigation };
    let other = serde_json::to_value(Detail::listed(other)).unwrap();
    assert!(other.get("EntityArn").is_none() && other.get("EntityType").is_none());
}

#[test]
fn each_indicator_has_its_own_detail() {
    let shown = |kind: IndicatorType, detail| {
        serde_json::to_value(Indicator::new(api::Indicator { r#type: kind.into(), detail: Some(detail), principal: None }).unwrap()).unwrap()
    };
    let ttps = api::TtpsObservedDetail {
        tactic: "Persistence".to_owned(),
        technique: "T1098".to_owned(),
        api_name: "CreateAccessKey".to_owned(),
        api_success_count: 3,
        ..api::TtpsObservedDetail::default()
    };
    assert_eq!(
        shown(IndicatorType::TtpObserved, api::indicator::Detail::TtpsObserved(ttps)),
        json!({"IndicatorType": "TTP_OBSERVED", "IndicatorDetail": {"TTPsObservedDetail":
            {"Tactic": "Persistence", "Technique": "T1098", "APIName": "CreateAccessKey", "APISuccessCount": 3, "APIFailureCount": 0}}})
    );
    let flagged = api::FlaggedIpAddressDetail { ip_address: "198.51.100.1".to_owned(), reason: "a list".to_owned(), category: "tor exit".to_owned() };
    assert_eq!(
        shown(IndicatorType::FlaggedIpAddress, api::indicator::Detail::FlaggedIpAddress(flagged))["IndicatorDetail"],
        json!({"FlaggedIpAddressDetail": {"IpAddress": "198.51.100.1", "Reason": "AWS_THREAT_INTELLIGENCE"}})
    );
    let finding = api::RelatedFindingDetail { arn: "an id".to_owned(), r#type: "T".to_owned(), ip_address: String::new() };
    assert_eq!(
        shown(IndicatorType::RelatedFinding, api::indicator::Detail::RelatedFinding(finding))["IndicatorDetail"],
        json!({"RelatedFindingDetail": {"Type": "T"}})
    );
    assert!(Indicator::new(api::Indicator::default()).is_none());
}
