//! What every target checks: each record of the input is accounted for.

use gumshoe_model::{DeadLetter, Event, event::MAX_DEAD_LETTER_BYTES};
use gumshoe_records::{Options, Sink, Stop, read};

#[derive(Default)]
struct Count {
    events: u64,
    letters: u64,
}

impl Sink for Count {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        assert!(event.links.len() <= 64);
        self.events += 1;
        Ok(())
    }

    fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> Result<(), Stop> {
        assert!(!letter.reason.is_empty() && letter.raw.len() <= MAX_DEAD_LETTER_BYTES);
        self.letters += 1;
        Ok(())
    }
}

/// Reads `bytes` and asserts the law; what they unpack to is limited so that a small input stays a quick one.
pub fn check(bytes: &[u8]) {
    let options = Options { max_decompressed_bytes: Some(16 << 20), ..Options::default() };
    let mut count = Count::default();
    let summary = read(bytes, &options, &mut count).expect("memory does not fail");
    assert_eq!(summary.records, summary.events + summary.dead_letters);
    assert_eq!((summary.events, summary.dead_letters), (count.events, count.letters));
}

/// Puts the input where one format expects it.
pub fn inside(before: &str, bytes: &[u8], after: &str) {
    check(&[before.as_bytes(), bytes, after.as_bytes()].concat());
}
