//! The model's constraints on input, and what is said of input that breaks them.

use std::cell::RefCell;

use gumshoe_model::{GraphArn, Timestamp};
use serde_json::{Map, Value};

use super::error::{ApiError, ErrorCode, Kind};

/// Faults told of one request; of more, only the number is.
const MAX_TOLD: usize = 10;
const MAX_SHOWN: usize = 100;

/// A regular expression as the model has it, and a matcher for it.
type Pattern = (&'static str, fn(&str) -> bool);

/// What a text must be.
pub struct Text {
    min: usize,
    max: usize,
    pattern: Option<Pattern>,
    /// Never shown.
    sensitive: bool,
}

impl Text {
    const ANY: Self = Self { min: 0, max: usize::MAX, pattern: None, sensitive: false };
    /// An account.
    pub const ACCOUNT_ID: Self = Self { min: 12, max: 12, pattern: Some(("^[0-9]+$", is_number)), ..Self::ANY };
    /// A graph.
    pub const GRAPH_ARN: Self = Self {
        pattern: Some((r"^arn:aws[-\w]{0,10}?:detective:[-\w]{2,20}?:\d{12}?:graph:[abcdef\d]{32}?$", |text| text.parse::<GraphArn>().is_ok())),
        ..Self::ANY
    };
    /// An address of electronic mail.
    pub const EMAIL_ADDRESS: Self =
        Self { min: 1, max: 64, pattern: Some((r"^.+@(?:(?:(?!-)[A-Za-z0-9-]{1,62})?[A-Za-z0-9]{1}\.)+[A-Za-z]{2,63}$", is_email_address)), sensitive: true };
    /// Words of an invitation.
    pub const EMAIL_MESSAGE: Self = Self { min: 1, max: 1_000, pattern: None, sensitive: true };
    /// A user or role.
    pub const ENTITY_ARN: Self = Self { pattern: Some(("^arn:.*", |text| text.starts_with("arn:"))), ..Self::ANY };
    /// An investigation.
    pub const INVESTIGATION_ID: Self = Self { min: 21, max: 21, pattern: Some(("^[0-9]+$", is_number)), ..Self::ANY };
    /// The key of a tag.
    pub const TAG_KEY: Self = Self { min: 1, max: 128, pattern: Some(("^(?!aws:)[a-zA-Z+-=._:/]+$", is_tag_key)), ..Self::ANY };
    /// The value of a tag.
    pub const TAG_VALUE: Self = Self { max: 256, ..Self::ANY };
    /// What a filter looks for.
    pub const FILTER_VALUE: Self = Self { min: 1, max: 500, ..Self::ANY };

    const fn page_token(max: usize) -> Self {
        Self { min: 1, max, ..Self::ANY }
    }

    fn faults(&self, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some((shown, matches)) = self.pattern
            && !matches(text)
        {
            faults.push(format!("Member must satisfy regular expression pattern: {shown}"));
        }
        faults.extend(length_fault(text.chars().count(), self.min, self.max));
        faults
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_email_address(text: &str) -> bool {
    // What follows the last `@` has none, so that is where the host begins.
    let Some((name, host)) = text.rsplit_once('@') else { return false };
    let Some((labels, top)) = host.rsplit_once('.') else { return false };
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !name.is_empty()
        && !name.contains(['\n', '\r', '\u{2028}', '\u{2029}'])
        && labels.split('.').all(is_label)
        && (2..=63).contains(&top.len())
        && top.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn is_tag_key(text: &str) -> bool {
    // `+-=` is a range: digits, comma, minus, dot, slash, colon, semicolon, less than and equals are in it.
    !text.is_empty() && !text.starts_with("aws:") && text.bytes().all(|byte| byte.is_ascii_alphabetic() || (b'+'..=b'=').contains(&byte) || byte == b'_')
}

fn length_fault(length: usize, min: usize, max: usize) -> Option<String> {
    if length < min {
        Some(format!("Member must have length greater than or equal to {min}"))
    } else if length > max {
        Some(format!("Member must have length less than or equal to {max}"))
    } else {
        None
    }
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Fault {
    path: String,
    /// The value as it may be shown.
    value: Option<String>,
    constraint: String,
}

/// A JSON object of the input. Values at fault are noted, and something harmless is given in their place: whoever reads
/// looks at the faults before using what was read.
pub struct Input<'a> {
    members: &'a Map<String, Value>,
    faults: &'a RefCell<Vec<Fault>>,
    path: String,
}

impl<'a> Input<'a> {
    /// The whole input.
    pub fn new(members: &'a Map<String, Value>, faults: &'a RefCell<Vec<Fault>>) -> Self {
        Self { members, faults, path: String::new() }
    }

    /// A text that may be left out.
    pub fn text(&self, name: &str, rule: &Text) -> Option<String> {
        let (path, value) = self.member(name)?;
        self.text_at(path, value, rule)
    }

    /// A text that must be there.
    pub fn required_text(&self, name: &str, rule: &Text) -> String {
        self.require(name);
        self.text(name, rule).unwrap_or_default()
    }

    /// A text that is not in the body, but in the address.
    pub fn given_text(&self, path: &str, text: &str, rule: &Text) {
        for constraint in rule.faults(text) {
            self.fault(path.to_owned(), Some(shown(text)), constraint);
        }
    }

    /// A number of texts that are not in the body, but in the address.
    pub fn given_texts(&self, path: &str, texts: &[String], max: usize, rule: &Text) {
        if let Some(constraint) = length_fault(texts.len(), 1, max) {
            self.fault(path.to_owned(), None, constraint);
        }
        for text in texts.iter().take(max) {
            self.given_text(path, text, rule);
        }
    }

    /// The graph that the operation acts on.
    pub fn graph(&self) -> String {
        self.required_text("GraphArn", &Text::GRAPH_ARN)
    }

    /// `MaxResults`, 0 if it is left out.
    pub fn page_size(&self, max: i32) -> i32 {
        let Some((path, value)) = self.member("MaxResults") else { return 0 };
        let Some(size) = value.as_i64() else {
            self.wrong_type(path, "an integer");
            return 0;
        };
        if size < 1 {
            self.fault(path, Some(size.to_string()), "Member must have value greater than or equal to 1".to_owned());
        } else if size > i64::from(max) {
            self.fault(path, Some(size.to_string()), format!("Member must have value less than or equal to {max}"));
        }
        i32::try_from(size).unwrap_or_default()
    }

    /// `NextToken`, empty if it is left out.
    pub fn page_token(&self, max: usize) -> String {
        self.text("NextToken", &Text::page_token(max)).unwrap_or_default()
    }

    /// Yes or no.
    pub fn flag(&self, name: &str) -> Option<bool> {
        let (path, value) = self.member(name)?;
        if !value.is_boolean() {
            self.wrong_type(path, "true or false");
        }
        value.as_bool()
    }

    /// A time that must be there: ISO 8601, or seconds since the epoch.
    pub fn required_time(&self, name: &str) -> Timestamp {
        self.require(name);
        let Some((path, value)) = self.member(name) else { return Timestamp::MIN };
        let time = match value {
            Value::String(text) => Timestamp::parse(text).ok(),
            Value::Number(number) => match number.as_i64() {
                Some(seconds) => Timestamp::from_seconds(seconds),
                None => number.as_f64().and_then(from_fraction),
            },
            _ => None,
        };
        time.unwrap_or_else(|| {
            self.wrong_type(path, "a timestamp of the years 1970 to 9999, in ISO 8601 or seconds");
            Timestamp::MIN
        })
    }

    /// One of some names, if it is there.
    pub fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Option<T> {
        let (path, value) = self.member(name)?;
        self.choice_at(path, value, choices)
    }

    /// One of some names.
    pub fn required_choice<T: Copy + Default>(&self, name: &str, choices: &[(&str, T)]) -> T {
        self.require(name);
        self.choice(name, choices).unwrap_or_default()
    }

    /// A list of 1 to `max` texts.
    pub fn texts(&self, name: &str, max: usize, rule: &Text) -> Vec<String> {
        self.list(name, max, |path, value| self.text_at(path, value, rule))
    }

    /// A list of 1 to `max` of some names.
    pub fn choices<T: Copy>(&self, name: &str, max: usize, choices: &[(&str, T)]) -> Vec<T> {
        self.list(name, max, |path, value| self.choice_at(path, value, choices))
    }

    /// A list of 1 to `max` objects.
    pub fn objects<T>(&self, name: &str, max: usize, build: impl Fn(&Input<'_>) -> T) -> Vec<T> {
        self.list(name, max, |path, value| self.object_at(path, value, &build))
    }

    /// An object that may be left out.
    pub fn object<T>(&self, name: &str, build: impl Fn(&Input<'_>) -> T) -> Option<T> {
        let (path, value) = self.member(name)?;
        self.object_at(path, value, &build)
    }

    /// `Tags`, 1 to 50 if they are there.
    pub fn tags(&self, required: bool) -> Vec<(String, String)> {
        if required {
            self.require("Tags");
        }
        let Some((path, value)) = self.member("Tags") else { return Vec::new() };
        let Value::Object(tags) = value else {
            self.wrong_type(path, "a map");
            return Vec::new();
        };
        if let Some(constraint) = length_fault(tags.len(), 1, 50) {
            self.fault(path.clone(), None, constraint);
        }
        let mut read = Vec::new();
        for (key, value) in tags.iter().take(50) {
            for constraint in Text::TAG_KEY.faults(key) {
                self.fault(path.clone(), Some(shown(key)), format!("Map keys must satisfy constraint: [{constraint}]"));
            }
            if value.is_null() {
                self.fault(format!("{path}.{}.member", shown(key)), Some("null".to_owned()), "Member must not be null".to_owned());
            }
            if let Some(value) = self.text_at(format!("{path}.{}.member", shown(key)), value, &Text::TAG_VALUE) {
                read.push((key.clone(), value));
            }
        }
        read
    }

    /// Notes that a value is not one of those that the operation knows.
    pub fn unknown_value<T>(&self, name: &str, choices: &[(&str, T)]) {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let value = self.members.get(name).map(shown_value);
        self.fault(self.path_of(name), value, format!("Member must satisfy enum value set: [{}]", names.join(", ")));
    }

    /// A member with its path; nothing if it is null or not there.
    fn member(&self, name: &str) -> Option<(String, &'a Value)> {
        let value = self.members.get(name).filter(|value| !value.is_null())?;
        Some((self.path_of(name), value))
    }

    fn path_of(&self, name: &str) -> String {
        let mut path = self.path.clone();
        let mut letters = name.chars();
        path.extend(letters.next().map(|letter| letter.to_ascii_lowercase()));
        path.push_str(letters.as_str());
        path
    }

    fn require(&self, name: &str) {
        if self.members.get(name).is_none_or(Value::is_null) {
            self.fault(self.path_of(name), Some("null".to_owned()), "Member must not be null".to_owned());
        }
    }

    fn text_at(&self, path: String, value: &Value, rule: &Text) -> Option<String> {
        let Value::String(text) = value else {
            if !value.is_null() {
                self.wrong_type(path, "a string");
            }
            return None;
        };
        let faults = rule.faults(text);
        let good = faults.is_empty();
        for constraint in faults {
            self.fault(path.clone(), (!rule.sensitive).then(|| shown(text)), constraint);
        }
        good.then(|| text.clone())
    }

    fn choice_at<T: Copy>(&self, path: String, value: &Value, choices: &[(&str, T)]) -> Option<T> {
        let Value::String(text) = value else {
            self.wrong_type(path, "a string");
            return None;
        };
        let found = choices.iter().find(|(name, _)| name == text);
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            self.fault(path, Some(shown(text)), format!("Member must satisfy enum value set: [{}]", names.join(", ")));
        }
        found.map(|(_, choice)| *choice)
    }

    fn object_at<T>(&self, path: String, value: &Value, build: &impl Fn(&Input<'_>) -> T) -> Option<T> {
        let Value::Object(members) = value else {
            self.wrong_type(path, "a structure");
            return None;
        };
        Some(build(&Input { members, faults: self.faults, path: path + "." }))
    }

    fn list<T>(&self, name: &str, max: usize, read: impl Fn(String, &Value) -> Option<T>) -> Vec<T> {
        self.require(name);
        let Some((path, value)) = self.member(name) else { return Vec::new() };
        let Value::Array(items) = value else {
            self.wrong_type(path, "a list");
            return Vec::new();
        };
        if let Some(constraint) = length_fault(items.len(), 1, max) {
            self.fault(path.clone(), None, constraint);
        }
        let read = |(index, item): (usize, &Value)| {
            let path = format!("{path}.{}.member", index + 1);
            if item.is_null() {
                self.fault(path, Some("null".to_owned()), "Member must not be null".to_owned());
                return None;
            }
            read(path, item)
        };
        items.iter().take(max).enumerate().filter_map(read).collect()
    }

    fn wrong_type(&self, path: String, expected: &str) {
        self.fault(path, None, format!("Member must be {expected}"));
    }

    fn fault(&self, path: String, value: Option<String>, constraint: String) {
        self.faults.borrow_mut().push(Fault { path, value, constraint });
    }
}

fn from_fraction(seconds: f64) -> Option<Timestamp> {
    let microseconds = (seconds * 1e6).round();
    // Exact below 2^53, which is the year 2255; the cast saturates.
    Some(Timestamp(microseconds as i64)).filter(|time| (Timestamp::MIN..=Timestamp::MAX).contains(time))
}

fn shown_value(value: &Value) -> String {
    value.as_str().map_or_else(|| shown(&value.to_string()), shown)
}

/// Input as it may stand in a message: cut, control characters escaped.
fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).flat_map(|character| if character.is_control() { character.escape_default().collect() } else { vec![character] }).collect()
}

/// The error that tells of the faults, if there are any.
pub fn error(faults: &[Fault]) -> Option<ApiError> {
    let told: Vec<_> = faults
        .iter()
        .take(MAX_TOLD)
        .map(|Fault { path, value, constraint }| {
            let value = match value.as_deref() {
                None => "Value".to_owned(),
                Some("null") => "Value null".to_owned(),
                Some(value) => format!("Value '{value}'"),
            };
            format!("{value} at '{path}' failed to satisfy constraint: {constraint}")
        })
        .collect();
    if told.is_empty() {
        return None;
    }
    let is_graph = |fault: &Fault| ["graphArn", "resourceArn", "graphArns"].iter().any(|name| fault.path.starts_with(name));
    let code = if faults.iter().all(is_graph) { ErrorCode::InvalidGraphArn } else { ErrorCode::InvalidRequestBody };
    let plural = if faults.len() == 1 { "" } else { "s" };
    let message = format!("{} validation error{plural} detected: {}", faults.len(), told.join("; "));
    Some(ApiError { code: Some(code), ..ApiError::new(Kind::Validation, message) })
}

/// What is said of one fault that was found elsewhere.
pub fn violation(path: &str, constraint: &str) -> String {
    format!("1 validation error detected: Value at '{path}' failed to satisfy constraint: {constraint}")
}

/// The model's name for a field of a gRPC request: `accounts.2.member.emailAddress` for `members[1].email`.
pub fn member_name(field: &str) -> String {
    let rename = |name: &str| match name {
        "page_token" => "nextToken".to_owned(),
        "page_size" => "maxResults".to_owned(),
        "members" => "accounts".to_owned(),
        "email" => "emailAddress".to_owned(),
        "packages" => "datasourcePackages".to_owned(),
        _ => camel_case(name),
    };
    match field {
        "scope.start_time" => return "scopeStartTime".to_owned(),
        "scope.end_time" => return "scopeEndTime".to_owned(),
        _ => {}
    }
    let parts = field.split('.').map(|part| {
        let index = part.strip_suffix(']').and_then(|part| part.split_once('[')).and_then(|(name, index)| Some((name, index.parse::<usize>().ok()?)));
        index.map_or_else(|| rename(part), |(name, index)| format!("{}.{}.member", rename(name), index.saturating_add(1)))
    });
    parts.collect::<Vec<_>>().join(".")
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut text = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        text.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        text.push_str(letters.as_str());
    }
    text
}

#[cfg(test)]
#[path = "validate/tests.rs"]
mod tests;
