//! Whether a value is the one that a rule wants: Sigma's values, wildcards and modifiers.

use std::net::IpAddr;

use ipnet::IpNet;
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::{inside::Inside, view::Scalar};

/// The most memory that a compiled regular expression takes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// How a number is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// One wanted value.
#[derive(Debug, Clone)]
pub(crate) enum Check {
    /// The field is missing, null or empty.
    Nothing,
    /// Whether the field is there.
    Exists(bool),
    Text(Text),
    Number(f64),
    Bool(bool),
    Compare(Order, f64),
    Regex(Regex),
    Network(IpNet),
    /// Whether it names an account, or everybody, other than the event's account.
    Outsider(bool),
}

/// Wanted text.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pattern: Pattern,
    cased: bool,
}

#[derive(Debug, Clone)]
enum Pattern {
    Exact(Box<str>),
    Start(Box<str>),
    End(Box<str>),
    Inside(Inside),
    Glob(Regex),
}

/// Where in a value the text is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Place {
    #[default]
    Whole,
    Start,
    End,
    Inside,
}

/// A piece of text with wildcards.
enum Piece {
    Char(char),
    One,
    Many,
}

/// Sigma's escapes: `\*`, `\?` and `\\` stand for the character, any other backslash for itself.
fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        pieces.push(match character {
            '*' => Piece::Many,
            '?' => Piece::One,
            '\\' => Piece::Char(characters.next_if(|next| matches!(next, '*' | '?' | '\\')).unwrap_or('\\')),
            other => Piece::Char(other),
        });
    }
    pieces
}

impl Text {
    pub(crate) fn new(text: &str, place: Place, cased: bool) -> Result<Self, String> {
        let mut pieces = pieces(text);
        if matches!(place, Place::End | Place::Inside) {
            pieces.insert(0, Piece::Many);
        }
        if matches!(place, Place::Start | Place::Inside) {
            pieces.push(Piece::Many);
        }
        let many = |piece: Option<&Piece>| matches!(piece, Some(Piece::Many));
        let (open, close) = (many(pieces.first()), pieces.len() > 1 && many(pieces.last()));
        let middle = pieces.get(usize::from(open)..pieces.len() - usize::from(close)).unwrap_or_default();
        let plain: Option<String> = middle.iter().map(|piece| if let Piece::Char(character) = piece { Some(*character) } else { None }).collect();
        let pattern = match plain.map(String::into_boxed_str) {
            Some(text) => match (open, close) {
                (false, false) => Pattern::Exact(text),
                (false, true) => Pattern::Start(text),
                (true, false) => Pattern::End(text),
                (true, true) => Pattern::Inside(Inside::new(&text, cased)),
            },
            None => {
                let mut expression = String::from(r"\A");
                for piece in &pieces {
                    match piece {
                        Piece::Many => expression.push_str(".*"),
                        Piece::One => expression.push('.'),
                        Piece::Char(character) => expression.push_str(&regex::escape(character.encode_utf8(&mut [0; 4]))),
                    }
                }
                expression.push_str(r"\z");
                Pattern::Glob(regex(&expression, !cased, true, false)?)
            }
        };
        Ok(Self { pattern, cased })
    }

    /// The text, if it is wanted whole.
    pub(crate) fn exact(&self) -> Option<&str> {
        if let Pattern::Exact(text) = &self.pattern { Some(text) } else { None }
    }

    /// Text that is in each value that is wanted.
    pub(crate) fn literal(&self) -> Option<&str> {
        match &self.pattern {
            Pattern::Exact(text) | Pattern::Start(text) | Pattern::End(text) => Some(text),
            Pattern::Inside(inside) => Some(inside.text()),
            Pattern::Glob(_) => None,
        }
    }

    pub(crate) fn matches(&self, value: &str) -> bool {
        let same = |left: &[u8], right: &str| if self.cased { left == right.as_bytes() } else { left.eq_ignore_ascii_case(right.as_bytes()) };
        let value_bytes = value.as_bytes();
        match &self.pattern {
            Pattern::Exact(text) => same(value_bytes, text),
            Pattern::Start(text) => value_bytes.get(..text.len()).is_some_and(|start| same(start, text)),
            Pattern::End(text) => value_bytes.len().checked_sub(text.len()).and_then(|from| value_bytes.get(from..)).is_some_and(|end| same(end, text)),
            Pattern::Inside(text) => text.is_in(value),
            Pattern::Glob(regex) => regex.is_match(value),
        }
    }
}

/// Compiles a regular expression.
pub(crate) fn regex(expression: &str, insensitive: bool, dots: bool, lines: bool) -> Result<Regex, String> {
    let built = RegexBuilder::new(expression).case_insensitive(insensitive).dot_matches_new_line(dots).multi_line(lines).size_limit(MAX_REGEX_BYTES).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the regular expression is too large".to_owned(),
        other => format!("not a regular expression: {}", other.to_string().lines().last().unwrap_or_default().trim()),
    })
}

/// A number, or text that is one.
fn number(value: Scalar<'_>) -> Option<f64> {
    match value {
        Scalar::Number(number) => Some(number),
        Scalar::Text(text) => text.parse().ok(),
        Scalar::Bool(_) => None,
    }
}

/// A value as text, which numbers and truth values are written as.
pub(crate) fn with_text<T>(value: Scalar<'_>, then: impl FnOnce(&str) -> T) -> T {
    match value {
        Scalar::Text(text) => then(text),
        Scalar::Number(number) => then(&number.to_string()),
        Scalar::Bool(value) => then(if value { "true" } else { "false" }),
    }
}

/// The account that a principal names: 12 digits, or those of an ARN.
fn account_of(principal: &str) -> Option<&str> {
    let account = if principal.contains(':') { principal.split(':').nth(4)? } else { principal };
    Some(account).filter(|account| account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Check {
    /// A value of a rule as it stands, without modifiers that change its meaning.
    pub(crate) fn plain(value: &Value, place: Place, cased: bool) -> Result<Self, String> {
        Ok(match value {
            Value::Null => Self::Nothing,
            Value::String(text) if text.is_empty() && place == Place::Whole => Self::Nothing,
            Value::String(text) => Self::Text(Text::new(text, place, cased)?),
            Value::Number(number) if place == Place::Whole => Self::Number(number.as_f64().ok_or("the number is too large")?),
            Value::Bool(value) if place == Place::Whole => Self::Bool(*value),
            Value::Number(_) | Value::Bool(_) => Self::Text(Text::new(&value.to_string(), place, cased)?),
            Value::Array(_) | Value::Object(_) => return Err("expected text, a number, true, false, null, or a list of these".to_owned()),
        })
    }

    /// Whether one value is wanted; [`Check::Nothing`] and [`Check::Exists`] are about the field and not about a value.
    pub(crate) fn takes(&self, value: Scalar<'_>, account: &str) -> bool {
        match self {
            Self::Nothing | Self::Exists(_) => false,
            Self::Text(text) => with_text(value, |value| text.matches(value)),
            Self::Number(wanted) => number(value) == Some(*wanted),
            Self::Bool(wanted) => match value {
                Scalar::Bool(value) => value == *wanted,
                Scalar::Text(text) => text.eq_ignore_ascii_case(if *wanted { "true" } else { "false" }),
                Scalar::Number(_) => false,
            },
            Self::Compare(order, than) => number(value).is_some_and(|value| match order {
                Order::Less => value < *than,
                Order::LessOrEqual => value <= *than,
                Order::Greater => value > *than,
                Order::GreaterOrEqual => value >= *than,
            }),
            Self::Regex(regex) => with_text(value, |value| regex.is_match(value)),
            Self::Network(network) => {
                let Scalar::Text(text) = value else { return false };
                text.parse::<IpAddr>().is_ok_and(|address| network.contains(&address.to_canonical()))
            }
            Self::Outsider(wanted) => {
                let Scalar::Text(text) = value else { return false };
                let outsider = text == "*" || text == "all" || account_of(text).is_some_and(|named| !account.is_empty() && named != account);
                outsider == *wanted
            }
        }
    }

    /// How much work it is beside looking at the field.
    pub(crate) fn cost(&self) -> u32 {
        match self {
            Self::Regex(_) | Self::Text(Text { pattern: Pattern::Glob(_), .. }) => 5,
            Self::Text(Text { pattern: Pattern::Inside(_), .. }) | Self::Network(_) => 2,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pattern: &str, place: Place, value: &str) -> bool {
        Text::new(pattern, place, false).unwrap().matches(value)
    }

    #[test]
    fn wildcards_and_places() {
        for (pattern, place, value, expected) in [
            ("GetObject", Place::Whole, "getobject", true),
            ("Get*", Place::Whole, "GetObject", true),
            ("*Object", Place::Whole, "GetObject", true),
            ("*tob*", Place::Whole, "GetObject", true),
            ("G?tO*t", Place::Whole, "GetObject", true),
            ("G?tO*t", Place::Whole, "GettObject", false),
            ("*", Place::Whole, "", true),
            ("**", Place::Whole, "x", true),
            (r"a\*b", Place::Whole, "a*b", true),
            (r"a\*b", Place::Whole, "axb", false),
            (r"C:\\temp\x", Place::Whole, r"C:\temp\x", true),
            ("Obj", Place::Inside, "GetObject", true),
            ("Get", Place::Start, "GetObject", true),
            ("Get", Place::Start, "Ge", false),
            ("ject", Place::End, "GetObject", true),
            ("a*b", Place::Inside, "xx a--b yy", true),
            ("é", Place::Inside, "café au lait", true),
            ("line", Place::End, "two\nline", true),
            ("a*e", Place::Whole, "a\ne", true),
        ] {
            assert_eq!(text(pattern, place, value), expected, "{pattern} {place:?} {value}");
        }
        assert!(!Text::new("get", Place::Start, true).unwrap().matches("GetObject"));
        assert_eq!(Text::new("Get*", Place::Whole, false).unwrap().exact(), None);
        assert_eq!(Text::new("Get", Place::Whole, false).unwrap().exact(), Some("Get"));
    }

    #[test]
    fn values_are_compared_by_their_kind() {
        let takes = |check: &Check, value: Scalar<'_>| check.takes(value, "111122223333");
        assert!(takes(&Check::Number(22.0), Scalar::Text("22")) && takes(&Check::Number(22.0), Scalar::Number(22.0)));
        assert!(takes(&Check::Bool(true), Scalar::Text("True")) && !takes(&Check::Bool(true), Scalar::Bool(false)));
        assert!(takes(&Check::Compare(Order::LessOrEqual, 22.0), Scalar::Number(22.0)) && !takes(&Check::Compare(Order::Less, 22.0), Scalar::Number(22.0)));
        assert!(takes(&Check::plain(&Value::from("2*"), Place::Whole, false).unwrap(), Scalar::Number(22.0)));
        let network = Check::Network("10.0.0.0/8".parse().unwrap());
        assert!(
            takes(&network, Scalar::Text("10.9.8.7"))
                && takes(&network, Scalar::Text("::ffff:10.1.1.1"))
                && !takes(&network, Scalar::Text("ec2.amazonaws.com"))
        );
        let outsider = Check::Outsider(true);
        for (value, expected) in [
            ("*", true),
            ("arn:aws:iam::999988887777:root", true),
            ("999988887777", true),
            ("111122223333", false),
            ("ec2.amazonaws.com", false),
            ("all", true),
        ] {
            assert_eq!(takes(&outsider, Scalar::Text(value)), expected, "{value}");
        }
        assert!(!outsider.takes(Scalar::Text("999988887777"), ""), "the own account is not known");
    }

    #[test]
    fn bad_regular_expressions_are_refused() {
        assert!(regex("(", false, false, false).unwrap_err().starts_with("not a regular expression"));
        assert_eq!(regex(r"(\w{200}){200}", false, false, false).unwrap_err(), "the regular expression is too large");
    }
}
