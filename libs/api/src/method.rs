//! What each RPC needs to be authorised, read from the `gumshoe.common.v1.authorization` option of its method.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, DynamicMessage, Kind, Value};

/// The name of the request field that holds the resource.
const RESOURCE_FIELD: &str = "graph_arn";

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
    /// Field number of `graph_arn` in its request; `None` if it acts on no graph.
    pub graph_field: Option<u32>,
    /// Whether the caller sends a stream.
    pub client_streaming: bool,
    /// Whether the answer is a stream.
    pub server_streaming: bool,
}

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
            let access = match extension.as_ref().filter(|extension| options.has_extension(extension)).map(|extension| options.get_extension(extension)) {
                Some(value) => access(value.as_message()),
                None => Access::Internal,
            };
            let graph_field = method.input().get_field_by_name(RESOURCE_FIELD).filter(|field| field.kind() == Kind::String).map(|field| field.number());
            methods.insert(
                path.clone(),
                Method {
                    path,
                    service: service.package_name().split('.').nth(1).unwrap_or_default().to_owned(),
                    access,
                    graph_field,
                    client_streaming: method.is_client_streaming(),
                    server_streaming: method.is_server_streaming(),
                },
            );
        }
    }
    Ok(methods)
}

fn access(option: Option<&DynamicMessage>) -> Access {
    let field = |name: &str| option.and_then(|option| option.get_field_by_name(name));
    if field("anonymous").is_some_and(|value| value.as_bool() == Some(true)) {
        return Access::Anonymous;
    }
    match field("action").as_deref() {
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
        let internal: Vec<_> = methods.values().filter(|method| method.access == Access::Internal).map(|method| method.path.as_str()).collect();
        for path in &internal {
            assert!(path.contains("GraphWriterService") || path.ends_with("/GetPrincipalPolicies"), "{path} has no authorization option");
        }
        assert_eq!(internal.len(), 2);
        let risk = &methods["/gumshoe.graph.v1.GraphService/GetRisk"];
        assert_eq!(risk.access, Access::Action("detective:SearchGraph".to_owned()));
        assert_eq!(risk.graph_field, Some(1));
        assert_eq!(risk.service, "graph");
        for method in methods.values().filter(|method| matches!(method.service.as_str(), "graph" | "ingest" | "investigation")) {
            assert!(method.graph_field.is_some(), "{} names no graph", method.path);
        }
    }
}
