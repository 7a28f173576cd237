//! Selections: maps of fields and values, lists of them, and keywords.

use gumshoe_model::RecordKind;
use serde_json::{Map, Value};

use crate::{
    check::{Check, Order, Place, Text, regex},
    field::{Field, Path},
    node::{FieldTest, Node},
};

/// The deepest that elements are nested.
const MAX_DEPTH: usize = 8;

/// What is wrong, and with which field under the selection.
pub(crate) type Wrong = (String, String);

/// Compiles a selection.
pub(crate) fn compile(kind: RecordKind, value: &Value) -> Result<Node, Wrong> {
    in_element(kind, value, false, 0)
}

fn in_element(kind: RecordKind, value: &Value, element: bool, depth: usize) -> Result<Node, Wrong> {
    let here = |reason: &str| (String::new(), reason.to_owned());
    if depth > MAX_DEPTH {
        return Err(here("elements are nested too deep"));
    }
    match value {
        Value::Object(map) if !map.is_empty() => fields(kind, map, element, depth),
        Value::Array(values) if !values.is_empty() => {
            let one = |value: &Value| match value {
                Value::Object(_) => in_element(kind, value, element, depth),
                Value::String(text) if !element => Ok(Node::Keyword(Text::new(text, Place::Inside, false).map_err(|reason| here(&reason))?)),
                _ => Err(here("a list holds maps of fields, or keywords")),
            };
            Ok(Node::any(values.iter().map(one).collect::<Result<_, _>>()?))
        }
        Value::String(text) if !element => Ok(Node::Keyword(Text::new(text, Place::Inside, false).map_err(|reason| here(&reason))?)),
        _ => Err(here("expected a map of fields, a list of maps, or keywords")),
    }
}

fn fields(kind: RecordKind, map: &Map<String, Value>, element: bool, depth: usize) -> Result<Node, Wrong> {
    let one = |(name, value): (&String, &Value)| field(kind, name, value, element, depth).map_err(|(inner, reason)| (join(name, &inner), reason));
    Ok(Node::all(map.iter().map(one).collect::<Result<_, _>>()?))
}

fn join(outer: &str, inner: &str) -> String {
    if inner.is_empty() { outer.to_owned() } else { format!("{outer}.{inner}") }
}

/// What the modifiers of a field ask for.
#[derive(Default)]
struct Modifiers {
    place: Place,
    cased: bool,
    all: bool,
    kind: Kind,
    insensitive: bool,
    dots: bool,
    lines: bool,
}

#[derive(Default, PartialEq)]
enum Kind {
    #[default]
    Plain,
    Regex,
    Network,
    Compare(Order),
    Exists,
    Same,
    Outsider,
}

impl Modifiers {
    fn parse<'n>(names: impl Iterator<Item = &'n str>) -> Result<Self, String> {
        let mut found = Self::default();
        for name in names {
            let kind = match name {
                "contains" | "startswith" | "endswith" => {
                    found.place = match name {
                        "contains" => Place::Inside,
                        "startswith" => Place::Start,
                        _ => Place::End,
                    };
                    continue;
                }
                "all" => {
                    found.all = true;
                    continue;
                }
                "cased" => {
                    found.cased = true;
                    continue;
                }
                "i" | "s" | "m" if found.kind == Kind::Regex => {
                    match name {
                        "i" => found.insensitive = true,
                        "s" => found.dots = true,
                        _ => found.lines = true,
                    }
                    continue;
                }
                "re" => Kind::Regex,
                "cidr" => Kind::Network,
                "lt" => Kind::Compare(Order::Less),
                "lte" => Kind::Compare(Order::LessOrEqual),
                "gt" => Kind::Compare(Order::Greater),
                "gte" => Kind::Compare(Order::GreaterOrEqual),
                "exists" => Kind::Exists,
                "fieldref" => Kind::Same,
                "outsider" => Kind::Outsider,
                "base64" | "base64offset" | "wide" | "utf16" | "utf16le" | "utf16be" | "windash" | "expand" => {
                    return Err(format!("the modifier `{name}` is not supported: no record here has such values"));
                }
                other => return Err(format!("`{other}` is not a modifier")),
            };
            if found.kind != Kind::Plain {
                return Err(format!("the modifier `{name}` does not go with the one before"));
            }
            found.kind = kind;
        }
        if found.kind != Kind::Plain && (found.place != Place::Whole || found.cased) {
            return Err("`contains`, `startswith`, `endswith` and `cased` go with text alone".to_owned());
        }
        Ok(found)
    }

    fn check(&self, value: &Value) -> Result<Check, String> {
        let text = || value.as_str().ok_or_else(|| "expected text".to_owned());
        let truth = || value.as_bool().ok_or_else(|| "expected true or false".to_owned());
        Ok(match &self.kind {
            Kind::Plain | Kind::Same => Check::plain(value, self.place, self.cased)?,
            Kind::Regex => Check::Regex(regex(text()?, self.insensitive, self.dots, self.lines)?),
            Kind::Network => {
                let text = text()?;
                let network = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from));
                Check::Network(network.map_err(|_| format!("`{text}` is not a network: expected `10.0.0.0/8`"))?)
            }
            Kind::Compare(order) => Check::Compare(*order, value.as_f64().ok_or("expected a number")?),
            Kind::Exists => Check::Exists(truth()?),
            Kind::Outsider => Check::Outsider(truth()?),
        })
    }
}

/// One entry of a map: `name|modifier: value`.
fn field(kind: RecordKind, name: &str, value: &Value, element: bool, depth: usize) -> Result<Node, Wrong> {
    let here = |reason: String| (String::new(), reason);
    if let Some(list) = name.strip_suffix("[any]") {
        let path = Path::new(list).map_err(here)?;
        return Ok(Node::Element(path, Box::new(in_element(kind, value, true, depth + 1)?)));
    }
    let mut parts = name.split('|');
    let name = parts.next().unwrap_or_default();
    let modifiers = Modifiers::parse(parts).map_err(here)?;
    let look = |name: &str| if element && !name.starts_with("event.") { Path::new(name).map(Field::Path) } else { Field::of(kind, name) };
    let field = look(name).map_err(here)?;
    let values = match value {
        Value::Array(values) if values.is_empty() => return Err(here("the list of values is empty".to_owned())),
        Value::Array(values) => values.as_slice(),
        value => std::slice::from_ref(value),
    };
    if modifiers.kind == Kind::Same {
        let same = |value: &Value| {
            let other = value.as_str().ok_or("expected the name of a field")?;
            Ok(Node::Same(field.clone(), look(other)?))
        };
        let nodes = values.iter().map(same).collect::<Result<_, String>>().map_err(here)?;
        return Ok(if modifiers.all { Node::all(nodes) } else { Node::any(nodes) });
    }
    let checks = values.iter().map(|value| modifiers.check(value)).collect::<Result<_, _>>().map_err(here)?;
    Ok(Node::Field(FieldTest { field, checks, all: modifiers.all }))
}
