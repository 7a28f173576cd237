//! The members of a Security Hub finding.
#![no_main]

use gumshoe_records_fuzz::inside;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| inside(
    r#"{"SchemaVersion":"2018-10-08","Id":"x","ProductArn":"arn:aws:securityhub:::product/x","UpdatedAt":"2024-05-01T10:00:00Z","#,
    bytes,
    "}"
));
