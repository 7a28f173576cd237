//! Output that several operations share: members, packages, times, names.

use std::collections::BTreeMap;

use gumshoe_api::{convert::time_from_proto, membership::v1 as membership};
use prost_types::Timestamp;
use serde::Serialize;

/// The packages' names.
pub const PACKAGES: [(&str, membership::DatasourcePackage); 3] = [
    ("DETECTIVE_CORE", membership::DatasourcePackage::DetectiveCore),
    ("EKS_AUDIT", membership::DatasourcePackage::EksAudit),
    ("ASFF_SECURITYHUB_FINDING", membership::DatasourcePackage::AsffSecurityhubFinding),
];

/// A time as the model has it: ISO 8601.
pub fn time(time: Option<&Timestamp>) -> Option<String> {
    time.and_then(|time| time_from_proto("time", time).ok()).map(|time| time.to_string())
}

/// What is left of an enum value's name without its prefix; nothing for a value that is not given.
pub fn name(full: &str, prefix: &str) -> Option<String> {
    full.strip_prefix(prefix).filter(|name| *name != "UNSPECIFIED").map(str::to_owned)
}

/// A text that is there.
pub fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn package_name(package: membership::DatasourcePackage) -> Option<String> {
    name(package.as_str_name(), "DATASOURCE_PACKAGE_")
}

fn state_name(state: membership::PackageState) -> Option<String> {
    name(state.as_str_name(), "PACKAGE_STATE_")
}

/// `MemberDetail`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MemberDetail {
    account_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_address: Option<String>,
    graph_arn: String,
    master_id: String,
    administrator_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invited_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume_usage_in_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume_usage_updated_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent_of_graph_utilization: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent_of_graph_utilization_updated_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invitation_type: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    volume_usage_by_datasource_package: BTreeMap<String, PackageUsage>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    datasource_package_ingest_states: BTreeMap<String, String>,
}

/// `DatasourcePackageUsageInfo`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PackageUsage {
    volume_usage_in_bytes: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume_usage_update_time: Option<String>,
}

impl MemberDetail {
    /// A member; `volume_limit` is what its graph may take in a day, of which its share is told.
    pub fn new(member: membership::Member, volume_limit: u64) -> Self {
        let (status, disabled, invited) = (member.status(), member.disabled_reason(), member.invitation_type());
        let volume_time = time(member.volume_update_time.as_ref());
        // Source: `MemberDetail.PercentOfGraphUtilization`, which is of the allowed volume, not of the graph's.
        let percent = member.volume_usage_bytes.map(|bytes| bytes as f64 * 100.0 / volume_limit.max(1) as f64);
        let usage = member.packages.iter().filter_map(|package| {
            let usage = PackageUsage {
                volume_usage_in_bytes: signed(package.volume_usage_bytes?),
                volume_usage_update_time: time(package.volume_update_time.as_ref()),
            };
            Some((package_name(package.package())?, usage))
        });
        let states = member.packages.iter().filter_map(|package| Some((package_name(package.package())?, state_name(package.state())?)));
        Self {
            status: name(status.as_str_name(), "MEMBER_STATUS_"),
            disabled_reason: name(disabled.as_str_name(), "MEMBER_DISABLED_REASON_"),
            invited_time: time(member.invite_time.as_ref()),
            updated_time: time(member.update_time.as_ref()),
            volume_usage_in_bytes: member.volume_usage_bytes.map(signed),
            percent_of_graph_utilization_updated_time: volume_time.clone().filter(|_| percent.is_some()),
            volume_usage_updated_time: volume_time,
            percent_of_graph_utilization: percent,
            invitation_type: name(invited.as_str_name(), "INVITATION_TYPE_"),
            volume_usage_by_datasource_package: usage.collect(),
            datasource_package_ingest_states: states.collect(),
            account_id: member.account_id,
            email_address: given(member.email),
            graph_arn: member.graph_arn,
            master_id: member.administrator_id.clone(),
            administrator_id: member.administrator_id,
        }
    }
}

/// The model's numbers are signed.
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// `TimestampForCollection`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Change {
    timestamp: String,
}

/// `LastIngestStateChangeDates`: when a package last came into each state.
pub type StateChanges = BTreeMap<String, Change>;

fn change(change: &membership::PackageChange) -> Option<(String, Change)> {
    Some((state_name(change.state())?, Change { timestamp: time(change.time.as_ref())? }))
}

/// `DatasourcePackageIngestDetail`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct IngestDetail {
    #[serde(skip_serializing_if = "Option::is_none")]
    datasource_package_ingest_state: Option<String>,
    last_ingest_state_change: StateChanges,
}

/// `DatasourcePackageIngestDetails`.
pub fn ingest_details(packages: &[membership::GraphPackage]) -> BTreeMap<String, IngestDetail> {
    let detail = |package: &membership::GraphPackage| IngestDetail {
        datasource_package_ingest_state: state_name(package.state()),
        last_ingest_state_change: package.changes.iter().filter_map(change).collect(),
    };
    packages.iter().filter_map(|package| Some((package_name(package.package())?, detail(package)))).collect()
}

/// `MembershipDatasources`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MembershipDatasources {
    account_id: String,
    graph_arn: String,
    datasource_package_ingest_history: BTreeMap<String, StateChanges>,
}

impl From<membership::MembershipPackages> for MembershipDatasources {
    fn from(message: membership::MembershipPackages) -> Self {
        let mut history: BTreeMap<String, StateChanges> = BTreeMap::new();
        for (package, (state, time)) in message.changes.iter().filter_map(|entry| Some((package_name(entry.package())?, change(entry)?))) {
            history.entry(package).or_default().insert(state, time);
        }
        Self { account_id: message.account_id, graph_arn: message.graph_arn, datasource_package_ingest_history: history }
    }
}

/// `UnprocessedAccount`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct UnprocessedAccount {
    account_id: String,
    reason: String,
}

/// `UnprocessedAccountList`.
pub fn unprocessed(accounts: Vec<membership::UnprocessedAccount>) -> Vec<UnprocessedAccount> {
    accounts.into_iter().map(|account| UnprocessedAccount { account_id: account.account_id, reason: account.reason }).collect()
}

#[cfg(test)]
mod tests {
    use gumshoe_api::convert::time_to_proto;
    use gumshoe_model::Timestamp;
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(time_to_proto(Timestamp(seconds * 1_000_000)))
    }

    #[test]
    fn a_member_has_what_is_known_and_nothing_else() {
        let bare = membership::Member {
            account_id: "111122223333".to_owned(),
            email: "a@example.com".to_owned(),
            status: membership::MemberStatus::Invited.into(),
            invite_time: at(0),
            update_time: Some(prost_types::Timestamp { seconds: 1, nanos: 456_000 }),
            graph_arn: "arn:graph".to_owned(),
            administrator_id: "444455556666".to_owned(),
            invitation_type: membership::InvitationType::Invitation.into(),
            ..membership::Member::default()
        };
        assert_eq!(
            serde_json::to_value(MemberDetail::new(bare.clone(), 1_000)).unwrap(),
            json!({
                "AccountId": "111122223333", "EmailAddress": "a@example.com", "GraphArn": "arn:graph", "MasterId": "444455556666",
                "AdministratorId": "444455556666", "Status": "INVITED", "InvitedTime": "1970-01-01T00:00:00Z",
                "UpdatedTime": "1970-01-01T00:00:01.000456Z", "InvitationType": "INVITATION",
            })
        );
        let full = membership::Member {
            status: membership::MemberStatus::AcceptedButDisabled.into(),
            disabled_reason: membership::MemberDisabledReason::VolumeTooHigh.into(),
            volume_usage_bytes: Some(250),
            volume_update_time: at(9),
            packages: vec![membership::MemberPackage {
                package: membership::DatasourcePackage::EksAudit.into(),
                state: membership::PackageState::Disabled.into(),
                volume_usage_bytes: Some(250),
                volume_update_time: at(9),
            }],
            ..bare
        };
        let shown = serde_json::to_value(MemberDetail::new(full, 1_000)).unwrap();
        for (member, expected) in [
            ("Status", json!("ACCEPTED_BUT_DISABLED")),
            ("DisabledReason", json!("VOLUME_TOO_HIGH")),
            ("VolumeUsageInBytes", json!(250)),
            ("VolumeUsageUpdatedTime", json!("1970-01-01T00:00:09Z")),
            ("PercentOfGraphUtilization", json!(25.0)),
            ("PercentOfGraphUtilizationUpdatedTime", json!("1970-01-01T00:00:09Z")),
            ("VolumeUsageByDatasourcePackage", json!({"EKS_AUDIT": {"VolumeUsageInBytes": 250, "VolumeUsageUpdateTime": "1970-01-01T00:00:09Z"}})),
            ("DatasourcePackageIngestStates", json!({"EKS_AUDIT": "DISABLED"})),
        ] {
            assert_eq!(shown[member], expected, "{member}");
        }
    }

    #[test]
    fn histories_are_maps_by_package_and_state() {
        let change = |package: membership::DatasourcePackage, state: membership::PackageState, seconds| membership::PackageChange {
            package: package.into(),
            state: state.into(),
            time: at(seconds),
        };
        let core = membership::DatasourcePackage::DetectiveCore;
        let changes = vec![change(core, membership::PackageState::Started, 1), change(core, membership::PackageState::Disabled, 2)];
        let expected = json!({"STARTED": {"Timestamp": "1970-01-01T00:00:01Z"}, "DISABLED": {"Timestamp": "1970-01-01T00:00:02Z"}});
        let message = membership::MembershipPackages { account_id: "1".to_owned(), graph_arn: "g".to_owned(), changes: changes.clone() };
        assert_eq!(
            serde_json::to_value(MembershipDatasources::from(message)).unwrap(),
            json!({"AccountId": "1", "GraphArn": "g", "DatasourcePackageIngestHistory": {"DETECTIVE_CORE": expected}})
        );
        let package = membership::GraphPackage { package: core.into(), state: membership::PackageState::Started.into(), changes };
        assert_eq!(
            serde_json::to_value(ingest_details(&[package])).unwrap(),
            json!({"DETECTIVE_CORE": {"DatasourcePackageIngestState": "STARTED", "LastIngestStateChange": expected}})
        );
    }

    #[test]
    fn every_package_has_its_name() {
        for (name, package) in PACKAGES {
            assert_eq!(package_name(package).as_deref(), Some(name));
        }
        assert_eq!(package_name(membership::DatasourcePackage::Unspecified), None);
    }
}
