//! Passing over bytes that are no record, in bounded memory, up to where the next record can begin.

use gumshoe_model::{DeadLetter, event::MAX_DEAD_LETTER_BYTES};
use memchr::{memchr_iter, memmem};

/// The first bytes of a record as AWS writes it on one line with others.
const STARTS: [&str; 4] = ["{\"eventVersion\"", "{\"schemaVersion\"", "{\"SchemaVersion\"", "{\"kind\":\"Event\""];

/// How far a line may be indented for its bracket to be the start of a record.
const MAX_INDENT: usize = 256;

/// What is held back so that the start of a record is never cut in two.
const HOLD: usize = MAX_INDENT + 64;

/// Where, from `from` on, the next record can begin: at a bracket that opens a line, or at the first bytes of a well-known record.
pub(crate) fn next_start(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    let line = memchr_iter(b'\n', rest).find_map(|at| {
        let line = rest.get(at + 1..)?;
        let indent = line.iter().take(MAX_INDENT).take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r')).count();
        matches!(line.get(indent), Some(b'{' | b'[')).then_some(at + 1 + indent)
    });
    let line = line.map(|at| from + at);
    known_start(bytes.get(..line.unwrap_or(bytes.len())).unwrap_or_default(), from).or(line)
}

/// Where, from `from` on, a well-known record begins.
pub(crate) fn known_start(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    STARTS.iter().filter_map(|start| memmem::find(rest, start.as_bytes())).min().map(|at| from + at)
}

/// Follows the brackets of one kind outside strings, across pieces. A backslash takes the meaning of a quote, also outside strings,
/// as in [`extent`](crate::json::extent).
#[derive(Debug)]
pub(crate) struct Brackets {
    open: u8,
    close: u8,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Brackets {
    pub(crate) fn new(open: u8) -> Self {
        Self { open, close: if open == b'[' { b']' } else { b'}' }, depth: 0, in_string: false, escaped: false }
    }

    /// The end of the value, if it is in this piece.
    pub(crate) fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            match *byte {
                b'\\' => {
                    self.escaped = !self.escaped;
                    continue;
                }
                b'"' if !self.escaped => {
                    self.in_string = !self.in_string;
                    // A value that is a string ends with it.
                    if !self.in_string && self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                byte if !self.in_string && byte == self.open => self.depth += 1,
                byte if !self.in_string && byte == self.close => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
            self.escaped = false;
        }
        None
    }
}

/// Bytes being passed over.
#[derive(Debug)]
pub(crate) struct Skip {
    offset: u64,
    length: u64,
    kept: Vec<u8>,
    reason: String,
    /// For a value that is only too long: where it would end.
    brackets: Option<Brackets>,
    /// Never stop before the object ends.
    all: bool,
}

impl Skip {
    /// Passes over what is broken, up to the next start of a record.
    pub(crate) fn broken(offset: u64, reason: impl Into<String>) -> Self {
        Self { offset, length: 0, kept: Vec::new(), reason: reason.into(), brackets: None, all: false }
    }

    /// Passes over a value that is too long, up to its end or the next start of a record.
    pub(crate) fn long(offset: u64, limit: usize, first: u8) -> Self {
        Self { brackets: Some(Brackets::new(first)), ..Self::broken(offset, format!("longer than {limit} bytes")) }
    }

    /// Passes over everything.
    pub(crate) fn all(offset: u64, reason: impl Into<String>) -> Self {
        Self { all: true, ..Self::broken(offset, reason) }
    }

    /// Takes from `bytes`; `ended` says that nothing follows them. Gives how many were taken, and whether that was all.
    pub(crate) fn take(&mut self, bytes: &[u8], ended: bool) -> (usize, bool) {
        let found = if self.all { None } else { next_start(bytes, usize::from(self.length == 0)) };
        let safe = if ended || self.all { bytes.len() } else { bytes.len().saturating_sub(HOLD) };
        let mut count = found.unwrap_or(safe);
        let mut done = found.is_some() || ended;
        let piece = bytes.get(..count).unwrap_or_default();
        if let Some(end) = self.brackets.as_mut().and_then(|brackets| brackets.end(piece)) {
            (count, done) = (end, true);
        }
        let piece = bytes.get(..count).unwrap_or_default();
        let room = MAX_DEAD_LETTER_BYTES.saturating_sub(self.kept.len());
        self.kept.extend(piece.iter().take(room));
        self.length += count as u64;
        (count, done)
    }

    /// What was passed over, with a better reason if there is one.
    pub(crate) fn letter(&self, reason: Option<&str>) -> DeadLetter<'_> {
        let reason = reason.unwrap_or(&self.reason).to_owned();
        DeadLetter { offset: self.offset, length: self.length, reason, raw: lossy(&self.kept) }
    }
}

/// Bytes as text of at most [`MAX_DEAD_LETTER_BYTES`], also after each invalid byte has become three.
pub(crate) fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    let first = bytes.get(..bytes.len().min(MAX_DEAD_LETTER_BYTES)).unwrap_or_default();
    crate::json::cut(String::from_utf8_lossy(first), MAX_DEAD_LETTER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_next_start() {
        assert_eq!(next_start(b"x {\n  \"a\": {\n  {\"b\"", 0), Some(15));
        assert_eq!(next_start(b"xx,{\"eventVersion\":1}\n{", 0), Some(3));
        assert_eq!(next_start(b"{\"eventVersion\":1}", 1), None);
        assert_eq!(next_start(b"\n]", 0), None);
    }

    #[test]
    fn passes_over_in_pieces() {
        let mut skip = Skip::long(5, 10, b'{');
        let text = format!("{{\"a\":\"{}\"}} {{\"b\":1}}", "}".repeat(2000));
        let (first, done) = skip.take(&text.as_bytes()[..1000], false);
        assert!(!done && first < 1000);
        let (second, done) = skip.take(&text.as_bytes()[first..], true);
        assert!(done);
        assert_eq!(&text[first + second..], " {\"b\":1}");
        assert_eq!(skip.letter(None).length, (first + second) as u64);
    }
}
