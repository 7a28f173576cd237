//! Any object at all.
#![no_main]

use gumshoe_records_fuzz::check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| check(bytes));
