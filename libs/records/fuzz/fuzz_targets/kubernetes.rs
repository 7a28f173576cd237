//! The members of a Kubernetes audit event.
#![no_main]

use gumshoe_records_fuzz::inside;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| inside(r#"{"kind":"Event","verb":"get","auditID":"x","stageTimestamp":"2024-05-01T10:00:00Z","#, bytes, "}"));
