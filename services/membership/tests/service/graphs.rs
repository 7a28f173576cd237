//! Graphs: tags, packages, usage, whose logs they take, and their end.

use std::{collections::HashMap, time::Duration};

use gumshoe_api::{
    common::v1::{ErrorReason, RecordKind},
    membership::v1::{self as api, DatasourcePackage as Package, PackageState, membership_service_client::MembershipServiceClient},
};
use tonic::Code;

use crate::harness::{ACCOUNT, OTHER, Service, THIRD, refused};

fn tags(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn tags_are_set_and_removed() {
    let service = Service::with_accounts().await;
    let create = |tags| api::CreateGraphRequest { region: String::new(), tags };
    let mut creating = service.membership(ACCOUNT, "detective:CreateGraph");
    let graph = creating.create_graph(create(tags(&[("a", "1")]))).await.unwrap().into_inner().graph.unwrap().arn;
    assert_eq!(creating.create_graph(create(tags(&[("a", "2")]))).await.unwrap().into_inner().graph.unwrap().arn, graph);
    let list = async || {
        let request = api::ListTagsForResourceRequest { graph_arn: graph.clone() };
        service.on_graph(ACCOUNT, "detective:ListTagsForResource", &graph).list_tags_for_resource(request).await.unwrap().into_inner().tags
    };
    assert_eq!(list().await, tags(&[("a", "1")]), "a graph that is there keeps its tags");
    let set = |tags| api::TagResourceRequest { graph_arn: graph.clone(), tags };
    let mut tagging = service.on_graph(ACCOUNT, "detective:TagResource", &graph);
    tagging.tag_resource(set(tags(&[("a", "3"), ("b:c", "")]))).await.unwrap();
    assert_eq!(list().await, tags(&[("a", "3"), ("b:c", "")]));
    let many = |count: usize| (0..count).map(|number| (format!("k{number}"), String::new())).collect::<HashMap<_, _>>();
    for bad in [tags(&[]), tags(&[("aws:x", "")]), tags(&[("a b", "")]), tags(&[("", "")]), tags(&[("a", &"v".repeat(257))]), many(51), many(49)] {
        refused(tagging.tag_resource(set(bad)).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    let too_many = creating.create_graph(api::CreateGraphRequest { region: "eu-west-1".to_owned(), tags: many(51) }).await;
    refused(too_many, Code::InvalidArgument, ErrorReason::InvalidField);
    let unset = |keys: &[&str]| api::UntagResourceRequest { graph_arn: graph.clone(), tag_keys: keys.iter().map(|key| (*key).to_owned()).collect() };
    let mut untagging = service.on_graph(ACCOUNT, "detective:UntagResource", &graph);
    untagging.untag_resource(unset(&["a", "nothing"])).await.unwrap();
    assert_eq!(list().await, tags(&[("b:c", "")]));
    for bad in [unset(&[]), unset(&["a b"]), unset(&["k"; 51])] {
        refused(untagging.untag_resource(bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    // Whoever does not administer the graph does not see that it is there.
    let request = api::ListTagsForResourceRequest { graph_arn: graph.clone() };
    refused(service.on_graph(OTHER, "detective:ListTagsForResource", &graph).list_tags_for_resource(request).await, Code::NotFound, ErrorReason::NotFound);
}

#[tokio::test]
async fn packages_are_started_and_have_a_history() {
    let service = Service::with_accounts().await;
    let graph = service.create_graph(ACCOUNT, "").await.unwrap();
    service.invite(ACCOUNT, &graph, &[OTHER]).await.unwrap();
    let list = async |page_size: i32, page_token: &str| {
        let request = api::ListDatasourcePackagesRequest { graph_arn: graph.clone(), page_size, page_token: page_token.to_owned() };
        service.on_graph(ACCOUNT, "detective:ListDatasourcePackages", &graph).list_datasource_packages(request).await.unwrap().into_inner()
    };
    let states = |packages: &[api::GraphPackage]| packages.iter().map(|package| (package.package(), package.state())).collect::<Vec<_>>();
    assert_eq!(states(&list(0, "").await.packages), [(Package::DetectiveCore, PackageState::Started)]);
    let update = |packages: &[i32]| api::UpdateDatasourcePackagesRequest { graph_arn: graph.clone(), packages: packages.to_vec() };
    let mut updating = service.on_graph(ACCOUNT, "detective:UpdateDatasourcePackages", &graph);
    for bad in [vec![], vec![0], vec![9], vec![1; 26]] {
        refused(updating.update_datasource_packages(update(&bad)).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    let (eks, hub) = (Package::EksAudit.into(), Package::AsffSecurityhubFinding.into());
    updating.update_datasource_packages(update(&[eks, hub, eks])).await.unwrap();
    let all = list(0, "").await.packages;
    updating.update_datasource_packages(update(&[eks])).await.unwrap();
    assert_eq!(list(0, "").await.packages, all, "what is started already stays as it is");
    let names = [Package::AsffSecurityhubFinding, Package::DetectiveCore, Package::EksAudit];
    assert_eq!(states(&all), names.map(|package| (package, PackageState::Started)));
    assert!(all.iter().all(|package| package.changes.len() == 1));
    let first = list(2, "").await;
    let second = list(2, &first.next_page_token).await;
    assert_eq!((states(&first.packages), states(&second.packages), second.next_page_token.as_str()), (states(&all[..2]), states(&all[2..]), ""));

    service.accept(OTHER, &graph).await.unwrap();
    let request =
        api::BatchGetGraphMemberDatasourcesRequest { graph_arn: graph.clone(), account_ids: vec![OTHER.to_owned(), THIRD.to_owned(), ACCOUNT.to_owned()] };
    let mut batching = service.on_graph(ACCOUNT, "detective:BatchGetGraphMemberDatasources", &graph);
    let got = batching.batch_get_graph_member_datasources(request.clone()).await.unwrap().into_inner();
    let [member] = got.members.as_slice() else { panic!("{got:?}") };
    assert_eq!(
        (member.account_id.as_str(), member.graph_arn.as_str(), member.changes.len()),
        (OTHER, graph.as_str(), 6),
        "disabled, then started, of three packages"
    );
    assert_eq!(got.unprocessed_accounts.iter().map(|account| account.account_id.as_str()).collect::<Vec<_>>(), [THIRD, ACCOUNT]);
    for bad in [vec![], vec![OTHER.to_owned(); 201], vec!["1".to_owned()]] {
        let request = api::BatchGetGraphMemberDatasourcesRequest { account_ids: bad, ..request.clone() };
        refused(batching.batch_get_graph_member_datasources(request).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }

    let missing = "arn:aws:detective:us-east-1:111111111111:graph:00000000000000000000000000000000";
    let own = service.create_graph(OTHER, "").await.unwrap();
    let request = |arns: &[&str]| api::BatchGetMembershipDatasourcesRequest { graph_arns: arns.iter().map(|arn| (*arn).to_owned()).collect() };
    let mut batching = service.membership(OTHER, "detective:BatchGetMembershipDatasources");
    let got = batching.batch_get_membership_datasources(request(&[&graph, missing, &own])).await.unwrap().into_inner();
    assert_eq!(got.memberships.as_slice(), std::slice::from_ref(member));
    assert_eq!(got.unprocessed_graphs.iter().map(|graph| graph.graph_arn.as_str()).collect::<Vec<_>>(), [missing, &own]);
    for bad in [request(&[]), request(&["x"]), request(&[missing; 51])] {
        refused(batching.batch_get_membership_datasources(bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
}

#[tokio::test]
async fn usage_is_shown_by_account_package_and_day() {
    const GIGABYTE: u64 = 1 << 30;
    let service = Service::with_accounts().await;
    let graph = service.create_graph(ACCOUNT, "").await.unwrap();
    for (account, kind, days_ago, gigabytes) in [
        (ACCOUNT, RecordKind::Cloudtrail, 1, 1),
        (ACCOUNT, RecordKind::VpcFlow, 1, 1),
        (OTHER, RecordKind::SecurityHub, 2, 4),
        ("", RecordKind::EksAudit, 0, 8),
        (ACCOUNT, RecordKind::Cloudtrail, 45, 100),
    ] {
        service.lake.give(&graph, account, kind, days_ago, gigabytes * GIGABYTE);
    }
    let usage = async |days| {
        let request = api::GetUsageRequest { graph_arn: graph.clone(), days };
        service.on_graph(ACCOUNT, "detective:GetUsageInformation", &graph).get_usage(request).await
    };
    let month = usage(0).await.unwrap().into_inner();
    let rows: Vec<_> = month.usage.iter().map(|usage| (usage.account_id.as_str(), usage.package(), usage.bytes / GIGABYTE, usage.records)).collect();
    assert_eq!(rows, [("", Package::EksAudit, 8, 1), (ACCOUNT, Package::DetectiveCore, 2, 2), (OTHER, Package::AsffSecurityhubFinding, 4, 1)]);
    // Two complete days: an average of 1 and 2 GB a day, at 2 dollars.
    assert_eq!(month.projected_monthly_bytes, 90 * GIGABYTE);
    assert!((month.projected_monthly_cost - 180.0).abs() < 1e-6 && month.currency == "USD", "{month:?}");
    assert_eq!(usage(1).await.unwrap().into_inner().usage.len(), 1, "today only");
    assert_eq!(usage(90).await.unwrap().into_inner().usage.len(), 4);
    for bad in [-1, 91] {
        refused(usage(bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
}

#[tokio::test]
async fn ingest_learns_whose_logs_a_graph_takes() {
    let service = Service::with(|config| config.packages = vec![gumshoe_membership::datasource::Package::EksAudit]).await;
    service.register_all().await;
    service.register(OTHER, THIRD).await.unwrap();
    let graph = service.create_graph(ACCOUNT, "").await.unwrap();
    service.invite(ACCOUNT, &graph, &[OTHER]).await.unwrap();
    service.accept(OTHER, &graph).await.unwrap();
    let request = || api::GetGraphAccountsRequest { graph_arn: graph.clone() };
    let mut client = MembershipServiceClient::new(service.by_ingest());
    let known = client.get_graph_accounts(request()).await.unwrap().into_inner();
    let accounts: Vec<_> = known.accounts.iter().map(|account| (account.account_id.as_str(), account.enabled)).collect();
    assert_eq!((known.exists, accounts), (true, vec![(ACCOUNT, true), (OTHER, true), (THIRD, false)]));
    assert_eq!(known.packages().collect::<Vec<_>>(), [Package::DetectiveCore, Package::EksAudit]);
    service.disassociate(OTHER, &graph).await.unwrap();
    assert!(!client.get_graph_accounts(request()).await.unwrap().into_inner().accounts[1].enabled);
    service.delete_graph(ACCOUNT, &graph).await.unwrap();
    assert_eq!(client.get_graph_accounts(request()).await.unwrap().into_inner(), api::GetGraphAccountsResponse::default());
    refused(client.get_graph_accounts(api::GetGraphAccountsRequest::default()).await, Code::InvalidArgument, ErrorReason::InvalidField);
    refused(service.membership(ACCOUNT, "").get_graph_accounts(request()).await, Code::PermissionDenied, ErrorReason::AccessDenied);
}

#[tokio::test]
async fn a_removed_graph_is_gone_at_once_and_its_data_soon() {
    let service = Service::with_accounts().await;
    let graph = service.create_graph(ACCOUNT, "").await.unwrap();
    service.invite(ACCOUNT, &graph, &[OTHER]).await.unwrap();
    // The first attempt fails; so the removal survives a restart and is tried again.
    service.lake.fail(1);
    service.delete_graph(ACCOUNT, &graph).await.unwrap();
    refused(service.delete_graph(ACCOUNT, &graph).await, Code::NotFound, ErrorReason::NotFound);
    refused(service.delete_graph(OTHER, &graph).await, Code::NotFound, ErrorReason::NotFound);
    assert!(service.invitations(OTHER).await.is_empty());
    let anew = service.create_graph(ACCOUNT, "").await.unwrap();
    assert_ne!(anew, graph);
    let wait = async |until: &dyn Fn() -> bool| {
        tokio::time::timeout(Duration::from_secs(30), async {
            while !until() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
    };
    wait(&|| service.lake.failures_left() == 0).await;
    let service = service.restart(|_| {}).await;
    wait(&|| service.lake.deleted() == [graph.clone()]).await;
}
