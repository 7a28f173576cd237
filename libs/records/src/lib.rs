//! gumshoe-records.
