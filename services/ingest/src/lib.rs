//! gumshoe-ingest.
