//! What is unusual about an entity, and how much that matters. Pure: no I/O, no clock.
//!
//! | module | holds |
//! |---|---|
//! | [`risk`](mod@risk) | one score from 0 to 100 out of many facts, with each fact's part in it |
//! | [`newness`] | facts: what is in scope and was not in the baseline, and failures beyond the usual |
//! | [`anomaly`] | what every statistic below says: a score, the facts that moved it, the baseline |
//! | [`midas`] | bursts and lockstep in a stream of edges, not learned from |
//! | [`spot`] | thresholds for a stream of scores, without labels |
//! | [`volume`] | how much in an hour of the week is usual |
//! | [`peers`] | how surprising an action is, given what similar principals do |
//! | [`flow`] | beacons, scans and data going out, by hourly sums of flows |
//! | [`travel`] | one principal at two places, too far apart for the time between |
//! | [`bytes`] | what was learned, to be kept and taken up again |
//! | [`budget`] | about one alert an hour, instead of all that could be one |
//!
//! Every number here is published in the documentation of its function, so that a score can be followed by hand.

pub mod anomaly;
pub mod budget;
pub mod bytes;
pub mod flow;
pub mod midas;
pub mod newness;
pub mod peers;
mod random;
pub mod risk;
mod robust;
pub mod spot;
pub mod travel;
pub mod volume;

pub use anomaly::Anomaly;
pub use newness::{Baseline, Calls, Kind, New, failures, newness};
pub use risk::{Criticality, Input, Part, Risk, Source, risk};
