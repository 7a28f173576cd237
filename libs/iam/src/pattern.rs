//! Wildcard patterns, policy variables and ARNs.
//!
//! A pattern is cut at its `*`s into segments. The first and last segment are anchored and each one between is taken
//! where it first fits, which never has to be taken back. So a match reads the text once, save that a floating segment
//! with `?` in it is tried at each position.

use std::borrow::Cow;

use crate::context::{Context, ContextValue};

/// A compiled pattern: `*` stands for any run of characters, `?` for exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// What stands between the `*`s. INVARIANT: never empty; no segment between the first and the last is empty.
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Text(String),
    /// Characters, `None` for a `?`.
    Holes(Vec<Option<char>>),
}

impl Pattern {
    /// A pattern without variables.
    pub(crate) fn wild(text: &str) -> Self {
        let mut builder = Builder::default();
        builder.push_wild(text);
        builder.finish()
    }

    /// Whether the pattern covers the whole of `text`.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self.segments.as_slice() {
            [] => text.is_empty(),
            [only] => only.strip_prefix(text) == Some(""),
            [first, middle @ .., last] => {
                let Some(mut rest) = first.strip_prefix(text).and_then(|rest| last.strip_suffix(rest)) else { return false };
                middle.iter().all(|segment| match segment.find(rest) {
                    Some(after) => {
                        rest = after;
                        true
                    }
                    None => false,
                })
            }
        }
    }
}

impl Segment {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }

    fn strip_prefix<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self {
            Self::Text(prefix) => text.strip_prefix(prefix.as_str()),
            Self::Holes(atoms) => {
                let mut rest = text.chars();
                atoms.iter().all(|atom| rest.next().is_some_and(|found| atom.is_none_or(|wanted| wanted == found))).then_some(rest.as_str())
            }
        }
    }

    fn strip_suffix<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self {
            Self::Text(suffix) => text.strip_suffix(suffix.as_str()),
            Self::Holes(atoms) => {
                let mut rest = text.chars();
                atoms.iter().rev().all(|atom| rest.next_back().is_some_and(|found| atom.is_none_or(|wanted| wanted == found))).then_some(rest.as_str())
            }
        }
    }

    /// What follows the first place where the segment fits.
    fn find<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self {
            Self::Text(wanted) => text.split_once(wanted.as_str()).map(|(_, after)| after),
            Self::Holes(_) => {
                let mut rest = text.chars();
                loop {
                    if let Some(after) = self.strip_prefix(rest.as_str()) {
                        return Some(after);
                    }
                    rest.next()?;
                }
            }
        }
    }
}

#[derive(Default)]
struct Builder {
    done: Vec<Segment>,
    open: Vec<Option<char>>,
}

impl Builder {
    fn push_text(&mut self, text: &str) {
        self.open.extend(text.chars().map(Some));
    }

    fn push_wild(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '*' => self.push_run(),
                '?' => self.open.push(None),
                _ => self.open.push(Some(character)),
            }
        }
    }

    fn push_run(&mut self) {
        let segment = self.close();
        // `**` is `*`.
        if self.done.is_empty() || !segment.is_empty() {
            self.done.push(segment);
        }
    }

    fn close(&mut self) -> Segment {
        let atoms = std::mem::take(&mut self.open);
        match atoms.iter().copied().collect::<Option<String>>() {
            Some(text) => Segment::Text(text),
            None => Segment::Holes(atoms),
        }
    }

    fn finish(mut self) -> Pattern {
        let last = self.close();
        self.done.push(last);
        Pattern { segments: self.done }
    }
}

/// Text of a policy that may hold wildcards and variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    shape: Shape,
    /// Whether matching ignores case.
    fold: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Fixed(Pattern),
    Variable(Vec<Piece>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Wild(String),
    Variable { key: String, default: Option<String> },
}

/// How the text of a policy is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Syntax {
    /// `*` and `?` are wildcards.
    pub(crate) wildcards: bool,
    /// `${…}` is a variable: from policy version 2012-10-17 on.
    pub(crate) variables: bool,
    /// Case is ignored.
    pub(crate) fold: bool,
}

impl Template {
    /// Reads `text`; none when a `${…}` in it is not a variable.
    pub(crate) fn parse(text: &str, syntax: Syntax) -> Option<Self> {
        let text = if syntax.fold { Cow::Owned(text.to_lowercase()) } else { Cow::Borrowed(text) };
        let plain = |text: &str| if syntax.wildcards { Piece::Wild(text.to_owned()) } else { Piece::Text(text.to_owned()) };
        let mut pieces = Vec::new();
        let mut rest: &str = &text;
        while let Some((before, inside, after)) = next_variable(rest).filter(|_| syntax.variables) {
            pieces.push(plain(before));
            pieces.push(Piece::parse_variable(inside)?);
            rest = after;
        }
        pieces.push(plain(rest));
        let shape = if pieces.iter().any(|piece| matches!(piece, Piece::Variable { .. })) {
            Shape::Variable(pieces)
        } else {
            let mut builder = Builder::default();
            for piece in &pieces {
                match piece {
                    Piece::Wild(text) => builder.push_wild(text),
                    Piece::Text(text) => builder.push_text(text),
                    Piece::Variable { .. } => {}
                }
            }
            Shape::Fixed(builder.finish())
        };
        Some(Self { shape, fold: syntax.fold })
    }

    /// Whether it has variables, which condition keys stand for.
    fn has_variables(&self) -> bool {
        matches!(self.shape, Shape::Variable(_))
    }

    /// Whether the value matches; none when a variable has neither value nor default.
    pub(crate) fn matches(&self, value: &str, context: &Context) -> Option<bool> {
        let value = if self.fold { Cow::Owned(value.to_lowercase()) } else { Cow::Borrowed(value) };
        match &self.shape {
            Shape::Fixed(pattern) => Some(pattern.matches(&value)),
            Shape::Variable(pieces) => {
                let mut builder = Builder::default();
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => builder.push_text(text),
                        Piece::Wild(text) => builder.push_wild(text),
                        // A wildcard in the value of a variable is an ordinary character.
                        Piece::Variable { key, default } => match (context.lookup(key), default) {
                            (Some(ContextValue::One(text)), _) if self.fold => builder.push_text(&text.to_lowercase()),
                            (Some(ContextValue::One(text)), _) | (None, Some(text)) => builder.push_text(text),
                            (Some(ContextValue::Many(_)), _) | (None, None) => return None,
                        },
                    }
                }
                Some(builder.finish().matches(&value))
            }
        }
    }
}

impl Piece {
    /// Reads what stands between `${` and `}`: a key, a key with a default in single quotes, or one of `*`, `?`, `$`.
    fn parse_variable(inside: &str) -> Option<Self> {
        if matches!(inside, "*" | "?" | "$") {
            return Some(Self::Text(inside.to_owned()));
        }
        let (key, default) = match inside.split_once(',') {
            Some((key, default)) => (key, Some(default.trim().strip_prefix('\'')?.strip_suffix('\'')?.to_owned())),
            None => (inside, None),
        };
        let key = key.trim();
        let valid = !key.is_empty() && !key.contains(['$', '{', '*', '?', '\'']);
        valid.then(|| Self::Variable { key: key.to_lowercase(), default })
    }
}

/// Text before the next `${…}`, what is inside it, and the text after; none when there is none.
fn next_variable(text: &str) -> Option<(&str, &str, &str)> {
    let (before, opened) = text.split_once("${")?;
    let (inside, after) = opened.split_once('}')?;
    Some((before, inside, after))
}

/// An ARN pattern, matched part by part, so that a wildcard in one part never runs into the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ArnPattern {
    /// `*`.
    Any,
    Parts(Box<[Template; 6]>),
    /// Fewer than six parts where all are required.
    Never,
}

impl ArnPattern {
    /// Whether it has variables, which condition keys stand for.
    pub(crate) fn has_variables(&self) -> bool {
        matches!(self, Self::Parts(parts) if parts.iter().any(Template::has_variables))
    }

    /// Reads an ARN pattern. `open_end`: parts that are missing at the end stand for `*`.
    pub(crate) fn parse(text: &str, variables: bool, open_end: bool) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let mut parts = split_arn(text, variables);
        if parts.len() < 6 && !open_end {
            return Some(Self::Never);
        }
        parts.resize(6, "*");
        let syntax = Syntax { wildcards: true, variables, fold: false };
        let templates: Option<Vec<Template>> = parts.into_iter().map(|part| Template::parse(part, syntax)).collect();
        <[Template; 6]>::try_from(templates?).ok().map(|parts| Self::Parts(Box::new(parts)))
    }

    /// Whether the ARN matches; none when it is not an ARN or a variable has no value. `*` is matched by `*` alone.
    pub(crate) fn matches(&self, arn: &str, context: &Context) -> Option<bool> {
        let templates = match self {
            Self::Any => return Some(true),
            Self::Never => return Some(false),
            Self::Parts(templates) => templates,
        };
        if arn == "*" {
            return Some(false);
        }
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        if parts.len() < 6 || parts.first() != Some(&"arn") {
            return None;
        }
        let mut unresolved = false;
        for (template, part) in templates.iter().zip(parts) {
            match template.matches(part, context) {
                Some(false) => return Some(false),
                Some(true) => {}
                None => unresolved = true,
            }
        }
        (!unresolved).then_some(true)
    }
}

/// Cuts an ARN at its first five colons, leaving those inside `${…}` alone.
pub(crate) fn split_arn(text: &str, variables: bool) -> Vec<&str> {
    let mut parts = Vec::with_capacity(6);
    let (mut start, mut inside, mut previous) = (0, false, ' ');
    for (index, character) in text.char_indices() {
        match character {
            '{' if variables && previous == '$' => inside = true,
            '}' => inside = false,
            ':' if !inside && parts.len() < 5 => {
                parts.extend(text.get(start..index));
                start = index + 1;
            }
            _ => {}
        }
        previous = character;
    }
    parts.extend(text.get(start..));
    parts
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    /// The textbook recursion, to hold the matcher against.
    fn reference(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skip| reference(rest, &text[skip..])),
            Some(('?', rest)) => !text.is_empty() && reference(rest, &text[1..]),
            Some((wanted, rest)) => text.first() == Some(wanted) && reference(rest, &text[1..]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn matches_as_the_reference_does(pattern in "[ab*?é]{0,9}", text in "[abé]{0,9}") {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(Pattern::wild(&pattern).matches(&text), reference(&characters(&pattern), &characters(&text)));
        }

        #[test]
        fn templates_without_variables_are_patterns(pattern in "[ab*?]{0,9}", text in "[ab]{0,9}") {
            let template = Template::parse(&pattern, Syntax { wildcards: true, variables: true, fold: false }).unwrap();
            prop_assert_eq!(template.matches(&text, &Context::new()), Some(Pattern::wild(&pattern).matches(&text)));
        }
    }

    #[test]
    fn hostile_patterns_take_linear_time() {
        let text = "a".repeat(100_000);
        let begin = Instant::now();
        for pattern in ["*".repeat(1000), "*a".repeat(1000) + "b", "a*".repeat(1000) + "b", "*".repeat(1000) + "b", "*?".repeat(1000) + "b"] {
            assert_eq!(Pattern::wild(&pattern).matches(&text), !pattern.contains('b'), "{}", pattern.get(..4).unwrap());
        }
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }

    #[test]
    fn variables_are_substituted_as_literal_text() {
        let context = Context::new().with("aws:username", "B*b").with("aws:TagKeys", vec!["x".to_owned()]);
        let all = Syntax { wildcards: true, variables: true, fold: false };
        let check = |template: &str, text: &str| Template::parse(template, all).unwrap().matches(text, &context);
        assert_eq!(check("home/${aws:username}/*", "home/B*b/x"), Some(true));
        assert_eq!(check("home/${aws:username}/*", "home/Bxb/x"), Some(false));
        assert_eq!(check("${AWS:UserName}", "B*b"), Some(true));
        assert_eq!(check("${aws:missing, 'D?'}", "D?"), Some(true));
        assert_eq!(check("${aws:missing, 'D?'}", "Dx"), Some(false));
        assert_eq!(check("${aws:missing}", ""), None);
        assert_eq!(check("${aws:TagKeys}", "x"), None);
        assert_eq!(check("a${*}b${?}c${$}", "a*b?c$"), Some(true));
        assert_eq!(check("a${*}b", "axb"), Some(false));
        assert_eq!(check("${open", "${open"), Some(true));
        for bad in ["${}", "${a, b}", "${a, 'b}", "${a${b}"] {
            assert_eq!(Template::parse(bad, all), None, "{bad}");
        }
        let literal = Syntax { variables: false, ..all };
        assert_eq!(Template::parse("${aws:username}", literal).unwrap().matches("${aws:username}", &context), Some(true));
        let fold = Syntax { fold: true, ..all };
        assert_eq!(Template::parse("X${aws:username}", fold).unwrap().matches("xb*B", &context), Some(true));
    }

    #[test]
    fn arns_match_part_by_part() {
        let check = |pattern: &str, arn: &str| ArnPattern::parse(pattern, true, true).unwrap().matches(arn, &Context::new().with("aws:x", "a:b"));
        assert_eq!(check("arn:aws:s3:::b/*", "arn:aws:s3:::b/c:d"), Some(true));
        assert_eq!(check("arn:aws:s3:*", "arn:aws:s3:::b"), Some(true));
        assert_eq!(check("arn:*:s3:::b", "arn:aws:x:s3:::b"), Some(false));
        assert_eq!(check("arn:aws:s3:::${aws:x}", "arn:aws:s3:::a:b"), Some(true));
        assert_eq!(check("arn:aws:s3:${aws:x}::y", "arn:aws:s3:a:b:y"), Some(false));
        assert_eq!(check("*", "*"), Some(true));
        assert_eq!(check("arn:*:*:*:*:*", "*"), Some(false));
        assert_eq!(check("arn:*:*:*:*:*", "nothing"), None);
        assert_eq!(ArnPattern::parse("arn:aws:s3", true, false), Some(ArnPattern::Never));
    }
}
