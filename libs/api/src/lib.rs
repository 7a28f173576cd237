//! gumshoe-api.
