//! Arguments of `watchlist`.

use clap::{Subcommand, ValueEnum};
use gumshoe_model::Timestamp;

use crate::quantity;

/// What to do with the watchlist.
#[derive(Debug, Subcommand)]
pub enum Watchlist {
    /// List all entries that have not expired.
    List,
    /// Say how much some entities matter; of several entries that fit, the most specific counts.
    Add {
        /// `type:id`, with `*` for any characters and `?` for one, such as `role:arn:aws:iam::*:role/prod-*`; or `tag:KEY=VALUE` with these in
        /// the value.
        pattern: String,
        /// How much they matter.
        #[arg(value_enum)]
        criticality: Criticality,
        /// Why.
        #[arg(long, default_value = "")]
        note: String,
        /// From when on it counts no more.
        #[arg(long, value_name = "TIME", value_parser = quantity::time)]
        expires: Option<Timestamp>,
    },
    /// Remove an entry.
    Delete {
        /// Its id.
        id: String,
    },
}

/// How much entities matter: a factor on the odds of their risk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Criticality {
    /// 0.5.
    Low,
    /// 1.
    Normal,
    /// 1.5.
    High,
    /// 2.
    Critical,
}
