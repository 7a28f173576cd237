//! Policy documents as JSON: their grammar, and the checks AWS makes when it stores one, with AWS's messages.
//!
//! The order of the checks is AWS's too, since the first that fails gives the message.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::{
    condition::{Operator, Test},
    pattern::split_arn,
    policy::{Kind, Malformed},
    value::Instant,
};

/// JSON that refuses an object with the same name twice: which of the two counts would be a guess.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;
        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Number(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Number(value.to_string()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Number(value.to_string()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Node::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
                let mut names = std::collections::HashSet::new();
                let mut object = Vec::new();
                while let Some((name, value)) = entries.next_entry::<String, Node>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom("the same name twice"));
                    }
                    object.push((name, value));
                }
                Ok(Node::Object(object))
            }
        }
        deserializer.deserialize_any(NodeVisitor)
    }
}

/// A policy document that has passed every check, not yet compiled.
#[derive(Debug)]
pub(crate) struct Document {
    /// Whether `${…}` is a variable: version 2012-10-17.
    pub(crate) variables: bool,
    pub(crate) statements: Vec<RawStatement>,
}

/// One statement as written.
#[derive(Debug, Default)]
pub(crate) struct RawStatement {
    pub(crate) sid: Option<String>,
    pub(crate) effect: String,
    pub(crate) actions: Option<List>,
    pub(crate) resources: Option<List>,
    pub(crate) principals: Option<RawPrincipals>,
    /// Operator, key, values.
    pub(crate) conditions: Vec<(Operator, String, Vec<String>)>,
}

/// A list, or what must not be in a list: `Action` and `NotAction`.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) negated: bool,
    pub(crate) items: Vec<String>,
}

/// `Principal` or `NotPrincipal`.
#[derive(Debug)]
pub(crate) struct RawPrincipals {
    pub(crate) negated: bool,
    /// Type (`AWS`, `Service`, …) and value.
    pub(crate) items: Vec<(String, String)>,
}

/// Something is not as the grammar wants it.
struct BadSyntax;

impl From<BadSyntax> for Malformed {
    fn from(_: BadSyntax) -> Self {
        Self::new("Syntax errors in policy.")
    }
}

/// Parses and checks a document. `any_version`: takes documents from before version 2012-10-17 of every kind.
pub(crate) fn parse(text: &str, kind: Kind, any_version: bool) -> Result<Document, Malformed> {
    let node: Node = serde_json::from_str(text).map_err(|_| BadSyntax)?;
    let (version, statements) = read_document(node)?;
    let variables = version.as_deref() == Some("2012-10-17");
    if !variables && !any_version && !kind.names_principals() {
        return Err(Malformed::new("Policy document must be version 2012-10-17 or greater."));
    }
    let resource_fault = check_legacy(&statements, variables)?;
    check_sids(&statements)?;
    if statements.iter().any(|statement| statement.actions.as_ref().is_none_or(|actions| actions.items.is_empty())) {
        return Err(Malformed::new("Policy statement must contain actions."));
    }
    if let Some(message) = resource_fault {
        return Err(Malformed::new(message));
    }
    // `Action` before `NotAction`, as with resources.
    for negated in [false, true] {
        let lists = statements.iter().filter_map(|statement| statement.actions.as_ref().filter(|actions| actions.negated == negated));
        lists.flat_map(|actions| &actions.items).try_for_each(|action| check_action(action))?;
    }
    check_kind(&statements, kind)?;
    Ok(Document { variables, statements })
}

fn read_document(node: Node) -> Result<(Option<String>, Vec<RawStatement>), BadSyntax> {
    let Node::Object(entries) = node else { return Err(BadSyntax) };
    let (mut version, mut statements) = (None, None);
    for (name, value) in entries {
        match (name.as_str(), value) {
            ("Version", Node::Text(text)) if matches!(text.as_str(), "2008-10-17" | "2012-10-17") => version = Some(text),
            ("Id", Node::Text(_)) => {}
            ("Statement", Node::List(list)) => statements = Some(list),
            ("Statement", single @ Node::Object(_)) => statements = Some(vec![single]),
            _ => return Err(BadSyntax),
        }
    }
    let statements = statements.filter(|statements| !statements.is_empty()).ok_or(BadSyntax)?;
    Ok((version, statements.into_iter().map(read_statement).collect::<Result<_, _>>()?))
}

fn read_statement(node: Node) -> Result<RawStatement, BadSyntax> {
    let Node::Object(entries) = node else { return Err(BadSyntax) };
    let mut statement = RawStatement::default();
    for (name, value) in entries {
        let negated = name.starts_with("Not");
        match name.as_str() {
            "Sid" => statement.sid = Some(read_text(value)?),
            "Effect" => statement.effect = read_text(value)?,
            "Action" | "NotAction" => once(&mut statement.actions, List { negated, items: read_strings(value)? })?,
            "Resource" | "NotResource" => once(&mut statement.resources, List { negated, items: read_strings(value)? })?,
            "Principal" | "NotPrincipal" => once(&mut statement.principals, RawPrincipals { negated, items: read_principals(value)? })?,
            "Condition" => statement.conditions = read_conditions(value)?,
            _ => return Err(BadSyntax),
        }
    }
    let known = ["allow", "deny"].iter().any(|effect| statement.effect.eq_ignore_ascii_case(effect));
    if known { Ok(statement) } else { Err(BadSyntax) }
}

/// Refuses `Action` beside `NotAction`.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), BadSyntax> {
    if place.replace(value).is_none() { Ok(()) } else { Err(BadSyntax) }
}

fn read_text(node: Node) -> Result<String, BadSyntax> {
    if let Node::Text(text) = node { Ok(text) } else { Err(BadSyntax) }
}

/// A string or a list of strings. AWS passes over a null in a list.
fn read_strings(node: Node) -> Result<Vec<String>, BadSyntax> {
    match node {
        Node::Text(text) => Ok(vec![text]),
        Node::List(items) => items.into_iter().filter(|item| *item != Node::Null).map(read_text).collect(),
        _ => Err(BadSyntax),
    }
}

fn read_principals(node: Node) -> Result<Vec<(String, String)>, BadSyntax> {
    match node {
        Node::Text(text) if text == "*" => Ok(vec![("AWS".to_owned(), text)]),
        Node::Object(entries) => {
            let mut items = Vec::new();
            for (name, value) in entries {
                if !matches!(name.as_str(), "AWS" | "Service" | "Federated" | "CanonicalUser") {
                    return Err(BadSyntax);
                }
                items.extend(read_strings(value)?.into_iter().map(|item| (name.clone(), item)));
            }
            if items.is_empty() { Err(BadSyntax) } else { Ok(items) }
        }
        _ => Err(BadSyntax),
    }
}

fn read_conditions(node: Node) -> Result<Vec<(Operator, String, Vec<String>)>, BadSyntax> {
    let Node::Object(operators) = node else { return Err(BadSyntax) };
    let mut conditions = Vec::new();
    for (name, keys) in operators {
        let Node::Object(keys) = keys else { return Err(BadSyntax) };
        // AWS takes any name for an operator that has no keys.
        for (key, values) in keys {
            let operator = Operator::parse(&name).ok_or(BadSyntax)?;
            let values = match values {
                Node::List(values) => values.into_iter().map(read_scalar).collect::<Result<_, _>>()?,
                single => vec![read_scalar(single)?],
            };
            conditions.push((operator, key, values));
        }
    }
    Ok(conditions)
}

fn read_scalar(node: Node) -> Result<String, BadSyntax> {
    match node {
        Node::Text(text) | Node::Number(text) => Ok(text),
        Node::Bool(value) => Ok(value.to_string()),
        Node::Null | Node::List(_) | Node::Object(_) => Err(BadSyntax),
    }
}

/// What AWS calls legacy parsing. On success, what is wrong with a resource, which AWS says only after later checks.
fn check_legacy(statements: &[RawStatement], variables: bool) -> Result<Option<String>, Malformed> {
    let failed = || Malformed::new("The policy failed legacy parsing");
    for statement in statements {
        let dates = statement.conditions.iter().filter(|(operator, ..)| matches!(operator.test, Test::Date(_)));
        let dates_are_read = dates.flat_map(|(_, _, values)| values).all(|value| Instant::parse(value).is_some());
        if !matches!(statement.effect.as_str(), "Allow" | "Deny") || !dates_are_read {
            return Err(failed());
        }
    }
    let mut fault = None;
    for negated in [false, true] {
        for list in statements.iter().filter_map(|statement| statement.resources.as_ref().filter(|list| list.negated == negated)) {
            // AWS names the last fault in descending order.
            let mut sorted: Vec<&String> = list.items.iter().collect();
            sorted.sort_unstable_by(|left, right| right.cmp(left));
            for resource in sorted {
                fault = check_resource(resource, variables).err().or(fault);
            }
            let parses = |resource: &String| {
                let parts = split_arn(resource, variables);
                resource == "*" || (parts.len() >= 6 || !resource.contains("::")) && parts.get(2).is_none_or(|service| !service.is_empty())
            };
            if fault.is_none() && !list.items.iter().all(parses) {
                return Err(failed());
            }
        }
    }
    Ok(fault)
}

/// Paths that a resource of IAM itself may start with.
const IAM_PATHS: [&str; 13] = [
    "user/",
    "federated-user/",
    "role/",
    "group/",
    "instance-profile/",
    "mfa/",
    "server-certificate/",
    "policy/",
    "sms-mfa/",
    "saml-provider/",
    "oidc-provider/",
    "report/",
    "access-report/",
];

fn check_resource(resource: &str, variables: bool) -> Result<(), String> {
    if resource == "*" {
        return Ok(());
    }
    let parts = split_arn(resource, variables);
    let part = |index: usize| parts.get(index).copied().unwrap_or_default();
    if parts.len() < 2 {
        return Err(format!("Resource {resource} must be in ARN format or \"*\"."));
    }
    let partition = part(1);
    if partition != "*" && partition != "aws" && !partition.starts_with("aws-") || part(0) != "arn" {
        let or_star = |index: usize| parts.get(index).copied().unwrap_or("*");
        // AWS shows `*` for a part that is not there, and for a last one that is empty.
        let service = if parts.len() == 3 && part(2).is_empty() { "*" } else { or_star(2) };
        return Err(format!("Partition \"{partition}\" is not valid for resource \"arn:{partition}:{service}:{}:{}:{}\".", or_star(3), or_star(4), or_star(5)));
    }
    if parts.len() < 3 || part(2).contains(['*', '?']) {
        return Err("Resource vendor must be fully qualified and cannot contain regexes.".to_owned());
    }
    let (service, region, account, path) = (part(2), part(3), part(4), part(5));
    if service == "iam" && !region.is_empty() {
        return Err(format!("IAM resource {resource} cannot contain region information."));
    }
    // Buckets and objects have neither region nor account; access points have both.
    if service == "s3" && !region.is_empty() && account.is_empty() {
        return Err(format!("Resource {resource} can not contain region information."));
    }
    if service == "iam" && path != "*" && !IAM_PATHS.iter().any(|start| path.starts_with(start)) {
        return Err(format!("IAM resource path must either be \"*\" or start with {}.", IAM_PATHS.join(", ")));
    }
    Ok(())
}

fn check_sids(statements: &[RawStatement]) -> Result<(), Malformed> {
    let mut seen = std::collections::HashSet::new();
    let mut sids = statements.iter().filter_map(|statement| statement.sid.as_deref()).filter(|sid| !sid.is_empty());
    if sids.all(|sid| seen.insert(sid)) { Ok(()) } else { Err(Malformed::new("Statement IDs (SID) in a single policy must be unique.")) }
}

fn check_action(action: &str) -> Result<(), Malformed> {
    if action == "*" {
        return Ok(());
    }
    let Some((vendor, name)) = action.split_once(':') else {
        return Err(Malformed::new("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."));
    };
    if name.contains(':') {
        return Err(Malformed::new("Actions/Condition can contain only one colon."));
    }
    let valid = vendor == "*" || vendor.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    if valid { Ok(()) } else { Err(Malformed::new(format!("Vendor {vendor} is not valid"))) }
}

/// What the kind of policy asks for or forbids.
fn check_kind(statements: &[RawStatement], kind: Kind) -> Result<(), Malformed> {
    for statement in statements {
        match (&statement.principals, kind) {
            (Some(_), Kind::Identity | Kind::ServiceControl) => return Err(Malformed::new("Policy document should not specify a principal.")),
            (None, Kind::Resource | Kind::Trust) => return Err(Malformed::new("Policy statement must contain principals.")),
            (Some(principals), _) if principals.negated && statement.effect == "Allow" => {
                return Err(Malformed::new("NotPrincipal can not be used with Effect Allow."));
            }
            _ => {}
        }
        let has_resources = statement.resources.as_ref().is_some_and(|resources| !resources.items.is_empty());
        if kind == Kind::Trust && statement.resources.is_some() {
            return Err(Malformed::new("Has prohibited field Resource."));
        }
        if kind != Kind::Trust && !has_resources {
            return Err(Malformed::new("Policy statement must contain resources."));
        }
    }
    Ok(())
}
