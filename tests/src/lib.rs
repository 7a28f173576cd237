//! gumshoe-tests.
