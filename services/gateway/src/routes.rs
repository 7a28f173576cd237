//! The RPCs that the gateway knows, and what each needs.

use std::collections::HashMap;

use gumshoe_api::method::{self, Access};

use crate::error::Error;

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
    /// The field of its first message that names the graph.
    pub graph_field: Option<u32>,
    /// Whether either side sends a stream.
    pub streaming: bool,
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
        routes.insert(path, Route { upstream, action, graph_field: method.graph_field, streaming: method.client_streaming || method.server_streaming });
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
        assert!(!routes.contains_key("/gumshoe.membership.v1.CredentialService/GetPrincipalPolicies"));
        let anonymous: Vec<_> = routes.iter().filter(|(_, route)| route.action.is_none()).map(|(path, _)| path.as_str()).collect();
        assert_eq!(anonymous, ["/gumshoe.membership.v1.CredentialService/CreateToken"]);
        let risk = &routes["/gumshoe.graph.v1.GraphService/GetRisk"];
        assert_eq!((risk.upstream, risk.action.as_deref(), risk.graph_field, risk.streaming), (Upstream::Graph, Some("detective:SearchGraph"), Some(1), false));
        assert!(routes["/gumshoe.ingest.v1.IngestService/StreamRecords"].streaming);
    }
}
