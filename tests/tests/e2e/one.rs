//! `gumshoe serve`: all in one process, on embedded stores.

use std::time::{Duration, Instant};

use gumshoe_api::{
    common::v1::{EntityKey, EntityType, ErrorReason},
    graph::v1::{GetGraphStatisticsRequest, WatchRiskRequest},
    investigation::v1::{BatchGetVerdictsRequest, CreateVerdictRequest, VerdictKind},
};
use gumshoe_runtime::status::reason_of;
use gumshoe_testkit::{Cli, Standalone, standalone::Folder};
use gumshoe_tests::{dump::Dump, story};
use tonic::Code;

use crate::night;

#[tokio::test]
async fn keeps_everything_over_a_restart_and_shows_credentials_once() {
    let (folder, logs) = (Folder::default(), tempfile::tempdir().unwrap());
    let pulled = logs.path().join("pulled");
    let arguments = ["--source-directory".to_owned(), pulled.display().to_string()];
    let first = Standalone::start(&folder.data(), &folder.log("first"), &arguments).await;
    let credentials = first.credentials().expect("credentials on first start").clone();
    let client = first.sign_in(&credentials).await;
    let cli = Cli::of(&client);

    night::ingest_by_command(&cli, &story::cloudtrail(), logs.path()).await;
    night::ingest_by_stream(&client, &story::flows()).await;
    night::ingest_by_stream(&client, &story::custom_flows()).await;
    story::findings().write(&pulled);
    night::ingest_by_source(&cli, "folder", &pulled).await;
    night::check(&client, &cli).await;

    // Another account's graph is as good as none.
    let elsewhere = client.graph_arn.replacen(&format!(":{}:", story::ACCOUNT), ":999988887777:", 1);
    assert_ne!(elsewhere, client.graph_arn);
    let status = client.graph().get_graph_statistics(GetGraphStatisticsRequest { graph_arn: elsewhere }).await.expect_err("a refusal");
    assert_eq!((status.code(), reason_of(&status)), (Code::PermissionDenied, Some(ErrorReason::AccessDenied)), "{status:?}");

    let verdict = CreateVerdictRequest {
        graph_arn: client.graph_arn.clone(),
        finding_id: story::FINDING.to_owned(),
        kind: VerdictKind::TruePositive.into(),
        note: "the key was public".to_owned(),
        ..CreateVerdictRequest::default()
    };
    client.investigation().create_verdict(verdict).await.expect("CreateVerdict");
    let files = [story::cloudtrail(), story::flows(), story::custom_flows(), story::findings()];
    let before = Dump::of(&client, &files).await;
    // Who watches is told of the end, and does not hold it up.
    let address = EntityKey { r#type: EntityType::IpAddress.into(), id: "192.0.2.77".to_owned() };
    let watch = WatchRiskRequest { graph_arn: client.graph_arn.clone(), entities: vec![address.clone()], ..WatchRiskRequest::default() };
    let mut changes = client.graph().watch_risk(watch).await.expect("WatchRisk").into_inner();
    let risk = changes.message().await.unwrap().unwrap().risk.unwrap();
    assert_eq!((risk.entity, risk.score), (Some(address), 0.0), "a stranger");
    let begun = Instant::now();
    // Beside the client's connection, which must hear of the end and answer.
    let (status, log) = tokio::task::spawn_blocking(move || first.stop()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(changes.message().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(status.code(), Some(0), "SIGTERM is an orderly end\n{log}");
    assert!(log.contains(&credentials.secret_access_key), "the first start shows the secret");

    let second = Standalone::start(&folder.data(), &folder.log("second"), &arguments).await;
    assert!(second.credentials().is_none(), "credentials are shown once");
    let client = second.sign_in(&credentials).await;
    before.assert_same(&Dump::of(&client, &files).await, "after a restart");
    let request = BatchGetVerdictsRequest { graph_arn: client.graph_arn.clone(), finding_ids: vec![story::FINDING.to_owned()] };
    let verdicts = client.investigation().batch_get_verdicts(request).await.expect("BatchGetVerdicts").into_inner().verdicts;
    assert_eq!(verdicts.len(), 1);
    assert_eq!((verdicts[0].kind(), verdicts[0].author_arn.as_str()), (VerdictKind::TruePositive, credentials.principal_arn.as_str()));

    // What was sent before the restart is known after it.
    let cli = Cli::of(&client);
    let path = story::cloudtrail().write(logs.path());
    let again = cli.json(&["ingest", path.to_str().unwrap()]).await;
    assert_eq!(again["files"][0]["already_committed"], true, "{again}");
    before.assert_same(&Dump::of(&client, &files).await, "after sending a file again");
    let (status, log) = second.stop();
    assert_eq!(status.code(), Some(0));
    assert!(!log.contains(&credentials.secret_access_key), "the second start shows the secret");
}

#[tokio::test]
async fn says_what_is_wrong_with_exit_codes_that_scripts_can_use() {
    let folder = Folder::default();
    let server = Standalone::start(&folder.data(), &folder.log("first"), &[]).await;
    let credentials = server.credentials().expect("credentials on first start").clone();
    let endpoint = server.endpoint().to_owned();

    let nobody = Cli::with([("GUMSHOE_ENDPOINT", endpoint.as_str())]);
    let ran = nobody.run(&["statistics"]).await;
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("gumshoe login"), "{}", ran.stderr);

    let (id, secret) = (credentials.access_key_id.as_str(), credentials.secret_access_key.as_str());
    let wrong = Cli::with([("GUMSHOE_ENDPOINT", endpoint.as_str()), ("GUMSHOE_ACCESS_KEY_ID", id), ("GUMSHOE_SECRET_ACCESS_KEY", "wrong")]);
    assert_eq!(wrong.run(&["statistics"]).await.code, Some(3));

    let key = Cli::with([("GUMSHOE_ENDPOINT", endpoint.as_str()), ("GUMSHOE_ACCESS_KEY_ID", id), ("GUMSHOE_SECRET_ACCESS_KEY", secret)]);
    let ran = key.run(&["login"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "the secret is shown");
    let graphs = key.json(&["graphs"]).await;
    assert_eq!(graphs["graphs"][0]["arn"], credentials.graph_arn.as_str());
    assert_eq!(key.json(&["statistics"]).await["edges"], 0, "an empty graph");

    assert_eq!(key.run(&["finding", "no-such-finding"]).await.code, Some(4));
    assert_eq!(key.run(&["profile", "user:arn:aws:iam::111122223333:user/nobody"]).await.code, Some(4));
    assert_eq!(key.run(&["search"]).await.code, Some(2));
    let (status, _) = server.stop();
    assert!(status.success());
    let gone = key.run(&["statistics"]).await;
    assert_eq!(gone.code, Some(5), "{}", gone.stderr);

    for shell in ["bash", "zsh", "fish"] {
        let ran = nobody.run(&["completions", shell]).await;
        assert!(ran.code == Some(0) && ran.stdout.contains("gumshoe"), "{shell}");
    }
}
