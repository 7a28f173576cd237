//! Cuts a stream of JSON text into values, whatever its layout: one array, `{"Records":[…]}`, lines, values one after another.
//!
//! A value ends where its brackets close, outside strings. What is valid in between is checked when the value is read, so that
//! a bad record costs itself only. If brackets or quotes do not close, the next record is taken to begin at a bracket that opens
//! a line, or at the well-known first bytes of a record. Commas and closing brackets where a value could stand mean nothing.

use gumshoe_model::DeadLetter;

use crate::{
    ReadError, Sink, Stop,
    engine::Engine,
    find::ENVELOPE_KEYS,
    json::{extent, line_break_in_string},
    skip::{Brackets, Skip, known_start, lossy, next_start},
    source::{FIRST_BYTES, Source},
};

const NOT_CLOSED: &str = "brackets or quotes are not closed";
const NOT_A_VALUE: &str = "not JSON: a value must begin with a bracket";

/// So many values may fail to close before every value must end in its line: finding out costs a look through the whole buffer.
const MAX_NOT_CLOSED: usize = 16;

/// Where in the text the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Outside everything.
    Top,
    /// In an array whose elements are records.
    Elements { in_object: bool },
    /// In an object, after such an array.
    Members,
}

struct Splitter {
    mode: Mode,
    skip: Option<Skip>,
    not_closed: usize,
}

/// Why [`Splitter::run`] came back.
enum Need {
    /// The text ends where something might follow, or inside a value.
    More,
    /// Bytes must be passed over; [`Splitter::skip`] says how.
    Skip,
}

/// What stands at the start of a piece of text.
enum Head {
    Envelope(usize),
    Value,
    Unclear,
}

/// Reads an object of JSON text.
pub(crate) fn read<S: Sink>(source: &mut Source<'_>, engine: &mut Engine<'_, S>) -> Result<(), ReadError> {
    let longest = engine.options.max_record_bytes.max(FIRST_BYTES);
    let mut splitter = Splitter { mode: Mode::Top, skip: None, not_closed: 0 };
    let mut window = FIRST_BYTES;
    let mut reported = false;
    if source.window().starts_with(b"\xef\xbb\xbf") {
        source.consume(3);
    }
    loop {
        if let Some(mut skip) = splitter.skip.take() {
            let (count, done) = skip.take(source.window(), source.ended);
            source.consume(count);
            if done {
                reported = source.ended && source.window().is_empty();
                engine.dead_letter(&skip.letter(source.failure.as_deref().filter(|_| reported)))?;
            } else {
                splitter.skip = Some(skip);
                source.fill()?;
            }
            continue;
        }
        let bytes = source.window();
        let seen = bytes.get(..window).unwrap_or(bytes);
        let (text, invalid) = valid_prefix(seen, source.ended && seen.len() == bytes.len());
        let last = source.ended && text.len() == bytes.len();
        let (count, need) = splitter.run(text, last, source.position, engine)?;
        let (sees_all, is_first) = (seen.len() == bytes.len(), count == 0);
        reported &= is_first;
        source.consume(count);
        match need {
            Need::Skip => window = FIRST_BYTES,
            Need::More if last => break,
            Need::More if invalid => splitter.not_text(source, engine, longest)?,
            Need::More if !sees_all => window = if is_first { window * 2 } else { FIRST_BYTES },
            // A value that is longer than the buffer; at the end of the object `run` asks for no more.
            Need::More if source.is_full() && !source.grow(longest) => splitter.too_long(source, engine.options.max_record_bytes),
            Need::More => {
                window = window.max(source.window().len() * 2);
                source.fill()?;
            }
        }
    }
    let reason = match &source.failure {
        Some(failure) if !reported => failure.as_str(),
        None if !reported && splitter.mode != Mode::Top => "the object ends inside an array that is not closed",
        _ => return Ok(()),
    };
    engine.dead_letter(&DeadLetter { offset: source.position, length: 0, reason: reason.to_owned(), raw: "".into() })?;
    Ok(())
}

/// The longest valid UTF-8 at the start, and whether what follows it is invalid rather than cut off.
fn valid_prefix(bytes: &[u8], ended: bool) -> (&str, bool) {
    if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
        return (text, false);
    }
    match simdutf8::compat::from_utf8(bytes) {
        Ok(text) => (text, false),
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            (simdutf8::basic::from_utf8(valid).unwrap_or_default(), error.error_len().is_some() || ended)
        }
    }
}

impl Splitter {
    /// Takes as many values as `text` holds; `last` says that nothing follows it. Gives the bytes that are done with.
    fn run<S: Sink>(&mut self, text: &str, last: bool, offset: u64, engine: &mut Engine<'_, S>) -> Result<(usize, Need), Stop> {
        let bytes = text.as_bytes();
        let mut at = 0;
        loop {
            at += bytes.get(at..).unwrap_or_default().iter().take_while(|byte| self.means_nothing(**byte)).count();
            let (Some(first), Some(rest)) = (bytes.get(at).copied(), text.get(at..)) else {
                return Ok((at, Need::More));
            };
            match (self.mode, first) {
                (Mode::Top, b'[') => {
                    self.mode = Mode::Elements { in_object: false };
                    at += 1;
                    continue;
                }
                (Mode::Elements { in_object }, b']') => {
                    self.mode = if in_object { Mode::Members } else { Mode::Top };
                    at += 1;
                    continue;
                }
                (Mode::Members, b'}') => {
                    self.mode = Mode::Top;
                    at += 1;
                    continue;
                }
                (Mode::Members, b'"') => match member(rest) {
                    Some((length, is_array)) => {
                        if is_array {
                            self.mode = Mode::Elements { in_object: true };
                        }
                        at += length;
                        continue;
                    }
                    None if !last => return Ok((at, Need::More)),
                    None => {}
                },
                (Mode::Top, b'{') => match head(rest, last) {
                    Head::Envelope(length) => {
                        self.mode = Mode::Elements { in_object: true };
                        at += length;
                        continue;
                    }
                    Head::Unclear => return Ok((at, Need::More)),
                    Head::Value => {}
                },
                _ => {}
            }
            let begins = match self.mode {
                Mode::Top => first == b'{',
                Mode::Elements { .. } => matches!(first, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'),
                Mode::Members => false,
            };
            if !begins {
                if self.mode == Mode::Members {
                    self.mode = Mode::Top;
                }
                self.skip = Some(Skip::broken(offset + at as u64, NOT_A_VALUE));
                return Ok((at, Need::Skip));
            }
            let line = if self.not_closed > MAX_NOT_CLOSED { memchr::memchr(b'\n', rest.as_bytes()) } else { None };
            let scope = line.and_then(|end| rest.get(..end)).unwrap_or(rest);
            let is_scalar = !matches!(first, b'{' | b'[' | b'"');
            let length = match extent(scope) {
                Some(length) => length,
                None if is_scalar && last => scope.len(),
                None if line.is_none() && !last => return Ok((at, Need::More)),
                None => {
                    self.not_closed += 1;
                    self.skip = Some(Skip::broken(offset + at as u64, NOT_CLOSED));
                    return Ok((at, Need::Skip));
                }
            };
            at += self.value(rest.get(..length).unwrap_or_default(), offset + at as u64, engine)?;
        }
    }

    /// White space, commas, and brackets that close nothing.
    fn means_nothing(&self, byte: u8) -> bool {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => true,
            b'}' => self.mode != Mode::Members,
            b']' => self.mode == Mode::Top,
            _ => false,
        }
    }

    /// Hands a value on; gives how much of it is done with.
    fn value<S: Sink>(&mut self, text: &str, offset: u64, engine: &mut Engine<'_, S>) -> Result<usize, Stop> {
        let Some(reason) = engine.value(text, offset)? else {
            return Ok(text.len());
        };
        // Of an envelope only the bad records are lost.
        if self.mode == Mode::Top
            && let Some(start) = envelope(text)
        {
            self.mode = Mode::Elements { in_object: true };
            return Ok(start);
        }
        // A line break inside a string shows that a quote is missing, the first bytes of another record that a bracket is: then
        // the end of the value is wrong.
        let bytes = text.as_bytes();
        let start = match line_break_in_string(bytes) {
            Some(at) => next_start(bytes, at),
            None => known_start(bytes, 1),
        };
        if let Some(bad) = start.and_then(|start| text.get(..start)) {
            self.not_closed += 1;
            engine.refuse(bad, offset, NOT_CLOSED.to_owned())?;
            return Ok(bad.len());
        }
        engine.refuse(text, offset, reason)?;
        Ok(text.len())
    }

    /// Deals with a value that is not UTF-8, at the start of the source.
    fn not_text<S: Sink>(&mut self, source: &mut Source<'_>, engine: &mut Engine<'_, S>, longest: usize) -> Result<(), ReadError> {
        let bytes = source.window();
        let first = bytes.first().copied().unwrap_or_default();
        let opens = matches!(first, b'{' | b'[' | b'"') && self.mode != Mode::Members;
        if opens && let Some(end) = Brackets::new(first).end(bytes) {
            let bad = bytes.get(..end).unwrap_or_default();
            let letter = DeadLetter { offset: source.position, length: end as u64, reason: "not UTF-8".to_owned(), raw: lossy(bad) };
            engine.dead_letter(&letter)?;
            source.consume(end);
            return Ok(());
        }
        if opens && !source.ended && (!source.is_full() || source.grow(longest)) {
            return source.fill();
        }
        if self.mode == Mode::Members {
            self.mode = Mode::Top;
        }
        self.skip = Some(Skip::broken(source.position, "not UTF-8"));
        Ok(())
    }

    /// Deals with a value that fills the longest buffer, at the start of the source.
    fn too_long(&mut self, source: &mut Source<'_>, limit: usize) {
        let bytes = source.window();
        let first = bytes.first().copied().unwrap_or_default();
        let text = valid_prefix(bytes, false).0;
        if self.mode == Mode::Top
            && let Some(start) = envelope(text)
        {
            self.mode = Mode::Elements { in_object: true };
            source.consume(start);
        } else if next_start(bytes, 1).is_some() {
            self.not_closed += 1;
            self.skip = Some(Skip::broken(source.position, NOT_CLOSED));
        } else {
            self.skip = Some(Skip::long(source.position, limit, first));
        }
    }
}

fn white_space(text: &str) -> usize {
    text.bytes().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count()
}

/// A key, its colon, and what stands before the value: `None` when the text ends in between.
fn key(text: &str) -> Option<(&str, usize)> {
    let length = extent(text).filter(|_| text.starts_with('"'))?;
    let mut at = length + white_space(text.get(length..)?);
    if text.as_bytes().get(at)? != &b':' {
        return None;
    }
    at += 1;
    at += white_space(text.get(at..)?);
    text.as_bytes().get(at)?;
    Some((text.get(1..length - 1)?, at))
}

/// A member of an envelope: what it takes to come to the elements of its records, or to its end.
fn member(text: &str) -> Option<(usize, bool)> {
    let (key, at) = key(text)?;
    if ENVELOPE_KEYS.contains(&key) && text.get(at..)?.starts_with('[') {
        return Some((at + 1, true));
    }
    Some((at + extent(text.get(at..)?)?, false))
}

/// Whether an object begins with the array of an envelope, so that its elements can be taken before the object is all there.
fn head(text: &str, last: bool) -> Head {
    let at = 1 + white_space(text.get(1..).unwrap_or_default());
    let rest = text.get(at..).unwrap_or_default();
    // Enough of the key to tell.
    let may_be = |name: &&str| rest.bytes().zip(format!("\"{name}\"").bytes()).all(|(one, other)| one == other);
    if !rest.is_empty() && !matches!(rest.as_bytes().get(1), None | Some(b'R' | b'F' | b'f' | b'E')) || !ENVELOPE_KEYS.iter().any(may_be) {
        return Head::Value;
    }
    match key(rest) {
        Some((key, value)) if ENVELOPE_KEYS.contains(&key) && rest.get(value..).is_some_and(|value| value.starts_with('[')) => Head::Envelope(at + value + 1),
        None if !last && rest.len() < 256 => Head::Unclear,
        _ => Head::Value,
    }
}

/// Where the elements of an envelope begin whose array is not its first member.
fn envelope(text: &str) -> Option<usize> {
    let mut at = 1;
    let mut is_audit = false;
    loop {
        let rest = text.get(at..)?;
        at += rest.bytes().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',')).count();
        let (name, value) = key(text.get(at..)?)?;
        at += value;
        let rest = text.get(at..)?;
        if rest.starts_with('[') && (ENVELOPE_KEYS.contains(&name) || is_audit && name == "items") {
            return Some(at + 1);
        }
        is_audit |= name == "kind" && rest.starts_with("\"EventList\"");
        at += extent(rest)?;
    }
}
