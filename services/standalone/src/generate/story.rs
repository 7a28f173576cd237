//! One attack told across logs: a leaked key, a chained role, data taken out, and what the detector said.

use super::{
    cloudtrail::{Call, Identity},
    guardduty::{Finding, Resource},
    random::Random,
    text,
    world::{Account, REGIONS, RoleKind, World},
};

/// The logs of the attack, one text a format.
#[derive(Debug)]
pub struct Story {
    /// The account it happens in.
    pub account: String,
    /// Its region.
    pub region: &'static str,
    /// CloudTrail records, as one S3 object.
    pub cloudtrail: String,
    /// GuardDuty findings, a line each.
    pub guardduty: String,
    /// Records in both.
    pub records: u64,
}

/// Where the attacker sits: an address no one else in the world uses.
const ATTACKER: &str = "82.221.139.66";
const TOOL: &str = "aws-cli/1.22.34 Python/3.10.12 Linux/5.15.0-91-generic botocore/1.23.34";

/// Tells the attack, beginning at a time; `None` if the world lacks its cast.
pub fn tell(world: &World, start: u64, seed: u64) -> Option<Story> {
    let account: &Account = world.accounts.first()?;
    let region = REGIONS.first().copied()?;
    let random = &mut Random::new(seed, 0x7374_6f72_7900);
    let user = account.users.get(1)?;
    let role = account.roles.iter().find(|role| role.kind == RoleKind::Person)?;
    let bucket = account.buckets.first()?;
    let mut session = role.session(0, start + 900, &account.instances);
    "botocore-session-1716239022".clone_into(&mut session.name);
    session.access_key = text::made(|out| {
        out.push_str("ASIA");
        text::key(out, seed ^ 0x5eed, 16);
    });
    ATTACKER.clone_into(&mut session.address);

    let mut out = String::from(r#"{"Records":["#);
    let mut records = 0;
    let mut tell = |mut call: Call<'_>, random: &mut Random| {
        if records > 0 {
            out.push(',');
        }
        (call.address, call.agent) = (ATTACKER, TOOL);
        call.write(&mut out, random);
        records += 1;
    };
    let denied = Some(("AccessDenied", "User is not authorized to perform this operation because no identity-based policy allows it"));
    let as_user = |offset: u64, source, name| Call::new(start + offset, &account.id, region, Identity::User(user), source, name);

    // A key found in public code is tried out, and mostly denied.
    tell(as_user(0, "sts.amazonaws.com", "GetCallerIdentity"), random);
    for (step, (source, name)) in [
        ("iam.amazonaws.com", "ListUsers"),
        ("iam.amazonaws.com", "ListRoles"),
        ("s3.amazonaws.com", "ListBuckets"),
        ("ec2.amazonaws.com", "DescribeInstances"),
        ("secretsmanager.amazonaws.com", "ListSecrets"),
        ("iam.amazonaws.com", "GetAccountAuthorizationDetails"),
        ("organizations.amazonaws.com", "DescribeOrganization"),
    ]
    .into_iter()
    .enumerate()
    {
        for attempt in 0..6 {
            let mut call = as_user(40 + 50 * step as u64 + attempt * 7, source, name);
            call.error = denied.filter(|_| attempt < 5 || step % 2 == 0);
            tell(call, random);
        }
    }

    // One role lets the user in.
    let request = format!(r#"{{"roleArn":"{}","roleSessionName":"{}","durationSeconds":3600}}"#, role.arn, session.name);
    let expires = text::made(|out| text::time(out, start + 4_500));
    let response = format!(
        r#"{{"credentials":{{"accessKeyId":"{}","sessionToken":"IQoJb3JpZ2luX2VjEXAMPLE","expiration":"{expires}"}},"assumedRoleUser":{{"assumedRoleId":"{}:{}","arn":"arn:aws:sts::{}:assumed-role/{}/{}"}}}}"#,
        session.access_key, role.id, session.name, account.id, role.name, session.name
    );
    let resources = format!(r#"[{{"accountId":"{}","type":"AWS::IAM::Role","ARN":"{}"}}]"#, account.id, role.arn);
    let mut call = as_user(900, "sts.amazonaws.com", "AssumeRole");
    (call.request, call.response, call.resources) = (&request, &response, &resources);
    tell(call, random);
    session.created = start + 900;

    // As that role: look for data, take it, try to stay, try to hide.
    let as_session = |offset: u64, source, name| Call::new(start + offset, &account.id, region, Identity::Session(role, &session), source, name);
    let bucket_request = format!(r#"{{"bucketName":"{bucket}","list-type":"2","prefix":""}}"#);
    let bucket_resource = format!(r#"[{{"accountId":"{}","type":"AWS::S3::Bucket","ARN":"arn:aws:s3:::{bucket}"}}]"#, account.id);
    let mut call = as_session(930, "s3.amazonaws.com", "ListObjects");
    (call.request, call.resources) = (&bucket_request, &bucket_resource);
    tell(call, random);
    let objects: Vec<(String, String)> = (0..180)
        .map(|number| {
            let key = format!("customers/export-{number:04}.csv");
            (
                format!(r#"{{"bucketName":"{bucket}","key":"{key}"}}"#),
                format!(
                    r#"[{{"type":"AWS::S3::Object","ARN":"arn:aws:s3:::{bucket}/{key}"}},{{"accountId":"{}","type":"AWS::S3::Bucket","ARN":"arn:aws:s3:::{bucket}"}}]"#,
                    account.id
                ),
            )
        })
        .collect();
    for (number, (request, resources)) in objects.iter().enumerate() {
        let mut call = as_session(960 + number as u64 * 4, "s3.amazonaws.com", "GetObject");
        (call.request, call.resources, call.data) = (request, resources, true);
        tell(call, random);
    }
    let new_user = r#"{"userName":"support-backup"}"#;
    let created = format!(
        r#"{{"accessKey":{{"accessKeyId":"{}","status":"Active","userName":"support-backup"}}}}"#,
        text::made(|out| {
            out.push_str("AKIA");
            text::key(out, seed ^ 0xacce55, 16);
        })
    );
    for (offset, source, name, request, response, error) in [
        (1_720, "iam.amazonaws.com", "CreateUser", new_user, "null", None),
        (1_735, "iam.amazonaws.com", "CreateAccessKey", new_user, created.as_str(), None),
        (
            1_750,
            "iam.amazonaws.com",
            "AttachUserPolicy",
            r#"{"userName":"support-backup","policyArn":"arn:aws:iam::aws:policy/AdministratorAccess"}"#,
            "null",
            None,
        ),
        (1_800, "cloudtrail.amazonaws.com", "StopLogging", r#"{"name":"organization-trail"}"#, "null", denied),
        (1_815, "guardduty.amazonaws.com", "UpdateDetector", r#"{"detectorId":"12abc34d567e8fa901bc2d34e56789f0","enable":false}"#, "null", denied),
    ] {
        let mut call = as_session(offset, source, name);
        (call.request, call.response, call.error, call.read_only) = (request, response, error, false);
        tell(call, random);
    }
    out.push_str("]}");

    let mut guardduty = String::new();
    let key = Resource::AccessKey(&user.access_key, &user.id, "IAMUser", &user.name);
    let principal = format!("{}:{}", role.id, session.name);
    let stolen = Resource::Bucket(bucket, &session.access_key, &principal, "AssumedRole", &role.name);
    let taken = Resource::AccessKey(&session.access_key, &principal, "AssumedRole", &role.name);
    for (kind, title, severity, resource, call, seen, count) in [
        (
            "UnauthorizedAccess:IAMUser/MaliciousIPCaller.Custom",
            "APIs were called from an address on a custom threat list.",
            "5",
            key,
            ("ListUsers", "iam.amazonaws.com"),
            (0, 390),
            43,
        ),
        (
            "Discovery:IAMUser/AnomalousBehavior",
            "APIs commonly used to explore an account were called in an unusual way.",
            "2",
            key,
            ("ListRoles", "iam.amazonaws.com"),
            (90, 390),
            36,
        ),
        (
            "Exfiltration:S3/AnomalousBehavior",
            "An identity read objects of a bucket in an unusual way.",
            "8",
            stolen,
            ("GetObject", "s3.amazonaws.com"),
            (960, 1_680),
            180,
        ),
        (
            "Persistence:IAMUser/AnomalousBehavior",
            "APIs commonly used to keep access were called in an unusual way.",
            "8",
            taken,
            ("CreateAccessKey", "iam.amazonaws.com"),
            (1_720, 1_750),
            3,
        ),
        (
            "Stealth:IAMUser/CloudTrailLoggingDisabled",
            "An attempt was made to stop a trail.",
            "2",
            taken,
            ("StopLogging", "cloudtrail.amazonaws.com"),
            (1_800, 1_800),
            1,
        ),
    ] {
        let seen = (start + seen.0, start + seen.1);
        Finding { account, region, kind, title, severity, resource, call, address: ATTACKER, seen, count }.write(&mut guardduty, random);
        records += 1;
    }
    Some(Story { account: account.id.clone(), region, cloudtrail: out, guardduty, records })
}

/// The attack's entities, worth a look.
pub fn hints(world: &World) -> Vec<String> {
    let mut hints = Vec::new();
    if let Some(account) = world.accounts.first() {
        if let Some(user) = account.users.get(1) {
            hints.push(format!("user:{}", user.arn));
        }
        if let Some(role) = account.roles.iter().find(|role| role.kind == RoleKind::Person) {
            hints.push(format!("role:{}", role.arn));
        }
        hints.push(format!("ip_address:{ATTACKER}"));
    }
    hints
}
