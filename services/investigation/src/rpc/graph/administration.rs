//! What is between the graph service and other services only: which graphs have findings, how widely entities are shared, and what was
//! judged to be usual.

use std::{collections::HashMap, sync::Arc};

use gumshoe_api::{
    convert::entity_to_proto,
    graph::v1::{
        BatchCountActorsRequest, ListFindingVersionsRequest, TeachBehaviorRequest, graph_administration_service_client::GraphAdministrationServiceClient,
    },
};
use gumshoe_model::{EntityKey, GraphArn};
use gumshoe_runtime::{Caller, Signed};

use super::Graphs;
use crate::{error::GraphError, verdict::FindingId};

/// Entities of one call.
const MAX_ENTITIES: usize = 100;

impl Graphs {
    /// Graphs that have findings, with a number that grows whenever these change.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn finding_versions(&self) -> Result<Vec<(GraphArn, i64)>, GraphError> {
        let mut client = self.administration(Caller::service("investigation", "gumshoe:ListFindingVersions"));
        let mut versions = Vec::new();
        let mut request = ListFindingVersionsRequest::default();
        loop {
            let page = client.list_finding_versions(request).await?.into_inner();
            let known = page.versions.iter().filter_map(|version| Some((version.graph_arn.parse().ok()?, i64::try_from(version.version).ok()?)));
            versions.extend(known);
            if page.next_page_token.is_empty() {
                return Ok(versions);
            }
            request = ListFindingVersionsRequest { page_token: page.next_page_token };
        }
    }

    /// With how many principals and machines each entity has to do.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn count_actors(&self, graph: &GraphArn, entities: &[EntityKey]) -> Result<HashMap<EntityKey, u64>, GraphError> {
        let mut client = self.administration(Caller::service("investigation", "gumshoe:BatchCountActors").with_graph(graph.clone()));
        let mut counts = HashMap::new();
        for some in entities.chunks(MAX_ENTITIES) {
            let request = BatchCountActorsRequest { graph_arn: graph.to_string(), entities: some.iter().map(entity_to_proto).collect() };
            let counted = client.batch_count_actors(request).await?.into_inner().counts;
            counts.extend(some.iter().cloned().zip(counted));
        }
        Ok(counts)
    }

    /// Says whether what a finding of the graph's own told is usual.
    ///
    /// # Errors
    /// [`GraphError`].
    pub async fn teach(&self, graph: &GraphArn, finding: &FindingId, usual: bool) -> Result<(), GraphError> {
        let mut client = self.administration(Caller::service("investigation", "gumshoe:TeachBehavior").with_graph(graph.clone()));
        client.teach_behavior(TeachBehaviorRequest { graph_arn: graph.to_string(), finding_id: finding.as_str().to_owned(), usual }).await?;
        Ok(())
    }

    fn administration(&self, caller: Caller) -> GraphAdministrationServiceClient<Signed> {
        GraphAdministrationServiceClient::new(self.channel.signed(Arc::clone(&self.signer), caller))
    }
}
