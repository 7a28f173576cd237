//! gumshoe-graph.
