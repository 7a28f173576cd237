//! A group in Markdown: CommonMark with tables.

use std::fmt::Write as _;

use super::{Document, ranges};
use crate::groups::summary::{shown, time};

/// The most characters of an id.
const MAX_ID: usize = 2_048;

/// The document.
pub(super) fn write(document: &Document<'_>) -> String {
    let mut out = format!("# {}\n\n| | |\n|---|---|\n", escaped(&document.group.overview.title));
    for (name, value) in document.facts() {
        row(&mut out, &[name.to_owned(), escaped(&value)]);
    }
    out.push_str("\n## Summary\n\n");
    for sentence in &document.sentences {
        let cited: Vec<String> = ranges(&document.cited(sentence)).into_iter().map(|(first, last)| range(first, last)).collect();
        let _ = writeln!(out, "- {} \\[{}\\]", escaped(&sentence.text), cited.join(", "));
    }
    out.push_str("\n## Timeline\n\n| time | what | evidence |\n|---|---|---|\n");
    for event in &document.timeline {
        let cited = document.cited_by(event).map(|(letter, number)| format!("{letter}{number}")).unwrap_or_default();
        row(&mut out, &[time(event.time), escaped(&event.text), cited]);
    }
    out.push_str("\n## Findings\n\n| | severity | type | title | account | first seen | last seen | tactics | verdict | id |\n|---|---|---|---|---|---|---|---|---|---|\n");
    for (finding, number) in document.body.findings.iter().zip(1..) {
        let tactics: Vec<String> = finding.tactics.iter().chain(&finding.techniques).cloned().collect();
        row(
            &mut out,
            &[
                format!("F{number}"),
                format!("{:.1}", finding.severity),
                code(&finding.finding_type),
                escaped(&shown(&finding.title, MAX_ID)),
                escaped(&finding.account),
                time(finding.first),
                time(finding.last),
                escaped(&tactics.join(", ")),
                finding.verdict_in_words().to_owned(),
                code(&finding.id),
            ],
        );
    }
    out.push_str("\n## Entities\n\n| | entity | findings | shared by | |\n|---|---|---|---|---|\n");
    for (entity, number) in document.body.entities.iter().zip(1..) {
        row(&mut out, &[format!("E{number}"), code(&entity.key), entity.findings.to_string(), entity.shared_by(), entity.role().to_owned()]);
    }
    if !document.decisions.is_empty() {
        out.push_str("\n## Decisions\n\n| time | status | by | note |\n|---|---|---|---|\n");
        for decision in document.decisions {
            let status = decision.status.as_str().to_lowercase();
            row(&mut out, &[time(decision.time.0), status, code(&decision.author), escaped(&shown(&decision.note, MAX_ID))]);
        }
    }
    out
}

fn row(out: &mut String, cells: &[String]) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

fn range(first: (char, usize), last: (char, usize)) -> String {
    match last.1 - first.1 {
        0 => format!("{}{}", first.0, first.1),
        1 => format!("{}{}, {}{}", first.0, first.1, last.0, last.1),
        _ => format!("{}{}–{}{}", first.0, first.1, last.0, last.1),
    }
}

/// Text in which nothing is markup, a link or a table's border.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for (place, character) in text.char_indices() {
        let (before, after) = (text.get(..place).unwrap_or_default(), text.get(place..).unwrap_or_default());
        let marks = matches!(character, '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '#' | '|' | '&' | '~' | '!' | '@' | '$');
        // What some readers make links of.
        let links = after.starts_with("://") || (character == '.' && before.to_ascii_lowercase().ends_with("www"));
        if marks || links {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// A value as it is: a code span with a fence that the value cannot close.
fn code(value: &str) -> String {
    let value = shown(value, MAX_ID);
    if value.is_empty() {
        return value;
    }
    let longest = value.split(|character| character != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    // In a table's cell, a bar ends even code.
    let value = value.replace('|', "\\|");
    let space = if value.starts_with('`') || value.ends_with('`') || value.starts_with(' ') { " " } else { "" };
    format!("{fence}{space}{value}{space}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escaped("<img src=x> [a](javascript:1) **b** `c` | d"), r"\<img src=x\> \[a\](javascript:1) \*\*b\*\* \`c\` \| d");
        assert_eq!(escaped("see http://evil.example and WWW.evil.example"), r"see http\://evil.example and WWW\.evil.example");
        assert_eq!(escaped("a@b.example &amp; \\"), r"a\@b.example \&amp; \\");
    }

    #[test]
    fn code_cannot_be_left() {
        assert_eq!(code("arn:aws:iam::1:user/ann"), "`arn:aws:iam::1:user/ann`");
        assert_eq!(code("a `` b | c\n"), "```a `` b \\| c\u{fffd}```");
        assert_eq!(code("`"), "`` ` ``");
    }

    #[test]
    fn runs_are_drawn_together() {
        let cited = [('F', 1), ('F', 2), ('F', 3), ('F', 7), ('E', 1), ('E', 2)];
        let text: Vec<String> = ranges(&cited).into_iter().map(|(first, last)| range(first, last)).collect();
        assert_eq!(text, ["F1–F3", "F7", "E1, E2"]);
    }
}
