//! Small XML documents of elements and text.

use std::fmt;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// An element; its names are ours and need no care, its text is anybody's.
#[derive(Debug)]
pub struct Element {
    name: &'static str,
    root: bool,
    content: String,
}

impl Element {
    /// Without content.
    pub fn new(name: &'static str) -> Self {
        Self { name, root: false, content: String::new() }
    }

    /// The outermost one.
    pub fn root(name: &'static str) -> Self {
        Self { root: true, ..Self::new(name) }
    }

    /// With one more element inside.
    pub fn with(mut self, element: Self) -> Self {
        self.content.push_str(&element.to_string());
        self
    }

    /// With one more element of text inside.
    pub fn text(self, name: &'static str, text: &str) -> Self {
        let content = text.chars().fold(String::with_capacity(text.len()), |mut content, character| {
            match character {
                '&' => content.push_str("&amp;"),
                '<' => content.push_str("&lt;"),
                '>' => content.push_str("&gt;"),
                '"' => content.push_str("&quot;"),
                '\'' => content.push_str("&apos;"),
                // XML has no way to write these.
                _ if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => content.push('\u{fffd}'),
                _ => content.push(character),
            }
            content
        });
        self.with(Self { name, root: false, content })
    }
}

impl fmt::Display for Element {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, content, .. } = self;
        if self.root { write!(formatter, "<{name} xmlns=\"{NAMESPACE}\">{content}</{name}>") } else { write!(formatter, "<{name}>{content}</{name}>") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let document = Element::root("A").with(Element::new("B").text("C", "<&>\"'\u{0}ü")).text("D", "");
        assert_eq!(document.to_string(), "<A xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><B><C>&lt;&amp;&gt;&quot;&apos;\u{fffd}ü</C></B><D></D></A>");
    }
}
