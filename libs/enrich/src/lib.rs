//! What is known about a value beyond the records: the country and network of an address.
//!
//! | module | holds |
//! |---|---|
//! | [`places`] | lookups in offline databases in MaxMind's format |
//! | [`networks`] | what kind of network an autonomous system is |

pub mod networks;
pub mod places;

pub use places::{Config, OpenError, Place, Places};
