//! CloudTrail records: role sessions, users, services, sign-ins and role chains.

use super::{
    catalog::{Operation, Shape},
    random::{Random, mix},
    text,
    world::{Account, REGIONS, Role, RoleKind, Session, User, World},
};

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub enum Identity<'a> {
    /// A session of a role.
    Session(&'a Role, &'a Session),
    /// An IAM user.
    User(&'a User),
    /// The root user.
    Root,
    /// An AWS service, by its DNS name.
    Service(&'a str),
    /// A person on the way into a role, by SAML: the name.
    Saml(&'a str),
    /// A pipeline on the way into a role, by web identity: the repository.
    Web(&'a str),
}

/// One call to write as a record.
#[derive(Debug)]
pub struct Call<'a> {
    /// When, in seconds since the epoch.
    pub time: u64,
    /// The account that records it.
    pub account: &'a str,
    /// The region that records it.
    pub region: &'a str,
    /// Who calls.
    pub identity: Identity<'a>,
    /// The service's DNS name.
    pub source: &'a str,
    /// The operation.
    pub name: &'a str,
    /// Where from.
    pub address: &'a str,
    /// With what.
    pub agent: &'a str,
    /// Error code and message.
    pub error: Option<(&'a str, &'a str)>,
    /// `requestParameters`, as JSON.
    pub request: &'a str,
    /// `responseElements`, as JSON.
    pub response: &'a str,
    /// `resources`, as JSON; empty for none.
    pub resources: &'a str,
    /// `additionalEventData`, as JSON; empty for none.
    pub additional: &'a str,
    /// Whether it only reads.
    pub read_only: bool,
    /// Whether it is a data event.
    pub data: bool,
    /// `AwsApiCall` and the like.
    pub event_type: &'a str,
}

impl<'a> Call<'a> {
    /// A plain successful API call.
    pub fn new(time: u64, account: &'a str, region: &'a str, identity: Identity<'a>, source: &'a str, name: &'a str) -> Self {
        Self {
            time,
            account,
            region,
            identity,
            source,
            name,
            address: "",
            agent: "",
            error: None,
            request: "null",
            response: "null",
            resources: "",
            additional: "",
            read_only: true,
            data: false,
            event_type: "AwsApiCall",
        }
    }

    /// Writes the record as one JSON object without a line break.
    pub fn write(&self, out: &mut String, random: &mut Random) {
        out.push_str(r#"{"eventVersion":""#);
        out.push_str(random.pick(&["1.11", "1.11", "1.10", "1.09", "1.08"]));
        out.push_str(r#"","userIdentity":"#);
        self.identity.write(out, self.account, self.time);
        out.push_str(r#","eventTime":""#);
        text::time(out, self.time);
        for (name, value) in [
            (r#"","eventSource":""#, self.source),
            (r#"","eventName":""#, self.name),
            (r#"","awsRegion":""#, self.region),
            (r#"","sourceIPAddress":""#, self.address),
            (r#"","userAgent":""#, self.agent),
        ] {
            out.push_str(name);
            out.push_str(value);
        }
        if let Some((code, message)) = self.error {
            // A failed sign-in has a message, but no code.
            let code_field = if code.is_empty() { "" } else { r#"","errorCode":""# };
            for part in [code_field, code, r#"","errorMessage":""#, message] {
                out.push_str(part);
            }
        }
        out.push_str(r#"","requestParameters":"#);
        out.push_str(self.request);
        out.push_str(r#","responseElements":"#);
        out.push_str(self.response);
        if !self.additional.is_empty() {
            out.push_str(r#","additionalEventData":"#);
            out.push_str(self.additional);
        }
        out.push_str(r#","requestID":""#);
        text::uuid(out, random);
        out.push_str(r#"","eventID":""#);
        text::uuid(out, random);
        out.push_str(if self.read_only { r#"","readOnly":true"# } else { r#"","readOnly":false"# });
        if !self.resources.is_empty() {
            out.push_str(r#","resources":"#);
            out.push_str(self.resources);
        }
        for part in [
            r#","eventType":""#,
            self.event_type,
            if self.data { r#"","managementEvent":false,"recipientAccountId":""# } else { r#"","managementEvent":true,"recipientAccountId":""# },
            self.account,
            if self.data { r#"","eventCategory":"Data""# } else { r#"","eventCategory":"Management""# },
        ] {
            out.push_str(part);
        }
        if !matches!(self.identity, Identity::Service(_)) {
            for part in [
                r#","tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":""#,
                self.source.trim_end_matches(".amazonaws.com"),
                ".",
                self.region,
                r#".amazonaws.com"}"#,
            ] {
                out.push_str(part);
            }
        }
        out.push('}');
    }
}

impl Identity<'_> {
    fn write(&self, out: &mut String, account: &str, now: u64) {
        let mut put = |parts: &[&str]| parts.iter().for_each(|part| out.push_str(part));
        match self {
            Self::Session(role, session) => {
                let owner = account_of(&role.arn);
                put(&[r#"{"type":"AssumedRole","principalId":""#, &role.id, ":", &session.name, r#"","arn":"arn:aws:sts::"#, owner, ":assumed-role/"]);
                put(&[&role.name, "/", &session.name, r#"","accountId":""#, owner, r#"","accessKeyId":""#, &session.access_key]);
                put(&[r#"","sessionContext":{"sessionIssuer":{"type":"Role","principalId":""#, &role.id, r#"","arn":""#, &role.arn]);
                put(&[r#"","accountId":""#, owner, r#"","userName":""#, &role.name, r#""},"attributes":{"creationDate":""#]);
                text::time(out, session.created.min(now));
                out.push_str(if role.kind == RoleKind::Person { r#"","mfaAuthenticated":"true"}"# } else { r#"","mfaAuthenticated":"false"}"# });
                out.push_str(match role.kind {
                    RoleKind::Instance => r#","ec2RoleDelivery":"2.0"}}"#,
                    _ => "}}",
                });
            }
            Self::User(user) => {
                put(&[r#"{"type":"IAMUser","principalId":""#, &user.id, r#"","arn":""#, &user.arn, r#"","accountId":""#, account_of(&user.arn)]);
                put(&[r#"","accessKeyId":""#, &user.access_key, r#"","userName":""#, &user.name, r#""}"#]);
            }
            Self::Root => {
                put(&[r#"{"type":"Root","principalId":""#, account, r#"","arn":"arn:aws:iam::"#, account, r#":root","accountId":""#, account, r#""}"#])
            }
            Self::Service(name) => put(&[r#"{"type":"AWSService","invokedBy":""#, name, r#""}"#]),
            Self::Saml(name) => {
                put(&[r#"{"type":"SAMLUser","principalId":"hGq3mXk5dQ0eYt1v8Zr2bA7cW9s=:"#, name, r#"@example.com","userName":""#, name]);
                put(&[r#"@example.com","identityProvider":"hGq3mXk5dQ0eYt1v8Zr2bA7cW9s="}"#]);
            }
            Self::Web(repository) => {
                put(&[r#"{"type":"WebIdentityUser","principalId":"arn:aws:iam::"#, account]);
                put(&[
                    ":oidc-provider/token.actions.githubusercontent.com:sts.amazonaws.com:repo:example/",
                    repository,
                    r#":ref:refs/heads/main","userName":"repo:example/"#,
                ]);
                put(&[
                    repository,
                    r#":ref:refs/heads/main","identityProvider":"arn:aws:iam::"#,
                    account,
                    r#":oidc-provider/token.actions.githubusercontent.com"}"#,
                ]);
            }
        }
    }
}

/// The account in an ARN.
pub fn account_of(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

/// Writes the records of one account and region, one after the other.
#[derive(Debug)]
pub struct Writer<'a> {
    world: &'a World,
    account: &'a Account,
    region: &'static str,
    random: Random,
    request: String,
    response: String,
    resources: String,
}

impl<'a> Writer<'a> {
    /// A writer whose records depend on its generator only.
    pub fn new(world: &'a World, account: &'a Account, region: &'static str, random: Random) -> Self {
        Self { world, account, region, random, request: String::new(), response: String::new(), resources: String::new() }
    }

    /// Writes the next record.
    pub fn record(&mut self, out: &mut String, time: u64) {
        match self.random.below(1000) {
            0..18 => self.assume(out, time),
            18..22 => self.sign_in(out, time),
            22..42 => self.service_call(out, time),
            42..44 => self.root_call(out, time),
            44..110 => self.user_call(out, time),
            _ => self.session_call(out, time),
        }
    }

    fn session_call(&mut self, out: &mut String, time: u64) {
        let account = self.account;
        let Some(role) = account.role_law.of(&account.roles, &mut self.random) else { return };
        // People work from eight to six; at other times their calls fall to machines.
        let day = (8..18).contains(&(time / 3_600 % 24));
        let role = if role.kind == RoleKind::Person && !day && !self.random.chance(80) { account.roles.first().unwrap_or(role) } else { role };
        let session = self.session(role, time);
        let Some(operation) = role.habit_law.of(&role.habits, &mut self.random).and_then(|habit| self.operation(*habit)) else { return };
        self.api_call(out, time, Identity::Session(role, &session), operation, &session.address, &role.agent);
    }

    fn user_call(&mut self, out: &mut String, time: u64) {
        let account = self.account;
        let Some(user) = account.user_law.of(&account.users, &mut self.random) else { return };
        let Some(operation) = user.habit_law.of(&user.habits, &mut self.random).and_then(|habit| self.operation(*habit)) else { return };
        self.api_call(out, time, Identity::User(user), operation, &user.address, &user.agent);
    }

    fn root_call(&mut self, out: &mut String, time: u64) {
        let mut call = Call::new(time, &self.account.id, self.region, Identity::Root, "billing.amazonaws.com", "GetBillingDetails");
        call.address = self.account.users.first().map_or("", |user| user.address.as_str());
        call.agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36";
        call.write(out, &mut self.random);
    }

    fn service_call(&mut self, out: &mut String, time: u64) {
        let service = self.random.pick(&[
            "cloudtrail.amazonaws.com",
            "config.amazonaws.com",
            "rds.amazonaws.com",
            "delivery.logs.amazonaws.com",
            "guardduty.amazonaws.com",
        ]);
        let name = self.random.pick(&["GenerateDataKey", "Decrypt", "GenerateDataKey"]);
        self.shape(Shape::KmsKey, "key", "kms", time, false);
        let mut call = Call::new(time, &self.account.id, self.region, Identity::Service(service), "kms.amazonaws.com", name);
        (call.address, call.agent) = (service, service);
        (call.request, call.resources) = (&self.request, &self.resources);
        call.write(out, &mut self.random);
    }

    fn session(&mut self, role: &Role, time: u64) -> Session {
        // Squared, so that a role's first sessions are the busy ones.
        let bound = role.sessions;
        let number = self.random.below(bound) * self.random.below(bound + 1) / bound.max(1);
        role.session(number, time, &self.account.instances)
    }

    fn operation(&self, (service, operation): (usize, usize)) -> Option<&'a Operation> {
        self.world.services.get(service)?.get(operation)
    }

    fn api_call(&mut self, out: &mut String, time: u64, identity: Identity<'_>, operation: &Operation, address: &str, agent: &str) {
        let error = self.random.chance(30).then(|| match (operation.service, self.random.below(10)) {
            ("ec2", 0..=5) => ("Client.UnauthorizedOperation", "You are not authorized to perform this operation."),
            ("s3", 0..3) => ("NoSuchKey", "The specified key does not exist."),
            ("dynamodb", 0..=5) => ("ConditionalCheckFailedException", "The conditional request failed"),
            ("kms" | "ssm", 0..2) => ("NotFoundException", "The requested resource does not exist"),
            (_, 6..=7) => ("ThrottlingException", "Rate exceeded"),
            _ => ("AccessDenied", "User is not authorized to perform this operation because no identity-based policy allows it"),
        });
        self.shape(operation.shape, &operation.noun, operation.service, time, error.is_some());
        let mut call = Call::new(time, &self.account.id, self.region, identity, &operation.source, operation.name);
        (call.address, call.agent, call.error) = (address, agent, error);
        (call.read_only, call.data) = (operation.read_only, operation.data);
        (call.request, call.response, call.resources) = (&self.request, &self.response, &self.resources);
        if operation.service == "s3" {
            call.additional = r#"{"SignatureVersion":"SigV4","CipherSuite":"TLS_AES_128_GCM_SHA256","bytesTransferredIn":0,"AuthenticationMethod":"AuthHeader","x-amz-id-2":"q0mUZ4fXvJc1sYk3p7dW9bT2nR5hL8gA6eQxK0iVjC4uOzMwSyBtFrNaHlPqEdGI2k","bytesTransferredOut":1024}"#;
        }
        call.write(out, &mut self.random);
    }

    /// Someone becomes a session whose calls stand elsewhere in the same hour.
    fn assume(&mut self, out: &mut String, time: u64) {
        let account = self.account;
        let Some(role) = account.role_law.of(&account.roles, &mut self.random) else { return };
        let session = self.session(role, time);
        let time = session.created.max(time - time % 3_600);
        self.request.clear();
        self.response.clear();
        self.resources.clear();
        let put = |out: &mut String, parts: &[&str]| parts.iter().for_each(|part| out.push_str(part));
        put(&mut self.request, &[r#"{"roleArn":""#, &role.arn, r#"","roleSessionName":""#, &session.name, r#"","durationSeconds":3600}"#]);
        put(&mut self.response, &[r#"{"credentials":{"accessKeyId":""#, &session.access_key, r#"","sessionToken":"IQoJb3JpZ2luX2VjE"#]);
        text::key(&mut self.response, mix(time, session.created), 120);
        put(&mut self.response, &[r#"","expiration":""#]);
        text::time(&mut self.response, session.created + 3_600);
        put(&mut self.response, &[r#""},"assumedRoleUser":{"assumedRoleId":""#, &role.id, ":", &session.name]);
        put(&mut self.response, &[r#"","arn":"arn:aws:sts::"#, &account.id, ":assumed-role/", &role.name, "/", &session.name, r#""}}"#]);
        put(&mut self.resources, &[r#"[{"accountId":""#, &account.id, r#"","type":"AWS::IAM::Role","ARN":""#, &role.arn, r#""}]"#]);
        let person = session.name.split('@').next().unwrap_or_default();
        let chained = account.roles.iter().find(|other| other.kind == RoleKind::Pipeline).map(|other| (other, other.session(0, time, &account.instances)));
        let (identity, name, address, agent) = match (role.kind, &chained) {
            (RoleKind::Function, _) => (Identity::Service("lambda.amazonaws.com"), "AssumeRole", "lambda.amazonaws.com", "lambda.amazonaws.com"),
            (RoleKind::Instance, _) => (Identity::Service("ec2.amazonaws.com"), "AssumeRole", "ec2.amazonaws.com", "ec2.amazonaws.com"),
            (RoleKind::Pipeline, _) => (
                Identity::Web(&role.name),
                "AssumeRoleWithWebIdentity",
                session.address.as_str(),
                "aws-sdk-nodejs/2.1682.0 configure-aws-credentials-for-github-actions",
            ),
            (RoleKind::Person, _) => (Identity::Saml(person), "AssumeRoleWithSAML", session.address.as_str(), "aws-internal/3 aws-sdk-java/1.12.772"),
            (RoleKind::Chained, Some((from, session))) => (Identity::Session(from, session), "AssumeRole", session.address.as_str(), from.agent.as_str()),
            (RoleKind::Chained, None) => (Identity::Root, "AssumeRole", session.address.as_str(), ""),
        };
        let mut call = Call::new(time, &account.id, self.region, identity, "sts.amazonaws.com", name);
        (call.address, call.agent) = (address, agent);
        (call.request, call.response, call.resources) = (&self.request, &self.response, &self.resources);
        call.write(out, &mut self.random);
    }

    fn sign_in(&mut self, out: &mut String, time: u64) {
        let account = self.account;
        let Some(user) = account.user_law.of(&account.users, &mut self.random) else { return };
        let failed = self.random.chance(40);
        let mut call = Call::new(time, &account.id, REGIONS.first().copied().unwrap_or_default(), Identity::User(user), "signin.amazonaws.com", "ConsoleLogin");
        (call.address, call.agent) =
            (&user.address, "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15");
        call.event_type = "AwsConsoleSignIn";
        call.read_only = false;
        call.response = if failed { r#"{"ConsoleLogin":"Failure"}"# } else { r#"{"ConsoleLogin":"Success"}"# };
        call.additional = r#"{"LoginTo":"https://console.aws.amazon.com/console/home","MobileVersion":"No","MFAUsed":"Yes"}"#;
        if failed {
            call.error = Some(("", "Failed authentication"));
        }
        call.write(out, &mut self.random);
    }

    /// Fills request, response and resources.
    fn shape(&mut self, shape: Shape, noun: &str, service: &str, time: u64, failed: bool) {
        let Self { account, region, random, request, response, resources, .. } = self;
        for text in [&mut *request, &mut *response, &mut *resources] {
            text.clear();
        }
        let put = |out: &mut String, parts: &[&str]| parts.iter().for_each(|part| out.push_str(part));
        let id = account.id.as_str();
        let name = account.resource_law.of(&account.names, random).map_or("", String::as_str);
        let bucket = account.resource_law.of(&account.buckets, random).map_or("", String::as_str);
        response.push_str("null");
        match shape {
            Shape::S3Object => {
                let civil = text::Civil::of(time);
                put(request, &[r#"{"bucketName":""#, bucket, r#"","Host":""#, bucket, ".s3.", region, r#".amazonaws.com","key":"data/year="#]);
                text::decimal(request, civil.year);
                put(request, &["/month="]);
                text::padded(request, civil.month, 2);
                put(request, &["/part-"]);
                text::padded(request, random.below(200), 5);
                put(request, &["-c000.snappy.parquet\"}"]);
                put(resources, &[r#"[{"type":"AWS::S3::Object","ARN":"arn:aws:s3:::"#, bucket, "/data/part-"]);
                text::padded(resources, random.below(200), 5);
                put(resources, &[r#"-c000.snappy.parquet"},{"accountId":""#, id, r#"","type":"AWS::S3::Bucket","ARN":"arn:aws:s3:::"#, bucket, r#""}]"#]);
            }
            Shape::S3Bucket => {
                put(request, &[r#"{"bucketName":""#, bucket, r#"","Host":""#, bucket, ".s3.", region, r#".amazonaws.com","list-type":"2","prefix":"data/"}"#]);
                put(resources, &[r#"[{"accountId":""#, id, r#"","type":"AWS::S3::Bucket","ARN":"arn:aws:s3:::"#, bucket, r#""}]"#]);
            }
            Shape::KmsKey => {
                let key = account.resource_law.of(&account.keys, random).map_or("", String::as_str);
                put(request, &[r#"{"keyId":"arn:aws:kms:"#, region, ":", id, ":key/", key, r#"","encryptionContext":{"aws:s3:arn":"arn:aws:s3:::"#, bucket]);
                put(request, &[r#""},"encryptionAlgorithm":"SYMMETRIC_DEFAULT"}"#]);
                put(resources, &[r#"[{"accountId":""#, id, r#"","type":"AWS::KMS::Key","ARN":"arn:aws:kms:"#, region, ":", id, ":key/", key, r#""}]"#]);
            }
            Shape::Table => {
                put(
                    request,
                    &[r#"{"tableName":""#, name, r#"","key":{"pk":"HIDDEN_DUE_TO_SECURITY_REASONS"},"returnConsumedCapacity":"TOTAL","consistentRead":false}"#],
                );
                put(
                    resources,
                    &[r#"[{"accountId":""#, id, r#"","type":"AWS::DynamoDB::Table","ARN":"arn:aws:dynamodb:"#, region, ":", id, ":table/", name, r#""}]"#],
                );
            }
            Shape::Function => {
                put(
                    request,
                    &[
                        r#"{"functionName":"arn:aws:lambda:"#,
                        region,
                        ":",
                        id,
                        ":function:",
                        name,
                        r#"","invocationType":"RequestResponse","clientContext":""}"#,
                    ],
                );
                put(
                    resources,
                    &[r#"[{"accountId":""#, id, r#"","type":"AWS::Lambda::Function","ARN":"arn:aws:lambda:"#, region, ":", id, ":function:", name, r#""}]"#],
                );
            }
            Shape::Instance => {
                let instance = account.instance_law.of(&account.instances, random).map_or("", |instance| instance.id.as_str());
                put(
                    request,
                    &[
                        r#"{"instancesSet":{"items":[{"instanceId":""#,
                        instance,
                        r#""}]},"filterSet":{"items":[{"name":"instance-state-name","valueSet":{"items":[{"value":"running"},{"value":"stopped"}]}},"#,
                    ],
                );
                put(request, &[r#"{"name":"vpc-id","valueSet":{"items":[{"value":""#, &account.vpc, r#""}]}}]}}"#]);
            }
            Shape::LogStream => {
                put(request, &[r#"{"logGroupName":"/aws/lambda/"#, name, r#"","logStreamName":"2026/01/05/[$LATEST]"#]);
                text::hex(request, random.next(), 16);
                text::hex(request, random.next(), 16);
                put(request, &["\"}"]);
            }
            Shape::Secret => {
                put(request, &[r#"{"secretId":"arn:aws:secretsmanager:"#, region, ":", id, ":secret:", name, r#"-Xk3f9Q","versionStage":"AWSCURRENT"}"#]);
            }
            Shape::Empty => request.push_str("null"),
            Shape::Read => {
                put(request, &[r#"{"maxResults":"#]);
                text::decimal(request, 10 + random.below(10) * 10);
                put(
                    request,
                    &[
                        r#",""#,
                        noun,
                        r#"Id":""#,
                        name,
                        r#"","includeDetails":true,"filters":[{"name":"tag:team","values":["platform"]}],"nextToken":"AAAAAYkz"#,
                    ],
                );
                text::key(request, random.next(), 48);
                put(request, &["\"}"]);
            }
            Shape::Write => {
                put(
                    request,
                    &[
                        r#"{""#,
                        noun,
                        r#"Name":""#,
                        name,
                        r#"","description":"Managed by the platform team, do not change by hand","tags":[{"key":"team","value":"platform"},{"key":"environment","value":"production"},{"key":"cost-center","value":"4711"}],"clientToken":""#,
                    ],
                );
                text::uuid(request, random);
                put(request, &["\"}"]);
                if !failed {
                    response.clear();
                    put(
                        response,
                        &[
                            r#"{""#,
                            noun,
                            r#"":{"arn":"arn:aws:"#,
                            service,
                            ":",
                            region,
                            ":",
                            id,
                            ":",
                            noun,
                            "/",
                            name,
                            r#"","name":""#,
                            name,
                            r#"","status":"ACTIVE","createdAt":""#,
                        ],
                    );
                    text::time(response, time);
                    put(response, &[r#"","subnetIds":[""#, &account.subnet, r#""],"vpcId":""#, &account.vpc, r#"","version":"#]);
                    text::decimal(response, 1 + random.below(40));
                    put(response, &["}}"]);
                }
            }
        }
    }
}
