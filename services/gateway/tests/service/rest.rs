//! The Amazon Detective API.

use std::time::{Duration, Instant};

use gumshoe_gateway::config::Limits;
use serde_json::{Value, json};

use crate::{
    ACCOUNT, OTHER_GRAPH,
    harness::{Gateway, Options},
    policy,
    signer::{Call, quote},
    statement,
};

const MEMBER: &str = "222222222222";

#[tokio::test]
async fn a_graph_is_made_once_and_listed_in_its_region() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.post("/graph", json!({"Tags": {"team": "blue"}})).await.ok(), json!({"GraphArn": gateway.graph}));
    let abroad = |path: &str, body| Call { region: "eu-west-1", ..Call::post(path, body) };
    let other = gateway.send(&gateway.key, abroad("/graph", json!({}))).await.ok()["GraphArn"].as_str().unwrap().to_owned();
    assert!(other.starts_with(&format!("arn:aws:detective:eu-west-1:{ACCOUNT}:graph:")), "{other}");
    for (call, arn) in [(Call::post("/graphs/list", json!({"MaxResults": 1})), &gateway.graph), (abroad("/graphs/list", json!({})), &other)] {
        let listed = gateway.send(&gateway.key, call).await.ok();
        assert_eq!((listed["GraphList"].as_array().unwrap().len(), &listed["GraphList"][0]["Arn"]), (1, &json!(arn)));
        assert!(listed["GraphList"][0]["CreatedTime"].as_str().unwrap().ends_with('Z') && listed.get("NextToken").is_none(), "{listed}");
    }
    // A graph of one region is not reached through another.
    let message = gateway.post("/graph/removal", json!({"GraphArn": other})).await.is(400, "ValidationException");
    assert!(message.contains("'graphArn'") && message.contains("us-east-1"), "{message}");
    let removed = gateway.send(&gateway.key, abroad("/graph/removal", json!({"GraphArn": other}))).await;
    assert_eq!((removed.status, removed.text.as_str()), (200, ""));
    assert_eq!(gateway.send(&gateway.key, abroad("/graphs/list", json!({}))).await.ok(), json!({"GraphList": []}));
}

#[tokio::test]
async fn tags_are_set_listed_and_removed_by_encoded_arn() {
    let gateway = Gateway::start().await;
    let graph = gateway.graph.as_str();
    let set = gateway.send(&gateway.key, Call::tags("POST", graph, "", r#"{"Tags":{"team":"blue","a/b:c":"ä €"}}"#)).await;
    assert_eq!((set.status, set.text.as_str()), (204, ""));
    let listed = gateway.send(&gateway.key, Call::tags("GET", graph, "", "")).await.ok();
    assert_eq!(listed, json!({"Tags": {"a/b:c": "ä €", "team": "blue"}}));
    let query = format!("tagKeys=team&tagKeys={}", quote("a/b:c"));
    let removed = gateway.send(&gateway.key, Call::tags("DELETE", graph, &query, "")).await;
    assert_eq!((removed.status, removed.text.as_str()), (204, ""));
    assert_eq!(gateway.send(&gateway.key, Call::tags("GET", graph, "", "")).await.ok(), json!({"Tags": {}}));

    let message = gateway.send(&gateway.key, Call::tags("GET", "arn:aws:s3:::bucket", "", "")).await.is(400, "ValidationException");
    assert!(message.contains("'resourceArn'"), "{message}");
    for query in ["", "tagKeys=", "tagKeys=aws%3Ax", "tagKeys=a%20b", "other=a"] {
        let message = gateway.send(&gateway.key, Call::tags("DELETE", graph, query, "")).await.is(400, "ValidationException");
        assert!(message.contains("'tagKeys'"), "{message}");
    }
    let message = gateway.send(&gateway.key, Call::tags("POST", graph, "", "{}")).await.is(400, "ValidationException");
    assert!(message.contains("Value null at 'tags'"), "{message}");
}

#[tokio::test]
async fn a_member_is_invited_accepts_and_leaves() {
    let gateway = Gateway::start().await;
    let guest = gateway.administrator_of(MEMBER).await;
    let graph = gateway.graph.clone();
    let accounts = json!([{"AccountId": MEMBER, "EmailAddress": format!("{MEMBER}@example.com")}, {"AccountId": ACCOUNT, "EmailAddress": "a@example.com"}]);
    let made =
        gateway.post("/graph/members", json!({"GraphArn": graph, "Accounts": accounts, "Message": "please", "DisableEmailNotification": true})).await.ok();
    let member = &made["Members"][0];
    for (name, expected) in [
        ("AccountId", MEMBER),
        ("EmailAddress", "222222222222@example.com"),
        ("GraphArn", &graph),
        ("MasterId", ACCOUNT),
        ("AdministratorId", ACCOUNT),
        ("Status", "INVITED"),
        ("InvitationType", "INVITATION"),
    ] {
        assert_eq!(member[name], expected, "{name}");
    }
    assert!(member["InvitedTime"].is_string() && member["UpdatedTime"].is_string() && member.get("DisabledReason").is_none());
    assert_eq!(made["UnprocessedAccounts"][0]["AccountId"], ACCOUNT);

    // The graph is another account's: members may do these three, and nothing else.
    let body = || json!({"GraphArn": graph});
    gateway.send(&guest, Call::post("/graph/members/list", body())).await.is(403, "AccessDeniedException");
    let invitations = gateway.send(&guest, Call::post("/invitations/list", json!({}))).await.ok();
    assert_eq!(invitations["Invitations"][0]["Status"], "INVITED");
    let accept = || Call { method: "PUT", ..Call::post("/invitation", body()) };
    let accepted = gateway.send(&guest, accept()).await;
    assert_eq!((accepted.status, accepted.text.as_str()), (200, ""));
    gateway.send(&guest, accept()).await.is(409, "ConflictException");
    let listed = gateway.post("/graph/members/list", json!({"GraphArn": graph, "MaxResults": 1})).await.ok();
    assert_eq!(listed["MemberDetails"][0]["AccountId"], MEMBER);
    let history = gateway.post("/graph/datasources/get", json!({"GraphArn": graph, "AccountIds": [MEMBER, "999999999999"]})).await.ok();
    assert_eq!((&history["MemberDatasources"][0]["AccountId"], &history["UnprocessedAccounts"][0]["AccountId"]), (&json!(MEMBER), &json!("999999999999")));
    let history = gateway.send(&guest, Call::post("/membership/datasources/get", json!({"GraphArns": [graph, OTHER_GRAPH]}))).await.ok();
    assert_eq!((&history["MembershipDatasources"][0]["GraphArn"], &history["UnprocessedGraphs"][0]["GraphArn"]), (&json!(graph), &json!(OTHER_GRAPH)));
    assert_eq!(gateway.send(&guest, Call::post("/membership/removal", body())).await.status, 200);
    gateway.send(&guest, Call::post("/membership/removal", body())).await.is(404, "ResourceNotFoundException");
    let got = gateway.post("/graph/members/get", json!({"GraphArn": graph, "AccountIds": [MEMBER]})).await.ok();
    assert_eq!((&got["MemberDetails"], &got["UnprocessedAccounts"][0]["AccountId"]), (&json!([]), &json!(MEMBER)));
}

#[tokio::test]
async fn packages_and_organizations_are_reached() {
    let gateway = Gateway::start().await;
    let started = gateway.post("/graph/datasources/update", json!({"GraphArn": gateway.graph, "DatasourcePackages": ["EKS_AUDIT"]})).await;
    assert_eq!((started.status, started.text.as_str()), (200, ""));
    let listed = gateway.post("/graph/datasources/list", json!({"GraphArn": gateway.graph})).await.ok();
    let package = &listed["DatasourcePackages"]["EKS_AUDIT"];
    assert_eq!(package["DatasourcePackageIngestState"], "STARTED");
    assert!(package["LastIngestStateChange"]["STARTED"]["Timestamp"].as_str().unwrap().ends_with('Z'), "{listed}");
    // Without a body and its type, as SDKs call what has no input.
    let disable = Call { body: String::new(), ..Call::post("/orgs/disableAdminAccount", Value::Null) };
    gateway.send(&gateway.key, disable).await.is(400, "ValidationException");
    gateway.post("/orgs/adminAccountslist", json!({})).await.is(400, "ValidationException");
    gateway.post("/orgs/describeOrganizationConfiguration", json!({"GraphArn": gateway.graph})).await.is(400, "ValidationException");
}

#[tokio::test]
async fn investigations_are_passed_on_with_the_id_of_their_invocation() {
    let gateway = Gateway::start().await;
    let graph = gateway.graph.clone();
    let body = json!({"GraphArn": graph, "EntityArn": "arn:aws:iam::111111111111:user/ann", "ScopeStartTime": "2024-01-01T00:00:00Z", "ScopeEndTime": 1_704_153_600.5});
    for id in ["45c4f7f3-42f1-4b53-ae35-3d028f4c2ec9".to_owned(), "x".repeat(65)] {
        let call = Call { headers: vec![("amz-sdk-invocation-id", id)], ..Call::post("/investigations/startInvestigation", body.clone()) };
        assert_eq!(gateway.send(&gateway.key, call).await.ok(), json!({"InvestigationId": "1".repeat(21)}));
    }
    let started = gateway.upstream.started();
    assert_eq!(started.iter().map(|request| request.request_id.as_str()).collect::<Vec<_>>(), ["45c4f7f3-42f1-4b53-ae35-3d028f4c2ec9", ""]);
    let end = started[0].scope.unwrap().end_time.unwrap();
    assert_eq!((started[0].entity_arn.as_str(), end.seconds, end.nanos), ("arn:aws:iam::111111111111:user/ann", 1_704_153_600, 500_000_000));

    let get = |digit: &str| json!({"GraphArn": graph, "InvestigationId": digit.repeat(21)});
    let got = gateway.post("/investigations/getInvestigation", get("1")).await.ok();
    assert_eq!((&got["Status"], &got["GraphArn"], got.get("Severity")), (&json!("RUNNING"), &json!(graph), None));
    gateway.post("/investigations/getInvestigation", get("4")).await.is(404, "ResourceNotFoundException");
    let message = gateway.post("/investigations/getInvestigation", get("2")).await.is(500, "InternalServerException");
    assert!(!message.contains("secrets"), "{message}");
    let slow = gateway.post("/investigations/listInvestigations", json!({"GraphArn": graph})).await;
    assert_eq!(slow.is(429, "TooManyRequestsException"), "slowly");
    assert_eq!((slow.header("retry-after"), slow.header("x-amz-retry-after")), ("2", "1500"));
    let body = json!({"GraphArn": graph, "InvestigationId": "1".repeat(21), "NextToken": "token", "IndicatorType": "NEW_ASO"});
    let indicators = gateway.post("/investigations/listIndicators", body).await.ok();
    assert_eq!(
        indicators,
        json!({
            "GraphArn": graph, "InvestigationId": "1".repeat(21), "NextToken": "next",
            "Indicators": [{"IndicatorType": "NEW_ASO", "IndicatorDetail": {"NewAsoDetail": {"Aso": "token", "IsNewForEntireAccount": true}}}],
        })
    );
    let mut archive = get("1");
    archive["State"] = "ARCHIVED".into();
    assert_eq!(gateway.post("/investigations/updateInvestigationState", archive).await.text, "");
}

#[tokio::test]
async fn a_service_that_does_not_answer_in_time_is_an_internal_error() {
    let limits = Limits { timeout_seconds: 1, grace_seconds: 1, ..Limits::default() };
    let gateway = Gateway::start_with(Options { limits, ..Options::default() }).await;
    let start = Instant::now();
    let body = json!({"GraphArn": gateway.graph, "InvestigationId": "3".repeat(21)});
    gateway.post("/investigations/getInvestigation", body).await.is(500, "InternalServerException");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn policies_decide_and_say_so_as_aws_does() {
    let gateway = Gateway::start().await;
    let graph = gateway.graph.clone();
    let key = gateway.user("user/ann", &[policy(&[statement("Allow", "detective:List*", "*")])]).await;
    gateway.send(&key, Call::post("/graph/members/list", json!({"GraphArn": graph}))).await.ok();
    // The action's name is not quite the operation's.
    gateway.send(&key, Call::post("/orgs/adminAccountslist", json!({}))).await.is(400, "ValidationException");
    let message = gateway.send(&key, Call::post("/graph/removal", json!({"GraphArn": graph}))).await.is(403, "AccessDeniedException");
    assert_eq!(
        message,
        format!(
            "User: arn:aws:iam::{ACCOUNT}:user/ann is not authorized to perform: detective:DeleteGraph on resource: {graph} because no identity-based policy allows the detective:DeleteGraph action"
        )
    );
    // Foreign graphs are denied, whether they exist or not; an own one that does not exist is not found.
    gateway.post("/graph/members/list", json!({"GraphArn": OTHER_GRAPH})).await.is(403, "AccessDeniedException");
    let missing = format!("arn:aws:detective:us-east-1:{ACCOUNT}:graph:{}", "0".repeat(32));
    gateway.post("/graph/members/list", json!({"GraphArn": missing})).await.is(404, "ResourceNotFoundException");
    gateway.post("/orgs/describeOrganizationConfiguration", json!({"GraphArn": missing})).await.is(400, "ValidationException");
    gateway.delete_principal("user/ann").await;
    gateway.send(&key, Call::post("/graphs/list", json!({}))).await.is(403, "UnrecognizedClientException");
}

#[tokio::test]
async fn conditions_see_tags_and_the_region() {
    let gateway = Gateway::start().await;
    let allow = |condition: &str| policy(&[format!(r#"{{"Effect":"Allow","Action":"detective:*","Resource":"*","Condition":{condition}}}"#)]);
    let tagger =
        gateway.user("user/tagger", &[allow(r#"{"StringEquals":{"aws:RequestTag/team":"blue"},"ForAllValues:StringEquals":{"aws:TagKeys":["team"]}}"#)]).await;
    for (body, status) in [(r#"{"Tags":{"team":"blue"}}"#, 204), (r#"{"Tags":{"team":"red"}}"#, 403), (r#"{"Tags":{"team":"blue","x":"y"}}"#, 403)] {
        let answer = gateway.send(&tagger, Call::tags("POST", &gateway.graph, "", body)).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
    }
    gateway.send(&tagger, Call::post("/graph", json!({}))).await.is(403, "AccessDeniedException");
    gateway.send(&tagger, Call::post("/graph", json!({"Tags": {"team": "blue"}}))).await.ok();
    let untagger = gateway.user("user/untagger", &[allow(r#"{"ForAllValues:StringEquals":{"aws:TagKeys":["x"]}}"#)]).await;
    gateway.send(&untagger, Call::tags("DELETE", &gateway.graph, "tagKeys=x&tagKeys=team", "")).await.is(403, "AccessDeniedException");
    assert_eq!(gateway.send(&untagger, Call::tags("DELETE", &gateway.graph, "tagKeys=x", "")).await.status, 204);
    let reader = gateway.user("user/reader", &[allow(r#"{"StringEquals":{"aws:ResourceTag/team":"blue"}}"#)]).await;
    gateway.send(&reader, Call::post("/graph/members/list", json!({"GraphArn": gateway.graph}))).await.ok();
    gateway.send(&reader, Call::post("/graphs/list", json!({}))).await.is(403, "AccessDeniedException");
    let local = gateway.user("user/local", &[allow(r#"{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}"#)]).await;
    gateway.send(&local, Call::post("/graphs/list", json!({}))).await.is(403, "AccessDeniedException");
    gateway.send(&local, Call { region: "eu-west-1", ..Call::post("/graphs/list", json!({})) }).await.ok();
}

#[tokio::test]
async fn input_is_held_to_the_model() {
    let gateway = Gateway::start().await;
    let graph = gateway.graph.clone();
    let cases = [
        ("/graph/members/list", json!({}), "Value null at 'graphArn' failed to satisfy constraint: Member must not be null", "INVALID_GRAPH_ARN"),
        (
            "/graph/members/list",
            json!({"GraphArn": "x"}),
            "Value 'x' at 'graphArn' failed to satisfy constraint: Member must satisfy regular expression pattern: ^arn:aws",
            "INVALID_GRAPH_ARN",
        ),
        (
            "/graph/members/list",
            json!({"GraphArn": graph, "MaxResults": 201}),
            "Value '201' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 200",
            "INVALID_REQUEST_BODY",
        ),
        (
            "/graph/members/list",
            json!({"GraphArn": graph, "MaxResults": "1"}),
            "Value at 'maxResults' failed to satisfy constraint: Member must be an integer",
            "INVALID_REQUEST_BODY",
        ),
        ("/graph/members/list", json!({"GraphArn": graph, "NextToken": "x"}), "The NextToken is not valid", "INVALID_REQUEST_BODY"),
        (
            "/graph/members",
            json!({"GraphArn": graph, "Accounts": []}),
            "'accounts' failed to satisfy constraint: Member must have length greater than or equal to 1",
            "INVALID_REQUEST_BODY",
        ),
        (
            "/graph/members",
            json!({"GraphArn": graph, "Accounts": [{"AccountId": MEMBER, "EmailAddress": "hunter2"}]}),
            "Value at 'accounts.1.member.emailAddress' failed",
            "INVALID_REQUEST_BODY",
        ),
        (
            "/graph/datasources/update",
            json!({"GraphArn": graph, "DatasourcePackages": ["eks"]}),
            "at 'datasourcePackages.1.member' failed to satisfy constraint: Member must satisfy enum value set: [DETECTIVE_CORE, EKS_AUDIT, ASFF_SECURITYHUB_FINDING]",
            "INVALID_REQUEST_BODY",
        ),
    ];
    for (path, body, words, code) in cases {
        let answer = gateway.post(path, body).await;
        let message = answer.is(400, "ValidationException");
        assert!(message.contains(words) && !message.contains("hunter2"), "{message}");
        assert_eq!(answer.json()["ErrorCode"], code, "{message}");
    }
    for body in ["{", "[]", "5", "null x", "\"text\"", &"[".repeat(5_000), "{\"MaxResults\": 1e999}"] {
        let call = Call { body: body.to_owned(), ..Call::post("/graphs/list", Value::Null) };
        gateway.send(&gateway.key, call).await.is(400, "ValidationException");
    }
    for body in ["", "{}", r#"{"MaxResults":null,"Status":"ENABLED"}"#] {
        gateway.send(&gateway.key, Call { body: body.to_owned(), ..Call::post("/graphs/list", Value::Null) }).await.ok();
    }
    // Bad input is not told from bad rights by who has none.
    let nobody = gateway.user("user/nobody", &[]).await;
    gateway.send(&nobody, Call::post("/graph/members/list", json!({"GraphArn": "x"}))).await.is(400, "ValidationException");
}

#[tokio::test]
async fn what_is_no_operation_or_too_large_is_refused() {
    let gateway = Gateway::start().await;
    for (method, path) in
        [("POST", "/graphs"), ("GET", "/graph"), ("POST", "/tags"), ("PATCH", "/tags/x"), ("POST", "/graph/list/"), ("DELETE", "/invitation"), ("POST", "/")]
    {
        let call = Call { method, ..Call::post(path, json!({})) };
        gateway.send(&gateway.key, call).await.is(404, "UnknownOperationException");
    }
    let limit = 1 << 20;
    let fits = Call { body: format!("{{\"x\":\"{}\"}}", "y".repeat(limit - 8)), ..Call::post("/graphs/list", Value::Null) };
    assert_eq!(fits.body.len(), limit);
    gateway.send(&gateway.key, fits.clone()).await.ok();
    let too_large = Call { body: format!("{} ", fits.body), ..fits };
    gateway.send(&gateway.key, too_large).await.is(413, "RequestEntityTooLargeException");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let limits = Limits { first_message_seconds: 1, grace_seconds: 1, ..Limits::default() };
    let gateway = Gateway::start_with(Options { limits, ..Options::default() }).await;
    let mut stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(b"POST /graphs/list HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{").await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, b"HTTP/1.1 400");
}

#[tokio::test]
async fn large_bodies_that_do_not_come_keep_no_small_ones_away() {
    use tokio::io::AsyncWriteExt as _;
    let gateway = Gateway::start().await;
    let mut streams = Vec::new();
    for _ in 0..100 {
        let mut stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(b"POST /graphs/list HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{").await.unwrap();
        streams.push(stream);
    }
    gateway.post("/graphs/list", json!({})).await.ok();
}

#[tokio::test]
async fn an_account_that_calls_too_often_has_to_wait() {
    let limits = Limits { reads_per_second: 1, grace_seconds: 1, ..Limits::default() };
    let gateway = Gateway::start_with(Options { limits, ..Options::default() }).await;
    let mut refused = None;
    for _ in 0..20 {
        let answer = gateway.post("/graphs/list", json!({})).await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.unwrap();
    refused.is(429, "TooManyRequestsException");
    let wait: u64 = refused.header("x-amz-retry-after").parse().unwrap();
    assert!((1..=1_000).contains(&wait) && refused.header("retry-after") == "1", "{wait}");
    gateway.post("/graph", json!({})).await.ok();
}
