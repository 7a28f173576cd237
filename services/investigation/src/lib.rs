//! gumshoe-investigation.
