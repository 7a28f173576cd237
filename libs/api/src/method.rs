//! What each RPC needs to be authorised, read from the `gumshoe.common.v1.authorization` option of its method.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, DynamicMessage, Kind, Value};

/// The name of the request field that holds the graph.
const GRAPH_FIELD: &str = "graph_arn";
/// The name of the request field that holds the role to assume.
const ROLE_FIELD: &str = "role_arn";
/// The one action whose resource is a role.
const ASSUME_ROLE: &str = "sts:AssumeRole";
/// The names of the request fields that hold tags, and keys of tags to remove.
const TAGS_FIELD: &str = "tags";
const TAG_KEYS_FIELD: &str = "tag_keys";

/// Who may call an RPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Anyone: it is how credentials are obtained.
    Anonymous,
    /// Principals whose policies allow this IAM action.
    Action(String),
    /// Only other services, never through the gateway.
    Internal,
}

/// One RPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// gRPC path: `/gumshoe.graph.v1.GraphService/GetRisk`.
    pub path: String,
    /// Package without its version: `graph`, which names the service that answers.
    pub service: String,
    /// Who may call it.
    pub access: Access,
    /// Whether the graph may be another account's, so that only the caller's own policies decide.
    pub member: bool,
    /// Field number of `graph_arn` in its request; `None` if it acts on no graph.
    pub graph_field: Option<u32>,
    /// Field number of `role_arn` in its request, if it assumes that role.
    pub role_field: Option<u32>,
    /// Field number of its request's map of tags to set.
    pub tags_field: Option<u32>,
    /// Field number of its request's keys of tags to remove.
    pub tag_keys_field: Option<u32>,
    /// Whether the caller sends a stream.
    pub client_streaming: bool,
    /// Whether the answer is a stream.
    pub server_streaming: bool,
    /// Whether that stream goes on until somebody ends it: then the end of a server is one, and the caller calls again.
    pub watch: bool,
}

/// How the names of RPCs begin whose answer is a stream without an end.
pub const WATCH: &str = "Watch";

/// Every RPC by its path.
///
/// # Errors
/// The descriptor set's own fault, which a test of this crate rules out.
pub fn methods() -> Result<HashMap<String, Method>, prost_reflect::DescriptorError> {
    let pool = DescriptorPool::decode(crate::FILE_DESCRIPTOR_SET)?;
    let extension = pool.get_extension_by_name("gumshoe.common.v1.authorization");
    let mut methods = HashMap::new();
    for service in pool.services() {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            let options = method.options();
            let option = extension.as_ref().filter(|extension| options.has_extension(extension)).map(|extension| options.get_extension(extension));
            let option = option.as_ref().and_then(|value| value.as_message());
            let access = access(option);
            let input = method.input();
            let text = |name: &str| input.get_field_by_name(name).filter(|field| field.kind() == Kind::String && !field.is_list()).map(|field| field.number());
            let role_field = if access == Access::Action(ASSUME_ROLE.to_owned()) { text(ROLE_FIELD) } else { None };
            methods.insert(
                path.clone(),
                Method {
                    path,
                    service: service.package_name().split('.').nth(1).unwrap_or_default().to_owned(),
                    access,
                    member: flag(option, "member"),
                    graph_field: text(GRAPH_FIELD),
                    role_field,
                    tags_field: input.get_field_by_name(TAGS_FIELD).filter(|field| field.is_map()).map(|field| field.number()),
                    tag_keys_field: input.get_field_by_name(TAG_KEYS_FIELD).filter(|field| field.is_list()).map(|field| field.number()),
                    client_streaming: method.is_client_streaming(),
                    server_streaming: method.is_server_streaming(),
                    watch: method.is_server_streaming() && method.name().starts_with(WATCH),
                },
            );
        }
    }
    Ok(methods)
}

fn flag(option: Option<&DynamicMessage>, name: &str) -> bool {
    option.and_then(|option| option.get_field_by_name(name)).is_some_and(|value| value.as_bool() == Some(true))
}

fn access(option: Option<&DynamicMessage>) -> Access {
    if flag(option, "anonymous") {
        return Access::Anonymous;
    }
    match option.and_then(|option| option.get_field_by_name("action")).as_deref() {
        Some(Value::String(action)) if !action.is_empty() => Access::Action(action.clone()),
        _ => Access::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_says_who_may_call_it() {
        let methods = methods().unwrap();
        let mut internal: Vec<_> =
            methods.values().filter(|method| method.access == Access::Internal).filter_map(|method| method.path.rsplit('/').next()).collect();
        internal.sort_unstable();
        // What is not listed here lacks its authorization option.
        let expected = [
            "AssumeRoleWithWebIdentity",
            "BatchCountActors",
            "CommitBatch",
            "DeleteGraphData",
            "GetGraphAccounts",
            "GetPrincipalPolicies",
            "GetRuleDocuments",
            "GetSigningKey",
            "GetVolumes",
            "ListFindingVersions",
            "TeachBehavior",
        ];
        assert_eq!(internal, expected);
        let watches: Vec<_> = methods.values().filter(|method| method.watch).filter_map(|method| method.path.rsplit('/').next()).collect();
        assert_eq!(watches, ["WatchRisk"]);
        let risk = &methods["/gumshoe.graph.v1.GraphService/GetRisk"];
        assert_eq!(risk.access, Access::Action("detective:SearchGraph".to_owned()));
        assert_eq!(risk.graph_field, Some(1));
        assert_eq!(risk.service, "graph");
        for method in methods.values().filter(|method| matches!(method.service.as_str(), "graph" | "ingest" | "investigation")) {
            // One is asked about several graphs, by a service.
            let several = method.access == Access::Internal && method.path.ends_with("/ListFindingVersions");
            assert!(method.graph_field.is_some() || several, "{} names no graph", method.path);
        }
    }

    #[test]
    fn members_act_on_graphs_of_other_accounts() {
        let methods = methods().unwrap();
        let mut members: Vec<_> = methods.values().filter(|method| method.member).filter_map(|method| method.path.rsplit('/').next()).collect();
        members.sort_unstable();
        assert_eq!(members, ["AcceptInvitation", "DisassociateMembership", "RejectInvitation"]);
        assert!(methods.values().all(|method| !method.member || method.graph_field.is_some()));
    }

    #[test]
    fn tags_and_roles_are_found() {
        let methods = methods().unwrap();
        let fields = |path: &str| (methods[path].tags_field, methods[path].tag_keys_field, methods[path].role_field);
        assert_eq!(fields("/gumshoe.membership.v1.MembershipService/CreateGraph"), (Some(2), None, None));
        assert_eq!(fields("/gumshoe.membership.v1.MembershipService/TagResource"), (Some(2), None, None));
        assert_eq!(fields("/gumshoe.membership.v1.MembershipService/UntagResource"), (None, Some(2), None));
        assert_eq!(fields("/gumshoe.membership.v1.CredentialService/AssumeRole"), (None, None, Some(1)));
        assert_eq!(fields("/gumshoe.graph.v1.GraphService/GetRisk"), (None, None, None));
    }
}
