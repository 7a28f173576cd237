//! gumshoe-profiles.
