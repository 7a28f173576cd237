//! Graphs: made, listed, removed.

use gumshoe_api::membership::v1::{CreateGraphRequest, DeleteGraphRequest, ListGraphsRequest};
use serde::Serialize;

use super::{
    call::{Call, Outcome, done, reply},
    shapes::{given, time},
    tags::request_tags,
};
use crate::decision::Resource;

/// As many graphs as a page can hold: an account has one a region.
const ALL_GRAPHS: i32 = 200;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CreateGraphResponse {
    graph_arn: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListGraphsResponse {
    graph_list: Vec<Graph>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Graph {
    arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_time: Option<String>,
}

/// `CreateGraph`.
pub async fn create(call: &Call<'_>) -> Outcome {
    let tags = call.read(|input| input.tags(false))?;
    let mut client = call.tagging(Resource::Nothing, &request_tags(&tags)).await?;
    let request = CreateGraphRequest { region: call.region(), tags: tags.into_iter().collect() };
    let graph = client.create_graph(call.message(request)).await?.into_inner().graph.unwrap_or_default();
    reply(&CreateGraphResponse { graph_arn: graph.arn })
}

/// `ListGraphs`: those of the region.
pub async fn list(call: &Call<'_>) -> Outcome {
    let (page_size, page_token) = call.read(|input| (input.page_size(200), input.page_token(1_024)))?;
    let mut client = call.membership(Resource::Nothing).await?;
    // Of one region there is one graph at most, which may be the last of all.
    let page_size = if call.signed_region.is_some() { ALL_GRAPHS } else { page_size };
    let answer = client.list_graphs(call.message(ListGraphsRequest { page_size, page_token })).await?.into_inner();
    let graphs = answer.graphs.into_iter().filter(|graph| call.is_here(&graph.arn));
    let graph_list = graphs.map(|graph| Graph { created_time: time(graph.create_time.as_ref()), arn: graph.arn }).collect();
    reply(&ListGraphsResponse { graph_list, next_token: given(answer.next_page_token) })
}

/// `DeleteGraph`.
pub async fn delete(call: &Call<'_>) -> Outcome {
    let request = call.read(|input| DeleteGraphRequest { graph_arn: input.graph() })?;
    let mut client = call.membership(Resource::Graph(&request.graph_arn)).await?;
    client.delete_graph(call.message(request)).await?;
    done()
}
