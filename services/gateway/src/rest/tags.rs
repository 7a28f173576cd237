//! Tags of graphs. The graph is in the path, the keys to remove are in the query.

use std::collections::BTreeMap;

use gumshoe_api::membership::v1::{ListTagsForResourceRequest, TagResourceRequest, UntagResourceRequest};
use serde::Serialize;

use super::{
    call::{Call, Outcome, no_content, reply},
    validate::{Input, Text},
};
use crate::{
    decision::{RequestTags, Resource},
    sigv4::{decode, query_pairs},
};

const MAX_KEYS: usize = 50;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListTagsForResourceResponse {
    tags: BTreeMap<String, String>,
}

/// Tags as policies see them.
pub fn request_tags(tags: &[(String, String)]) -> RequestTags {
    let mut seen = RequestTags::default();
    for (key, value) in tags {
        seen.set(key.clone(), value.clone());
    }
    seen
}

/// What is tagged: the last segment of the path, decoded once.
fn resource(call: &Call<'_>) -> String {
    String::from_utf8_lossy(&decode(call.tagged.unwrap_or_default())).into_owned()
}

fn checked_resource(call: &Call<'_>, input: &Input<'_>) -> String {
    let arn = resource(call);
    input.given_text("resourceArn", &arn, &Text::GRAPH_ARN);
    arn
}

/// `ListTagsForResource`.
pub async fn list(call: &Call<'_>) -> Outcome {
    let request = Call::read_nothing(|input| ListTagsForResourceRequest { graph_arn: checked_resource(call, input) })?;
    let mut client = call.membership(Resource::Graph(&request.graph_arn)).await?;
    let answer = client.list_tags_for_resource(call.message(request)).await?.into_inner();
    reply(&ListTagsForResourceResponse { tags: answer.tags.into_iter().collect() })
}

/// `TagResource`.
pub async fn set(call: &Call<'_>) -> Outcome {
    let (graph_arn, tags) = call.read(|input| (checked_resource(call, input), input.tags(true)))?;
    let mut client = call.tagging(Resource::Graph(&graph_arn), &request_tags(&tags)).await?;
    client.tag_resource(call.message(TagResourceRequest { graph_arn, tags: tags.into_iter().collect() })).await?;
    no_content()
}

/// `UntagResource`.
pub async fn remove(call: &Call<'_>) -> Outcome {
    let keys = query_pairs(call.query).filter(|(name, _)| name == b"tagKeys").map(|(_, value)| String::from_utf8_lossy(&value).into_owned());
    let tag_keys: Vec<String> = keys.collect();
    let graph_arn = Call::read_nothing(|input| {
        input.given_texts("tagKeys", &tag_keys, MAX_KEYS, &Text::TAG_KEY);
        checked_resource(call, input)
    })?;
    let mut tags = RequestTags::default();
    for key in &tag_keys {
        tags.name(key.clone());
    }
    let mut client = call.tagging(Resource::Graph(&graph_arn), &tags).await?;
    client.untag_resource(call.message(UntagResourceRequest { graph_arn, tag_keys })).await?;
    no_content()
}
