//! Conditions of a statement: operators, their values and what a missing or malformed value means.

use std::{cmp::Ordering, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use crate::{
    context::{Context, ContextValue},
    pattern::{ArnPattern, Syntax, Template},
    value::{Decimal, Instant},
};

/// Keys that always hold a list, so that an operator without `ForAllValues:` or `ForAnyValue:` can never match.
pub(crate) const MULTIVALUED: [&str; 4] = ["aws:tagkeys", "aws:principalorgpaths", "aws:calledvia", "aws:principalservicenameslist"];

/// A condition operator such as `ForAnyValue:StringNotLikeIfExists`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operator {
    pub(crate) test: Test,
    negated: bool,
    if_exists: bool,
    pub(crate) set: Set,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    Text { wildcards: bool, fold: bool },
    Number(Comparison),
    Date(Comparison),
    Bool,
    Binary,
    Address,
    Arn,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// How many of the request's values must match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    Single,
    All,
    Any,
}

impl Operator {
    /// Reads an operator in AWS's spelling; none for an unknown one.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (set, name) = if let Some(name) = name.strip_prefix("ForAllValues:") {
            (Set::All, name)
        } else if let Some(name) = name.strip_prefix("ForAnyValue:") {
            (Set::Any, name)
        } else {
            (Set::Single, name)
        };
        let (if_exists, name) = name.strip_suffix("IfExists").map_or((false, name), |name| (true, name));
        let text = |wildcards, fold| Test::Text { wildcards, fold };
        let (test, negated) = match name {
            "StringEquals" => (text(false, false), false),
            "StringNotEquals" => (text(false, false), true),
            "StringEqualsIgnoreCase" => (text(false, true), false),
            "StringNotEqualsIgnoreCase" => (text(false, true), true),
            "StringLike" => (text(true, false), false),
            "StringNotLike" => (text(true, false), true),
            "NumericEquals" => (Test::Number(Comparison::Equal), false),
            "NumericNotEquals" => (Test::Number(Comparison::Equal), true),
            "NumericLessThan" => (Test::Number(Comparison::Less), false),
            "NumericLessThanEquals" => (Test::Number(Comparison::LessOrEqual), false),
            "NumericGreaterThan" => (Test::Number(Comparison::Greater), false),
            "NumericGreaterThanEquals" => (Test::Number(Comparison::GreaterOrEqual), false),
            "DateEquals" => (Test::Date(Comparison::Equal), false),
            "DateNotEquals" => (Test::Date(Comparison::Equal), true),
            "DateLessThan" => (Test::Date(Comparison::Less), false),
            "DateLessThanEquals" => (Test::Date(Comparison::LessOrEqual), false),
            "DateGreaterThan" => (Test::Date(Comparison::Greater), false),
            "DateGreaterThanEquals" => (Test::Date(Comparison::GreaterOrEqual), false),
            "Bool" => (Test::Bool, false),
            "BinaryEquals" => (Test::Binary, false),
            "IpAddress" => (Test::Address, false),
            "NotIpAddress" => (Test::Address, true),
            "ArnEquals" | "ArnLike" => (Test::Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Test::Arn, true),
            "Null" if !if_exists && set == Set::Single => (Test::Null, false),
            _ => return None,
        };
        Some(Self { test, negated, if_exists, set })
    }
}

/// One operator on one key.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    operator: Operator,
    /// In lower case.
    key: String,
    values: Vec<Value>,
}

/// A value of the policy, ready to compare.
#[derive(Debug, Clone)]
enum Value {
    Text(Template),
    Number(Decimal),
    Date(Instant),
    Bool(bool),
    /// A Bool written with a variable.
    BoolVariable(Template),
    Binary(String),
    Address(IpNet),
    Arn(ArnPattern),
    Malformed,
}

impl Condition {
    /// Compiles an operator and its values. `variables`: the policy's version has them.
    pub(crate) fn new(operator: Operator, key: &str, values: &[String], variables: bool) -> Self {
        let values = values.iter().map(|value| Value::parse(operator.test, value, variables).unwrap_or(Value::Malformed)).collect();
        Self { operator, key: key.to_lowercase(), values }
    }

    /// Whether a value can't be compared with anything.
    pub(crate) fn is_malformed(&self) -> bool {
        self.values.iter().any(|value| matches!(value, Value::Malformed | Value::Arn(ArnPattern::Never)))
    }

    /// Whether the condition can never hold because its key is a list and its operator wants one value.
    pub(crate) fn compares_list_as_one(&self) -> bool {
        self.operator.set == Set::Single && self.operator.test != Test::Null && MULTIVALUED.contains(&self.key.as_str())
    }

    /// Whether the condition holds for a request. `deny`: whose statement it is, for values that can't be compared.
    pub(crate) fn holds(&self, context: &Context, deny: bool) -> bool {
        let given = context.lookup(&self.key);
        if self.operator.test == Test::Null {
            return self.values.iter().any(|value| matches!(value, Value::Bool(absent) if *absent == given.is_none()));
        }
        match (self.operator.set, given) {
            (Set::Single, None) => self.operator.negated || self.operator.if_exists,
            (Set::All, None) => true,
            // `IfExists` changes nothing here: some value must match, and there is none.
            (Set::Any, None) => false,
            (Set::Single, Some(ContextValue::Many(_))) => false,
            (_, Some(ContextValue::One(value))) => self.holds_for(value, context, deny),
            (Set::All, Some(ContextValue::Many(values))) => values.iter().all(|value| self.holds_for(value, context, deny)),
            (Set::Any, Some(ContextValue::Many(values))) => values.iter().any(|value| self.holds_for(value, context, deny)),
        }
    }

    fn holds_for(&self, given: &str, context: &Context, deny: bool) -> bool {
        // A negated operator on what can't be compared must not let an Allow through, nor a Deny off.
        let mut incomparable = self.values.is_empty();
        for value in &self.values {
            match value.matches(self.operator.test, given, context) {
                Some(true) => return !self.operator.negated,
                Some(false) => {}
                None => incomparable = true,
            }
        }
        self.operator.negated && (deny || !incomparable)
    }
}

impl Value {
    fn parse(test: Test, text: &str, variables: bool) -> Option<Self> {
        Some(match test {
            Test::Text { wildcards, fold } => Self::Text(Template::parse(text, Syntax { wildcards, variables, fold })?),
            Test::Number(_) => Self::Number(Decimal::parse(text)?),
            Test::Date(_) => Self::Date(Instant::parse(text)?),
            Test::Bool => match parse_bool(text) {
                Some(value) => Self::Bool(value),
                None if variables && text.contains("${") => Self::BoolVariable(Template::parse(text, Syntax { wildcards: false, variables, fold: true })?),
                None => return None,
            },
            Test::Null => Self::Bool(parse_bool(text)?),
            Test::Binary => Self::Binary(parse_binary(text)?),
            Test::Address => Self::Address(parse_network(text)?),
            Test::Arn => Self::Arn(ArnPattern::parse(text, variables, false)?),
        })
    }

    /// Whether the request's value matches; none when the two can't be compared.
    fn matches(&self, test: Test, given: &str, context: &Context) -> Option<bool> {
        match (self, test) {
            (Self::Text(template), _) => template.matches(given, context),
            (Self::Number(value), Test::Number(comparison)) => Some(comparison.holds(Decimal::parse(given)?.cmp(value))),
            (Self::Date(value), Test::Date(comparison)) => Some(comparison.holds(Instant::parse(given)?.cmp(value))),
            (Self::Bool(value), _) => Some(parse_bool(given)? == *value),
            (Self::BoolVariable(template), _) => {
                parse_bool(given)?;
                template.matches(given, context)
            }
            (Self::Binary(value), _) => Some(parse_binary(given)? == *value),
            (Self::Address(network), _) => Some(network.contains(&IpAddr::from_str(given.trim()).ok()?.to_canonical())),
            (Self::Arn(pattern), _) => pattern.matches(given, context),
            (Self::Malformed | Self::Number(_) | Self::Date(_), _) => None,
        }
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Base64 without its padding, which is equal exactly when the bytes are.
fn parse_binary(text: &str) -> Option<String> {
    let digits = text.trim_end_matches('=');
    let valid = digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    (valid && digits.len() % 4 != 1 && text.len() - digits.len() <= 2).then(|| digits.to_owned())
}

/// A CIDR block, or one address.
fn parse_network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    IpNet::from_str(text).ok().or_else(|| IpAddr::from_str(text).ok().map(|address| IpNet::from(address.to_canonical())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(operator: &str, values: &[&str], given: impl Into<ContextValue>, deny: bool) -> bool {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        Condition::new(Operator::parse(operator).unwrap(), "x:y", &values, true).holds(&Context::new().with("X:Y", given), deny)
    }

    fn missing(operator: &str) -> bool {
        Condition::new(Operator::parse(operator).unwrap(), "x:y", &["1".to_owned()], true).holds(&Context::new(), false)
    }

    fn list(values: &[&str]) -> ContextValue {
        ContextValue::Many(values.iter().map(|value| (*value).to_owned()).collect())
    }

    #[test]
    fn a_missing_key_means_what_the_operator_says() {
        for (operator, expected) in [
            ("StringEquals", false),
            ("StringNotEquals", true),
            ("StringEqualsIfExists", true),
            ("NumericNotEquals", true),
            ("DateNotEquals", true),
            ("NotIpAddress", true),
            ("ArnNotLike", true),
            ("NumericLessThan", false),
            ("Bool", false),
            ("BoolIfExists", true),
            ("ForAllValues:StringEquals", true),
            ("ForAllValues:StringNotEquals", true),
            ("ForAnyValue:StringEquals", false),
            ("ForAnyValue:StringNotEquals", false),
            ("ForAnyValue:StringEqualsIfExists", false),
        ] {
            assert_eq!(missing(operator), expected, "{operator}");
        }
        assert!(holds("ForAllValues:StringEquals", &["a"], list(&[]), false));
        assert!(!holds("Null", &["false"], list(&[]), false));
    }

    #[test]
    fn sets_compare_each_value() {
        assert!(holds("ForAllValues:StringEquals", &["a", "b"], list(&["a", "b"]), false));
        assert!(!holds("ForAllValues:StringEquals", &["a", "b"], list(&["a", "c"]), false));
        assert!(holds("ForAnyValue:StringEquals", &["a"], list(&["c", "a"]), false));
        assert!(holds("ForAnyValue:StringNotEquals", &["a"], list(&["c", "a"]), false));
        assert!(!holds("ForAllValues:StringNotEquals", &["a"], list(&["c", "a"]), false));
        assert!(!holds("StringEquals", &["a"], list(&["a"]), false));
    }

    #[test]
    fn what_cannot_be_compared_favours_denial() {
        for (operator, value) in [("NotIpAddress", "10.0.0.0/8"), ("NumericNotEquals", "5"), ("DateNotEquals", "2026-01-01"), ("ArnNotEquals", "arn:a:b:c:d:e")]
        {
            assert!(holds(operator, &[value], "garbage", true), "{operator}");
            assert!(!holds(operator, &[value], "garbage", false), "{operator}");
        }
        assert!(!holds("IpAddress", &["10.0.0.0/8"], "garbage", true));
        assert!(!holds("NumericNotEquals", &["five"], "5", false));
        assert!(!holds("StringNotEquals", &["${aws:username}"], "Bob", false));
        assert!(holds("StringNotEquals", &["${aws:username}"], "Bob", true));
        assert!(!holds("StringNotEquals", &[], "Bob", false));
    }

    #[test]
    fn every_type_compares_by_its_own_rule() {
        assert!(holds("NumericLessThan", &["10"], "9", false));
        assert!(holds("DateLessThan", &["1767225600"], "2025-12-31T23:59:59Z", false));
        assert!(holds("DateGreaterThanEquals", &["2026-01-01"], "1767225600", false));
        assert!(holds("IpAddress", &["0.0.0.0/0"], "203.0.113.9", false));
        assert!(!holds("IpAddress", &["0.0.0.0/0"], "2001:db8::1", false));
        assert!(holds("IpAddress", &["203.0.113.9"], "::ffff:203.0.113.9", false));
        assert!(holds("IpAddress", &["10.1.2.3/8"], "10.9.9.9", false));
        assert!(holds("Bool", &["TRUE"], "true", false));
        assert!(holds("BinaryEquals", &["YQ=="], "YQ", false));
        assert!(holds("ArnEquals", &["arn:aws:sns:*:1:t?"], "arn:aws:sns:eu:1:t1", false));
        assert!(!holds("ArnLike", &["arn:aws:sns:*:1"], "arn:aws:sns:eu:1:t1", false));
        assert!(holds("StringEqualsIgnoreCase", &["ÄB"], "äb", false));
        assert!(!holds("StringEquals", &["a*"], "ab", false));
    }

    #[test]
    fn operators_outside_the_grammar_are_unknown() {
        for name in ["stringequals", "NullIfExists", "ForAnyValue:Null", "ForAnyValue::StringEquals", "IfExists", "StringEqualsIfExistsIfExists", ""] {
            assert_eq!(Operator::parse(name), None, "{name}");
        }
    }
}
