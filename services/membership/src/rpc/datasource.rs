//! Packages of data sources, and what was ingested through them.

use gumshoe_api::{convert::time_to_proto, membership::v1 as api};
use gumshoe_model::{GraphArn, Timestamp};
use gumshoe_runtime::Scope;
use tonic::Request;

use super::{MAX_BATCH, Membership, accounts, after, authorized, batch, owned_graph, parsed, split};
use crate::{
    datasource::{Package, PackageChange, PackageState},
    error::Refusal,
    member::Refused,
    store::StoreError,
    usage::project,
    volumes::{DAYS, MAX_DAYS, day_of},
};

/// Source: shape `DatasourcePackageList` of the Amazon Detective service model, 2018-10-26.
const MAX_PACKAGES: usize = 25;
const MAX_MEMBERS: usize = 200;

impl Membership {
    pub(super) async fn list_datasource_packages(
        &self,
        request: Request<api::ListDatasourcePackagesRequest>,
    ) -> Result<api::ListDatasourcePackagesResponse, Refusal> {
        let caller = authorized(&request, "detective:ListDatasourcePackages")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let message = request.into_inner();
        let scope = Scope::new("ListDatasourcePackages", &message.graph_arn, "");
        let page = self.page(&scope, message.page_size, &message.page_token)?;
        self.0.store.graph(&graph).await.map_err(Refusal::about("graph", &message.graph_arn, ""))?;
        let changes = self.0.store.package_changes(&graph, graph.account()).await?;
        let after: Option<Package> = after(page.after)?;
        let mut packages: Vec<api::GraphPackage> = Vec::new();
        for package in Package::ALL.into_iter().filter(|package| after.is_none_or(|after| *package > after)) {
            let own: Vec<PackageChange> = changes.iter().filter(|change| change.package == package).copied().collect();
            if let Some(last) = own.iter().max_by_key(|change| change.time) {
                packages.push(api::GraphPackage {
                    package: package.to_proto().into(),
                    state: last.state.to_proto().into(),
                    changes: own.iter().map(change_to_proto).collect(),
                });
            }
        }
        let name = |package: &api::GraphPackage| Package::from_proto(package.package()).map(Package::as_str);
        let next_page_token = self.next_page(&scope, &mut packages, page.limit, name)?;
        Ok(api::ListDatasourcePackagesResponse { packages, next_page_token })
    }

    pub(super) async fn update_datasource_packages(
        &self,
        request: Request<api::UpdateDatasourcePackagesRequest>,
    ) -> Result<api::UpdateDatasourcePackagesResponse, Refusal> {
        let caller = authorized(&request, "detective:UpdateDatasourcePackages")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let asked = &request.get_ref().packages;
        batch("packages", asked, MAX_PACKAGES)?;
        let mut packages = Vec::with_capacity(asked.len());
        for (index, number) in asked.iter().enumerate() {
            let package = api::DatasourcePackage::try_from(*number).ok().and_then(Package::from_proto);
            packages.push(package.ok_or_else(|| Refusal::field(format!("packages[{index}]"), "must be a package of data sources"))?);
        }
        packages.sort_unstable();
        packages.dedup();
        let outcome = self.0.store.start_packages(&graph, &packages, self.0.clock.now()).await;
        outcome.map_err(Refusal::about("graph", &graph.to_string(), ""))?;
        Ok(api::UpdateDatasourcePackagesResponse {})
    }

    pub(super) async fn batch_get_graph_member_datasources(
        &self,
        request: Request<api::BatchGetGraphMemberDatasourcesRequest>,
    ) -> Result<api::BatchGetGraphMemberDatasourcesResponse, Refusal> {
        let caller = authorized(&request, "detective:BatchGetGraphMemberDatasources")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let accounts = accounts("account_ids", &request.get_ref().account_ids, MAX_MEMBERS)?;
        let outcomes = self.0.store.members(&graph, &accounts).await.map_err(Refusal::about("graph", &graph.to_string(), ""))?;
        let (known, unprocessed_accounts) = split(outcomes, |refused| refused.reason());
        let mut members = Vec::with_capacity(known.len());
        for (account, _) in known {
            let changes = self.0.store.package_changes(&graph, &account).await?;
            members.push(api::MembershipPackages {
                account_id: account.to_string(),
                graph_arn: graph.to_string(),
                changes: changes.iter().map(change_to_proto).collect(),
            });
        }
        Ok(api::BatchGetGraphMemberDatasourcesResponse { members, unprocessed_accounts })
    }

    pub(super) async fn batch_get_membership_datasources(
        &self,
        request: Request<api::BatchGetMembershipDatasourcesRequest>,
    ) -> Result<api::BatchGetMembershipDatasourcesResponse, Refusal> {
        let caller = authorized(&request, "detective:BatchGetMembershipDatasources")?;
        let arns = &request.get_ref().graph_arns;
        batch("graph_arns", arns, MAX_BATCH)?;
        let graphs: Vec<GraphArn> = arns.iter().enumerate().map(|(index, arn)| parsed(&format!("graph_arns[{index}]"), arn)).collect::<Result<_, _>>()?;
        let mut response = api::BatchGetMembershipDatasourcesResponse::default();
        for graph in graphs {
            let knows = match self.0.store.members(&graph, std::slice::from_ref(&caller)).await {
                Ok(members) => members.iter().any(|(_, member)| member.as_ref().is_ok_and(|member| member.standing.status.is_visible_to_member())),
                Err(StoreError::NotFound) => false,
                Err(error) => return Err(error.into()),
            };
            if knows {
                let changes = self.0.store.package_changes(&graph, &caller).await?;
                let changes = changes.iter().map(change_to_proto).collect();
                response.memberships.push(api::MembershipPackages { account_id: caller.to_string(), graph_arn: graph.to_string(), changes });
            } else {
                response.unprocessed_graphs.push(api::UnprocessedGraph { graph_arn: graph.to_string(), reason: Refused::IsNoMember.reason().to_owned() });
            }
        }
        Ok(response)
    }

    pub(super) async fn get_usage(&self, request: Request<api::GetUsageRequest>) -> Result<api::GetUsageResponse, Refusal> {
        let caller = authorized(&request, "detective:GetUsageInformation")?;
        let graph = owned_graph(&request, &caller, &request.get_ref().graph_arn)?;
        let days = match u32::try_from(request.get_ref().days) {
            Ok(0) => DAYS,
            Ok(days) if days <= MAX_DAYS => days,
            _ => return Err(Refusal::field("days", format!("must be 0 to {MAX_DAYS}"))),
        };
        self.0.store.graph(&graph).await.map_err(Refusal::about("graph", &graph.to_string(), ""))?;
        let measured = self.0.volumes.of_graph(&graph, days).await.ok_or(Refusal::Unavailable("the graph service"))?;
        let first = day_of(Timestamp(measured.time().0.saturating_sub(i64::from(days - 1).saturating_mul(gumshoe_model::time::MICROS_PER_DAY))));
        let volumes: Vec<_> = measured.volumes().iter().filter(|volume| volume.day >= first).cloned().collect();
        let projection = project(&volumes, measured.time(), &self.0.prices);
        let usage = volumes.into_iter().map(|volume| api::Usage {
            account_id: volume.account,
            package: volume.package.to_proto().into(),
            day: volume.day,
            records: volume.records,
            bytes: volume.bytes,
        });
        Ok(api::GetUsageResponse {
            usage: usage.collect(),
            projected_monthly_bytes: projection.bytes,
            projected_monthly_cost: projection.cost,
            currency: self.0.prices.currency.clone(),
        })
    }

    /// The packages that a graph ingests.
    pub(super) async fn started_packages(&self, graph: &GraphArn) -> Result<Vec<Package>, Refusal> {
        let changes = self.0.store.package_changes(graph, graph.account()).await?;
        Ok(changes.into_iter().filter(|change| change.state == PackageState::Started).map(|change| change.package).collect())
    }
}

fn change_to_proto(change: &PackageChange) -> api::PackageChange {
    api::PackageChange { package: change.package.to_proto().into(), state: change.state.to_proto().into(), time: Some(time_to_proto(change.time)) }
}
