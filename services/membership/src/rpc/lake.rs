//! The client of the graph service.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use gumshoe_api::graph::v1::{DeleteGraphDataRequest, GetVolumesRequest, graph_administration_service_client::GraphAdministrationServiceClient};
use gumshoe_model::GraphArn;
use gumshoe_runtime::{Caller, PrincipalChannel, Signed, TokenSigner};
use tonic::Request;

use crate::{
    SERVICE,
    datasource::Package,
    lake::{Lake, Unreachable, Volume},
    removal::PATIENCE,
};

/// The graph service, called in membership's own name.
#[derive(Debug, Clone)]
pub struct GraphService {
    channel: PrincipalChannel,
    signer: Arc<TokenSigner>,
}

impl GraphService {
    /// Calls through `channel`, signed by `signer`.
    #[must_use]
    pub fn new(channel: PrincipalChannel, signer: Arc<TokenSigner>) -> Self {
        Self { channel, signer }
    }

    fn client(&self, action: &str, graph: &GraphArn) -> GraphAdministrationServiceClient<Signed> {
        let caller = Caller::service(SERVICE, action).with_graph(graph.clone());
        GraphAdministrationServiceClient::new(self.channel.signed(Arc::clone(&self.signer), caller))
    }
}

#[async_trait]
impl Lake for GraphService {
    async fn volumes(&self, graph: &GraphArn, days: u32) -> Result<Vec<Volume>, Unreachable> {
        let request = GetVolumesRequest { graph_arn: graph.to_string(), days: i32::try_from(days).unwrap_or(i32::MAX) };
        let response = self.client("gumshoe:GetVolumes", graph).get_volumes(request).await.map_err(|status| Unreachable(Box::new(status)))?;
        let mut sums: BTreeMap<(String, Package, String), (u64, u64)> = BTreeMap::new();
        for volume in response.into_inner().volumes {
            // A kind of record that this version does not know belongs to no package.
            let Some(package) = Package::of_kind(volume.kind()) else { continue };
            let (records, bytes) = sums.entry((volume.account_id, package, volume.day)).or_default();
            *records = records.saturating_add(volume.records);
            *bytes = bytes.saturating_add(volume.bytes);
        }
        Ok(sums.into_iter().map(|((account, package, day), (records, bytes))| Volume { account, package, day, records, bytes }).collect())
    }

    async fn delete_graph(&self, graph: &GraphArn) -> Result<(), Unreachable> {
        let mut request = Request::new(DeleteGraphDataRequest { graph_arn: graph.to_string() });
        request.set_timeout(PATIENCE);
        self.client("gumshoe:DeleteGraphData", graph).delete_graph_data(request).await.map_err(|status| Unreachable(Box::new(status)))?;
        Ok(())
    }
}
