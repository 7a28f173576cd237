//! The actions of the `detective` service, for whoever has to name the action and the resource of a request.
//!
//! Source: the Service Authorization Reference for Amazon Detective. Other services' actions, `gumshoe:` ones included, need
//! no table: the evaluator takes any.

/// The service prefix.
pub const SERVICE: &str = "detective";

/// What an action is evaluated against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceType {
    /// The ARN of a behaviour graph.
    Graph,
    /// `*`: a policy statement that names an ARN never matches.
    Any,
}

/// One action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// With its prefix: `detective:GetMembers`.
    pub name: &'static str,
    /// What it is evaluated against.
    pub resource: ResourceType,
    /// The API operation it authorises; none for permissions without a public operation, which the console uses.
    pub operation: Option<&'static str>,
}

const fn graph(name: &'static str, operation: &'static str) -> Action {
    Action { name, resource: ResourceType::Graph, operation: Some(operation) }
}

const fn any(name: &'static str, operation: &'static str) -> Action {
    Action { name, resource: ResourceType::Any, operation: Some(operation) }
}

const fn permission(name: &'static str, resource: ResourceType) -> Action {
    Action { name, resource, operation: None }
}

/// Every action.
pub const ACTIONS: [Action; 36] = [
    graph("detective:AcceptInvitation", "AcceptInvitation"),
    graph("detective:BatchGetGraphMemberDatasources", "BatchGetGraphMemberDatasources"),
    any("detective:BatchGetMembershipDatasources", "BatchGetMembershipDatasources"),
    any("detective:CreateGraph", "CreateGraph"),
    graph("detective:CreateMembers", "CreateMembers"),
    graph("detective:DeleteGraph", "DeleteGraph"),
    graph("detective:DeleteMembers", "DeleteMembers"),
    graph("detective:DescribeOrganizationConfiguration", "DescribeOrganizationConfiguration"),
    any("detective:DisableOrganizationAdminAccount", "DisableOrganizationAdminAccount"),
    graph("detective:DisassociateMembership", "DisassociateMembership"),
    any("detective:EnableOrganizationAdminAccount", "EnableOrganizationAdminAccount"),
    permission("detective:GetFreeTrialEligibility", ResourceType::Graph),
    permission("detective:GetGraphIngestState", ResourceType::Graph),
    graph("detective:GetInvestigation", "GetInvestigation"),
    graph("detective:GetMembers", "GetMembers"),
    permission("detective:GetPricingInformation", ResourceType::Any),
    permission("detective:GetUsageInformation", ResourceType::Graph),
    permission("detective:InvokeAssistant", ResourceType::Graph),
    graph("detective:ListDatasourcePackages", "ListDatasourcePackages"),
    any("detective:ListGraphs", "ListGraphs"),
    permission("detective:ListHighDegreeEntities", ResourceType::Graph),
    graph("detective:ListIndicators", "ListIndicators"),
    graph("detective:ListInvestigations", "ListInvestigations"),
    any("detective:ListInvitations", "ListInvitations"),
    graph("detective:ListMembers", "ListMembers"),
    // The action is singular, the operation plural.
    any("detective:ListOrganizationAdminAccount", "ListOrganizationAdminAccounts"),
    graph("detective:ListTagsForResource", "ListTagsForResource"),
    graph("detective:RejectInvitation", "RejectInvitation"),
    permission("detective:SearchGraph", ResourceType::Graph),
    graph("detective:StartInvestigation", "StartInvestigation"),
    graph("detective:StartMonitoringMember", "StartMonitoringMember"),
    graph("detective:TagResource", "TagResource"),
    graph("detective:UntagResource", "UntagResource"),
    graph("detective:UpdateDatasourcePackages", "UpdateDatasourcePackages"),
    graph("detective:UpdateInvestigationState", "UpdateInvestigationState"),
    graph("detective:UpdateOrganizationConfiguration", "UpdateOrganizationConfiguration"),
];

/// The action that authorises an API operation, such as `ListOrganizationAdminAccounts`.
#[must_use]
pub fn of_operation(operation: &str) -> Option<&'static Action> {
    ACTIONS.iter().find(|action| action.operation == Some(operation))
}

/// The action with this name, such as `detective:SearchGraph`; case is ignored.
#[must_use]
pub fn find(name: &str) -> Option<&'static Action> {
    ACTIONS.iter().find(|action| action.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_whole() {
        assert!(ACTIONS.is_sorted_by_key(|action| action.name));
        assert!(ACTIONS.iter().all(|action| action.name.starts_with("detective:")));
        assert_eq!(ACTIONS.iter().filter(|action| action.operation.is_some()).count(), 29, "the service model has 29 operations");
        assert_eq!(ACTIONS.iter().filter(|action| action.resource == ResourceType::Any).count(), 8);
    }

    #[test]
    fn operations_map_to_actions() {
        assert_eq!(of_operation("ListOrganizationAdminAccounts").unwrap().name, "detective:ListOrganizationAdminAccount");
        assert_eq!(of_operation("ListOrganizationAdminAccount"), None);
        assert_eq!(find("Detective:searchgraph").unwrap().resource, ResourceType::Graph);
    }
}
