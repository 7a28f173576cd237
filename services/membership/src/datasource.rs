//! Packages of data sources: what belongs together, and whether it is ingested.

use std::{fmt, str::FromStr};

use gumshoe_api::{common::v1::RecordKind, membership::v1 as api};
use gumshoe_model::{Invalid, Timestamp};
use serde::{Deserialize, Serialize};

use crate::member::Status;

/// Data sources that are switched together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Package {
    /// Security Hub findings in ASFF.
    #[serde(rename = "ASFF_SECURITYHUB_FINDING")]
    AsffSecurityHubFinding,
    /// CloudTrail, VPC flow logs and GuardDuty findings; always on.
    #[serde(rename = "DETECTIVE_CORE")]
    DetectiveCore,
    /// EKS audit logs.
    #[serde(rename = "EKS_AUDIT")]
    EksAudit,
}

impl Package {
    /// All of them, by name.
    pub const ALL: [Self; 3] = [Self::AsffSecurityHubFinding, Self::DetectiveCore, Self::EksAudit];

    /// The name as in the Amazon Detective API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AsffSecurityHubFinding => "ASFF_SECURITYHUB_FINDING",
            Self::DetectiveCore => "DETECTIVE_CORE",
            Self::EksAudit => "EKS_AUDIT",
        }
    }

    /// The package that a kind of record belongs to.
    #[must_use]
    pub const fn of_kind(kind: RecordKind) -> Option<Self> {
        match kind {
            RecordKind::Cloudtrail | RecordKind::VpcFlow | RecordKind::Guardduty => Some(Self::DetectiveCore),
            RecordKind::EksAudit => Some(Self::EksAudit),
            RecordKind::SecurityHub => Some(Self::AsffSecurityHubFinding),
            RecordKind::Unspecified => None,
        }
    }

    /// As in messages.
    #[must_use]
    pub const fn to_proto(self) -> api::DatasourcePackage {
        match self {
            Self::AsffSecurityHubFinding => api::DatasourcePackage::AsffSecurityhubFinding,
            Self::DetectiveCore => api::DatasourcePackage::DetectiveCore,
            Self::EksAudit => api::DatasourcePackage::EksAudit,
        }
    }

    /// From a message.
    #[must_use]
    pub const fn from_proto(package: api::DatasourcePackage) -> Option<Self> {
        match package {
            api::DatasourcePackage::AsffSecurityhubFinding => Some(Self::AsffSecurityHubFinding),
            api::DatasourcePackage::DetectiveCore => Some(Self::DetectiveCore),
            api::DatasourcePackage::EksAudit => Some(Self::EksAudit),
            api::DatasourcePackage::Unspecified => None,
        }
    }
}

impl fmt::Display for Package {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Package {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|package| package.as_str() == value);
        found.ok_or_else(|| Invalid::new("data source package", value, "expected DETECTIVE_CORE, EKS_AUDIT or ASFF_SECURITYHUB_FINDING"))
    }
}

/// Whether a package is ingested. Nothing stops one yet, so that `STOPPED` of the Amazon Detective API does not occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PackageState {
    /// It is not, since its account is not enabled.
    Disabled,
    /// It is.
    Started,
}

impl PackageState {
    /// The state of a package that the graph ingests, for a member of this status.
    #[must_use]
    pub fn of_member(status: Status) -> Self {
        if status == Status::Enabled { Self::Started } else { Self::Disabled }
    }

    /// The name as in the Amazon Detective API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "DISABLED",
            Self::Started => "STARTED",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Disabled, Self::Started].into_iter().find(|state| state.as_str() == name)
    }

    /// As in messages.
    #[must_use]
    pub const fn to_proto(self) -> api::PackageState {
        match self {
            Self::Disabled => api::PackageState::Disabled,
            Self::Started => api::PackageState::Started,
        }
    }
}

/// When a package last came into a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackageChange {
    /// Which package.
    pub package: Package,
    /// The state.
    pub state: PackageState,
    /// When it last came into it.
    pub time: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_the_messages() {
        for package in Package::ALL {
            assert_eq!(package.to_proto().as_str_name(), format!("DATASOURCE_PACKAGE_{package}"));
            assert_eq!((Package::from_proto(package.to_proto()), package.as_str().parse()), (Some(package), Ok(package)));
        }
        assert!(Package::ALL.is_sorted() && Package::ALL.is_sorted_by_key(|package| package.as_str()));
        assert_eq!(Package::from_proto(api::DatasourcePackage::Unspecified), None);
        for state in [PackageState::Started, PackageState::Disabled] {
            assert_eq!(state.to_proto().as_str_name(), format!("PACKAGE_STATE_{}", state.as_str()));
            assert_eq!(PackageState::from_name(state.as_str()), Some(state));
        }
    }

    #[test]
    fn every_kind_of_record_has_a_package() {
        let kinds = [RecordKind::Cloudtrail, RecordKind::VpcFlow, RecordKind::Guardduty, RecordKind::SecurityHub, RecordKind::EksAudit];
        let packages: Vec<_> = kinds.into_iter().filter_map(Package::of_kind).collect();
        let (core, hub, eks) = (Package::DetectiveCore, Package::AsffSecurityHubFinding, Package::EksAudit);
        assert_eq!(packages, [core, core, core, hub, eks]);
    }
}
