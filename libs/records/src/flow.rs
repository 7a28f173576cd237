//! VPC flow logs, versions 2 to 11, as text: one line a record, the fields in any order given by a header line.
//!
//! A column whose name is not known is passed over and stays in the raw text, so a newer version than 11 still goes in.
//!
//! How a line becomes a flow, from the line alone:
//! - the **local** side is the one that `flow-direction` says; else the only private one; else the one with the lower port (a
//!   server), or the destination;
//! - who **opened** the connection: the side that sent a SYN, if `tcp-flags` tells; else the side with the higher port; else the source;
//! - `REJECT` is [`Relation::RejectedFrom`] with the destination's port, whoever opened it.
//!
//! Source: VPC user guide, "Flow log records".

use std::{borrow::Cow, net::IpAddr};

use gumshoe_model::{EntityRef, EntityType, Event, RecordKind, Relation, Timestamp};

use crate::{address, arn::is_account};

macro_rules! fields {
    ($($variant:ident = $name:literal,)*) => {
        /// A field of a flow log that becomes part of an event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Field { $($variant,)* }

        impl Field {
            pub(crate) const COUNT: usize = [$(Self::$variant,)*].len();

            fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

fields! {
    Account = "account-id",
    Interface = "interface-id",
    Source = "srcaddr",
    Destination = "dstaddr",
    SourcePort = "srcport",
    DestinationPort = "dstport",
    Protocol = "protocol",
    Packets = "packets",
    Bytes = "bytes",
    Start = "start",
    End = "end",
    Action = "action",
    Status = "log-status",
    Instance = "instance-id",
    TcpFlags = "tcp-flags",
    PacketSource = "pkt-srcaddr",
    PacketDestination = "pkt-dstaddr",
    Region = "region",
    Direction = "flow-direction",
}

/// Known fields that stay in the raw text only.
const OTHER_FIELDS: &[&str] = &[
    "version",
    "vpc-id",
    "subnet-id",
    "type",
    "az-id",
    "sublocation-type",
    "sublocation-id",
    "pkt-src-aws-service",
    "pkt-dst-aws-service",
    "traffic-path",
    "ecs-cluster-arn",
    "ecs-cluster-name",
    "ecs-container-instance-arn",
    "ecs-container-instance-id",
    "ecs-container-id",
    "ecs-second-container-id",
    "ecs-service-name",
    "ecs-task-definition-arn",
    "ecs-task-arn",
    "ecs-task-id",
    "reject-reason",
    "resource-id",
    "encryption-status",
    "instance-tag",
    "instance-tag-2",
    "interface-tag",
    "interface-tag-2",
    "asg-tag",
    "asg-tag-2",
    "interface-type",
    "next-hop-interface-id",
    "next-hop-subnet-id",
    "next-hop-az-id",
    "next-hop-vpc-id",
    "next-hop-interface-type",
];

/// The fields of the default format, version 2, in order.
pub(crate) const DEFAULT_FIELDS: [&str; 14] = [
    "version",
    "account-id",
    "interface-id",
    "srcaddr",
    "dstaddr",
    "srcport",
    "dstport",
    "protocol",
    "packets",
    "bytes",
    "start",
    "end",
    "action",
    "log-status",
];

/// Which column holds which field.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    columns: Vec<Option<Field>>,
}

/// The values of one line by [`Field`]; empty for `-` and for fields that the layout lacks.
pub(crate) type Values<'a> = [&'a str; Field::COUNT];

impl Layout {
    /// The layout of these field names, with underscores or hyphens.
    pub(crate) fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        Self { columns: names.into_iter().map(|name| Field::named(&name.to_ascii_lowercase().replace('_', "-"))).collect() }
    }

    /// The layout that a header line gives; `None` when the line is no header.
    pub(crate) fn from_header(line: &str) -> Option<Self> {
        let names: Vec<String> = line.split_ascii_whitespace().map(|name| name.replace('_', "-")).collect();
        let word =
            |name: &String| name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let known = names.iter().filter(|name| Field::named(name).is_some() || OTHER_FIELDS.contains(&name.as_str())).count();
        (known >= 2 && names.iter().all(word)).then(|| Self::new(names.iter().map(String::as_str)))
    }

    /// Whether enough is known to make flows of it.
    pub(crate) fn has(&self, field: Field) -> bool {
        self.columns.contains(&Some(field))
    }

    pub(crate) fn width(&self) -> usize {
        self.columns.len()
    }

    /// Puts the value of one column where its field belongs.
    pub(crate) fn put<'a>(&self, column: usize, value: &'a str, values: &mut Values<'a>) {
        if let Some(Some(field)) = self.columns.get(column)
            && value != "-"
            && let Some(place) = values.get_mut(*field as usize)
        {
            *place = value;
        }
    }

    /// Splits a line into its values.
    pub(crate) fn split<'a>(&self, line: &'a str, values: &mut Values<'a>) -> Result<(), String> {
        *values = [""; Field::COUNT];
        let (mut width, mut start) = (0, 0);
        let bytes = line.as_bytes();
        for end in memchr::memchr2_iter(b' ', b'\t', bytes).chain([bytes.len()]) {
            if end > start {
                self.put(width, line.get(start..end).unwrap_or_default(), values);
                width += 1;
            }
            start = end + 1;
        }
        if width == self.width() { Ok(()) } else { Err(format!("expected {} fields, found {width}", self.width())) }
    }
}

/// Whether a line without a header can only be a flow in the default format.
pub(crate) fn is_default_line(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let version = words.next().is_some_and(|word| word.len() <= 2 && word.bytes().all(|byte| byte.is_ascii_digit()));
    version
        && words.nth(10).is_some()
        && words.next().is_some_and(|word| matches!(word, "ACCEPT" | "REJECT" | "-"))
        && words.next().is_some_and(|word| matches!(word, "OK" | "NODATA" | "SKIPDATA"))
        && words.next().is_none()
}

fn value<'a>(values: &Values<'a>, field: Field) -> &'a str {
    values.get(field as usize).copied().unwrap_or_default()
}

/// A decimal number; 0 where the value is absent.
fn number(values: &Values<'_>, field: Field, name: &str, limit: u64) -> Result<u64, String> {
    let text = value(values, field);
    let mut sum = 0_u64;
    for byte in text.bytes() {
        let digit = byte.wrapping_sub(b'0');
        let next = sum.checked_mul(10).and_then(|sum| sum.checked_add(u64::from(digit)));
        sum = next.filter(|next| digit <= 9 && *next <= limit).ok_or_else(|| wrong(name, text))?;
    }
    Ok(sum)
}

#[cold]
fn wrong(name: &str, text: &str) -> String {
    format!("`{name}` `{}` is not valid", text.chars().take(64).collect::<String>())
}

fn time(values: &Values<'_>, field: Field, name: &str) -> Result<Option<Timestamp>, String> {
    if value(values, field).is_empty() {
        return Ok(None);
    }
    let seconds = number(values, field, name, i64::MAX as u64)?;
    Timestamp::from_seconds(seconds as i64).map(Some).ok_or_else(|| wrong(name, value(values, field)))
}

fn ip<'a>(values: &Values<'a>, field: Field, name: &str) -> Result<Option<(IpAddr, Cow<'a, str>)>, String> {
    let text = value(values, field);
    if text.is_empty() { Ok(None) } else { address::ip(text).map(Some).ok_or_else(|| wrong(name, text)) }
}

/// One end of a flow.
struct End<'a> {
    ip: IpAddr,
    address: Cow<'a, str>,
    port: u16,
    /// The address inside the packet, where it differs from the interface's: what is behind a NAT gateway or load balancer.
    packet: Option<Cow<'a, str>>,
}

/// Makes `event` the event of one line; every field is overwritten, so that one event serves all lines of a buffer.
pub(crate) fn fill<'a>(event: &mut Event<'a>, values: &Values<'a>, raw: &'a str, offset: u64) -> Result<(), String> {
    let start = time(values, Field::Start, "start")?;
    let end = time(values, Field::End, "end")?;
    let begin = start.or(end).ok_or("`start` is missing")?;
    let status = value(values, Field::Status);
    if !matches!(status, "OK" | "NODATA" | "SKIPDATA" | "") {
        return Err(wrong("log-status", status));
    }
    let rejected = match value(values, Field::Action) {
        "REJECT" => true,
        "ACCEPT" | "" => false,
        other => return Err(wrong("action", other)),
    };
    event.kind = RecordKind::VpcFlow;
    event.time = begin;
    event.end_time = end.unwrap_or(begin).max(begin);
    let account = value(values, Field::Account);
    event.account = Cow::Borrowed(if is_account(account) { account } else { "" });
    event.region = Cow::Borrowed(value(values, Field::Region));
    event.offset = offset;
    event.raw = Cow::Borrowed(raw);
    event.links.clear();
    event.parent = None;
    let (interface, instance) = (value(values, Field::Interface), value(values, Field::Instance));
    event.actor = match (interface.is_empty(), instance.is_empty()) {
        (false, true) => Some(EntityRef::new(EntityType::NetworkInterface, interface)),
        (false, false) => {
            event.parent = Some(EntityRef::new(EntityType::Ec2Instance, instance));
            Some(EntityRef::new(EntityType::NetworkInterface, interface))
        }
        (true, false) => Some(EntityRef::new(EntityType::Ec2Instance, instance)),
        (true, true) => None,
    };
    event.flow = None;
    event.address = Cow::Borrowed("");
    (event.port, event.protocol) = (-1, -1);
    (event.bytes_in, event.bytes_out, event.packets_in, event.packets_out) = (0, 0, 0, 0);

    let protocol = value(values, Field::Protocol);
    if !protocol.is_empty() {
        event.protocol = number(values, Field::Protocol, "protocol", 255)? as i32;
    }
    let ports = !value(values, Field::SourcePort).is_empty() && !value(values, Field::DestinationPort).is_empty();
    let source_port = number(values, Field::SourcePort, "srcport", 65_535)? as u16;
    let destination_port = number(values, Field::DestinationPort, "dstport", 65_535)? as u16;
    let bytes = number(values, Field::Bytes, "bytes", u64::MAX)?;
    let packets = number(values, Field::Packets, "packets", u64::MAX)?;
    let flags = number(values, Field::TcpFlags, "tcp-flags", u64::from(u16::MAX))?;
    let packet = |field, name| Ok::<_, String>(ip(values, field, name)?.map(|(_, address)| address));
    let packet_source = packet(Field::PacketSource, "pkt-srcaddr")?;
    let packet_destination = packet(Field::PacketDestination, "pkt-dstaddr")?;
    let (Some((source_ip, source)), Some((destination_ip, destination))) = (ip(values, Field::Source, "srcaddr")?, ip(values, Field::Destination, "dstaddr")?)
    else {
        return if status == "OK" { Err("`srcaddr` or `dstaddr` is missing".to_owned()) } else { Ok(()) };
    };
    let source = End { ip: source_ip, address: source, port: source_port, packet: packet_source };
    let destination = End { ip: destination_ip, address: destination, port: destination_port, packet: packet_destination };

    let source_is_local = match value(values, Field::Direction) {
        "egress" => true,
        "ingress" => false,
        "" => match (address::is_private(source.ip), address::is_private(destination.ip)) {
            (true, false) => true,
            (false, true) => false,
            _ => source.port < destination.port,
        },
        other => return Err(wrong("flow-direction", other)),
    };
    // AWS reports ACK (16) only together with SYN (2): 18 is the answer of the side that was connected to.
    let source_opened = match (flags & 2 != 0, flags & 16 != 0) {
        (true, answer) => !answer,
        (false, _) => source.port >= destination.port,
    };
    let opened_port = if source_opened { destination.port } else { source.port };
    let (local, remote) = if source_is_local { (source, destination) } else { (destination, source) };
    let (relation, port) = match (rejected, source_opened == source_is_local) {
        (true, _) => (Relation::RejectedFrom, destination_port),
        (false, true) => (Relation::ConnectedTo, opened_port),
        (false, false) => (Relation::AcceptedFrom, opened_port),
    };
    event.flow = Some(relation);
    if ports {
        event.port = i32::from(port);
    }
    if source_is_local {
        (event.bytes_out, event.packets_out) = (bytes, packets);
    } else {
        (event.bytes_in, event.packets_in) = (bytes, packets);
    }
    event.address = remote.packet.unwrap_or(remote.address);
    if event.actor.is_none() {
        event.actor = Some(EntityRef::new(EntityType::IpAddress, local.address));
    } else {
        event.link(Relation::Used, EntityType::IpAddress, local.address, "");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(names: &str, line: &'static str) -> Result<Event<'static>, String> {
        let layout = Layout::from_header(names).unwrap();
        let mut values = [""; Field::COUNT];
        layout.split(line, &mut values)?;
        let mut event = Event::new(RecordKind::VpcFlow, Timestamp(0), line);
        fill(&mut event, &values, line, 7)?;
        Ok(event)
    }

    const NAMES: &str = "start srcaddr dstaddr srcport dstport action tcp-flags flow-direction pkt-srcaddr pkt-dstaddr bytes";

    #[test]
    fn tells_who_opened_the_connection() {
        for (line, relation, port, address, into) in [
            ("1 10.0.0.1 8.8.8.8 50000 443 ACCEPT - - - - 5", Relation::ConnectedTo, 443, "8.8.8.8", 0),
            ("1 8.8.8.8 10.0.0.1 443 50000 ACCEPT - - - - 5", Relation::ConnectedTo, 443, "8.8.8.8", 5),
            ("1 8.8.8.8 10.0.0.1 50000 22 ACCEPT - - - - 5", Relation::AcceptedFrom, 22, "8.8.8.8", 5),
            ("1 10.0.0.1 8.8.8.8 22 50000 ACCEPT - - - - 5", Relation::AcceptedFrom, 22, "8.8.8.8", 0),
            ("1 8.8.8.8 10.0.0.1 50000 3389 REJECT - - - - 5", Relation::RejectedFrom, 3389, "8.8.8.8", 5),
            // A SYN from the lower port, and its answer.
            ("1 10.0.0.1 8.8.8.8 20 50000 ACCEPT 2 - - - 5", Relation::ConnectedTo, 50000, "8.8.8.8", 0),
            ("1 8.8.8.8 10.0.0.1 50000 20 ACCEPT 18 - - - 5", Relation::ConnectedTo, 50000, "8.8.8.8", 5),
            // Both private: the direction decides, or the lower port is local.
            ("1 10.0.0.1 10.0.0.2 50000 443 ACCEPT - egress - - 5", Relation::ConnectedTo, 443, "10.0.0.2", 0),
            ("1 10.0.0.1 10.0.0.2 50000 443 ACCEPT - ingress - - 5", Relation::AcceptedFrom, 443, "10.0.0.1", 5),
            ("1 10.0.0.1 10.0.0.2 50000 443 ACCEPT - - - - 5", Relation::AcceptedFrom, 443, "10.0.0.1", 5),
            // Behind NAT the remote end is the packet's address.
            ("1 10.0.0.1 10.0.0.2 50000 443 ACCEPT - egress 10.0.0.9 8.8.4.4 5", Relation::ConnectedTo, 443, "8.8.4.4", 0),
        ] {
            let event = flow(NAMES, line).unwrap();
            assert_eq!((event.flow, event.port, &*event.address, event.bytes_in), (Some(relation), port, address, into), "{line}");
            assert_eq!(event.bytes_in + event.bytes_out, 5);
        }
    }

    #[test]
    fn names_the_field_at_fault() {
        for (line, fault) in [
            ("x 10.0.0.1 8.8.8.8 1 2 ACCEPT - - - - 5", "`start` `x` is not valid"),
            ("1 10.0.0 8.8.8.8 1 2 ACCEPT - - - - 5", "`srcaddr` `10.0.0` is not valid"),
            ("1 10.0.0.1 8.8.8.8 65536 2 ACCEPT - - - - 5", "`srcport` `65536` is not valid"),
            ("1 10.0.0.1 8.8.8.8 1 2 DROP - - - - 5", "`action` `DROP` is not valid"),
            ("1 10.0.0.1 8.8.8.8 1 2 ACCEPT - up - - 5", "`flow-direction` `up` is not valid"),
            ("1 10.0.0.1 8.8.8.8 1 2 ACCEPT - - - - 99999999999999999999", "`bytes` `99999999999999999999` is not valid"),
            ("- 10.0.0.1 8.8.8.8 1 2 ACCEPT - - - - 5", "`start` is missing"),
            ("1 10.0.0.1", "expected 11 fields, found 2"),
        ] {
            assert_eq!(flow(NAMES, line).unwrap_err(), fault);
        }
    }

    #[test]
    fn tells_headers_and_default_lines() {
        assert!(Layout::from_header("version account-id a-new-field").is_some());
        assert!(Layout::from_header("interface_id pkt_srcaddr").is_some_and(|layout| layout.has(Field::PacketSource)));
        assert!(Layout::from_header("The bytes of an end").is_none());
        assert!(Layout::from_header("2 123456789012 eni-1").is_none());
        assert!(is_default_line("2 123456789012 eni-1 - - - - - - - 1431280876 1431280934 - NODATA"));
        assert!(!is_default_line("2 123456789012 eni-1 - - - - - - - 1431280876 1431280934 - NODATA x"));
    }
}
