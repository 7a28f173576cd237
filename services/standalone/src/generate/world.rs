//! The invented organisation that generated logs tell about: accounts, identities, machines and addresses.

use super::{
    catalog::{self, Operation},
    random::{Random, Zipf, mix},
    text,
};

/// Regions, busiest first.
pub const REGIONS: &[&str] = &["us-east-1", "eu-west-1", "us-west-2", "ap-southeast-2"];
const ACCOUNTS: u64 = 4;
const ROLES: u64 = 60;
const USERS: u64 = 16;
const INSTANCES: u64 = 120;
const PEERS: u64 = 4_000;

/// Everything that exists.
#[derive(Debug)]
pub struct World {
    /// Accounts, busiest first.
    pub accounts: Vec<Account>,
    /// Operations by service, busiest first.
    pub services: Vec<Vec<Operation>>,
    /// Which account a file belongs to.
    pub account_law: Zipf,
    /// Which region a file belongs to.
    pub region_law: Zipf,
    /// Addresses on the internet that machines talk with, most frequent first.
    pub peers: Vec<String>,
    /// How often each peer is met.
    pub peer_law: Zipf,
}

/// One AWS account.
#[derive(Debug)]
pub struct Account {
    /// 12 digits.
    pub id: String,
    /// Roles, busiest first.
    pub roles: Vec<Role>,
    /// How busy each role is.
    pub role_law: Zipf,
    /// IAM users, busiest first.
    pub users: Vec<User>,
    /// How busy each user is.
    pub user_law: Zipf,
    /// Bucket names.
    pub buckets: Vec<String>,
    /// Table, queue, function and other resource names.
    pub names: Vec<String>,
    /// KMS key ids.
    pub keys: Vec<String>,
    /// EC2 instances with one interface each, busiest first.
    pub instances: Vec<Instance>,
    /// How busy each instance is.
    pub instance_law: Zipf,
    /// How often each bucket, name or key is touched.
    pub resource_law: Zipf,
    /// The VPC's id.
    pub vpc: String,
    /// The subnet's id.
    pub subnet: String,
    /// The EKS cluster's name.
    pub cluster: String,
}

/// Who assumes a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleKind {
    /// A Lambda function.
    Function,
    /// An EC2 instance.
    Instance,
    /// A build pipeline, by web identity.
    Pipeline,
    /// A person, by SAML.
    Person,
    /// Another role, from another account.
    Chained,
}

/// A role with the habits of its sessions.
#[derive(Debug)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Its `AROA…` id.
    pub id: String,
    /// Its ARN.
    pub arn: String,
    /// Who assumes it.
    pub kind: RoleKind,
    /// Sessions at a time.
    pub sessions: u64,
    /// Addresses its sessions call from.
    pub addresses: Vec<String>,
    /// The user agent of its sessions.
    pub agent: String,
    /// What it calls, most frequent first: service and operation.
    pub habits: Vec<(usize, usize)>,
    /// How often it calls each.
    pub habit_law: Zipf,
}

/// An IAM user.
#[derive(Debug)]
pub struct User {
    /// The user name.
    pub name: String,
    /// The `AIDA…` id.
    pub id: String,
    /// The ARN.
    pub arn: String,
    /// The `AKIA…` access key.
    pub access_key: String,
    /// Where the user calls from.
    pub address: String,
    /// The user agent.
    pub agent: String,
    /// What the user calls.
    pub habits: Vec<(usize, usize)>,
    /// How often each.
    pub habit_law: Zipf,
}

/// An EC2 instance.
#[derive(Debug)]
pub struct Instance {
    /// `i-…`.
    pub id: String,
    /// `eni-…`.
    pub interface: String,
    /// Private address.
    pub address: String,
    /// Ports it serves; empty for one that only connects out.
    pub ports: &'static [u16],
}

/// One session of a role, alive for an hour.
#[derive(Debug)]
pub struct Session {
    /// Session name.
    pub name: String,
    /// `ASIA…`.
    pub access_key: String,
    /// When it began, in seconds since the epoch.
    pub created: u64,
    /// Where it calls from.
    pub address: String,
}

impl Role {
    /// The session with a number (below [`Role::sessions`]) at a time. The same for every record of its hour.
    pub fn session(&self, number: u64, seconds: u64, instances: &[Instance]) -> Session {
        let hour = seconds / 3_600;
        // A person's session lasts the day, an instance keeps its name for ever, a function's changes each hour.
        let seed = self.id.bytes().fold(number, |hash, byte| mix(hash, u64::from(byte)));
        let lasting = mix(seed, 1);
        let fresh = mix(seed, hour);
        let name = match self.kind {
            RoleKind::Function | RoleKind::Chained => format!("{}-{}", self.name.to_lowercase(), number),
            RoleKind::Instance => {
                let index = usize::try_from(lasting).ok().and_then(|value| value.checked_rem(instances.len()));
                index.and_then(|index| instances.get(index)).map_or_else(|| "i-0".to_owned(), |instance| instance.id.clone())
            }
            RoleKind::Pipeline => format!("GitHubActions-{}", fresh % 10_000_000),
            RoleKind::Person => {
                PEOPLE.get(usize::try_from(lasting % PEOPLE.len() as u64).unwrap_or(0)).map_or_else(String::new, |name| format!("{name}@example.com"))
            }
        };
        let address = usize::try_from(lasting).ok().and_then(|value| value.checked_rem(self.addresses.len())).and_then(|index| self.addresses.get(index));
        Session {
            name,
            access_key: text::made(|out| {
                out.push_str("ASIA");
                text::key(out, fresh, 16);
            }),
            created: hour * 3_600 + fresh % 240,
            address: address.cloned().unwrap_or_default(),
        }
    }
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64) -> Self {
        let random = &mut Random::new(seed, 1);
        let services = catalog::operations();
        let service_law = Zipf::new(services.len(), 0.9);
        let mut accounts: Vec<Account> = (0..ACCOUNTS).map(|_| account(random, &services, &service_law)).collect();
        accounts.sort_by(|left, right| left.id.cmp(&right.id));
        Self {
            account_law: Zipf::new(accounts.len(), 1.0),
            region_law: Zipf::new(REGIONS.len(), 1.2),
            accounts,
            services,
            peers: (0..PEERS).map(|number| if number % 12 == 11 { internet_v6(random) } else { internet_v4(random) }).collect(),
            peer_law: Zipf::new(usize::try_from(PEERS).unwrap_or(1), 1.05),
        }
    }
}

fn account(random: &mut Random, services: &[Vec<Operation>], service_law: &Zipf) -> Account {
    let id = text::made(|out| text::padded(out, 100_000_000_000 + random.below(899_999_999_999), 12));
    let (second, third) = (random.below(256), random.below(200));
    let instances: Vec<Instance> = (0..INSTANCES)
        .map(|number| Instance {
            id: text::made(|out| {
                out.push_str("i-0");
                text::hex(out, random.next(), 16);
            }),
            interface: text::made(|out| {
                out.push_str("eni-0");
                text::hex(out, random.next(), 16);
            }),
            address: format!("10.{second}.{}.{}", third + number / 200, 10 + number % 200),
            ports: match number % 6 {
                0 => &[443, 80],
                1 => &[443],
                2 => &[5432],
                3 => &[6379, 8080],
                _ => &[],
            },
        })
        .collect();
    let roles: Vec<Role> = (0..ROLES).map(|number| role(random, &id, number, services, service_law)).collect();
    let users: Vec<User> = (0..USERS).map(|number| user(random, &id, number, services, service_law)).collect();
    let suffix = random.below(100_000);
    Account {
        role_law: Zipf::new(roles.len(), 1.1),
        user_law: Zipf::new(users.len(), 1.1),
        instance_law: Zipf::new(instances.len(), 0.8),
        resource_law: Zipf::new(48, 0.9),
        buckets: (0..48).map(|number| format!("{}-{}-{suffix}", random.pick(PLACES), named(random, number))).collect(),
        names: (0..48).map(|number| format!("{}-{}", random.pick(PLACES), named(random, number))).collect(),
        keys: (0..48).map(|_| text::made(|out| text::uuid(out, random))).collect(),
        vpc: text::made(|out| {
            out.push_str("vpc-0");
            text::hex(out, random.next(), 16);
        }),
        subnet: text::made(|out| {
            out.push_str("subnet-0");
            text::hex(out, random.next(), 16);
        }),
        cluster: format!("{}-{}", random.pick(PLACES), random.pick(&["apps", "platform", "batch"])),
        instances,
        roles,
        users,
        id,
    }
}

fn named(random: &mut Random, number: u64) -> String {
    format!("{}-{}", random.pick(THINGS), text::made(|out| text::padded(out, number, 2)))
}

fn habits(random: &mut Random, (least, more): (u64, u64), services: &[Vec<Operation>], law: &Zipf) -> (Vec<(usize, usize)>, Zipf) {
    let count = least + random.below(more);
    let mut habits = Vec::new();
    // A few services each, and within a service the operations that everyone uses before the odd ones.
    let favourites: Vec<usize> = (0..1 + count / 6).map(|_| law.index(random)).collect();
    for _ in 0..count {
        let service = random.of(&favourites).copied().unwrap_or(0);
        let operations = services.get(service).map_or(1, Vec::len);
        let habit = (service, Zipf::new(operations, 0.8).index(random));
        if !habits.contains(&habit) {
            habits.push(habit);
        }
    }
    let law = Zipf::new(habits.len(), 1.0);
    (habits, law)
}

fn role(random: &mut Random, account: &str, number: u64, services: &[Vec<Operation>], law: &Zipf) -> Role {
    let kind = match number % 8 {
        0 | 3 => RoleKind::Function,
        1 | 4 => RoleKind::Instance,
        2 => RoleKind::Pipeline,
        5 | 6 => RoleKind::Person,
        _ => RoleKind::Chained,
    };
    let (place, thing) = (random.pick(PLACES), random.pick(THINGS));
    let name = match kind {
        RoleKind::Function => format!("{place}-{thing}-function-{number}"),
        RoleKind::Instance => format!("{place}-{thing}-node-{number}"),
        RoleKind::Pipeline => format!("deploy-{thing}-{number}"),
        RoleKind::Person => text::made(|out| {
            out.push_str("AWSReservedSSO_");
            out.push_str(random.pick(&["AdministratorAccess", "PowerUserAccess", "ReadOnly", "Billing", "Support"]));
            out.push('_');
            text::hex(out, random.next(), 16);
        }),
        RoleKind::Chained => format!("cross-account-{thing}-{number}"),
    };
    let path = if kind == RoleKind::Person { "aws-reserved/sso.amazonaws.com/" } else { "" };
    let addresses = match kind {
        RoleKind::Function | RoleKind::Chained => (0..24).map(|_| cloud_v4(random)).collect(),
        RoleKind::Instance => (0..6).map(|number| if number == 5 { internet_v6(random) } else { cloud_v4(random) }).collect(),
        RoleKind::Pipeline => (0..60).map(|_| cloud_v4(random)).collect(),
        RoleKind::Person => (0..10).map(|number| if number > 7 { internet_v6(random) } else { internet_v4(random) }).collect(),
    };
    let (habits, habit_law) = habits(random, (4, 40), services, law);
    Role {
        id: text::made(|out| {
            out.push_str("AROA");
            text::key(out, random.next(), 17);
        }),
        arn: format!("arn:aws:iam::{account}:role/{path}{name}"),
        name,
        kind,
        sessions: 1 + 40 / (1 + number / 2),
        addresses,
        agent: agent(random, kind),
        habits,
        habit_law,
    }
}

fn user(random: &mut Random, account: &str, number: u64, services: &[Vec<Operation>], law: &Zipf) -> User {
    let name = if number.is_multiple_of(3) { format!("svc-{}-{number}", random.pick(THINGS)) } else { format!("{}.{number}", random.pick(PEOPLE)) };
    let (habits, habit_law) = habits(random, (3, 20), services, law);
    User {
        id: text::made(|out| {
            out.push_str("AIDA");
            text::key(out, random.next(), 17);
        }),
        arn: format!("arn:aws:iam::{account}:user/{name}"),
        name,
        access_key: text::made(|out| {
            out.push_str("AKIA");
            text::key(out, random.next(), 16);
        }),
        address: internet_v4(random),
        agent: agent(random, RoleKind::Person),
        habits,
        habit_law,
    }
}

fn agent(random: &mut Random, kind: RoleKind) -> String {
    let (minor, patch) = (random.below(40), random.below(200));
    match kind {
        RoleKind::Function => format!(
            "Boto3/1.35.{patch} md/Botocore#1.35.{patch} ua/2.0 os/linux#5.10.2{minor}-220.879.amzn2.x86_64 md/arch#x86_64 lang/python#3.12.{} md/pyimpl#CPython exec-env/AWS_Lambda_python3.12 cfg/retry-mode#legacy Botocore/1.35.{patch}",
            minor % 10
        ),
        RoleKind::Instance => {
            format!("aws-sdk-go-v2/1.3{}.{patch} os/linux lang/go#1.23.{} md/GOOS#linux md/GOARCH#arm64 api/ec2#1.1{minor}.0", minor % 10, minor % 9)
        }
        RoleKind::Pipeline => {
            format!(
                "APN/1.0 HashiCorp/1.0 Terraform/1.9.{} (+https://www.terraform.io) terraform-provider-aws/5.{minor}.0 (+https://registry.terraform.io/providers/hashicorp/aws)",
                minor % 9
            )
        }
        RoleKind::Person if random.chance(500) => {
            format!("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/12{}.0.0.0 Safari/537.36", minor % 10)
        }
        RoleKind::Person => {
            format!(
                "aws-cli/2.1{}.{patch} md/awscrt#0.22.0 ua/2.0 os/macos#24.{}.0 md/arch#arm64 lang/python#3.12.6 md/pyimpl#CPython md/prompt#off",
                minor % 9,
                minor % 6
            )
        }
        RoleKind::Chained => format!(
            "aws-sdk-java/2.2{}.{patch} Linux/5.15.0 OpenJDK_64-Bit_Server_VM/21.0.{}+9-LTS Java/21 kotlin/1.9.24 io/sync http/Apache",
            minor % 9,
            minor % 7
        ),
    }
}

fn octets(random: &mut Random, heads: &[&str]) -> String {
    format!("{}.{}.{}", random.pick(heads), random.below(256), 1 + random.below(254))
}

fn cloud_v4(random: &mut Random) -> String {
    octets(random, &["3.80", "3.91", "18.204", "34.201", "44.192", "52.20", "54.144", "34.240", "52.48", "54.170", "13.210", "35.80"])
}

/// An address of a household or company network.
fn internet_v4(random: &mut Random) -> String {
    octets(
        random,
        &["24.5", "67.160", "71.202", "73.15", "81.2", "86.140", "89.240", "92.40", "101.160", "121.200", "151.224", "178.10", "188.60", "203.30", "212.50"],
    )
}

fn internet_v6(random: &mut Random) -> String {
    let head = random.pick(&["2601:646", "2a00:23c5", "2003:c0", "2001:8003", "2600:1f18"]);
    let bits = random.next();
    let group = |shift: u32| format!("{:x}", ((bits >> shift) & 0xffff) | 1);
    format!("{head}:{}:{}::{:x}", group(0), group(16), 1 + ((bits >> 32) & 0xfff))
}

const PEOPLE: &[&str] = &[
    "ana.silva",
    "ben.okafor",
    "chen.wei",
    "dana.novak",
    "emil.berg",
    "fatima.haddad",
    "george.tan",
    "hana.ito",
    "ivan.petrov",
    "julia.meyer",
    "kofi.mensah",
    "lena.fischer",
    "marta.kowalska",
    "nils.larsen",
    "olga.ivanova",
    "priya.nair",
    "quinn.murphy",
    "rosa.marino",
    "samir.patel",
    "tara.singh",
];
const PLACES: &[&str] = &["prod", "staging", "dev", "data", "shared", "edge"];
const THINGS: &[&str] = &[
    "orders",
    "payments",
    "catalog",
    "search",
    "billing",
    "events",
    "reports",
    "images",
    "ingest",
    "metrics",
    "sessions",
    "audit",
    "exports",
    "mail",
    "fraud",
    "pricing",
    "inventory",
    "profiles",
    "backups",
    "media",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse_and_identities_are_distinct() {
        let world = World::new(5);
        assert!(world.peers.iter().all(|peer| peer.parse::<std::net::IpAddr>().is_ok()));
        let mut names: Vec<&str> = world.accounts.iter().flat_map(|account| account.roles.iter().map(|role| role.arn.as_str())).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        for role in world.accounts.iter().flat_map(|account| &account.roles) {
            assert!(role.addresses.iter().all(|address| address.parse::<std::net::IpAddr>().is_ok()));
            assert!(!role.habits.is_empty());
        }
    }

    #[test]
    fn a_session_keeps_its_key_for_its_hour() {
        let world = World::new(5);
        let account = &world.accounts[0];
        let role = &account.roles[0];
        let at = |number, seconds| role.session(number, seconds, &account.instances).access_key;
        assert_eq!(at(0, 7_200), at(0, 10_799));
        assert_ne!(at(0, 7_200), at(0, 10_800));
        assert_ne!(at(0, 7_200), at(1, 7_200));
    }
}
