//! What is known about a value beyond the records: the country and network of an address.
//!
//! | module | holds |
//! |---|---|
//! | [`places`] | lookups in offline databases in MaxMind's format |

pub mod places;

pub use places::{Config, OpenError, Place, Places};
