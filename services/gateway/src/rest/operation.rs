//! The 29 operations: their addresses, and the errors that each declares.
//!
//! Source: the service model of Amazon Detective, 2018-10-26.

use futures::future::BoxFuture;
use http::Method;

use super::{
    call::{Call, Outcome},
    datasources,
    error::Kind::{self, Conflict, ResourceNotFound, ServiceQuotaExceeded, TooManyRequests},
    graphs, investigations, invitations, members, organizations, tags,
};
use crate::routes::Upstream;

/// Under which a graph's tags are found.
const TAGS: &str = "/tags/";

/// One operation.
pub struct Operation {
    /// Its name, as in the model.
    pub name: &'static str,
    method: Method,
    path: &'static str,
    /// Errors that it declares, beside those that all have.
    pub errors: &'static [Kind],
    /// What is full when it answers that a quota is exceeded.
    pub quota: Option<&'static str>,
    /// Who answers it.
    pub upstream: Upstream,
    /// Does it.
    pub run: for<'a> fn(&'a Call<'a>) -> BoxFuture<'a, Outcome>,
}

macro_rules! operations {
    ($($name:literal $method:ident $path:literal $upstream:ident $run:path $([$($error:ident),* $(; $quota:literal)?])?;)*) => {
        &[$(Operation {
            name: $name,
            method: Method::$method,
            path: $path,
            errors: &[$($($error),*)?],
            quota: operations!(@quota $($($quota)?)?),
            upstream: Upstream::$upstream,
            run: |call| Box::pin($run(call)),
        }),*]
    };
    (@quota $quota:literal) => { Some($quota) };
    (@quota) => { None };
}

impl Operation {
    /// All of them.
    pub const ALL: &'static [Self] = operations! {
        "AcceptInvitation" PUT "/invitation" Membership invitations::accept [Conflict, ResourceNotFound];
        "BatchGetGraphMemberDatasources" POST "/graph/datasources/get" Membership datasources::of_members [ResourceNotFound];
        "BatchGetMembershipDatasources" POST "/membership/datasources/get" Membership datasources::of_memberships [ResourceNotFound];
        "CreateGraph" POST "/graph" Membership graphs::create [Conflict, ServiceQuotaExceeded; "graphs"];
        "CreateMembers" POST "/graph/members" Membership members::create [ResourceNotFound, ServiceQuotaExceeded; "members"];
        "DeleteGraph" POST "/graph/removal" Membership graphs::delete [ResourceNotFound];
        "DeleteMembers" POST "/graph/members/removal" Membership members::delete [Conflict, ResourceNotFound];
        "DescribeOrganizationConfiguration" POST "/orgs/describeOrganizationConfiguration" Membership organizations::describe [TooManyRequests];
        "DisableOrganizationAdminAccount" POST "/orgs/disableAdminAccount" Membership organizations::disable [TooManyRequests];
        "DisassociateMembership" POST "/membership/removal" Membership invitations::disassociate [Conflict, ResourceNotFound];
        "EnableOrganizationAdminAccount" POST "/orgs/enableAdminAccount" Membership organizations::enable [TooManyRequests];
        "GetInvestigation" POST "/investigations/getInvestigation" Investigation investigations::get [ResourceNotFound, TooManyRequests];
        "GetMembers" POST "/graph/members/get" Membership members::get [ResourceNotFound];
        "ListDatasourcePackages" POST "/graph/datasources/list" Membership datasources::list [ResourceNotFound];
        "ListGraphs" POST "/graphs/list" Membership graphs::list;
        "ListIndicators" POST "/investigations/listIndicators" Investigation investigations::indicators [ResourceNotFound, TooManyRequests];
        "ListInvestigations" POST "/investigations/listInvestigations" Investigation investigations::list [ResourceNotFound, TooManyRequests];
        "ListInvitations" POST "/invitations/list" Membership invitations::list;
        "ListMembers" POST "/graph/members/list" Membership members::list [ResourceNotFound];
        "ListOrganizationAdminAccounts" POST "/orgs/adminAccountslist" Membership organizations::list [TooManyRequests];
        "ListTagsForResource" GET "/tags/" Membership tags::list [ResourceNotFound];
        "RejectInvitation" POST "/invitation/removal" Membership invitations::reject [Conflict, ResourceNotFound];
        "StartInvestigation" POST "/investigations/startInvestigation" Investigation investigations::start [ResourceNotFound, TooManyRequests];
        "StartMonitoringMember" POST "/graph/member/monitoringstate" Membership members::start_monitoring [Conflict, ResourceNotFound, ServiceQuotaExceeded; "volume"];
        "TagResource" POST "/tags/" Membership tags::set [ResourceNotFound];
        "UntagResource" DELETE "/tags/" Membership tags::remove [ResourceNotFound];
        "UpdateDatasourcePackages" POST "/graph/datasources/update" Membership datasources::update [ResourceNotFound, ServiceQuotaExceeded; "packages"];
        "UpdateInvestigationState" POST "/investigations/updateInvestigationState" Investigation investigations::update_state [ResourceNotFound, TooManyRequests];
        "UpdateOrganizationConfiguration" POST "/orgs/updateOrganizationConfiguration" Membership organizations::update [TooManyRequests];
    };

    /// The operation at an address, with the rest of the path that names what is tagged. The path is as it was sent:
    /// a name in it is one segment, encoded.
    pub fn find<'a>(method: &Method, path: &'a str) -> Option<(&'static Self, Option<&'a str>)> {
        let tagged = path.strip_prefix(TAGS).filter(|rest| !rest.is_empty() && !rest.contains('/'));
        let path = if tagged.is_some() { TAGS } else { path };
        let found = Self::ALL.iter().find(|operation| operation.method == *method && operation.path == path)?;
        (tagged.is_some() || found.path != TAGS).then_some((found, tagged))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use gumshoe_iam::actions;

    use super::*;

    #[test]
    fn the_table_is_the_models() {
        let names: Vec<_> = Operation::ALL.iter().map(|operation| operation.name).collect();
        assert!(names.is_sorted());
        let known: HashSet<_> = actions::ACTIONS.iter().filter_map(|action| action.operation).collect();
        assert_eq!(names.iter().copied().collect::<HashSet<_>>(), known);
        let addresses: HashSet<_> = Operation::ALL.iter().map(|operation| (operation.method.as_str(), operation.path)).collect();
        assert_eq!(addresses.len(), 29);
        for operation in Operation::ALL {
            assert_eq!(operation.quota.is_some(), operation.errors.contains(&ServiceQuotaExceeded), "{}", operation.name);
        }
    }

    #[test]
    fn addresses_lead_to_operations_and_near_misses_do_not() {
        let find = |method: Method, path| Operation::find(&method, path).map(|(operation, tagged)| (operation.name, tagged));
        assert_eq!(find(Method::PUT, "/invitation"), Some(("AcceptInvitation", None)));
        assert_eq!(find(Method::GET, "/tags/arn%3Aaws"), Some(("ListTagsForResource", Some("arn%3Aaws"))));
        assert_eq!(find(Method::DELETE, "/tags/x"), Some(("UntagResource", Some("x"))));
        for (method, path) in [
            (Method::POST, "/invitation"),
            (Method::POST, "/graphs"),
            (Method::POST, "/graph/"),
            (Method::POST, "/graph/list/"),
            (Method::POST, "/graph%2Fmembers"),
            (Method::POST, "/tags"),
            (Method::POST, "/tags/"),
            (Method::GET, "/tags/a/b"),
            (Method::PATCH, "/tags/x"),
            (Method::POST, "//graph"),
        ] {
            assert_eq!(find(method, path), None, "{path}");
        }
    }
}
