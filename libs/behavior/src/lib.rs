//! gumshoe-behavior.
