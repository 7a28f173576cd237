//! gumshoe-enrich.
