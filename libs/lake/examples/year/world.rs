//! Who calls what, how often.

use std::fmt::Write as _;

/// Numbers that look random and are always the same.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(spread(seed) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Any number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        ((self.next() >> 32) * limit) >> 32
    }

    /// A number below `limit`, small ones far more often: the first tenth is half of all.
    pub(crate) fn skewed(&mut self, limit: u64) -> u32 {
        let part = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (part.powi(3) * limit as f64) as u32
    }
}

fn spread(number: u64) -> u64 {
    number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Kinds of entities, in the order of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Key,
    Account,
    Service,
    Address,
    Interface,
    Resource,
    Role,
    Session,
    Agent,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Key => "access_key",
            Self::Account => "account",
            Self::Service => "aws_service",
            Self::Address => "ip_address",
            Self::Interface => "network_interface",
            Self::Resource => "resource",
            Self::Role => "role",
            Self::Session => "role_session",
            Self::Agent => "user_agent",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) number: u32,
}

/// The address with a million edges.
pub(crate) const HUB: Node = Node { kind: Kind::Address, number: u32::MAX };
const HUB_EDGES: u64 = 1_000_000;
const HUB_PEERS: u64 = 100_000;
/// Numbers of addresses that are the remote end of flows begin here.
const REMOTE: u32 = 1 << 24;
const ACCOUNTS: u32 = 50;
const SERVICES: u64 = 60;
const OPERATIONS: u64 = 40;

impl Node {
    /// The entity's id. Which ones are busy does not show in their order.
    pub(crate) fn id(self) -> String {
        let (number, mixed) = (self.number, spread(u64::from(self.number)));
        match self.kind {
            Kind::Key => format!("ASIA{mixed:016X}"),
            Kind::Account => account(number),
            Kind::Service => format!("service{number}.amazonaws.com"),
            Kind::Address if self == HUB => "203.0.113.99".to_owned(),
            Kind::Address => {
                let [one, two, three, four, ..] = mixed.to_be_bytes();
                format!("{}.{two}.{three}.{four}", 11 + one % 180)
            }
            Kind::Interface => format!("eni-{mixed:017x}"),
            Kind::Resource => format!("arn:aws:dynamodb:us-east-1:{}:table/{mixed:x}", account(number % ACCOUNTS)),
            Kind::Role => format!("arn:aws:iam::{}:role/team-{}/service-role-{:x}", account(number % ACCOUNTS), number % 40, mixed >> 32),
            Kind::Session => format!("AROA{:016X}:{:x}", spread(u64::from(number / 50)), mixed >> 40),
            Kind::Agent => format!(
                "aws-sdk-java/2.{}.{} Linux/5.10.{number} OpenJDK_64-Bit_Server_VM/17.0.{} vendor/Amazon {}",
                number % 20,
                number % 100,
                number % 9,
                mixed % 1_000
            ),
        }
    }
}

/// The id of an account.
pub(crate) fn account(number: u32) -> String {
    format!("{:012}", 100_000_000_000 + spread(u64::from(number)) % 899_999_999_999)
}

/// An edge, with what is counted in it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) entity: Node,
    pub(crate) peer: Node,
    pub(crate) relation: &'static str,
    pub(crate) hour: u8,
    pub(crate) is_in: bool,
    /// Its service and number; 0 for none.
    pub(crate) operation: (u32, u32),
    pub(crate) address: Option<Node>,
    pub(crate) agent: Option<Node>,
    /// 0 for none.
    pub(crate) error: u8,
    /// 0 for none.
    pub(crate) port: u16,
}

/// How many there are of everyone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World {
    edges: u64,
}

impl World {
    pub(crate) fn new(edges: u64) -> Self {
        Self { edges }
    }

    /// As many as a hundred million edges would have `count`.
    fn of(self, count: u64) -> u64 {
        (count * self.edges / 100_000_000).max(10)
    }

    /// About `count` edges of a day.
    pub(crate) fn day(self, number: i64, count: usize) -> Vec<Row> {
        let mut random = Random::new(number.unsigned_abs());
        let mut rows = Vec::with_capacity(count + 16);
        let hub = HUB_EDGES / 365;
        while rows.len() + usize::try_from(hub).unwrap() < count {
            if random.below(10) < 3 { self.flow(&mut random, &mut rows) } else { self.call(&mut random, &mut rows) }
        }
        for edge in 0..hub {
            let peer = Node { kind: Kind::Session, number: u32::try_from((number.unsigned_abs() * hub + edge) % HUB_PEERS).unwrap() };
            let row = edge_of(HUB, peer, "used", u8::try_from(edge % 24).unwrap(), true);
            rows.push(Row { operation: (0, 1 + u32::try_from(edge % OPERATIONS).unwrap()), ..row });
        }
        rows
    }

    fn flow(self, random: &mut Random, rows: &mut Vec<Row>) {
        let interface = Node { kind: Kind::Interface, number: random.skewed(self.of(5_000)) };
        let remote = Node { kind: Kind::Address, number: REMOTE + random.skewed(self.of(500_000)) };
        let relation = ["connected_to", "accepted_from", "rejected_from"][random.below(3) as usize];
        let port = [443, 22, 80, 3_389, 5_432, random.below(60_000) as u16][random.below(6) as usize];
        let hour = random.below(24) as u8;
        rows.push(Row { address: Some(remote), port, ..edge_of(interface, remote, relation, hour, false) });
        rows.push(Row { port, ..edge_of(remote, interface, relation, hour, true) });
    }

    fn call(self, random: &mut Random, rows: &mut Vec<Row>) {
        let number = random.skewed(self.of(100_000));
        let habit = |limit: u64| (u64::from(number).wrapping_mul(7_919) % limit) as u32;
        let role = Node { kind: Kind::Role, number: habit(self.of(2_000)) };
        let account = Node { kind: Kind::Account, number: role.number % ACCOUNTS };
        let [session, key] = [Kind::Session, Kind::Key].map(|kind| Node { kind, number });
        let service = Node { kind: Kind::Service, number: random.skewed(SERVICES) };
        let rare = random.below(20) == 0;
        let address = Node { kind: Kind::Address, number: if rare { random.skewed(self.of(200_000)) } else { habit(self.of(200_000)) } };
        let agent = Node { kind: Kind::Agent, number: if rare { random.skewed(self.of(2_000)) } else { habit(self.of(2_000)) } };
        let error = if random.below(20) == 0 { 1 + random.below(5) as u8 } else { 0 };
        let relation = if error == 0 { "called" } else { "failed_to_call" };
        let hour = random.below(24) as u8;
        let operation = (service.number, 1 + random.skewed(OPERATIONS));
        let edge = |entity, peer, relation, is_in| edge_of(entity, peer, relation, hour, is_in);
        for caller in [session, role, account] {
            rows.push(Row { operation, address: Some(address), agent: Some(agent), error, ..edge(caller, service, relation, false) });
        }
        rows.push(Row { operation, ..edge(service, session, relation, true) });
        rows.push(Row { operation, agent: Some(agent), error, ..edge(address, session, "used", true) });
        rows.push(Row { operation, address: Some(address), ..edge(agent, session, "used", true) });
        rows.push(Row { operation, address: Some(address), agent: Some(agent), ..edge(key, session, "used", true) });
        rows.extend([edge(session, address, "used", false), edge(session, key, "used", false)]);
        rows.extend([edge(session, role, "assumed", false), edge(role, session, "assumed", true)]);
        if random.below(3) == 0 {
            let resource = Node { kind: Kind::Resource, number: random.skewed(self.of(50_000)) };
            rows.push(Row { operation, address: Some(address), error, ..edge(resource, session, "affected_by", false) });
            for caller in [session, role] {
                rows.push(Row { operation, ..edge(caller, resource, "affected_by", true) });
            }
        }
    }
}

fn edge_of(entity: Node, peer: Node, relation: &'static str, hour: u8, is_in: bool) -> Row {
    Row { entity, peer, relation, hour, is_in, operation: (0, 0), address: None, agent: None, error: 0, port: 0 }
}

/// An operation as edges name it.
pub(crate) fn operation((service, number): (u32, u32)) -> String {
    let mut text = String::new();
    if number > 0 {
        let _ = write!(text, "service{service}.amazonaws.com/DescribeSomething{number}");
    }
    text
}
