//! gumshoe-gateway.
