//! Patterns with wildcards.

use std::str::Chars;

/// Whether a text is what a pattern says: `*` stands for any characters, `?` for one. Takes `pattern · text` steps at most.
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to go on if what follows the last `*` does not fit: one character later.
    let mut retry: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let rest = text.clone();
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                text = rest.clone();
                retry = Some((pattern.clone(), rest));
            }
            (Some('?'), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => {
                let Some((after, mut from)) = retry.take() else { return false };
                if from.next().is_none() {
                    return false;
                }
                pattern = after.clone();
                text = from.clone();
                retry = Some((after, from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By the definition, however long it takes.
    fn fits_slowly(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => fits_slowly(rest, text) || matches!(text, [_, more @ ..] if fits_slowly(pattern, more)),
            (['?', rest @ ..], [_, more @ ..]) => fits_slowly(rest, more),
            ([one, rest @ ..], [other, more @ ..]) => one == other && fits_slowly(rest, more),
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn patterns_fit_as_defined(pattern in "[ab*?ü]{0,8}", text in "[abü]{0,8}") {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(fits(&pattern, &text), fits_slowly(&characters(&pattern), &characters(&text)));
        }
    }
}
