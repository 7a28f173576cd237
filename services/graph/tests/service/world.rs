//! A seeded graph with a bit of everything, on both sides of the baseline's borders.

use serde_json::{Value, json};

use crate::fixture::{ACCOUNT, Call, Dice, Fixture, OTHER_ACCOUNT, Who, assume, role_arn};

/// The scope of the tests, not of whole hours: 2024-06-30T10:00Z to 2024-07-01T10:00Z when widened. Its baseline starts at
/// 2024-05-16T10:00Z.
pub(crate) const SCOPE: (&str, &str) = ("2024-06-30T10:20:00Z", "2024-07-01T09:10:00Z");

/// Times before, in and around baseline and scope.
const TIMES: [&str; 12] = [
    "2024-05-16T09:59:59Z",
    "2024-05-16T10:00:00Z",
    "2024-05-30T23:59:59Z",
    "2024-06-15T12:00:00Z",
    "2024-06-30T09:59:59Z",
    "2024-06-30T10:00:00Z",
    "2024-06-30T10:59:59Z",
    "2024-06-30T18:30:00Z",
    "2024-06-30T18:31:00Z",
    "2024-07-01T00:00:00Z",
    "2024-07-01T09:59:59Z",
    "2024-07-01T10:00:00Z",
];

pub(crate) fn calls(dice: &mut Dice, from: u64, count: u64) -> Vec<Value> {
    let principals = [
        Who::User("alice"),
        Who::User("bob"),
        Who::Session("deploy", "ci", None),
        Who::Session("deploy", "alice", Some("alice@corp.example")),
        Who::Session("audit", "chained", None),
    ];
    let operations = [
        ("s3.amazonaws.com", "GetObject"),
        ("s3.amazonaws.com", "PutObject"),
        ("ec2.amazonaws.com", "DescribeInstances"),
        ("iam.amazonaws.com", "GetUser"),
        ("iam.amazonaws.com", "ListUsers"),
    ];
    (from..from + count)
        .map(|number| {
            let (service, operation) = dice.pick(&operations);
            let who = principals[usize::try_from(dice.roll(principals.len() as u64)).unwrap()].clone();
            let request = match (service, operation) {
                ("s3.amazonaws.com", _) => json!({ "bucketName": dice.pick(&["alpha", "beta", "gamma_1"]), "key": "k" }),
                ("iam.amazonaws.com", "GetUser") => json!({ "userName": "bob" }),
                _ => Value::Null,
            };
            Call {
                service,
                operation,
                address: dice.pick(&["198.51.100.1", "198.51.100.2", "203.0.113.77", "2001:db8::5", "10.0.0.9", "cloudformation.amazonaws.com"]).to_owned(),
                user_agent: dice.pick(&["aws-cli/2.1", "Boto3/1.34", "[S3Console/0.4]", "100%_real\\agent"]).to_owned(),
                error: dice.pick(&["", "", "", "AccessDenied", "NoSuchKey"]),
                access_key: dice.pick(&["", "AKIAALICE", "ASIACHAINED"]).to_owned(),
                request,
                ..Call::new(format!("call-{number}"), dice.pick(&TIMES), who)
            }
            .json()
        })
        .collect()
}

pub(crate) fn flows(dice: &mut Dice, count: u64) -> String {
    let header = "version account-id interface-id instance-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status flow-direction pkt-srcaddr pkt-dstaddr\n";
    let mut text = header.to_owned();
    for _ in 0..count {
        let start = gumshoe_model::Timestamp::parse(dice.pick(&TIMES)).unwrap().0 / 1_000_000;
        let remote = dice.pick(&["203.0.113.77", "203.0.113.78", "10.0.0.200"]);
        let (interface, instance, local) = dice.pick(&[("eni-1", "i-1", "10.0.0.9"), ("eni-2", "i-1", "10.0.0.10"), ("eni-3", "-", "10.0.0.11")]);
        let port = dice.pick(&[22, 443, 3389]);
        let (source, target, source_port, target_port, direction) = match dice.roll(4) {
            0 => (remote, local, 50_000, port, "ingress"),
            1 => (local, remote, port, 50_000, "egress"),
            2 => (local, remote, 50_000, port, "egress"),
            _ => (remote, local, port, 50_000, "ingress"),
        };
        let (packets, bytes) = (1 + dice.roll(9), 40 + dice.roll(5_000));
        let action = dice.pick(&["ACCEPT", "ACCEPT", "REJECT"]);
        text += &format!(
            "5 {ACCOUNT} {interface} {instance} {source} {target} {source_port} {target_port} 6 {packets} {bytes} {start} {} {action} OK {direction} {source} {target}\n",
            start + 60
        );
    }
    text += &format!("5 {ACCOUNT} eni-1 i-1 - - - - - - - 1719745200 1719745260 - NODATA - - -\n");
    text
}

pub(crate) fn chain() -> Vec<Value> {
    let ci = Who::Session("deploy", "ci", None);
    let login = Call {
        service: "signin.amazonaws.com",
        operation: "ConsoleLogin",
        more: json!({ "eventType": "AwsConsoleSignIn" }),
        response: json!({ "ConsoleLogin": "Success" }),
        ..Call::new("login-1", "2024-06-30T12:00:00Z", Who::User("alice"))
    };
    let refused = Call { error: "AccessDenied", response: Value::Null, ..assume("assume-3", "2024-06-30T13:10:00Z", Who::User("bob"), "audit", "bob", "") };
    let with_source = Call {
        request: json!({ "roleArn": role_arn("deploy"), "roleSessionName": "alice", "sourceIdentity": "alice@corp.example" }),
        ..assume("assume-4", "2024-06-30T13:20:00Z", Who::User("alice"), "deploy", "alice", "ASIASOURCE")
    };
    // A later correction of the first call: kept, but no second call.
    let addendum = Call {
        more: json!({ "addendum": { "reason": "UPDATED_DATA", "updatedFields": "eventID", "originalRequestID": "r", "originalEventID": "assume-1" } }),
        ..assume("addendum-1", "2024-06-30T13:30:00Z", Who::User("alice"), "deploy", "ci", "ASIACI")
    };
    let other_account = Call { more: json!({ "recipientAccountId": OTHER_ACCOUNT }), ..Call::new("other-1", "2024-06-30T14:00:00Z", Who::User("alice")) };
    [
        assume("assume-1", "2024-06-30T12:30:00Z", Who::User("alice"), "deploy", "ci", "ASIACI"),
        assume("assume-2", "2024-06-30T13:00:00Z", ci.clone(), "audit", "chained", "ASIACHAINED"),
        refused,
        with_source,
        addendum,
        login,
        other_account,
        Call { access_key: "ASIACI".to_owned(), address: "198.51.100.9".to_owned(), ..Call::new("ci-1", "2024-06-30T12:40:00Z", ci) },
    ]
    .iter()
    .map(Call::json)
    .collect()
}

/// Fills the graph in several batches, one of them sent twice, with records delivered twice.
pub(crate) async fn fill(fixture: &Fixture) {
    let mut dice = Dice::new(7);
    let first = calls(&mut dice, 0, 250);
    let answer = fixture.commit_calls("calls-1", &first).await;
    assert_eq!((answer.events, answer.duplicates, answer.already_committed), (250, 0, false));
    let again = fixture.commit_calls("calls-1", &first).await;
    assert_eq!((again.events, again.duplicates, again.already_committed), (250, 0, true));
    let mut second = calls(&mut dice, 250, 150);
    second.extend_from_slice(&first[200..]);
    let answer = fixture.commit_calls("calls-2", &second).await;
    assert_eq!((answer.events, answer.duplicates), (150, 50));
    fixture.commit_calls("chain", &chain()).await;
    fixture.commit("flows-1", "s3://logs/flows.log", &flows(&mut dice, 200)).await;
    fixture.commit("flows-2", "s3://logs/flows-2.log", &flows(&mut dice, 100)).await;
}
