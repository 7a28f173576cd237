//! GuardDuty findings in the form of the service's export, a JSON object a line.

use std::fmt::Write as _;

use super::{
    random::Random,
    text,
    world::{Account, Instance, World},
};

/// What a finding is about.
#[derive(Debug, Clone, Copy)]
pub enum Resource<'a> {
    /// An access key of a principal: key, principal id, user type, user name.
    AccessKey(&'a str, &'a str, &'a str, &'a str),
    /// An instance.
    Instance(&'a Instance),
    /// A bucket, read with an access key as above.
    Bucket(&'a str, &'a str, &'a str, &'a str, &'a str),
}

/// One finding to write.
#[derive(Debug)]
pub struct Finding<'a> {
    /// Its account.
    pub account: &'a Account,
    /// Its region.
    pub region: &'a str,
    /// `ThreatPurpose:ResourceType/ThreatFamily`.
    pub kind: &'a str,
    /// One line.
    pub title: &'a str,
    /// 1 to 10.
    pub severity: &'a str,
    /// What it is about.
    pub resource: Resource<'a>,
    /// Operation and service, for a call.
    pub call: (&'a str, &'a str),
    /// The other side's address.
    pub address: &'a str,
    /// First and last seen, in seconds since the epoch.
    pub seen: (u64, u64),
    /// How often.
    pub count: u64,
}

impl Finding<'_> {
    /// Writes the finding and a line break.
    pub fn write(&self, out: &mut String, random: &mut Random) {
        let (account, region) = (self.account.id.as_str(), self.region);
        let id = text::made(|out| {
            text::hex(out, random.next(), 16);
            text::hex(out, random.next(), 16);
        });
        let detector = "12abc34d567e8fa901bc2d34e56789f0";
        let (first, last) = (text::made(|out| text::time(out, self.seen.0)), text::made(|out| text::time(out, self.seen.1)));
        let key = |(key, principal, kind, name): (&str, &str, &str, &str)| {
            format!(r#""accessKeyDetails":{{"accessKeyId":"{key}","principalId":"{principal}","userType":"{kind}","userName":"{name}"}}"#)
        };
        let (resource, resource_type) = match self.resource {
            Resource::AccessKey(a, b, c, d) => (key((a, b, c, d)), "AccessKey"),
            Resource::Bucket(bucket, a, b, c, d) => {
                let key = key((a, b, c, d));
                (format!(r#"{key},"s3BucketDetails":[{{"arn":"arn:aws:s3:::{bucket}","name":"{bucket}","type":"Destination"}}]"#), "S3Bucket")
            }
            Resource::Instance(instance) => (
                format!(
                    r#""instanceDetails":{{"instanceId":"{}","instanceType":"m6i.large","launchTime":"{first}","networkInterfaces":[{{"networkInterfaceId":"{}","privateIpAddress":"{}","subnetId":"{}","vpcId":"{}","securityGroups":[]}}],"availabilityZone":"{region}a","tags":[]}}"#,
                    instance.id, instance.interface, instance.address, self.account.subnet, self.account.vpc
                ),
                "Instance",
            ),
        };
        let remote = format!(
            r#""remoteIpDetails":{{"ipAddressV4":"{}","organization":{{"asn":"64500","asnOrg":"Example Hosting","isp":"Example Hosting","org":"Example Hosting"}},"country":{{"countryName":"unknown"}},"city":{{"cityName":"unknown"}},"geoLocation":{{"lat":0.0,"lon":0.0}}}}"#,
            self.address
        );
        let (action, role) = match self.resource {
            Resource::Instance(_) => (
                format!(
                    r#"{{"actionType":"NETWORK_CONNECTION","networkConnectionAction":{{"blocked":false,"connectionDirection":"OUTBOUND","protocol":"TCP","localPortDetails":{{"port":51222,"portName":"Unknown"}},"remotePortDetails":{{"port":443,"portName":"HTTPS"}},{remote}}}}}"#
                ),
                "ACTOR",
            ),
            _ => (
                format!(
                    r#"{{"actionType":"AWS_API_CALL","awsApiCallAction":{{"api":"{}","serviceName":"{}","callerType":"Remote IP","affectedResources":{{}},{remote}}}}}"#,
                    self.call.0, self.call.1
                ),
                "TARGET",
            ),
        };
        let written = writeln!(
            out,
            r#"{{"schemaVersion":"2.0","accountId":"{account}","region":"{region}","partition":"aws","id":"{id}","arn":"arn:aws:guardduty:{region}:{account}:detector/{detector}/finding/{id}","type":"{}","resource":{{"resourceType":"{resource_type}",{resource}}},"service":{{"serviceName":"guardduty","detectorId":"{detector}","action":{action},"resourceRole":"{role}","additionalInfo":{{"value":"{{}}","type":"default"}},"eventFirstSeen":"{first}","eventLastSeen":"{last}","archived":false,"count":{}}},"severity":{},"createdAt":"{first}","updatedAt":"{last}","title":"{}","description":"{} The behaviour was seen {} times."}}"#,
            self.kind, self.count, self.severity, self.title, self.title, self.count
        );
        debug_assert!(written.is_ok(), "writing to a string succeeds");
    }
}

const KEY_KINDS: &[(&str, &str, &str, &str, &str)] = &[
    ("Recon:IAMUser/UserPermissions", "5", "GetAccountAuthorizationDetails", "iam.amazonaws.com", "Unusual permissions reconnaissance was seen."),
    ("UnauthorizedAccess:IAMUser/ConsoleLoginSuccess.B", "5", "ConsoleLogin", "signin.amazonaws.com", "Console sign-ins from several places at once."),
    ("Policy:IAMUser/RootCredentialUsage", "2", "ListBuckets", "s3.amazonaws.com", "Root credentials were used."),
    ("Discovery:S3/AnomalousBehavior", "2", "ListObjects", "s3.amazonaws.com", "Objects were listed in an unusual way."),
    ("CredentialAccess:IAMUser/AnomalousBehavior", "5", "GetSecretValue", "secretsmanager.amazonaws.com", "Secrets were read in an unusual way."),
];
const INSTANCE_KINDS: &[(&str, &str, &str)] = &[
    ("Recon:EC2/PortProbeUnprotectedPort", "2", "A port that is open to the internet is being probed."),
    ("CryptoCurrency:EC2/BitcoinTool.B", "8", "An instance talks with an address tied to cryptocurrency."),
    ("UnauthorizedAccess:EC2/SSHBruteForce", "2", "Sign-ins over SSH are being guessed."),
    ("Backdoor:EC2/C&CActivity.B", "8", "An instance talks with a known command and control server."),
];

/// Writes one of the findings that any organisation has.
pub fn everyday(world: &World, account: &Account, region: &str, time: u64, out: &mut String, random: &mut Random) {
    let Some(peer) = world.peers.iter().find(|peer| peer.contains('.') && random.chance(30)) else { return };
    let seen = (time, time + random.below(7_200));
    let count = 1 + random.below(20);
    if random.chance(500) {
        let (Some(&(kind, severity, title)), Some(instance)) = (random.of(INSTANCE_KINDS), random.of(&account.instances)) else { return };
        Finding { account, region, kind, title, severity, resource: Resource::Instance(instance), call: ("", ""), address: peer, seen, count }
            .write(out, random);
    } else {
        let (Some(&(kind, severity, api, service, title)), Some(user)) = (random.of(KEY_KINDS), random.of(&account.users)) else { return };
        let resource = Resource::AccessKey(&user.access_key, &user.id, "IAMUser", &user.name);
        Finding { account, region, kind, title, severity, resource, call: (api, service), address: peer, seen, count }.write(out, random);
    }
}
