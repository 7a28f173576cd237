//! The language of conditions: `selection and not 1 of filter_*`.
//!
//! ```text
//! or    = and { "or" and }
//! and   = not { "and" not }
//! not   = "not" not | "(" or ")" | count "of" ( "them" | pattern ) | name
//! count = "all" | "any" | number
//! ```

/// The longest condition, in bytes, and the deepest.
const MAX_BYTES: usize = 4096;
const MAX_DEPTH: usize = 50;

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    Name(String),
    /// At least so many, or all, of the selections whose names fit.
    Of(Option<usize>, String),
}

/// Reads a condition.
pub(crate) fn parse(text: &str) -> Result<Condition, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("longer than {MAX_BYTES} bytes"));
    }
    if text.contains('|') {
        return Err("aggregations with `|` are not supported: use a correlation rule".to_owned());
    }
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, next: 0 };
    let condition = parser.or(0)?;
    match parser.peek() {
        None => Ok(condition),
        Some(word) => Err(format!("`{word}` is not expected here")),
    }
}

struct Parser<'t> {
    words: &'t [&'t str],
    next: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<&'t str> {
        self.words.get(self.next).copied()
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|next| next.eq_ignore_ascii_case(word));
        self.next += usize::from(found);
        found
    }

    fn or(&mut self, depth: usize) -> Result<Condition, String> {
        let mut parts = vec![self.and(depth)?];
        while self.take("or") {
            parts.push(self.and(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::Or(parts) })
    }

    fn and(&mut self, depth: usize) -> Result<Condition, String> {
        let mut parts = vec![self.not(depth)?];
        while self.take("and") {
            parts.push(self.not(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::And(parts) })
    }

    fn not(&mut self, depth: usize) -> Result<Condition, String> {
        if depth > MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} deep"));
        }
        if self.take("not") {
            return Ok(Condition::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.or(depth + 1)?;
            return if self.take(")") { Ok(inner) } else { Err("a `(` is not closed".to_owned()) };
        }
        let word = self.peek().ok_or("it ends too early")?;
        self.next += 1;
        if self.take("of") {
            let count = match word.to_ascii_lowercase().as_str() {
                "all" => None,
                "any" => Some(1),
                number => Some(number.parse().ok().filter(|count| *count > 0).ok_or_else(|| format!("`{word} of`: expected all, any or a number"))?),
            };
            let pattern = self.peek().ok_or("`of` is followed by nothing")?;
            self.next += 1;
            return Ok(Condition::Of(count, pattern.to_owned()));
        }
        if [")", "and", "or", "of"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword)) {
            return Err(format!("`{word}` is not expected here"));
        }
        Ok(Condition::Name(word.to_owned()))
    }
}

/// Whether a selection's name is one of a pattern: `them`, a name, or one with wildcards. Names that begin with `_` are not of `them`.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    if pattern == "them" { !name.starts_with('_') } else { gumshoe_model::pattern::fits(pattern, name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Condition {
        Condition::Name(name.to_owned())
    }

    #[test]
    fn and_binds_stronger_than_or() {
        let expected = Condition::Or(vec![name("a"), Condition::And(vec![name("b"), Condition::Not(Box::new(name("c")))])]);
        assert_eq!(parse("a or b and not c"), Ok(expected));
        assert_eq!(parse("(a or b) AND c"), Ok(Condition::And(vec![Condition::Or(vec![name("a"), name("b")]), name("c")])));
        assert_eq!(parse("not(a)"), Ok(Condition::Not(Box::new(name("a")))));
        assert_eq!(
            parse("2 of sel* or all of them"),
            Ok(Condition::Or(vec![Condition::Of(Some(2), "sel*".to_owned()), Condition::Of(None, "them".to_owned())]))
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, reason) in [
            ("", "it ends too early"),
            ("a and", "it ends too early"),
            ("a b", "`b` is not expected here"),
            ("(a", "a `(` is not closed"),
            ("a)", "`)` is not expected here"),
            ("and a", "`and` is not expected here"),
            ("0 of a*", "`0 of`: expected all, any or a number"),
            ("some of a*", "`some of`: expected all, any or a number"),
            ("1 of", "`of` is followed by nothing"),
            ("a | count() > 5", "aggregations with `|` are not supported: use a correlation rule"),
        ] {
            assert_eq!(parse(text), Err(reason.to_owned()), "{text}");
        }
        assert!(parse(&"not ".repeat(200)).unwrap_err().starts_with("nested more than"));
        assert!(parse(&"(".repeat(5_000)).unwrap_err().starts_with("longer than"));
    }

    #[test]
    fn patterns_of_names() {
        for (pattern, name, expected) in [
            ("them", "a", true),
            ("them", "_a", false),
            ("filter_*", "filter_main", true),
            ("filter_*", "selection", false),
            ("*_x", "a_x", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXc", false),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
