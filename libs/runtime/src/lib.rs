//! gumshoe-runtime.
