//! Text anywhere in a longer one, whatever its case: looked for by its rarest byte.

use memchr::{memchr_iter, memchr2_iter};

/// Text that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inside {
    text: Box<str>,
    cased: bool,
    /// Where in it the byte is that is seldom met.
    rarest: usize,
}

/// How often a byte is met in records; only the order matters.
fn frequency(byte: u8) -> u8 {
    match byte.to_ascii_lowercase() {
        b'e' | b'a' | b't' | b'i' | b'o' | b'n' | b's' | b'r' => 9,
        b'"' | b':' | b',' | b'-' | b'.' | b'/' | b'0'..=b'9' | b' ' => 7,
        b'l' | b'c' | b'd' | b'u' | b'm' | b'p' => 6,
        b'b' | b'f' | b'g' | b'h' | b'y' => 3,
        _ => 1,
    }
}

impl Inside {
    pub(crate) fn new(text: &str, cased: bool) -> Self {
        let rarest = text.bytes().enumerate().min_by_key(|(_, byte)| frequency(*byte)).map_or(0, |(place, _)| place);
        Self { text: text.into(), cased, rarest }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is in a text; empty text is everywhere.
    pub(crate) fn is_in(&self, value: &str) -> bool {
        let (value, text) = (value.as_bytes(), self.text.as_bytes());
        let (Some(byte), Some(rest)) = (text.get(self.rarest), value.get(self.rarest..)) else { return text.is_empty() };
        let same = |start: usize| {
            let window = value.get(start..start + text.len());
            window.is_some_and(|window| if self.cased { window == text } else { window.eq_ignore_ascii_case(text) })
        };
        let (lower, upper) = (byte.to_ascii_lowercase(), byte.to_ascii_uppercase());
        if self.cased || lower == upper { memchr_iter(*byte, rest).any(same) } else { memchr2_iter(lower, upper, rest).any(same) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_comparing_everywhere_finds(value in "[abAB.\"é]{0,24}", text in "[abAB.\"é]{0,4}", cased in any::<bool>()) {
            let same = |window: &[u8]| if cased { window == text.as_bytes() } else { window.eq_ignore_ascii_case(text.as_bytes()) };
            let expected = text.is_empty() || value.as_bytes().windows(text.len()).any(same);
            prop_assert_eq!(Inside::new(&text, cased).is_in(&value), expected);
        }
    }
}
