//! Tells the format of an object from its first bytes.

use crate::{
    Options,
    flow::{Layout, is_default_line},
    skip::known_start,
};

/// What the bytes are, once unpacked.
#[derive(Debug)]
pub(crate) enum Content {
    Gzip,
    Parquet,
    Json,
    /// Flow log lines; the layout of those before a header.
    Flow(Layout),
    Nothing,
    Unknown,
}

/// How many lines are looked at for one that shows the format, so that damage at the start does not cost the whole object.
const LINES: usize = 8;

/// The content that begins with `head`: at least the first line, if the object has one.
pub(crate) fn content(head: &[u8], options: &Options) -> Content {
    if head.starts_with(&[0x1f, 0x8b]) {
        return Content::Gzip;
    }
    if head.starts_with(b"PAR1") {
        return Content::Parquet;
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    match text.first() {
        None => return Content::Nothing,
        // A NUL after the bracket is UTF-16.
        Some(b'{' | b'[') if text.get(1) != Some(&0) => return Content::Json,
        Some(_) => {}
    }
    let given = options.flow_fields.as_ref().map(Vec::len);
    let is_flow = |line: &[u8]| {
        str::from_utf8(line).is_ok_and(|line| {
            is_default_line(line) || Layout::from_header(line).is_some() || given.is_some_and(|width| line.split_ascii_whitespace().count() == width)
        })
    };
    for line in text.split(|byte| *byte == b'\n').take(LINES) {
        if is_flow(line) {
            return Content::Flow(options.flow_layout());
        }
        if known_start(line, 0).is_some() {
            return Content::Json;
        }
    }
    Content::Unknown
}
