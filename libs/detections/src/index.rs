//! Which rules can match an event: found by its operation, so that a thousand rules cost as much as the few that can.
//!
//! What a rule must have is read off its tree: if a match takes `eventName: [StopLogging, DeleteTrail]`, the rule is listed under
//! these two. The key is the operation of CloudTrail, the resource of Kubernetes, the type of a finding, the port of a flow. A rule
//! that names none is listed by its service, or tried on every event of its kind.

use std::collections::{BTreeMap, BTreeSet};

use gumshoe_model::{Event, RecordKind};
use hashbrown::HashTable;

use crate::{
    check::Check,
    field::{Field, Slot},
    node::Node,
    rule::Rule,
    view,
};

/// Rules of one kind of records, as places in the list of all rules.
#[derive(Debug, Default)]
struct Table {
    by_key: Keyed,
    by_service: Keyed,
    always: Vec<usize>,
}

/// Lists of rules by a text, whatever its case.
#[derive(Debug, Default)]
struct Keyed(HashTable<(Box<str>, Vec<usize>)>);

impl Keyed {
    fn add(&mut self, key: &str, rule: usize) {
        let hash = hash(key);
        let entry = self.0.entry(hash, |(other, _)| other.eq_ignore_ascii_case(key), |(other, _)| self::hash(other));
        entry.or_insert_with(|| (key.into(), Vec::new())).into_mut().1.push(rule);
    }

    fn get(&self, key: &str) -> &[usize] {
        if key.is_empty() || self.0.is_empty() {
            return &[];
        }
        self.0.find(hash(key), |(other, _)| other.eq_ignore_ascii_case(key)).map_or(&[], |(_, rules)| rules)
    }
}

/// FNV-1a of the text in lower case. Keys come from rules, so nobody can choose them to collide.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3))
}

/// Where the rules are.
#[derive(Debug, Default)]
pub(crate) struct Index {
    tables: BTreeMap<RecordKind, Table>,
}

impl Index {
    pub(crate) fn new<'r>(rules: impl IntoIterator<Item = &'r Rule>) -> Self {
        let mut tables: BTreeMap<RecordKind, Table> = BTreeMap::new();
        for (place, rule) in rules.into_iter().enumerate() {
            let table = tables.entry(rule.kind).or_default();
            let key = match rule.kind {
                RecordKind::CloudTrail => Slot::Operation,
                RecordKind::EksAudit => Slot::Resource,
                RecordKind::VpcFlow => Slot::Port,
                RecordKind::GuardDuty | RecordKind::SecurityHub => Slot::FindingType,
            };
            if let Some(keys) = needed(&rule.node, key) {
                keys.iter().for_each(|key| table.by_key.add(key, place));
            } else if let Some(services) = needed(&rule.node, Slot::Service) {
                services.iter().for_each(|service| table.by_service.add(service, place));
            } else {
                table.always.push(place);
            }
        }
        Self { tables }
    }

    /// Rules that may match, each once.
    pub(crate) fn candidates(&self, event: &Event<'_>) -> impl Iterator<Item = usize> + use<'_> {
        let table = self.tables.get(&event.kind);
        let key = match event.kind {
            RecordKind::CloudTrail => table.map(|table| table.by_key.get(&event.operation)),
            RecordKind::EksAudit => table.map(|table| table.by_key.get(view::resource(&event.operation))),
            RecordKind::VpcFlow => table.map(|table| if event.port >= 0 { table.by_key.get(Port::new(event.port).text()) } else { &[] }),
            RecordKind::GuardDuty | RecordKind::SecurityHub => {
                table.zip(event.finding.as_ref()).map(|(table, finding)| table.by_key.get(&finding.finding_type))
            }
        };
        let service = table.map(|table| table.by_service.get(&event.service));
        let lists = [key, service, table.map(|table| table.always.as_slice())];
        lists.into_iter().flatten().flatten().copied()
    }
}

/// A port in decimal, without taking memory.
struct Port {
    digits: [u8; 10],
    start: usize,
}

impl Port {
    fn new(port: i32) -> Self {
        let (mut digits, mut start, mut rest) = ([b'0'; 10], 10, port.unsigned_abs());
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            start -= 1;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        Self { digits, start }
    }

    fn text(&self) -> &str {
        self.digits.get(self.start..).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
    }
}

/// The values of which a part of an event must have one if a node matches; `None` if it may have others.
pub(crate) fn needed(node: &Node, slot: Slot) -> Option<BTreeSet<String>> {
    let either = |nodes: &[Node]| {
        let mut all = BTreeSet::new();
        for node in nodes {
            all.extend(needed(node, slot)?);
        }
        Some(all)
    };
    match node {
        Node::All(nodes) => nodes.iter().filter_map(|node| needed(node, slot)).min_by_key(BTreeSet::len),
        Node::Any(nodes) | Node::Some(_, nodes) => either(nodes),
        Node::Selection(node) => needed(node, slot),
        Node::Field(test) if test.field == Field::Slot(slot) && (!test.all || test.checks.len() == 1) => {
            let exact = |check: &Check| match check {
                Check::Text(text) => text.exact().map(str::to_ascii_lowercase),
                Check::Number(number) => Some(number.to_string()),
                _ => None,
            };
            test.checks.iter().map(exact).collect()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_in_decimal() {
        for port in [0, 7, 22, 443, 65_535, i32::MAX] {
            assert_eq!(Port::new(port).text(), port.to_string());
        }
    }

    #[test]
    fn keys_are_found_whatever_their_case() {
        let mut keyed = Keyed::default();
        for (place, key) in ["StopLogging", "GetObject", "stoplogging"].into_iter().enumerate() {
            keyed.add(key, place);
        }
        assert_eq!(keyed.get("STOPLOGGING"), [0, 2]);
        assert_eq!((keyed.get(""), keyed.get("x")), (&[][..], &[][..]));
    }
}
