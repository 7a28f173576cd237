//! One night, composed after the public formats: a user's key is used from a new address, becomes a role, takes data;
//! the network shows the way out, and the detector says so.

use serde_json::{Value, json};

use crate::LogFile;

/// The account that everything happens in.
pub const ACCOUNT: &str = "111122223333";
/// The user whose key was taken.
pub const USER: &str = "arn:aws:iam::111122223333:user/alice";
/// The user's key.
pub const USER_KEY: &str = "AKIAALICEEXAMPLE0001";
/// The role that the key became.
pub const ROLE: &str = "arn:aws:iam::111122223333:role/deployer";
/// The role's session.
pub const SESSION: &str = "AROADEPLOYEREXAMPLE01:night-shift";
/// The session's key.
pub const SESSION_KEY: &str = "ASIANIGHTSHIFT000001";
/// Where the user works.
pub const OFFICE: &str = "203.0.113.10";
/// Where the night's calls come from.
pub const ATTACKER: &str = "198.51.100.7";
/// The bucket that is read.
pub const BUCKET: &str = "customer-exports";
/// The network interface through which data leaves.
pub const INTERFACE: &str = "eni-0fedcba9876543210";
/// The instance of the second flow log.
pub const INSTANCE: &str = "i-0123456789abcdef0";
/// The detector's finding.
pub const FINDING: &str = "arn:aws:guardduty:us-east-1:111122223333:detector/12abc34d567e8fa901bc2d34e56789f0/finding/f00dfeedf00dfeedf00dfeedf00dfeed";
/// Its type.
pub const FINDING_TYPE: &str = "UnauthorizedAccess:IAMUser/MaliciousIPCaller.Custom";
/// The hour of the night, from 22:00 to 23:00 on 6 January 2026, in seconds since the epoch.
pub const NIGHT: (i64, i64) = (1_767_736_800, 1_767_740_400);
/// The record by which the session deletes a trail, or tries to.
pub const DELETE_TRAIL: &str = "00000000-0000-4000-8000-000000000208";

const USER_AGENT: &str = "aws-cli/2.15.0 Python/3.11.6 Linux/6.1.0 exe/x86_64.ubuntu.22";

/// CloudTrail as an S3 object, packed: 12 calls by day, 4 by the user at night and 4 by the session.
#[must_use]
pub fn cloudtrail() -> LogFile {
    LogFile::new(
        "AWSLogs/111122223333/CloudTrail/us-east-1/2026/01/06/111122223333_CloudTrail_us-east-1_20260106T2230Z_a1B2c3D4e5F6g7H8.json.gz",
        &json!({ "Records": cloudtrail_records() }).to_string(),
    )
}

/// The records of [`cloudtrail`].
#[must_use]
pub fn cloudtrail_records() -> Vec<Value> {
    let by_day = (3_u32..6).flat_map(|day| (0_u32..4).map(move |hour| (day, hour)));
    let mut records: Vec<Value> = by_day
        .map(|(day, hour)| {
            let time = format!("2026-01-{day:02}T{:02}:30:00Z", 9 + hour);
            call(u64::from(day * 10 + hour), &time, user(), "ec2.amazonaws.com", "DescribeInstances", OFFICE, &json!({}))
        })
        .collect();
    let denied = json!({ "errorCode": "AccessDenied", "errorMessage": "User is not authorized to perform this operation" });
    records.push(call(201, "2026-01-06T22:10:00Z", user(), "sts.amazonaws.com", "GetCallerIdentity", ATTACKER, &json!({})));
    records.push(call(202, "2026-01-06T22:11:00Z", user(), "iam.amazonaws.com", "ListUsers", ATTACKER, &denied));
    records.push(call(203, "2026-01-06T22:11:30Z", user(), "iam.amazonaws.com", "ListUsers", ATTACKER, &denied));
    let assumed = json!({
        "requestParameters": { "roleArn": ROLE, "roleSessionName": "night-shift" },
        "responseElements": {
            "credentials": { "accessKeyId": SESSION_KEY, "sessionToken": "EXAMPLE", "expiration": "Jan 6, 2026, 11:12:00 PM" },
            "assumedRoleUser": { "assumedRoleId": SESSION, "arn": "arn:aws:sts::111122223333:assumed-role/deployer/night-shift" },
        },
        "resources": [{ "accountId": ACCOUNT, "type": "AWS::IAM::Role", "ARN": ROLE }],
    });
    records.push(call(204, "2026-01-06T22:12:00Z", user(), "sts.amazonaws.com", "AssumeRole", ATTACKER, &assumed));
    for number in 0..3 {
        let key = format!("2025/export-{number}.csv");
        let read = json!({
            "requestParameters": { "bucketName": BUCKET, "key": key },
            "resources": [
                { "type": "AWS::S3::Object", "ARN": format!("arn:aws:s3:::{BUCKET}/{key}") },
                { "accountId": ACCOUNT, "type": "AWS::S3::Bucket", "ARN": format!("arn:aws:s3:::{BUCKET}") },
            ],
        });
        records.push(call(205 + number, &format!("2026-01-06T22:15:0{number}Z"), session(), "s3.amazonaws.com", "GetObject", ATTACKER, &read));
    }
    let mut last = denied;
    merge(&mut last, &json!({ "requestParameters": { "name": "organization-trail" } }));
    records.push(call(208, "2026-01-06T22:16:00Z", session(), "cloudtrail.amazonaws.com", "DeleteTrail", ATTACKER, &last));
    records
}

/// A CloudTrail record, version 1.11.
#[must_use]
pub fn call(number: u64, time: &str, identity: Value, source: &str, name: &str, address: &str, more: &Value) -> Value {
    let mut record = json!({
        "eventVersion": "1.11",
        "userIdentity": identity,
        "eventTime": time,
        "eventSource": source,
        "eventName": name,
        "awsRegion": "us-east-1",
        "sourceIPAddress": address,
        "userAgent": USER_AGENT,
        "requestParameters": null,
        "responseElements": null,
        "requestID": format!("request-{number:04}"),
        "eventID": format!("00000000-0000-4000-8000-{number:012}"),
        "readOnly": name != "AssumeRole",
        "eventType": "AwsApiCall",
        "managementEvent": true,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Management",
    });
    merge(&mut record, more);
    record
}

fn merge(record: &mut Value, more: &Value) {
    if let (Some(record), Some(more)) = (record.as_object_mut(), more.as_object()) {
        record.extend(more.clone());
    }
}

/// The user as `userIdentity`.
#[must_use]
pub fn user() -> Value {
    json!({
        "type": "IAMUser",
        "principalId": "AIDAALICEEXAMPLE00001",
        "arn": USER,
        "accountId": ACCOUNT,
        "accessKeyId": USER_KEY,
        "userName": "alice",
    })
}

fn session() -> Value {
    json!({
        "type": "AssumedRole",
        "principalId": SESSION,
        "arn": "arn:aws:sts::111122223333:assumed-role/deployer/night-shift",
        "accountId": ACCOUNT,
        "accessKeyId": SESSION_KEY,
        "sessionContext": {
            "sessionIssuer": { "type": "Role", "principalId": "AROADEPLOYEREXAMPLE01", "arn": ROLE, "accountId": ACCOUNT, "userName": "deployer" },
            "attributes": { "creationDate": "2026-01-06T22:12:00Z", "mfaAuthenticated": "false" },
        },
    })
}

/// VPC flow logs, version 2: a way in, a way out, a rejected try, an interval without data.
#[must_use]
pub fn flows() -> LogFile {
    let start = NIGHT.0 + 1_200;
    let line = |rest: &str| format!("2 {ACCOUNT} {INTERFACE} {rest} {start} {} ", start + 60);
    let text = [
        "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status".to_owned(),
        line(&format!("{ATTACKER} 10.0.1.5 51000 443 6 15 3000")) + "ACCEPT OK",
        line(&format!("10.0.1.5 {ATTACKER} 443 51000 6 20 12000")) + "ACCEPT OK",
        line(&format!("10.0.1.5 {ATTACKER} 50000 4444 6 4000 5000000")) + "ACCEPT OK",
        line(&format!("{ATTACKER} 10.0.1.5 40000 22 6 1 40")) + "REJECT OK",
        line("- - - - - - -") + "- NODATA",
    ]
    .join("\n");
    LogFile::new("vpc/night.log", &(text + "\n"))
}

/// VPC flow logs with fields of version 5 in an order of their own, packed.
#[must_use]
pub fn custom_flows() -> LogFile {
    let start = NIGHT.0 + 1_500;
    let text = format!(
        "action instance-id srcaddr dstaddr srcport dstport protocol bytes packets start end version account-id interface-id log-status flow-direction\n\
         ACCEPT {INSTANCE} 10.0.2.6 {ATTACKER} 50500 443 6 700000 900 {start} {} 5 {ACCOUNT} eni-0a1b2c3d4e5f60718 OK egress\n",
        start + 30
    );
    LogFile::new("AWSLogs/111122223333/vpcflowlogs/us-east-1/2026/01/06/111122223333_vpcflowlogs_us-east-1_fl-1_20260106T2225Z_abcdef01.log.gz", &text)
}

/// Findings of GuardDuty as it exports them.
#[must_use]
pub fn findings() -> LogFile {
    let finding = json!({
        "schemaVersion": "2.0",
        "accountId": ACCOUNT,
        "region": "us-east-1",
        "partition": "aws",
        "id": "f00dfeedf00dfeedf00dfeedf00dfeed",
        "arn": FINDING,
        "type": FINDING_TYPE,
        "resource": {
            "resourceType": "AccessKey",
            "accessKeyDetails": { "accessKeyId": USER_KEY, "principalId": "AIDAALICEEXAMPLE00001", "userType": "IAMUser", "userName": "alice" },
        },
        "service": {
            "serviceName": "guardduty",
            "detectorId": "12abc34d567e8fa901bc2d34e56789f0",
            "action": {
                "actionType": "AWS_API_CALL",
                "awsApiCallAction": {
                    "api": "ListUsers",
                    "serviceName": "iam.amazonaws.com",
                    "callerType": "Remote IP",
                    "remoteIpDetails": { "ipAddressV4": ATTACKER, "organization": { "asn": "64500", "asnOrg": "Example Hosting" } },
                },
            },
            "resourceRole": "TARGET",
            "eventFirstSeen": "2026-01-06T22:10:00Z",
            "eventLastSeen": "2026-01-06T22:12:00Z",
            "archived": false,
            "count": 4,
        },
        "severity": 8,
        "createdAt": "2026-01-06T22:20:00.000Z",
        "updatedAt": "2026-01-06T22:20:00.000Z",
        "title": "API ListUsers was invoked from an IP address on a custom threat list.",
        "description": "API ListUsers was invoked from 198.51.100.7, which is on a custom threat list.",
    });
    LogFile::new("AWSLogs/111122223333/GuardDuty/us-east-1/2026/01/06/findings.jsonl.gz", &format!("{finding}\n"))
}
