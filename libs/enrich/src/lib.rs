//! What is known about a value beyond the records: the country and network of an address, and who warns of it.
//!
//! | module | holds |
//! |---|---|
//! | [`places`] | lookups in offline databases in MaxMind's format |
//! | [`networks`] | what kind of network an autonomous system is |
//! | [`threats`] | lists of addresses that somebody warns of |
//! | [`prefixes`] | blocks of addresses, and which cover an address |

pub mod networks;
pub mod places;
pub mod prefixes;
pub mod threats;

pub use places::{Config, OpenError, Place, Places};
pub use threats::{ListConfig, Threat, ThreatError, ThreatLists, Threats};
