//! gumshoe-lake.
