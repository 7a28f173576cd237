//! gumshoe-testkit.
