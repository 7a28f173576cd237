//! Detection rules: what in a record is a technique, written in Sigma, matched against events as they come in. Pure but for reading
//! rules from a folder.
//!
//! ```
//! use gumshoe_detections::RuleSet;
//! use gumshoe_model::{Event, RecordKind, Timestamp};
//!
//! let rules = RuleSet::shipped()?;
//! let mut event = Event::new(RecordKind::CloudTrail, Timestamp::MIN, "{}");
//! event.service = "cloudtrail.amazonaws.com".into();
//! event.operation = "StopLogging".into();
//! let found: Vec<&str> = rules.matches(&event).map(|rule| rule.title.as_str()).collect();
//! assert_eq!(found, ["A trail was stopped or deleted"]);
//! # Ok::<(), gumshoe_detections::LoadError>(())
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`rule`] | a rule: what it says beside what it matches |
//! | `parse` | YAML to rules, with errors that name file, field and reason |
//! | `condition` | the language of conditions |
//! | `selection`, `check` | selections of fields, modifiers and values |
//! | `field`, `view`, `json` | names of fields; their values in an event, its record read only if needed |
//! | `node` | what all of these are compiled to |
//! | `gate`, `inside` | what must be in a record's text for a rule to match, looked for before it is parsed |
//! | `index` | which rules can match an event, by its operation |
//! | [`set`] | many rules, and loading them |
//! | [`correlation`] | rules about several events: how many, how many different, in which order |

mod check;
mod condition;
pub mod correlation;
mod field;
mod gate;
mod index;
mod inside;
mod json;
mod node;
mod parse;
pub mod rule;
mod selection;
pub mod set;
mod view;

pub use correlation::{Correlated, Correlations};
pub use parse::{LoadError, Problem};
pub use rule::{Rule, Tactic, Technique};
pub use set::RuleSet;
