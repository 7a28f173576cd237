//! What must stand in the text of a record for a rule to match: looked for before the record is parsed, which costs far more.
//!
//! A test of a field can hold only if the field's name is there, and its value. A name or value may be written with escapes (`\u0041`);
//! a record that has any is parsed without asking.

use crate::{
    check::Check,
    field::{Field, Path},
    inside::Inside,
    node::{FieldTest, Node},
};

/// The shortest text that is worth looking for.
const MIN_BYTES: usize = 3;

/// One of these must be there.
pub(crate) type Either = Vec<Inside>;

/// A rule's tree with what its records must have, in front of the tests that need the record.
pub(crate) fn guarded(node: Node) -> Node {
    let mut nodes = Vec::new();
    flatten(node, &mut nodes);
    let mut gates: Vec<Either> = Vec::new();
    for gate in nodes.iter().flat_map(needs) {
        if !gates.contains(&gate) {
            gates.push(gate);
        }
    }
    nodes.extend(gates.into_iter().map(Node::Raw));
    Node::all(nodes)
}

/// Tests that must all hold, out of selections, too.
fn flatten(node: Node, found: &mut Vec<Node>) {
    match node {
        Node::All(nodes) => nodes.into_iter().for_each(|node| flatten(node, found)),
        Node::Selection(inner) if matches!(&*inner, Node::All(_) | Node::Selection(_)) => flatten((*inner).clone(), found),
        node => found.push(node),
    }
}

/// What must be there if a node matches.
fn needs(node: &Node) -> Vec<Either> {
    match node {
        Node::All(nodes) => nodes.iter().flat_map(needs).collect(),
        Node::Selection(node) => needs(node),
        Node::Any(nodes) => {
            // One of what each needs; of several needs of one, the one with the fewest texts.
            let each: Option<Vec<Either>> = nodes.iter().map(|node| needs(node).into_iter().min_by_key(Vec::len)).collect();
            each.filter(|each| !each.is_empty()).map(|each| each.concat()).into_iter().collect()
        }
        Node::Field(FieldTest { field: Field::Path(path), checks, all }) => of_field(path, checks, *all),
        Node::Element(path, node) => name(path).into_iter().chain(needs(node)).collect(),
        _ => Vec::new(),
    }
}

fn of_field(path: &Path, checks: &[Check], all: bool) -> Vec<Either> {
    if checks.is_empty() || checks.iter().any(|check| matches!(check, Check::Nothing | Check::Exists(false))) {
        return Vec::new();
    }
    let value = |check: &Check| if let Check::Text(text) = check { plain(text.literal()?) } else { None };
    let values: Option<Either> = if all { checks.iter().find_map(value).map(|value| vec![value]) } else { checks.iter().map(value).collect() };
    name(path).into_iter().chain(values).collect()
}

/// The last key of a path.
fn name(path: &Path) -> Option<Either> {
    path.rests().last().and_then(|name| plain(name)).map(|name| vec![name])
}

/// The longest part of a text that is written in one way only. A number may be written in several.
fn plain(text: &str) -> Option<Inside> {
    let parts = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-')));
    let part = parts.filter(|part| part.len() >= MIN_BYTES && part.bytes().any(|byte| byte.is_ascii_alphabetic())).max_by_key(|part| part.len())?;
    Some(Inside::new(part, false))
}
