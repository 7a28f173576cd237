//! YAML to rules. Every problem names the file, the field and the reason.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr, sync::Arc};

use gumshoe_model::{Level, RecordKind};
use serde_json::{Map, Value};

use crate::{
    condition::{self, Condition},
    correlation::{Correlation, Pattern},
    field::Slot,
    gate::guarded,
    node::Node,
    rule::{Case, Rule, Tactic, Technique},
    selection,
};

/// The longest file.
pub(crate) const MAX_FILE_BYTES: usize = 1 << 20;

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The field, with dots between the keys; empty if it is none.
    pub field: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, field, reason } = self;
        if field.is_empty() { write!(formatter, "{file}: {reason}") } else { write!(formatter, "{file}: `{field}`: {reason}") }
    }
}

/// Why rules could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or folder can't be read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Some rules are not right; none is loaded.
    #[error("{} problems in rules: {}", .0.len(), list(.0))]
    Wrong(Vec<Problem>),
}

/// The first problems.
fn list(problems: &[Problem]) -> String {
    let shown: Vec<String> = problems.iter().take(10).map(Problem::to_string).collect();
    shown.join("; ")
}

/// A rule about one event, or about several.
#[derive(Debug, Clone)]
pub(crate) enum Parsed {
    Rule(Box<Rule>),
    Correlation(Box<Correlation>),
    /// One whose status is `unsupported`: it takes the one of its id out.
    Off(String),
}

impl Parsed {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Rule(rule) => &rule.id,
            Self::Correlation(correlation) => &correlation.rule.id,
            Self::Off(id) => id,
        }
    }
}

type Found<T> = Result<T, (String, String)>;

fn wrong<T>(field: impl Into<String>, reason: impl Into<String>) -> Found<T> {
    Err((field.into(), reason.into()))
}

/// Reads the rules of a file; what is wrong is added to `problems`.
pub(crate) fn parse(file: &str, text: &str, problems: &mut Vec<Problem>) -> Vec<Parsed> {
    let mut problem = |field: String, reason: String| problems.push(Problem { file: file.to_owned(), field, reason });
    if text.len() > MAX_FILE_BYTES {
        problem(String::new(), format!("longer than {MAX_FILE_BYTES} bytes"));
        return Vec::new();
    }
    let documents: Vec<Value> = match serde_saphyr::from_multiple(text) {
        Ok(documents) => documents,
        Err(error) => {
            let place = error.location().map(|location| format!("line {}: ", location.line())).unwrap_or_default();
            let reason = error.without_snippet().to_string();
            problem(String::new(), format!("{place}not YAML: {}", reason.lines().next().unwrap_or_default()));
            return Vec::new();
        }
    };
    if documents.is_empty() {
        problem(String::new(), "holds no rule".to_owned());
    }
    let mut found = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let several = if documents.len() > 1 { format!("document {}: ", index + 1) } else { String::new() };
        match document.as_object() {
            None => problem(String::new(), format!("{several}expected a map")),
            Some(map) => match rule(file, map) {
                Ok(rule) => found.push(rule),
                Err((field, reason)) => problem(field, format!("{several}{reason}")),
            },
        }
    }
    found
}

fn rule(file: &str, map: &Map<String, Value>) -> Found<Parsed> {
    let id = text_of(map, "id")?.to_ascii_lowercase();
    let shape: Vec<usize> = id.split('-').map(str::len).collect();
    if shape != [8, 4, 4, 4, 12] || !id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()) {
        return wrong("id", format!("`{id}`: expected a UUID"));
    }
    match text_of(map, "status")?.as_str() {
        "" | "stable" | "test" | "experimental" | "deprecated" => {}
        "unsupported" => return Ok(Parsed::Off(id)),
        other => return wrong("status", format!("`{other}`: expected stable, test, experimental, deprecated or unsupported")),
    }
    let title = text_of(map, "title")?;
    if title.is_empty() || title.len() > 256 {
        return wrong("title", "expected 1 to 256 bytes of text");
    }
    let level = match text_of(map, "level")?.as_str() {
        "" => Level::Medium,
        level => Level::from_str(level).or_else(|error| wrong("level", error.to_string()))?,
    };
    let (tactics, techniques) = tags(map)?;
    let own = match map.get("gumshoe") {
        None => Map::new(),
        Some(Value::Object(own)) => own.clone(),
        Some(_) => return wrong("gumshoe", "expected a map"),
    };
    if let Some(key) = own.keys().find(|key| !["only_if_new", "cases"].contains(&key.as_str())) {
        return wrong(format!("gumshoe.{key}"), "is not known: expected only_if_new or cases");
    }
    let mut rule = Rule {
        id,
        name: text_of(map, "name")?,
        title,
        description: text_of(map, "description")?.trim().to_owned(),
        level,
        tactics,
        techniques,
        false_positives: texts(map, "falsepositives")?,
        references: texts(map, "references")?,
        source: file.to_owned(),
        kind: RecordKind::CloudTrail,
        only_if_new: truth(&own, "only_if_new").or_else(|reason| wrong("gumshoe.only_if_new", reason))?,
        cases: cases(&own)?,
        node: Node::Any(Vec::new()),
        asks_for_errors: true,
    };
    if let Some(correlation) = map.get("correlation") {
        if map.contains_key("detection") {
            return wrong("correlation", "a rule has a detection or a correlation, not both");
        }
        let Some(correlation) = correlation.as_object() else { return wrong("correlation", "expected a map") };
        return Ok(Parsed::Correlation(Box::new(correlate(rule, correlation)?)));
    }
    rule.kind = kind(map)?;
    let Some(detection) = map.get("detection").and_then(Value::as_object) else { return wrong("detection", "is missing, or no map") };
    rule.node = guarded(detect(rule.kind, detection)?);
    rule.asks_for_errors = rule.node.asks_for(Slot::Error);
    Ok(Parsed::Rule(Box::new(rule)))
}

fn text_of(map: &Map<String, Value>, key: &str) -> Found<String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => wrong(key, "expected text"),
    }
}

/// A list of texts, or one.
fn texts(map: &Map<String, Value>, key: &str) -> Found<Vec<String>> {
    let expected = || (key.to_owned(), "expected a list of texts".to_owned());
    match map.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.clone()]),
        Some(Value::Array(values)) => values.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(expected)).collect(),
        Some(_) => Err(expected()),
    }
}

fn truth(map: &Map<String, Value>, key: &str) -> Result<bool, &'static str> {
    map.get(key).map_or(Ok(false), |value| value.as_bool().ok_or("expected true or false"))
}

fn tags(map: &Map<String, Value>) -> Found<(Vec<Tactic>, Vec<Technique>)> {
    let (mut tactics, mut techniques) = (Vec::new(), Vec::new());
    for tag in texts(map, "tags")? {
        let Some(name) = tag.strip_prefix("attack.") else { continue };
        if let Some(tactic) = Tactic::of_tag(name) {
            tactics.push(tactic);
        } else if name.starts_with(['t', 'T']) && name.get(1..2).is_some_and(|digit| digit.bytes().all(|byte| byte.is_ascii_digit())) {
            techniques.push(name.parse().or_else(|_| wrong("tags", format!("`{tag}` is not a technique: expected attack.t1234 or attack.t1234.001")))?);
        } else if !name.starts_with(['g', 's', 'S', 'G']) {
            return wrong("tags", format!("`{tag}` is not a tactic of ATT&CK"));
        }
    }
    Ok((tactics, techniques))
}

fn cases(own: &Map<String, Value>) -> Found<Vec<Case>> {
    let Some(cases) = own.get("cases") else { return Ok(Vec::new()) };
    let Some(cases) = cases.as_array() else { return wrong("gumshoe.cases", "expected a list") };
    let case = |(index, case): (usize, &Value)| {
        let name = case.get("name").and_then(Value::as_str);
        let matches = case.get("matches").and_then(Value::as_bool);
        let record = case.get("record").filter(|record| record.is_object() || record.is_string());
        match (name, matches, record) {
            (Some(name), Some(matches), Some(record)) => Ok(Case { name: name.to_owned(), matches, record: record.clone() }),
            _ => wrong(format!("gumshoe.cases.{index}"), "expected name (text), matches (true or false) and record (a map, or a line of text)"),
        }
    };
    cases.iter().enumerate().map(case).collect()
}

/// Which records a log source means.
fn kind(map: &Map<String, Value>) -> Found<RecordKind> {
    let Some(source) = map.get("logsource").and_then(Value::as_object) else { return wrong("logsource", "is missing, or no map") };
    let part = |key: &str| source.get(key).and_then(Value::as_str).unwrap_or_default();
    match (part("product"), part("service"), part("category")) {
        ("aws", "cloudtrail", _) => Ok(RecordKind::CloudTrail),
        ("aws", "vpcflow" | "vpc_flow" | "vpc-flow", _) => Ok(RecordKind::VpcFlow),
        ("aws", "guardduty", _) => Ok(RecordKind::GuardDuty),
        ("aws", "securityhub", _) => Ok(RecordKind::SecurityHub),
        ("kubernetes", "audit", _) | ("kubernetes", "", "audit" | "application" | "") | ("aws", "eks", _) => Ok(RecordKind::EksAudit),
        (product, service, _) => wrong(
            "logsource",
            format!("product `{product}` and service `{service}`: expected aws with cloudtrail, vpcflow, guardduty or securityhub, or kubernetes with audit"),
        ),
    }
}

fn detect(kind: RecordKind, detection: &Map<String, Value>) -> Found<Node> {
    let mut selections: BTreeMap<&str, Arc<Node>> = BTreeMap::new();
    for (name, value) in detection.iter().filter(|(name, _)| *name != "condition") {
        if name == "timeframe" {
            return wrong("detection.timeframe", "is not supported: use a correlation rule");
        }
        let node = selection::compile(kind, value).map_err(|(field, reason)| {
            let dot = if field.is_empty() { "" } else { "." };
            (format!("detection.{name}{dot}{field}"), reason)
        })?;
        selections.insert(name, Arc::new(node));
    }
    // Several conditions: any of them.
    let conditions = match detection.get("condition") {
        Some(Value::String(text)) => vec![text.as_str()],
        Some(Value::Array(values)) if !values.is_empty() => {
            values.iter().map(|value| value.as_str().ok_or_else(|| ("detection.condition".to_owned(), "expected text".to_owned()))).collect::<Result<_, _>>()?
        }
        _ => return wrong("detection.condition", "is missing, or no text"),
    };
    let compiled = conditions.into_iter().map(|text| {
        let condition = condition::parse(text)?;
        compile(&condition, &selections)
    });
    let mut nodes: Vec<Node> = compiled.collect::<Result<_, _>>().or_else(|reason: String| wrong("detection.condition", reason))?;
    Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::any(nodes) })
}

fn compile(condition: &Condition, selections: &BTreeMap<&str, Arc<Node>>) -> Result<Node, String> {
    let all = |conditions: &[Condition]| conditions.iter().map(|condition| compile(condition, selections)).collect::<Result<Vec<_>, _>>();
    Ok(match condition {
        Condition::And(conditions) => Node::all(all(conditions)?),
        Condition::Or(conditions) => Node::any(all(conditions)?),
        Condition::Not(condition) => Node::Not(Box::new(compile(condition, selections)?)),
        Condition::Name(name) => Node::Selection(Arc::clone(selections.get(name.as_str()).ok_or_else(|| format!("there is no selection `{name}`"))?)),
        Condition::Of(count, pattern) => {
            let nodes: Vec<Node> =
                selections.iter().filter(|(name, _)| condition::fits(pattern, name)).map(|(_, node)| Node::Selection(Arc::clone(node))).collect();
            match count {
                _ if nodes.is_empty() => return Err(format!("there is no selection `{pattern}`")),
                None => Node::all(nodes),
                Some(1) => Node::any(nodes),
                Some(count) if *count > nodes.len() => return Err(format!("`{count} of {pattern}`: there are only {}", nodes.len())),
                Some(count) => Node::Some(*count, nodes),
            }
        }
    })
}

fn correlate(rule: Rule, map: &Map<String, Value>) -> Found<Correlation> {
    let at = |field: &str| format!("correlation.{field}");
    let inside = |(field, reason): (String, String)| (at(&field), reason);
    let rules = texts(map, "rules").map_err(inside)?;
    if rules.is_empty() {
        return wrong(at("rules"), "is missing or empty");
    }
    let group_by = texts(map, "group-by").map_err(inside)?;
    let span = text_of(map, "timespan").map_err(inside)?;
    let span = timespan(&span).or_else(|| timespan(&text_of(map, "timeframe").ok()?));
    let Some(span) = span else { return wrong(at("timespan"), "expected a number with s, m, h or d") };
    let condition = map.get("condition").and_then(Value::as_object);
    let number = |key: &str| condition.and_then(|condition| condition.get(key)).and_then(Value::as_u64);
    let least = || match (number("gte"), number("gt")) {
        (Some(least @ 1..=10_000), None) => Ok(least as usize),
        (None, Some(more @ 0..=9_999)) => Ok(more as usize + 1),
        _ => wrong(at("condition"), "expected `gte` or `gt` with a number up to 10000"),
    };
    let pattern = match text_of(map, "type").map_err(inside)?.as_str() {
        "event_count" => Pattern::Count(least()?),
        "value_count" => {
            let Some(field) = condition.and_then(|condition| condition.get("field")).and_then(Value::as_str) else {
                return wrong(at("condition.field"), "is missing, or no text");
            };
            Pattern::Values(field.to_owned(), least()?)
        }
        "temporal" => Pattern::All,
        "temporal_ordered" => Pattern::Ordered,
        other => return wrong(at("type"), format!("`{other}`: expected event_count, value_count, temporal or temporal_ordered")),
    };
    let reports_parts = truth(map, "generate").or_else(|reason| wrong(at("generate"), reason))?;
    Ok(Correlation { rule: Arc::new(rule), parts: rules, group_by, span, pattern, reports_parts })
}

/// Microseconds of `5m`.
fn timespan(text: &str) -> Option<i64> {
    let seconds = match text.char_indices().next_back()?.1 {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let number: i64 = text.get(..text.len() - 1)?.parse().ok()?;
    (1..=366 * 86_400).contains(&number.checked_mul(seconds)?).then_some(number * seconds * 1_000_000)
}
