//! The members of a CloudTrail record, in an array.
#![no_main]

use gumshoe_records_fuzz::inside;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| inside(
    r#"{"Records":[{"eventVersion":"1.08","eventTime":"2024-05-01T10:00:00Z","eventSource":"sts.amazonaws.com","eventName":"AssumeRole","#,
    bytes,
    "}]}"
));
