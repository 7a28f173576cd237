//! Lenient JSON: typed fields that take what they can use and never fail on a wrong type, and a guard against deep nesting.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::BorrowedStrDeserializer, value::MapAccessDeserializer, value::StrDeserializer},
};
use sonic_rs::{LazyValue, Read, parser::Parser};

/// The deepest nesting accepted: skipping a value with validation recurses once a level.
pub(crate) const MAX_DEPTH: usize = 512;

/// Length of the value at the start of `text`, found by matching brackets of its own kind outside strings, without validation.
/// `None` when `text` ends inside it.
pub(crate) fn extent(text: &str) -> Option<usize> {
    match text.as_bytes().first()? {
        b'{' | b'[' | b'"' => {
            let mut parser = Parser::new(Read::from(text));
            parser.skip_one(false).ok()?;
            Some(parser.offset())
        }
        _ => text.bytes().position(|byte| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n')),
    }
}

/// Whether brackets nest deeper than [`MAX_DEPTH`]. Counting them all first is much cheaper and nearly always enough.
pub(crate) fn too_deep(text: &str) -> bool {
    let brackets = text.as_bytes().chunks(128).map(|chunk| chunk.iter().map(|byte| u8::from(matches!(byte, b'{' | b'['))).sum::<u8>() as usize).sum::<usize>();
    brackets > MAX_DEPTH && deepest(text.as_bytes()) > MAX_DEPTH
}

fn deepest(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match byte {
            b'\\' => {
                escaped = !escaped;
                continue;
            }
            b'"' if !escaped => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = false;
    }
    deepest
}

/// Where a raw line break, which JSON forbids there, stands inside a string.
pub(crate) fn line_break_in_string(bytes: &[u8]) -> Option<usize> {
    let (mut in_string, mut escaped) = (false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if in_string => return Some(at),
            b'\\' => {
                escaped = !escaped;
                continue;
            }
            b'"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = false;
    }
    None
}

/// Checks that `text` is one JSON value, not nested too deep, and nothing else.
pub(crate) fn validate(text: &str) -> Result<(), String> {
    if too_deep(text) {
        return Err(format!("nested deeper than {MAX_DEPTH} levels"));
    }
    let mut parser = Parser::new(Read::from(text));
    let outcome = parser.skip_one(true);
    match outcome {
        Err(error) => Err(format!("not JSON: {}", first_line(&error.to_string()))),
        Ok(_) if parser.skip_space().is_some() => Err("not JSON: more than one value".to_owned()),
        Ok(_) => Ok(()),
    }
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default().trim()
}

/// Length of the valid JSON value at the start of `text`. The caller has checked the depth.
pub(crate) fn valid_extent(text: &str) -> Option<usize> {
    let mut parser = Parser::new(Read::from(text));
    parser.skip_one(true).ok()?;
    Some(parser.offset())
}

/// Parses a record whose depth was checked. `None` when it is not valid JSON, or a number in a field that is read is out of range.
pub(crate) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    let mut deserializer = sonic_rs::Deserializer::from_str(text).utf8_lossy();
    let value = deserializer.deserialize().ok()?;
    deserializer.end().ok()?;
    Some(value)
}

/// The members of an object that is known to be valid, each value as its text.
pub(crate) fn members(object: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    sonic_rs::to_object_iter(object).map_while(Result::ok).filter_map(|(key, value)| Some((key, borrowed(&value)?)))
}

/// The elements of an array that is known to be valid, each as its text.
pub(crate) fn elements(array: &str) -> impl Iterator<Item = &str> {
    sonic_rs::to_array_iter(array).map_while(Result::ok).filter_map(|value| borrowed(&value))
}

fn borrowed<'a>(value: &LazyValue<'a>) -> Option<&'a str> {
    match value.as_raw_cow() {
        Cow::Borrowed(text) => Some(text),
        Cow::Owned(_) => None,
    }
}

/// The content of a JSON string given with its quotes.
pub(crate) fn unescape(string: &str) -> Option<Cow<'_, str>> {
    parse::<Text<'_>>(string).map(|text| text.0)
}

/// A string, or a number or boolean as text; empty for anything else.
#[derive(Debug, Clone, Default)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'a> Text<'a> {
    pub(crate) fn get(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self) -> Cow<'a, str> {
        std::mem::take(&mut self.0)
    }
}

/// A string that a record can't do without.
#[derive(Debug, Clone, Default)]
pub(crate) enum Required<'a> {
    #[default]
    Missing,
    NotText,
    Text(Cow<'a, str>),
}

impl<'a> Required<'a> {
    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    pub(crate) fn take(&mut self, field: &str) -> Result<Cow<'a, str>, String> {
        match std::mem::take(self) {
            Self::Text(text) if text.is_empty() => Err(format!("`{field}` is empty")),
            Self::Text(text) => Ok(text),
            Self::NotText => Err(format!("`{field}` is not a string")),
            Self::Missing => Err(format!("`{field}` is missing")),
        }
    }
}

/// A list, or one value standing for a list of one.
#[derive(Debug, Clone)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// A number, also one written as a string.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Number(pub(crate) Option<f64>);

/// A boolean, also one written as a string.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flag(pub(crate) bool);

/// An object whose members all have one type; other shapes are empty.
#[derive(Debug, Clone)]
pub(crate) struct Pairs<'a, T>(pub(crate) Vec<(Cow<'a, str>, T)>);

impl<T> Default for Pairs<'_, T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// An object's key.
pub(crate) struct Key<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer).map(|text| Self(text.0))
    }
}

/// The visitor methods that read a shape nobody asked for and give the default.
macro_rules! pass_over {
    (scalars) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
    };
    (text) => {
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
    };
    (null) => {
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Default::default())
        }
    };
    (array) => {
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
            while array.next_element::<serde::de::IgnoredAny>()?.is_some() {}
            Ok(Default::default())
        }
    };
    (object) => {
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
            while object.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
            Ok(Default::default())
        }
    };
    (expecting $what:literal) => {
        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str($what)
        }
    };
}
pub(crate) use pass_over;

/// A struct read from an object's known keys: unknown keys are skipped, the last of a repeated key counts, another shape gives the default.
macro_rules! lenient {
    ($($(#[$meta:meta])* struct $name:ident { $($field:ident: $type:ty = $($key:literal)|+,)+ })+) => { $(
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub(crate) struct $name<'a> { $(pub(crate) $field: $type,)+ }

        impl<'de: 'a, 'a> serde::Deserialize<'de> for $name<'a> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields<'a>(std::marker::PhantomData<&'a ()>);
                impl<'de: 'a, 'a> serde::de::Visitor<'de> for Fields<'a> {
                    type Value = $name<'a>;
                    $crate::json::pass_over!(expecting "an object");
                    $crate::json::pass_over!(scalars);
                    $crate::json::pass_over!(text);
                    $crate::json::pass_over!(null);
                    $crate::json::pass_over!(array);
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                        let mut value = $name::default();
                        while let Some($crate::json::Key(key)) = object.next_key()? {
                            match &*key {
                                $($($key)|+ => value.$field = object.next_value()?,)+
                                _ => { object.next_value::<serde::de::IgnoredAny>()?; }
                            }
                        }
                        Ok(value)
                    }
                }
                deserializer.deserialize_any(Fields(std::marker::PhantomData))
            }
        }
    )+ };
}
pub(crate) use lenient;

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for AnyText<'a> {
            type Value = Text<'a>;
            pass_over!(expecting "text");
            pass_over!(null);
            pass_over!(array);
            pass_over!(object);
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Borrowed(if value { "true" } else { "false" })))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Owned(value.to_string())))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Owned(value.to_string())))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Text<'a>, E> {
                Ok(Text(Cow::Owned(value.to_string())))
            }
        }
        deserializer.deserialize_any(AnyText(PhantomData))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Required<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyText<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for OnlyText<'a> {
            type Value = Required<'a>;
            pass_over!(expecting "a string");
            pass_over!(null);
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Required<'a>, E> {
                Ok(Required::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Required<'a>, E> {
                Ok(Required::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Required<'a>, E> {
                Ok(Required::NotText)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Required<'a>, E> {
                Ok(Required::NotText)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Required<'a>, E> {
                Ok(Required::NotText)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Required<'a>, E> {
                Ok(Required::NotText)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Required<'a>, A::Error> {
                while array.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Required::NotText)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Required<'a>, A::Error> {
                while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Required::NotText)
            }
        }
        deserializer.deserialize_any(OnlyText(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = List<T>;
            pass_over!(expecting "a list");
            pass_over!(scalars);
            pass_over!(null);
            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<List<T>, E> {
                T::deserialize(BorrowedStrDeserializer::new(text)).map(|value| List(vec![value]))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<List<T>, E> {
                T::deserialize(StrDeserializer::new(text)).map(|value| List(vec![value]))
            }
            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<List<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(object)).map(|value| List(vec![value]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<List<T>, A::Error> {
                let mut list = Vec::new();
                while let Some(value) = array.next_element()? {
                    list.push(value);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_any(Elements(PhantomData))
    }
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Pairs<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<'a, T>(PhantomData<(&'a (), T)>);
        impl<'de: 'a, 'a, T: Deserialize<'de>> Visitor<'de> for Members<'a, T> {
            type Value = Pairs<'a, T>;
            pass_over!(expecting "an object");
            pass_over!(scalars);
            pass_over!(text);
            pass_over!(null);
            pass_over!(array);
            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Pairs<'a, T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(Key(key)) = object.next_key()? {
                    pairs.push((key, object.next_value()?));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_any(Members(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer).map(|text| Self(text.0.trim().parse().ok().filter(|value: &f64| value.is_finite())))
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer).map(|text| Self(text.0.eq_ignore_ascii_case("true")))
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Cuts text to `limit` bytes at a character.
pub(crate) fn cut(text: Cow<'_, str>, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return text;
    }
    let end = text.floor_char_boundary(limit);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(..end).unwrap_or_default()),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    lenient! {
        struct Sample { name: Text<'a> = "name" | "Name", list: List<Text<'a>> = "list", number: Number = "number", must: Required<'a> = "must", }
    }

    #[test]
    fn takes_what_it_can_use() {
        let sample: Sample<'_> = parse(r#"{"x":[{}],"Name":5,"list":"one","number":"7.5","must":{},"name":"last"}"#).unwrap();
        assert_eq!((sample.name.get(), sample.list.0[0].get(), sample.number.0), ("last", "one", Some(7.5)));
        assert!(matches!(sample.must, Required::NotText));
        let sample: Sample<'_> = parse(r#"{"name":{"a":1},"list":[1,"two"],"number":true,"must":"\u0000"}"#).unwrap();
        assert_eq!((sample.name.get(), sample.list.0[1].get(), sample.number.0), ("", "two", None));
        assert!(matches!(&sample.must, Required::Text(text) if text == "\0"));
        assert!(parse::<Sample<'_>>("5").is_some_and(|sample| sample.name.is_empty()));
        assert!(parse::<Sample<'_>>(r#"{"name":"a"} x"#).is_none());
        assert!(parse::<Sample<'_>>(r#"{"name":"\ud800"}"#).is_some_and(|sample| sample.name.get() == "\u{fffd}"));
    }

    #[test]
    fn finds_the_end_of_a_value_and_deep_nesting() {
        assert_eq!(extent(r#"{"a":"}\"}"} tail"#), Some(12));
        assert_eq!(extent(r#"{"a":"}"#), None);
        assert_eq!(extent("12,"), Some(2));
        assert!(!too_deep(&format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH))));
        assert!(too_deep(&"[".repeat(MAX_DEPTH + 1)));
        assert!(!too_deep(&"[]".repeat(10_000)));
        assert!(validate(&format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH))).is_ok());
        assert_eq!(line_break_in_string(b"{\n\"a\":\"b\nc\"}"), Some(8));
    }

    #[test]
    fn cuts_at_a_character() {
        assert_eq!(cut(Cow::Borrowed("aé"), 2), "a");
        assert_eq!(cut(Cow::Owned("aé".to_owned()), 3), "aé");
    }
}
