//! VPC flow logs as text: conversations both ways, scans, and intervals without data.

use super::{
    random::{Random, Zipf, mix},
    text,
    world::{Account, Instance, World},
};

/// The default fields, version 2.
pub const HEADER_2: &str = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status\n";
/// Fields of versions 2 to 5.
pub const HEADER_5: &str = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status vpc-id subnet-id instance-id tcp-flags type pkt-srcaddr pkt-dstaddr region az-id pkt-src-aws-service pkt-dst-aws-service flow-direction traffic-path\n";

/// Conversations that an instance keeps having.
const HABITS: usize = 40;

/// Writes the flow records of one account and region.
#[derive(Debug)]
pub struct Writer<'a> {
    world: &'a World,
    account: &'a Account,
    region: &'static str,
    /// Whether to write the fields of version 5.
    wide: bool,
    habit_law: Zipf,
    random: Random,
}

/// Whom an instance talks with, and how.
struct Conversation<'a> {
    peer: &'a str,
    serves: bool,
    port: u16,
    protocol: u64,
}

/// One direction of a conversation.
struct Flow<'a> {
    instance: &'a Instance,
    source: (&'a str, u16),
    target: (&'a str, u16),
    protocol: u64,
    packets: u64,
    bytes: u64,
    time: u64,
    accepted: bool,
    inbound: bool,
}

impl<'a> Writer<'a> {
    /// A writer whose records depend on its generator only.
    pub fn new(world: &'a World, account: &'a Account, region: &'static str, wide: bool, random: Random) -> Self {
        Self { world, account, region, wide, habit_law: Zipf::new(HABITS, 0.9), random }
    }

    /// The line that a file begins with.
    pub fn header(&self) -> &'static str {
        if self.wide { HEADER_5 } else { HEADER_2 }
    }

    /// Writes the next one or two records; returns how many.
    pub fn records(&mut self, out: &mut String, time: u64) -> u64 {
        let account = self.account;
        let Some(instance) = account.instance_law.of(&account.instances, &mut self.random) else { return 0 };
        let ephemeral = u16::try_from(32_768 + self.random.below(28_000)).unwrap_or(u16::MAX);
        match self.random.below(1000) {
            0..4 => {
                self.without_data(out, instance, time);
                return 1;
            }
            4..40 => {
                // A scan from outside, rejected: nothing comes back.
                let Some(peer) = self.world.peer_law.of(&self.world.peers, &mut self.random) else { return 0 };
                let port = u16::try_from(self.random.below(10_000)).unwrap_or(0);
                let bytes = 40 + self.random.below(24);
                let (source, target) = ((peer.as_str(), ephemeral), (instance.address.as_str(), port));
                self.line(out, &Flow { instance, source, target, protocol: 6, packets: 1, bytes, time, accepted: false, inbound: true });
                return 1;
            }
            _ => {}
        }
        let Some(habit) = self.conversation(instance) else { return 0 };
        let packets = 1 + self.random.below(12) * self.random.below(12);
        let answers = 1 + packets * (1 + self.random.below(3));
        let (local_port, remote_port) = if habit.serves { (habit.port, ephemeral) } else { (ephemeral, habit.port) };
        let (local, remote) = ((instance.address.as_str(), local_port), (habit.peer, remote_port));
        let sizes = (packets * (52 + self.random.below(400)), answers * (52 + self.random.below(1_300)));
        let protocol = habit.protocol;
        self.line(out, &Flow { instance, source: local, target: remote, protocol, packets, bytes: sizes.0, time, accepted: true, inbound: false });
        self.line(out, &Flow { instance, source: remote, target: local, protocol, packets: answers, bytes: sizes.1, time, accepted: true, inbound: true });
        2
    }

    /// One of the few conversations that an instance has again and again, or now and then a new one.
    fn conversation(&mut self, instance: &'a Instance) -> Option<Conversation<'a>> {
        let habit = self.habit_law.index(&mut self.random) as u64;
        let seed = if self.random.chance(60) { self.random.next() } else { instance.interface.bytes().fold(habit, |hash, byte| mix(hash, u64::from(byte))) };
        let mut fixed = Random::new(seed, habit);
        let (world, account) = (self.world, self.account);
        let inside = fixed.chance(350);
        let peer = if inside { fixed.of(&account.instances).map(|other| &other.address) } else { world.peer_law.of(&world.peers, &mut fixed) };
        let serves = fixed.of(instance.ports).copied().filter(|_| fixed.chance(700));
        let (protocol, port) = match fixed.below(20) {
            0 | 1 => (17, 53),
            2 => (17, 123),
            3 => (6, 22),
            4 | 5 => (6, 5432),
            _ => (6, 443),
        };
        let protocol = if serves.is_some() { 6 } else { protocol };
        Some(Conversation { peer: peer?, serves: serves.is_some(), port: serves.unwrap_or(port), protocol })
    }

    fn without_data(&self, out: &mut String, instance: &Instance, time: u64) {
        let put = |out: &mut String, parts: &[&str]| parts.iter().for_each(|part| out.push_str(part));
        put(out, &[if self.wide { "5 " } else { "2 " }, &self.account.id, " ", &instance.interface, " - - - - - - - "]);
        text::decimal(out, time);
        out.push(' ');
        text::decimal(out, time + 60);
        put(out, &[" - NODATA"]);
        if self.wide {
            put(out, &[" ", &self.account.vpc, " ", &self.account.subnet, " ", &instance.id, " - - - - ", self.region, " - - - - -"]);
        }
        out.push('\n');
    }

    fn line(&self, out: &mut String, flow: &Flow<'_>) {
        let put = |out: &mut String, parts: &[&str]| parts.iter().for_each(|part| out.push_str(part));
        put(out, &[if self.wide { "5 " } else { "2 " }, &self.account.id, " ", &flow.instance.interface, " ", flow.source.0, " ", flow.target.0]);
        for number in [u64::from(flow.source.1), u64::from(flow.target.1), flow.protocol, flow.packets, flow.bytes, flow.time, flow.time + 60] {
            out.push(' ');
            text::decimal(out, number);
        }
        put(out, &[if flow.accepted { " ACCEPT OK" } else { " REJECT OK" }]);
        if self.wide {
            let kind = if flow.source.0.contains(':') { "IPv6" } else { "IPv4" };
            put(out, &[" ", &self.account.vpc, " ", &self.account.subnet, " ", &flow.instance.id, if flow.accepted { " 19 " } else { " 2 " }, kind]);
            put(out, &[" ", flow.source.0, " ", flow.target.0, " ", self.region, " use1-az2 - - "]);
            put(out, &[if flow.inbound { "ingress -" } else { "egress 8" }]);
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_the_fields_of_its_header() {
        let world = World::new(3);
        for wide in [false, true] {
            let mut writer = Writer::new(&world, &world.accounts[0], "us-east-1", wide, Random::new(3, 9));
            let (mut out, mut count) = (writer.header().to_owned(), 0);
            for step in 0..5_000 {
                count += writer.records(&mut out, 1_767_571_200 + step);
            }
            let lines: Vec<_> = out.lines().collect();
            let fields = lines[0].split(' ').count();
            assert_eq!(lines.len() as u64, count + 1);
            assert!(lines.iter().all(|line| line.split(' ').count() == fields));
            let share = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
            assert!(share("ACCEPT OK") > 7_000 && share("REJECT OK") > 50 && share("NODATA") > 3);
        }
    }
}
