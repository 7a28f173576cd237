//! Log lines as flat JSON objects: an event's fields beside those of the spans around it.

use std::{cell::RefCell, fmt, io::Write as _, ops::Range};

use serde::{Serialize, Serializer};
use tracing::{
    Event, Id, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};
use tracing_subscriber::{Layer, fmt::MakeWriter, layer::Context, registry::LookupSpan};

use crate::clock::{Clock as _, SystemClock};

thread_local! {
    /// Lines are put together here from an event's fields, so that each is written at once and none is allocated.
    static BUFFERS: RefCell<(Vec<u8>, Fields)> = const { RefCell::new((Vec::new(), Fields::EMPTY)) };
}

/// Writes `{"time", "level", "service", "target", …, "message", …}`: inner fields win over those of outer spans.
pub(super) struct JsonLayer<W> {
    pub(super) service: &'static str,
    pub(super) writer: W,
}

impl<S, W> Layer<S> for JsonLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'writer> MakeWriter<'writer> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // Taken, not borrowed: a writer may log, too.
        let (mut line, mut own) = BUFFERS.take();
        line.clear();
        own.clear();
        event.record(&mut own);
        let metadata = event.metadata();
        let (time, level, target) = (SystemClock.now(), metadata.level(), metadata.target());
        let _ = write!(line, r#"{{"time":"{time}","level":"{level}","service":"{}","target":"{target}""#, self.service);
        // From the innermost span out: a name that was met is not written again.
        let mut met: Vec<&str> = Vec::new();
        for span in context.event_scope(event).into_iter().flatten() {
            let extensions = span.extensions();
            let Some(fields) = extensions.get::<Fields>() else { continue };
            let known = met.len();
            for (name, value) in fields.iter() {
                if !own.has(name) && !met.iter().take(known).any(|met| *met == name) {
                    put(&mut line, name, value);
                    met.push(name);
                }
            }
        }
        for (name, value) in own.iter() {
            put(&mut line, name, value);
        }
        line.extend_from_slice(b"}\n");
        // Who cannot write logs cannot say so either.
        let _ = self.writer.make_writer_for(metadata).write_all(&line);
        BUFFERS.set((line, own));
    }
}

fn put(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
    line.extend_from_slice(value);
}

/// Fields with their values as JSON; each name once.
#[derive(Default)]
struct Fields {
    /// Names, and where their values are.
    places: Vec<(&'static str, Range<usize>)>,
    values: Vec<u8>,
}

impl Fields {
    const EMPTY: Self = Self { places: Vec::new(), values: Vec::new() };

    fn clear(&mut self) {
        self.places.clear();
        self.values.clear();
    }

    fn iter(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.places.iter().map(|(name, place)| (*name, self.values.get(place.clone()).unwrap_or_default()))
    }

    fn has(&self, name: &str) -> bool {
        self.places.iter().any(|(known, _)| *known == name)
    }

    fn put(&mut self, field: &Field, value: impl Serialize) {
        let name = field.name();
        // `otel.*` speaks to the exporter only.
        if name.starts_with("otel.") {
            return;
        }
        let start = self.values.len();
        // A value always has a form in JSON.
        let _ = serde_json::to_writer(&mut self.values, &value);
        let place = start..self.values.len();
        match self.places.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = place,
            None => self.places.push((name, place)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Debugged(value));
    }
}

/// A value as its `Debug` writes it, without a text of its own.
struct Debugged<'a>(&'a dyn fmt::Debug);

impl Serialize for Debugged<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:?}", self.0))
    }
}
