//! Packages of data sources.

use std::collections::BTreeMap;

use gumshoe_api::membership::v1::{
    BatchGetGraphMemberDatasourcesRequest, BatchGetMembershipDatasourcesRequest, ListDatasourcePackagesRequest, UpdateDatasourcePackagesRequest,
};
use serde::Serialize;

use super::{
    call::{Call, Outcome, done, reply},
    shapes::{IngestDetail, MembershipDatasources, PACKAGES, UnprocessedAccount, given, ingest_details, unprocessed},
    validate::Text,
};
use crate::decision::Resource;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListDatasourcePackagesResponse {
    datasource_packages: BTreeMap<String, IngestDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BatchGetGraphMemberDatasourcesResponse {
    member_datasources: Vec<MembershipDatasources>,
    unprocessed_accounts: Vec<UnprocessedAccount>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BatchGetMembershipDatasourcesResponse {
    membership_datasources: Vec<MembershipDatasources>,
    unprocessed_graphs: Vec<UnprocessedGraph>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct UnprocessedGraph {
    graph_arn: String,
    reason: String,
}

/// `ListDatasourcePackages`.
pub async fn list(call: &Call<'_>) -> Outcome {
    let request =
        call.read(|input| ListDatasourcePackagesRequest { graph_arn: input.graph(), page_size: input.page_size(200), page_token: input.page_token(1_024) })?;
    let mut client = call.membership(Resource::Graph(&request.graph_arn)).await?;
    let answer = client.list_datasource_packages(call.message(request)).await?.into_inner();
    reply(&ListDatasourcePackagesResponse { datasource_packages: ingest_details(&answer.packages), next_token: given(answer.next_page_token) })
}

/// `UpdateDatasourcePackages`.
pub async fn update(call: &Call<'_>) -> Outcome {
    let request = call.read(|input| UpdateDatasourcePackagesRequest {
        graph_arn: input.graph(),
        packages: input.choices("DatasourcePackages", 25, &PACKAGES).into_iter().map(Into::into).collect(),
    })?;
    let mut client = call.membership(Resource::Graph(&request.graph_arn)).await?;
    client.update_datasource_packages(call.message(request)).await?;
    done()
}

/// `BatchGetGraphMemberDatasources`.
pub async fn of_members(call: &Call<'_>) -> Outcome {
    let request =
        call.read(|input| BatchGetGraphMemberDatasourcesRequest { graph_arn: input.graph(), account_ids: input.texts("AccountIds", 200, &Text::ACCOUNT_ID) })?;
    let mut client = call.membership(Resource::Graph(&request.graph_arn)).await?;
    let answer = client.batch_get_graph_member_datasources(call.message(request)).await?.into_inner();
    reply(&BatchGetGraphMemberDatasourcesResponse {
        member_datasources: answer.members.into_iter().map(Into::into).collect(),
        unprocessed_accounts: unprocessed(answer.unprocessed_accounts),
    })
}

/// `BatchGetMembershipDatasources`.
pub async fn of_memberships(call: &Call<'_>) -> Outcome {
    let request = call.read(|input| BatchGetMembershipDatasourcesRequest { graph_arns: input.texts("GraphArns", 50, &Text::GRAPH_ARN) })?;
    let mut client = call.membership(Resource::Nothing).await?;
    let answer = client.batch_get_membership_datasources(call.message(request)).await?.into_inner();
    reply(&BatchGetMembershipDatasourcesResponse {
        membership_datasources: answer.memberships.into_iter().map(Into::into).collect(),
        unprocessed_graphs: answer.unprocessed_graphs.into_iter().map(|graph| UnprocessedGraph { graph_arn: graph.graph_arn, reason: graph.reason }).collect(),
    })
}
