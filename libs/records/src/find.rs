//! Finds the records in one JSON value: what a record looks like, and which envelopes hold records.
//!
//! The rules, which `tests/python/corpus_counts.py` states again independently:
//! 1. A value that looks like a record (see [`signature`]) is one record, and nothing in it is looked at.
//! 2. At the top, an object with an array under `Records`, `Findings`, `findings` or `Events`, with `logEvents` beside
//!    `messageType`, with `items` beside `kind: EventList`, or with `QueryResultRows` is an envelope: each element is one record
//!    at least. A CloudWatch Logs `CONTROL_MESSAGE` holds none.
//! 3. Anything else is searched for records: members of objects, elements of arrays, and strings that hold JSON, a flow log line
//!    or base64 of gzip. If an array holds a record, each of its elements is one at least. Otherwise what holds none is wrapping.
//! 4. A value in which nothing is found is itself one record: a dead letter.

use std::{
    borrow::Cow,
    io::{Read as _, copy, sink},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::MultiGzDecoder;
use gumshoe_model::RecordKind;

use crate::{
    Options, flow,
    json::{elements, members, too_deep, unescape, valid_extent},
};

/// How many envelopes inside each other are opened.
const MAX_ENVELOPES: usize = 32;

/// Why a value that is no record is refused.
pub(crate) const UNKNOWN: &str = "not a record of a known log format";

/// What the envelope says about the records in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Context {
    /// An EKS cluster's ARN or name.
    pub(crate) cluster: Option<String>,
    /// The account that owns the log.
    pub(crate) account: Option<String>,
}

/// What a piece of text looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Record(RecordKind),
    Flow,
    Unknown(&'static str),
}

/// A record, or what stands where one should.
#[derive(Debug, Clone)]
pub(crate) struct Found<'a> {
    pub(crate) shape: Shape,
    /// What to parse.
    pub(crate) text: Cow<'a, str>,
    /// The text as it came, where that is not what to parse.
    pub(crate) raw: Option<Cow<'a, str>>,
    pub(crate) offset: u64,
    pub(crate) context: Context,
}

impl Found<'_> {
    fn into_owned(self, offset: u64) -> Found<'static> {
        Found {
            shape: self.shape,
            text: Cow::Owned(self.text.into_owned()),
            raw: self.raw.map(|raw| Cow::Owned(raw.into_owned())),
            offset,
            context: self.context,
        }
    }
}

/// Looks for the records in one value.
pub(crate) struct Search<'a, 'o> {
    pub(crate) found: Vec<Found<'a>>,
    context: Context,
    options: &'o Options,
    depth: usize,
}

/// One look at the members of an object.
#[derive(Default)]
struct Keys {
    event: u8,
    digest: u8,
    guard_duty: u8,
    guard_duty_body: bool,
    product: bool,
    finding: bool,
    audit_kind: bool,
    audit: bool,
}

/// What an object with these members looks like:
/// - **CloudTrail**: two of `eventTime`, `eventSource`, `eventName` (also in lower case), `insightDetails`;
/// - **CloudTrail digest**: `digestS3Object` and `logFiles`;
/// - **Kubernetes audit**: `kind` is `Event`, and `verb`, `auditID` or `requestURI`;
/// - **Security Hub**: `ProductArn` is a string, and `GeneratorId`, `AwsAccountId`, `Resources` or `SchemaVersion`;
/// - **GuardDuty**: `schemaVersion`, `severity` and a string `type`, and `service` or `resource` (also in PascalCase).
fn signature(members: &[(Cow<'_, str>, &str)]) -> Option<Shape> {
    let mut keys = Keys::default();
    for (key, value) in members {
        match &**key {
            "eventTime" | "eventtime" => keys.event |= 1,
            "eventSource" | "eventsource" => keys.event |= 2,
            "eventName" | "eventname" => keys.event |= 4,
            "insightDetails" | "insightdetails" => keys.event |= 8,
            "digestS3Object" => keys.digest |= 1,
            "logFiles" => keys.digest |= 2,
            "schemaVersion" => keys.guard_duty |= 1,
            "SchemaVersion" => (keys.guard_duty, keys.finding) = (keys.guard_duty | 1, true),
            "severity" | "Severity" => keys.guard_duty |= 2,
            "type" | "Type" if value.starts_with('"') => keys.guard_duty |= 4,
            "service" | "Service" | "resource" | "Resource" => keys.guard_duty_body = true,
            "ProductArn" => keys.product = value.starts_with('"'),
            "GeneratorId" | "AwsAccountId" | "Resources" => keys.finding = true,
            "kind" => keys.audit_kind |= *value == "\"Event\"",
            "verb" | "auditID" | "requestURI" => keys.audit = true,
            _ => {}
        }
    }
    match keys {
        Keys { event, .. } if event.count_ones() >= 2 => Some(Shape::Record(RecordKind::CloudTrail)),
        Keys { digest: 3, .. } => Some(Shape::Unknown("CloudTrail digest, not a log")),
        Keys { audit_kind: true, audit: true, .. } => Some(Shape::Record(RecordKind::EksAudit)),
        Keys { product: true, finding: true, .. } => Some(Shape::Record(RecordKind::SecurityHub)),
        Keys { guard_duty: 7, guard_duty_body: true, .. } => Some(Shape::Record(RecordKind::GuardDuty)),
        _ => None,
    }
}

/// The keys whose array makes an object at the top an envelope, whatever else is in it.
pub(crate) const ENVELOPE_KEYS: [&str; 4] = ["Records", "Findings", "findings", "Events"];

impl<'a, 'o> Search<'a, 'o> {
    pub(crate) fn new(context: &Context, options: &'o Options) -> Self {
        Self { found: Vec::new(), context: context.clone(), options, depth: 0 }
    }

    /// Searches a value that stands by itself, at `offset` in the object.
    pub(crate) fn top(&mut self, text: &'a str, offset: u64) -> bool {
        self.search(text, &Place { whole: text, offset }, true)
    }

    fn search(&mut self, text: &'a str, place: &Place<'a>, top: bool) -> bool {
        if self.depth >= MAX_ENVELOPES {
            return false;
        }
        self.depth += 1;
        let found = match text.as_bytes().first() {
            Some(b'{') => self.object(text, place, top),
            Some(b'[') => self.array(text, place),
            Some(b'"') => self.string(text, place),
            _ => false,
        };
        self.depth -= 1;
        found
    }

    fn push(&mut self, shape: Shape, text: &'a str, place: &Place<'a>) {
        let context = self.context.clone();
        self.found.push(Found { shape, text: Cow::Borrowed(text), raw: None, offset: place.of(text), context });
    }

    fn object(&mut self, text: &'a str, place: &Place<'a>, top: bool) -> bool {
        let members: Vec<(Cow<'a, str>, &'a str)> = members(text).collect();
        if let Some(shape) = signature(&members) {
            self.push(shape, text, place);
            return true;
        }
        let value = |key: &str| members.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value);
        if top {
            let log = value("messageType").filter(|_| value("logEvents").is_some());
            if log == Some("\"CONTROL_MESSAGE\"") {
                return true;
            }
            let outside = self.context.clone();
            if log.is_some() {
                self.enter_log_group(value("logGroup"), value("owner"));
            }
            let audit = value("kind") == Some("\"EventList\"");
            let mut envelope = false;
            for (key, array) in members.iter().filter(|(_, value)| value.starts_with('[')) {
                match &**key {
                    key if ENVELOPE_KEYS.contains(&key) => self.every(array, place),
                    "logEvents" if log.is_some() => self.every(array, place),
                    "items" if audit => self.every(array, place),
                    "QueryResultRows" => self.rows(array, place),
                    _ => continue,
                }
                envelope = true;
            }
            self.context = outside;
            if envelope {
                return true;
            }
        }
        let mut any = false;
        for (_, value) in members {
            any |= self.search(value, place, false);
        }
        any
    }

    /// `/aws/eks/NAME/cluster` is where EKS writes the audit log of a cluster.
    fn enter_log_group(&mut self, group: Option<&str>, owner: Option<&str>) {
        let text = |value: Option<&str>| value.and_then(unescape).map(Cow::into_owned);
        if self.context.cluster.is_none() {
            let group = text(group).unwrap_or_default();
            self.context.cluster = group.strip_prefix("/aws/eks/").and_then(|rest| rest.strip_suffix("/cluster")).map(str::to_owned);
        }
        self.context.account = text(owner);
    }

    /// The elements of an envelope: each is one record at least.
    fn every(&mut self, array: &'a str, place: &Place<'a>) {
        for element in elements(array) {
            if !self.search(element, place, false) {
                self.push(Shape::Unknown(UNKNOWN), element, place);
            }
        }
    }

    fn array(&mut self, array: &'a str, place: &Place<'a>) -> bool {
        let (mark, mut any) = (self.found.len(), false);
        for element in elements(array) {
            if self.search(element, place, false) {
                any = true;
            } else {
                self.push(Shape::Unknown(UNKNOWN), element, place);
            }
        }
        if !any {
            self.found.truncate(mark);
        }
        any
    }

    /// Result rows of a CloudTrail Lake query: each a list of one-member objects, one a column.
    fn rows(&mut self, rows: &'a str, place: &Place<'a>) {
        for row in elements(rows) {
            let columns: Vec<&str> =
                elements(row).filter_map(|column| column.strip_prefix('{')?.strip_suffix('}')).map(str::trim).filter(|column| !column.is_empty()).collect();
            let merged = format!("{{{}}}", columns.join(","));
            if self.embedded(&merged, place.of(row)) {
                // One record in the row, seen as an object: the row is its text.
                if let Some(found) = self.found.last_mut().filter(|found| found.text == merged) {
                    found.raw = Some(Cow::Borrowed(row));
                }
            } else {
                self.push(Shape::Unknown(UNKNOWN), row, place);
            }
        }
    }

    /// A string may hold a record as text.
    fn string(&mut self, string: &'a str, place: &Place<'a>) -> bool {
        let first = string.trim_start_matches(['"', ' ', '\t']).as_bytes().first().copied();
        if !first.is_some_and(|first| matches!(first, b'{' | b'[' | b'\\') || first.is_ascii_digit() || first == b'H') {
            return false;
        }
        let Some(text) = unescape(string) else { return false };
        let text = text.trim();
        if text.starts_with(['{', '[']) {
            return self.embedded(text, place.of(string));
        }
        if self.is_flow(text) {
            let context = self.context.clone();
            self.found.push(Found { shape: Shape::Flow, text: Cow::Owned(text.to_owned()), raw: None, offset: place.of(string), context });
            return true;
        }
        if text.starts_with("H4sI") {
            return self.compressed(text).is_some_and(|inner| self.embedded(inner.trim(), place.of(string)));
        }
        false
    }

    fn is_flow(&self, text: &str) -> bool {
        flow::is_default_line(text) || self.options.flow_fields.as_ref().is_some_and(|fields| text.split_ascii_whitespace().count() == fields.len())
    }

    fn compressed(&self, text: &str) -> Option<String> {
        let bytes = STANDARD.decode(text).ok()?;
        let limit = self.options.max_record_bytes as u64;
        let (mut inner, mut decoder) = (String::new(), MultiGzDecoder::new(&*bytes));
        decoder.by_ref().take(limit).read_to_string(&mut inner).ok()?;
        (copy(&mut decoder.take(1), &mut sink()).ok()? == 0).then_some(inner)
    }

    /// Searches JSON that stood in a string: values one after another, the rest of it after the first that is not valid.
    fn embedded(&mut self, text: &str, offset: u64) -> bool {
        if too_deep(text) {
            return false;
        }
        let mut inner = Search { found: Vec::new(), context: self.context.clone(), options: self.options, depth: self.depth };
        let (mut any, mut rest) = (false, text);
        while !rest.is_empty() {
            let place = Place { whole: text, offset: 0 };
            let Some(value) = valid_extent(rest).and_then(|length| rest.get(..length)) else {
                inner.push(Shape::Unknown("not JSON"), rest, &place);
                break;
            };
            let value = value.trim_start();
            if inner.search(value, &place, true) {
                any = true;
            } else {
                inner.push(Shape::Unknown(UNKNOWN), value, &place);
            }
            rest = rest.get(rest.len().min(value.as_ptr() as usize - rest.as_ptr() as usize + value.len())..).unwrap_or_default().trim_start();
        }
        if any {
            self.found.extend(inner.found.into_iter().map(|found| found.into_owned(offset)));
        }
        any
    }
}

/// Where a text stands in the object.
struct Place<'a> {
    whole: &'a str,
    offset: u64,
}

impl Place<'_> {
    /// The offset of a part of `whole`.
    fn of(&self, part: &str) -> u64 {
        self.offset + (part.as_ptr() as usize).saturating_sub(self.whole.as_ptr() as usize) as u64
    }
}
