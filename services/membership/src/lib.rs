//! gumshoe-membership.
