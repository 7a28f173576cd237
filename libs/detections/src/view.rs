//! Values of fields: in an event, in its record, which is read only if a rule needs it, or in one element of a list.

use std::cell::OnceCell;

use gumshoe_model::{Event, Relation};
use memchr::memmem;

use crate::{
    field::{Field, Path, Slot},
    inside::Inside,
    json::Json,
};

/// The longest record that is read, and the longest text in one.
const MAX_RECORD: usize = 4 << 20;

/// A single value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scalar<'v> {
    Text(&'v str),
    Number(f64),
    Bool(bool),
}

/// An event, with its record read at most once.
pub(crate) struct Record<'e> {
    pub(crate) event: &'e Event<'e>,
    json: OnceCell<Option<Json<'e>>>,
    escapes: OnceCell<bool>,
}

impl<'e> Record<'e> {
    pub(crate) fn new(event: &'e Event<'e>) -> Self {
        Self { event, json: OnceCell::new(), escapes: OnceCell::new() }
    }

    /// Whether its text has one of these, or may have it in another writing.
    pub(crate) fn may_have(&self, texts: &[Inside]) -> bool {
        let raw = &*self.event.raw;
        self.json.get().is_some() || texts.iter().any(|text| text.is_in(raw)) || *self.escapes.get_or_init(|| memmem::find(raw.as_bytes(), br"\u").is_some())
    }

    fn json(&self) -> Option<&Json<'e>> {
        self.json.get_or_init(|| read(&self.event.raw)).as_ref()
    }
}

fn read(text: &str) -> Option<Json<'_>> {
    if text.len() <= MAX_RECORD { Json::parse(text) } else { None }
}

/// Where fields are looked for.
#[derive(Clone, Copy)]
pub(crate) struct View<'v, 'e> {
    pub(crate) record: &'v Record<'e>,
    /// An element of a list; paths begin at it.
    element: Option<&'v Json<'v>>,
}

impl<'v, 'e> View<'v, 'e> {
    pub(crate) fn new(record: &'v Record<'e>) -> Self {
        Self { record, element: None }
    }

    /// Whether any value of a field is one that `wanted` accepts. Elements of lists are values; what is missing, null,
    /// empty text or an object is none.
    pub(crate) fn any(self, field: &Field, wanted: &mut dyn FnMut(Scalar<'_>) -> bool) -> bool {
        match field {
            Field::Slot(slot) => part(self.record.event, *slot, wanted),
            Field::Path(path) => self.root().is_some_and(|root| walk(root, path.rests(), &mut |value| scalars(value, wanted))),
        }
    }

    /// Whether there is anything at a field that is not null, an empty text or an empty list.
    pub(crate) fn holds(self, field: &Field) -> bool {
        let filled = |value: &Json<'_>| match value {
            Json::Null => false,
            Json::Text(text) => !text.is_empty(),
            Json::List(values) => !values.is_empty(),
            _ => true,
        };
        match field {
            Field::Slot(slot) => part(self.record.event, *slot, &mut |_| true),
            Field::Path(path) => self.root().is_some_and(|root| walk(root, path.rests(), &mut |value| filled(value))),
        }
    }

    /// Whether there is anything at a field that is not null.
    pub(crate) fn exists(self, field: &Field) -> bool {
        match field {
            Field::Slot(slot) => part(self.record.event, *slot, &mut |_| true),
            Field::Path(path) => self.root().is_some_and(|root| walk(root, path.rests(), &mut |value| !matches!(value, Json::Null))),
        }
    }

    /// Whether any element at a path is one that `wanted` accepts; what is no list is its only element.
    pub(crate) fn any_element(self, path: &Path, wanted: &mut dyn FnMut(View<'_, 'e>) -> bool) -> bool {
        let record = self.record;
        self.root().is_some_and(|root| walk(root, path.rests(), &mut |value| elements(value, &mut |element| wanted(View { record, element: Some(element) }))))
    }

    fn root(self) -> Option<&'v Json<'v>> {
        self.element.or_else(|| self.record.json())
    }
}

/// Follows a path, through lists, and through text that is JSON itself, as policies are.
fn walk(value: &Json<'_>, rests: &[Box<str>], found: &mut dyn FnMut(&Json<'_>) -> bool) -> bool {
    let Some((rest, more)) = rests.split_first() else { return found(value) };
    match value {
        Json::List(values) => values.iter().any(|value| walk(value, rests, found)),
        Json::Text(text) => inner(text).is_some_and(|value| walk(&value, rests, found)),
        Json::Object(_) => {
            if !more.is_empty()
                && let Some(value) = value.get(rest)
            {
                return walk(value, &[], found);
            }
            let key = rest.split('.').next().unwrap_or_default();
            value.get_any_case(key).is_some_and(|value| walk(value, more, found))
        }
        _ => false,
    }
}

/// Text that is an object or a list in JSON.
fn inner(text: &str) -> Option<Json<'_>> {
    if text.trim_start().starts_with(['{', '[']) { read(text) } else { None }
}

fn elements(value: &Json<'_>, wanted: &mut dyn FnMut(&Json<'_>) -> bool) -> bool {
    match value {
        Json::List(values) => values.iter().any(wanted),
        Json::Null => false,
        Json::Text(text) => inner(text).is_some_and(|value| elements(&value, wanted)) || wanted(value),
        value => wanted(value),
    }
}

fn scalars(value: &Json<'_>, wanted: &mut dyn FnMut(Scalar<'_>) -> bool) -> bool {
    match value {
        Json::Text(text) => !text.is_empty() && wanted(Scalar::Text(text)),
        Json::Number(number) => wanted(Scalar::Number(*number)),
        Json::Bool(value) => wanted(Scalar::Bool(*value)),
        Json::List(values) => values.iter().any(|value| scalars(value, wanted)),
        Json::Null | Json::Object(_) => false,
    }
}

/// `create pods/exec` in its three parts.
fn request(operation: &str) -> (&str, &str, &str) {
    let (verb, object) = operation.split_once(' ').unwrap_or((operation, ""));
    // `get /healthz` is of no resource.
    let (resource, subresource) = if object.starts_with('/') { ("", "") } else { object.split_once('/').unwrap_or((object, "")) };
    (verb, resource, subresource)
}

/// The resource of a Kubernetes operation.
pub(crate) fn resource(operation: &str) -> &str {
    request(operation).1
}

fn part(event: &Event<'_>, slot: Slot, wanted: &mut dyn FnMut(Scalar<'_>) -> bool) -> bool {
    let mut text = |text: &str| !text.is_empty() && wanted(Scalar::Text(text));
    let finding = event.finding.as_deref();
    match slot {
        Slot::Service => text(&event.service),
        Slot::Operation => text(&event.operation),
        Slot::Error => text(&event.error),
        Slot::Address => text(&event.address),
        Slot::UserAgent => text(&event.user_agent),
        Slot::Account => text(&event.account),
        Slot::Region => text(&event.region),
        Slot::AccessKey => text(&event.access_key),
        Slot::Id => text(&event.id),
        Slot::Actor => event.actor.as_ref().is_some_and(|actor| text(&actor.id)),
        Slot::ActorType => event.actor.as_ref().is_some_and(|actor| text(actor.kind.as_str())),
        Slot::ActorName => text(&event.actor_name),
        Slot::Parent => event.parent.as_ref().is_some_and(|parent| text(&parent.id)),
        Slot::Origin => event.origin.as_ref().is_some_and(|origin| text(&origin.id)),
        Slot::Assumed => event.links.iter().any(|link| link.relation == Relation::Assumed && text(&link.entity.id)),
        Slot::Flow => event.flow.is_some_and(|flow| text(flow.as_str())),
        Slot::FindingType => finding.is_some_and(|finding| text(&finding.finding_type)),
        Slot::FindingProduct => finding.is_some_and(|finding| text(&finding.product)),
        Slot::FindingTitle => finding.is_some_and(|finding| text(&finding.title)),
        Slot::FindingSeverity => finding.is_some_and(|finding| wanted(Scalar::Number(finding.severity))),
        Slot::Port => event.port >= 0 && wanted(Scalar::Number(f64::from(event.port))),
        Slot::Protocol => event.protocol >= 0 && wanted(Scalar::Number(f64::from(event.protocol))),
        Slot::BytesIn => wanted(Scalar::Number(event.bytes_in as f64)),
        Slot::BytesOut => wanted(Scalar::Number(event.bytes_out as f64)),
        Slot::PacketsIn => wanted(Scalar::Number(event.packets_in as f64)),
        Slot::PacketsOut => wanted(Scalar::Number(event.packets_out as f64)),
        Slot::Verb => text(request(&event.operation).0),
        Slot::Resource => text(request(&event.operation).1),
        Slot::Subresource => text(request(&event.operation).2),
    }
}
