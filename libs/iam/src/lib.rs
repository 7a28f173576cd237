//! gumshoe-iam.
