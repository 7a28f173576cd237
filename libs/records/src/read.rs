//! Reading one object to its end: unpack, detect, and hand on to the reader of its format.

use std::{cell::RefCell, io::Read, rc::Rc};

use gumshoe_model::{DeadLetter, Event, RecordKind, Timestamp};

use crate::{
    Format, Options, ReadError, Sink, Stop, Summary,
    detect::{Content, content},
    engine::Engine,
    flow::{Field, Layout, fill},
    flow_parquet,
    skip::{Skip, lossy},
    source::{FIRST_BYTES, Source, Watched},
    split,
};

/// How many layers of gzip are taken off: Firehose may pack what CloudWatch Logs has packed.
const MAX_GZIP_LAYERS: usize = 2;

/// Reads one object (plain, gzip, also of several members, or Parquet) to its end in bounded memory, and gives each record to
/// `sink` as an event or a dead letter. The log format is found from the content.
///
/// # Errors
/// [`ReadError::Io`] when `input` itself fails, or the temporary file that Parquet needs; [`ReadError::Stopped`] when the sink
/// wants no more. Bad content is never an error: it becomes dead letters.
pub fn read(input: impl Read, options: &Options, sink: &mut impl Sink) -> Result<Summary, ReadError> {
    let error = Rc::new(RefCell::new(None));
    let watched = Watched { inner: input, error: Rc::clone(&error) };
    let mut source = Source::new(Box::new(watched), error, options.max_decompressed_bytes);
    let mut engine = Engine::new(options, sink);
    let mut layers = 0;
    let found = loop {
        source.fill()?;
        match content(source.window(), options) {
            Content::Gzip if layers < MAX_GZIP_LAYERS => {
                source = source.unpack();
                layers += 1;
            }
            found => break found,
        }
    };
    let mut format = match found {
        Content::Json => {
            split::read(&mut source, &mut engine)?;
            Format::Json
        }
        Content::Flow(layout) => {
            lines(&mut source, layout, &mut engine)?;
            Format::FlowText
        }
        Content::Parquet if source.failure.is_none() => {
            engine.summary.bytes = flow_parquet::read(&mut source, &mut engine)?;
            Format::FlowParquet
        }
        Content::Nothing if source.ended => {
            if let Some(failure) = source.failure.take() {
                engine.dead_letter(&DeadLetter { offset: source.position, length: 0, reason: failure, raw: "".into() })?;
            }
            Format::Empty
        }
        Content::Nothing | Content::Unknown | Content::Gzip | Content::Parquet => {
            unknown(&mut source, &mut engine)?;
            Format::Unknown
        }
    };
    if engine.summary.events == 0 && format == Format::Json && engine.summary.records > 0 {
        format = Format::Unknown;
    }
    let bytes = source.total.max(engine.summary.bytes);
    Ok(Summary { bytes, format, ..engine.summary })
}

/// The whole object is one dead letter.
fn unknown<S: Sink>(source: &mut Source<'_>, engine: &mut Engine<'_, S>) -> Result<(), ReadError> {
    let mut skip = Skip::all(source.position, "not a known log format");
    loop {
        let (count, done) = skip.take(source.window(), source.ended);
        source.consume(count);
        if done {
            break;
        }
        source.fill()?;
    }
    engine.dead_letter(&skip.letter(source.failure.as_deref()))?;
    Ok(())
}

/// Reads the lines of a flow log.
fn lines<S: Sink>(source: &mut Source<'_>, mut layout: Layout, engine: &mut Engine<'_, S>) -> Result<(), ReadError> {
    let longest = engine.options.max_record_bytes.max(FIRST_BYTES);
    if source.window().starts_with(b"\xef\xbb\xbf") {
        source.consume(3);
    }
    loop {
        let bytes = source.window();
        let whole = if source.ended { bytes.len() } else { memchr::memrchr(b'\n', bytes).map_or(0, |end| end + 1) };
        if whole > 0 {
            // The last line of an object that was cut short is not whole.
            let cut_short = source.ended && source.failure.is_some();
            let whole = if cut_short { memchr::memrchr(b'\n', bytes).map_or(0, |end| end + 1) } else { whole };
            chunk(bytes.get(..whole).unwrap_or_default(), source.position, &mut layout, engine)?;
            source.consume(whole);
        }
        if source.ended {
            break;
        }
        if whole == 0 && source.is_full() && !source.grow(longest) {
            long_line(source, engine)?;
        }
        source.fill()?;
    }
    if let Some(failure) = source.failure.take() {
        let rest = source.window();
        engine.dead_letter(&DeadLetter { offset: source.position, length: rest.len() as u64, reason: failure, raw: lossy(rest) })?;
    }
    Ok(())
}

/// Passes over a line that is longer than a record may be.
fn long_line<S: Sink>(source: &mut Source<'_>, engine: &mut Engine<'_, S>) -> Result<(), ReadError> {
    let (offset, first) = (source.position, lossy(source.window()).into_owned());
    loop {
        let end = memchr::memchr(b'\n', source.window());
        source.consume(end.unwrap_or(source.window().len()));
        if end.is_some() || source.ended {
            break;
        }
        source.fill()?;
    }
    let reason = format!("longer than {} bytes", engine.options.max_record_bytes);
    engine.dead_letter(&DeadLetter { offset, length: source.position - offset, reason, raw: first.into() })?;
    Ok(())
}

/// Reads whole lines. One event serves them all, so that a line costs no allocation.
fn chunk<S: Sink>(bytes: &[u8], position: u64, layout: &mut Layout, engine: &mut Engine<'_, S>) -> Result<(), Stop> {
    let mut event = Event::new(RecordKind::VpcFlow, Timestamp(0), "");
    let mut values = [""; Field::COUNT];
    let text = simdutf8::basic::from_utf8(bytes).ok();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', bytes).chain([bytes.len()]) {
        let range = start..end;
        let offset = position + start as u64;
        start = end + 1;
        let raw = bytes.get(range.clone()).unwrap_or_default();
        let line = match text {
            Some(text) => text.get(range),
            None => str::from_utf8(raw).ok(),
        };
        let Some(line) = line else {
            engine.dead_letter(&DeadLetter { offset, length: raw.len() as u64, reason: "not UTF-8".to_owned(), raw: lossy(raw) })?;
            continue;
        };
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.trim_ascii().is_empty() {
            continue;
        }
        if line.starts_with(|first: char| first.is_ascii_lowercase())
            && let Some(header) = Layout::from_header(line)
        {
            *layout = header;
            continue;
        }
        match layout.split(line, &mut values).and_then(|()| fill(&mut event, &values, line, offset)) {
            Ok(()) => engine.event(&event)?,
            Err(reason) => engine.refuse(line, offset, reason)?,
        }
    }
    Ok(())
}
