//! A header and lines of a VPC flow log.
#![no_main]

use gumshoe_records_fuzz::inside;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| inside("version srcaddr dstaddr srcport dstport start action log-status\n", bytes, "\n"));
