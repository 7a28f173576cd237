//! What rules are compiled to: a tree of tests, the cheapest first.

use std::sync::Arc;

use crate::{
    check::{Check, Text, with_text},
    field::{Field, Path, Slot},
    gate::Either,
    view::{Scalar, View},
};

/// A test, or tests put together.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    /// At least so many.
    Some(usize, Vec<Node>),
    Not(Box<Node>),
    /// A selection, which a condition may name more than once.
    Selection(Arc<Node>),
    Field(FieldTest),
    /// Another field has a value that this one has.
    Same(Field, Field),
    /// Some element of a list.
    Element(Path, Box<Node>),
    /// Text anywhere in the record.
    Keyword(Text),
    /// One of these texts is anywhere in the record: without, tests of its fields cannot hold.
    Raw(Either),
}

/// Values that a field may have.
#[derive(Debug, Clone)]
pub(crate) struct FieldTest {
    pub(crate) field: Field,
    pub(crate) checks: Vec<Check>,
    /// Whether all are wanted and not just one.
    pub(crate) all: bool,
}

impl FieldTest {
    fn matches(&self, view: View<'_, '_>) -> bool {
        let account = &*view.record.event.account;
        let one = |check: &Check| match check {
            Check::Nothing => !view.holds(&self.field),
            Check::Exists(wanted) => view.exists(&self.field) == *wanted,
            check => view.any(&self.field, &mut |value| check.takes(value, account)),
        };
        if self.all { self.checks.iter().all(one) } else { self.checks.iter().any(one) }
    }
}

impl Node {
    /// All of these, the cheapest first.
    pub(crate) fn all(mut nodes: Vec<Self>) -> Self {
        nodes.sort_by_key(Self::cost);
        Self::All(nodes)
    }

    /// Any of these, the cheapest first.
    pub(crate) fn any(mut nodes: Vec<Self>) -> Self {
        nodes.sort_by_key(Self::cost);
        Self::Any(nodes)
    }

    /// Whether a part of the event is asked for anywhere.
    pub(crate) fn asks_for(&self, slot: Slot) -> bool {
        let wanted = Field::Slot(slot);
        match self {
            Self::All(nodes) | Self::Any(nodes) | Self::Some(_, nodes) => nodes.iter().any(|node| node.asks_for(slot)),
            Self::Not(node) | Self::Element(_, node) => node.asks_for(slot),
            Self::Selection(node) => node.asks_for(slot),
            Self::Field(test) => test.field == wanted,
            Self::Same(left, right) => *left == wanted || *right == wanted,
            Self::Keyword(_) | Self::Raw(_) => false,
        }
    }

    fn cost(&self) -> u32 {
        let most = |nodes: &[Self]| nodes.iter().map(Self::cost).max().unwrap_or_default();
        match self {
            Self::All(nodes) | Self::Any(nodes) | Self::Some(_, nodes) => most(nodes),
            Self::Not(node) => node.cost(),
            Self::Selection(node) => node.cost(),
            Self::Field(test) => test.field.cost() + test.checks.iter().map(Check::cost).max().unwrap_or_default(),
            Self::Same(left, right) => left.cost() + right.cost() + 1,
            Self::Element(_, node) => node.cost() + 15,
            Self::Keyword(_) => 20,
            Self::Raw(_) => 9,
        }
    }

    pub(crate) fn matches(&self, view: View<'_, '_>) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.matches(view)),
            Self::Any(nodes) => nodes.iter().any(|node| node.matches(view)),
            Self::Some(least, nodes) => nodes.iter().filter(|node| node.matches(view)).take(*least).count() == *least,
            Self::Not(node) => !node.matches(view),
            Self::Selection(node) => node.matches(view),
            Self::Field(test) => test.matches(view),
            Self::Same(left, right) => view.any(left, &mut |left| view.any(right, &mut |right| same(left, right))),
            Self::Element(path, node) => view.any_element(path, &mut |element| node.matches(element)),
            Self::Keyword(text) => text.matches(&view.record.event.raw),
            Self::Raw(texts) => view.record.may_have(texts),
        }
    }
}

fn same(left: Scalar<'_>, right: Scalar<'_>) -> bool {
    with_text(left, |left| with_text(right, |right| left.eq_ignore_ascii_case(right)))
}
