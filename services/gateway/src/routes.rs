//! The RPCs that the gateway knows, and what each needs.

use std::collections::HashMap;

use gumshoe_api::method::{self, Access};

use crate::{error::Error, first_message::Fields};

/// A service behind the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// Takes logs in.
    Ingest,
    /// Owns the behaviour graph.
    Graph,
    /// Owns accounts and policies.
    Membership,
    /// Owns verdicts.
    Investigation,
}

impl Upstream {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Graph, Self::Membership, Self::Investigation];

    /// Its name, to which principal tokens are addressed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Graph => "graph",
            Self::Membership => "membership",
            Self::Investigation => "investigation",
        }
    }
}

/// An RPC that callers outside can make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Who answers it.
    pub upstream: Upstream,
    /// The IAM action; `None` if it needs no credentials.
    pub action: Option<String>,
    /// Whether the graph may be another account's.
    pub member: bool,
    /// What its first message is read for.
    pub fields: Fields,
    /// Whether either side sends a stream.
    pub streaming: bool,
    /// Whether its answer has no end of its own.
    pub watch: bool,
}

/// Every RPC that is passed on, by path. Internal ones are left out, as if they did not exist.
///
/// # Errors
/// [`Error::Descriptors`] and [`Error::UnknownService`], which tests rule out.
pub fn routes() -> Result<HashMap<String, Route>, Error> {
    let mut routes = HashMap::new();
    for (path, method) in method::methods().map_err(|error| Error::Descriptors(error.into()))? {
        let action = match method.access {
            Access::Internal => continue,
            Access::Anonymous => None,
            Access::Action(action) => Some(action),
        };
        let upstream = Upstream::ALL.into_iter().find(|upstream| upstream.name() == method.service).ok_or(Error::UnknownService(method.service))?;
        let fields = Fields { graph: method.graph_field, role: method.role_field, tags: method.tags_field, tag_keys: method.tag_keys_field };
        let streaming = method.client_streaming || method.server_streaming;
        routes.insert(path, Route { upstream, action, member: method.member, fields, streaming, watch: method.watch });
    }
    Ok(routes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outside_rpc_has_an_upstream_and_internal_ones_are_unknown() {
        let routes = routes().unwrap();
        assert!(!routes.contains_key("/gumshoe.graph.v1.GraphWriterService/CommitBatch"));
        for internal in ["GetPrincipalPolicies", "GetSigningKey", "AssumeRoleWithWebIdentity"] {
            assert!(!routes.contains_key(&format!("/gumshoe.membership.v1.CredentialService/{internal}")));
        }
        let anonymous: Vec<_> = routes.iter().filter(|(_, route)| route.action.is_none()).map(|(path, _)| path.as_str()).collect();
        assert_eq!(anonymous, ["/gumshoe.membership.v1.CredentialService/CreateToken"]);
        let risk = &routes["/gumshoe.graph.v1.GraphService/GetRisk"];
        assert_eq!(
            (risk.upstream, risk.action.as_deref(), risk.fields.graph, risk.streaming),
            (Upstream::Graph, Some("detective:SearchGraph"), Some(1), false)
        );
        assert!(routes["/gumshoe.ingest.v1.IngestService/StreamRecords"].streaming);
        assert!(routes["/gumshoe.membership.v1.MembershipService/AcceptInvitation"].member && !risk.member);
    }
}
