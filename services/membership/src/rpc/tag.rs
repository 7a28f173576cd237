//! Tags of graphs.

use std::collections::HashMap;

use gumshoe_api::membership::v1 as api;
use tonic::Request;

use super::{Membership, authorized, owned_graph, parsed};
use crate::{
    error::Refusal,
    store::StoreError,
    tag::{MAX_TAGS, TagKey, Tags},
};

impl Membership {
    pub(super) async fn list_tags_for_resource(&self, request: Request<api::ListTagsForResourceRequest>) -> Result<api::ListTagsForResourceResponse, Refusal> {
        let caller = authorized(&request, "detective:ListTagsForResource")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let tags = self.0.store.tags(&graph).await.map_err(Refusal::about("graph", &graph.to_string(), ""))?;
        Ok(api::ListTagsForResourceResponse { tags: tags_to_proto(&tags) })
    }

    pub(super) async fn tag_resource(&self, request: Request<api::TagResourceRequest>) -> Result<api::TagResourceResponse, Refusal> {
        let caller = authorized(&request, "detective:TagResource")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let tags = tags(&request.get_ref().tags, false)?;
        match self.0.store.set_tags(&graph, &tags).await {
            Ok(()) => Ok(api::TagResourceResponse {}),
            // The service model has no quota error for this operation.
            Err(StoreError::QuotaExceeded) => Err(Refusal::field("tags", format!("the graph can have at most {MAX_TAGS} tags"))),
            Err(error) => Err(Refusal::about("graph", &graph.to_string(), "")(error)),
        }
    }

    pub(super) async fn untag_resource(&self, request: Request<api::UntagResourceRequest>) -> Result<api::UntagResourceResponse, Refusal> {
        let caller = authorized(&request, "detective:UntagResource")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let keys = &request.get_ref().tag_keys;
        super::batch("tag_keys", keys, MAX_TAGS)?;
        let keys: Vec<TagKey> = keys.iter().enumerate().map(|(index, key)| parsed(&format!("tag_keys[{index}]"), key)).collect::<Result<_, _>>()?;
        self.0.store.remove_tags(&graph, &keys).await.map_err(Refusal::about("graph", &graph.to_string(), ""))?;
        Ok(api::UntagResourceResponse {})
    }
}

/// Tags as asked for, at most [`MAX_TAGS`] of them.
pub(super) fn tags(asked: &HashMap<String, String>, may_be_empty: bool) -> Result<Tags, Refusal> {
    let fewest = usize::from(!may_be_empty);
    if !(fewest..=MAX_TAGS).contains(&asked.len()) {
        return Err(Refusal::field("tags", format!("must hold {fewest} to {MAX_TAGS} tags")));
    }
    asked.iter().map(|(key, value)| Ok((parsed(&format!("tags[{key}]"), key)?, parsed(&format!("tags[{key}]"), value)?))).collect()
}

pub(super) fn tags_to_proto(tags: &Tags) -> HashMap<String, String> {
    tags.iter().map(|(key, value)| (key.as_str().to_owned(), value.as_str().to_owned())).collect()
}
