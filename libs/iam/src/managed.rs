//! The AWS managed policies for Amazon Detective, under AWS's names.

/// An AWS managed policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManagedPolicy {
    /// The name AWS gives it.
    pub name: &'static str,
    /// Its ARN.
    pub arn: &'static str,
    /// The document.
    pub document: &'static str,
}

/// Everything in Amazon Detective.
pub const FULL_ACCESS: ManagedPolicy = ManagedPolicy {
    name: "AmazonDetectiveFullAccess",
    arn: "arn:aws:iam::aws:policy/AmazonDetectiveFullAccess",
    document: include_str!("../managed/AmazonDetectiveFullAccess.json"),
};

/// Reading a graph and investigating.
pub const INVESTIGATOR_ACCESS: ManagedPolicy = ManagedPolicy {
    name: "AmazonDetectiveInvestigatorAccess",
    arn: "arn:aws:iam::aws:policy/AmazonDetectiveInvestigatorAccess",
    document: include_str!("../managed/AmazonDetectiveInvestigatorAccess.json"),
};

/// A member account's own part: its invitations and memberships.
pub const MEMBER_ACCESS: ManagedPolicy = ManagedPolicy {
    name: "AmazonDetectiveMemberAccess",
    arn: "arn:aws:iam::aws:policy/AmazonDetectiveMemberAccess",
    document: include_str!("../managed/AmazonDetectiveMemberAccess.json"),
};

/// An organisation's management account: naming the administrator account.
pub const ORGANIZATIONS_ACCESS: ManagedPolicy = ManagedPolicy {
    name: "AmazonDetectiveOrganizationsAccess",
    arn: "arn:aws:iam::aws:policy/AmazonDetectiveOrganizationsAccess",
    document: include_str!("../managed/AmazonDetectiveOrganizationsAccess.json"),
};

/// All of them.
pub const MANAGED_POLICIES: [ManagedPolicy; 4] = [FULL_ACCESS, INVESTIGATOR_ACCESS, MEMBER_ACCESS, ORGANIZATIONS_ACCESS];
