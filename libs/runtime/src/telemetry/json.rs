//! Log lines as flat JSON objects: an event's fields beside those of the spans around it.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    io::Write as _,
};

use tracing::{
    Event, Id, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};
use tracing_subscriber::{Layer, fmt::MakeWriter, layer::Context, registry::LookupSpan};

use crate::clock::{Clock as _, SystemClock};

thread_local! {
    /// Lines are put together here, so that each is written at once and none is allocated.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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
        let mut own = Fields::default();
        event.record(&mut own);
        // Taken, not borrowed: a writer may log, too.
        let mut line = LINE.take();
        line.clear();
        let metadata = event.metadata();
        let (time, level, target) = (SystemClock.now(), metadata.level(), metadata.target());
        let _ = write!(line, r#"{{"time":"{time}","level":"{level}","service":"{}","target":"{target}""#, self.service);
        // From the innermost span out: a name that was met is not written again.
        let mut met: Vec<&str> = own.0.iter().map(|(name, _)| *name).collect();
        for span in context.event_scope(event).into_iter().flatten() {
            let extensions = span.extensions();
            let Some(fields) = extensions.get::<Fields>() else { continue };
            let known = met.len();
            for (name, value) in &fields.0 {
                if !met.iter().take(known).any(|met| met == name) {
                    let _ = write!(line, r#","{name}":{value}"#);
                    met.push(name);
                }
            }
        }
        for (name, value) in &own.0 {
            let _ = write!(line, r#","{name}":{value}"#);
        }
        line.extend_from_slice(b"}\n");
        // Who cannot write logs cannot say so either.
        let _ = self.writer.make_writer_for(metadata).write_all(&line);
        LINE.set(line);
    }
}

/// Fields with their values as JSON; each name once.
#[derive(Default)]
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        let name = field.name();
        // `otel.*` speaks to the exporter only.
        if name.starts_with("otel.") {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }
}

fn json(text: &str) -> String {
    // A text always has a form in JSON.
    serde_json::to_string(text).unwrap_or_default()
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, serde_json::to_string(&value).unwrap_or_default());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.to_string());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, json(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.put(field, json(&text));
    }
}
