//! The members of a GuardDuty finding.
#![no_main]

use gumshoe_records_fuzz::inside;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| inside(
    r#"{"schemaVersion":"2.0","id":"x","type":"T","severity":5,"updatedAt":"2024-05-01T10:00:00Z","#,
    bytes,
    r#","service":{},"resource":{}}"#
));
