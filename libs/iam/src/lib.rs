//! AWS IAM JSON policies: parsed, validated as AWS does, and evaluated. Pure: no I/O, no clock.
//!
//! | module | holds |
//! |---|---|
//! | [`policy`] | a parsed policy: [`Policy::parse`] |
//! | [`evaluate`](mod@evaluate) | a request, the policies that apply to it, and the decision |
//! | [`principal`] | who calls |
//! | [`context`] | condition keys and their values |
//! | [`actions`] | the actions of the `detective` service |
//! | [`managed`] | the AWS managed policies for Amazon Detective |
//!
//! ```
//! use gumshoe_iam::{Effect, Policy, PolicySets, Principal, Request, evaluate};
//!
//! let policy = Policy::parse(r#"{
//!     "Version": "2012-10-17",
//!     "Statement": {"Sid": "Read", "Effect": "Allow", "Action": "detective:Get*", "Resource": "*"}
//! }"#)?.named("Reader");
//! let request = Request::new(
//!     Principal::parse("arn:aws:iam::111122223333:user/Ann"),
//!     "detective:GetMembers",
//!     "arn:aws:detective:eu-west-1:111122223333:graph:0123456789abcdef0123456789abcdef",
//! );
//! let decision = evaluate(&request, &PolicySets::of_identity([policy]));
//! assert_eq!(decision.effect, Effect::Allow);
//! # Ok::<(), gumshoe_iam::Malformed>(())
//! ```
//!
//! Whatever is in doubt is refused: a document that AWS would refuse does not load, a value that can't be compared never
//! lets an Allow through, and a request that nothing allows is denied.

pub mod actions;
mod condition;
pub mod context;
mod document;
pub mod evaluate;
pub mod managed;
mod pattern;
pub mod policy;
pub mod principal;
mod value;

pub use context::{Context, ContextValue};
pub use evaluate::{CrossAccount, Decision, Effect, Layer, Matched, PolicySets, Request, evaluate};
pub use policy::{Kind, Malformed, Policy};
pub use principal::Principal;
