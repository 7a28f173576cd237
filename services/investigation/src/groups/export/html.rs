//! A group as one HTML file that loads nothing and runs nothing.

use std::fmt::Write as _;

use super::{Document, ranges};
use crate::groups::summary::{shown, time};

/// The most characters of a value.
const MAX_VALUE: usize = 2_048;

const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n\
<meta name=\"referrer\" content=\"no-referrer\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";

const STYLE: &str = "<style>\n\
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem}\n\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}table{border-collapse:collapse;width:100%}\n\
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #8886;overflow-wrap:anywhere}\n\
code{font-size:.9em}.cited{color:#888;font-size:.85em}.critical,.high{font-weight:bold}@media print{a{text-decoration:none;color:inherit}}\n\
</style>\n";

/// The document.
pub(super) fn write(document: &Document<'_>) -> String {
    let overview = &document.group.overview;
    let title = escaped(&overview.title);
    let mut out = format!("{HEAD}<title>{title}</title>\n{STYLE}</head>\n<body>\n<h1>{title}</h1>\n<table>\n");
    for (name, value) in document.facts() {
        let _ = writeln!(out, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", escaped(&value));
    }
    out.push_str("</table>\n<h2>Summary</h2>\n<ul>\n");
    for sentence in &document.sentences {
        let cited: Vec<String> = ranges(&document.cited(sentence)).into_iter().map(|(first, last)| range(first, last)).collect();
        let _ = writeln!(out, "<li>{} <span class=\"cited\">[{}]</span></li>", escaped(&sentence.text), cited.join(", "));
    }
    out.push_str("</ul>\n<h2>Timeline</h2>\n");
    table(&mut out, &["time", "what", "evidence"]);
    for event in &document.timeline {
        row(&mut out, None, &[time(event.time), escaped(&event.text), document.cited_by(event).map(link).unwrap_or_default()]);
    }
    out.push_str("</tbody></table>\n<h2>Findings</h2>\n");
    table(&mut out, &["", "severity", "type", "title", "account", "first seen", "last seen", "tactics", "verdict", "id"]);
    for (finding, number) in document.body.findings.iter().zip(1..) {
        let tactics: Vec<String> = finding.tactics.iter().chain(&finding.techniques).cloned().collect();
        let severity = gumshoe_model::Severity::of_score(finding.severity);
        let cells = [
            format!("F{number}"),
            format!("<span class=\"{}\">{:.1} {severity}</span>", severity.as_str().to_lowercase(), finding.severity),
            code(&finding.finding_type),
            escaped(&finding.title),
            escaped(&finding.account),
            time(finding.first),
            time(finding.last),
            escaped(&tactics.join(", ")),
            finding.verdict_in_words().to_owned(),
            code(&finding.id),
        ];
        row(&mut out, Some(('F', number)), &cells);
    }
    out.push_str("</tbody></table>\n<h2>Entities</h2>\n");
    table(&mut out, &["", "entity", "findings", "shared by", ""]);
    for (entity, number) in document.body.entities.iter().zip(1..) {
        let cells = [format!("E{number}"), code(&entity.key), entity.findings.to_string(), entity.shared_by(), entity.role().to_owned()];
        row(&mut out, Some(('E', number)), &cells);
    }
    out.push_str("</tbody></table>\n");
    if !document.decisions.is_empty() {
        out.push_str("<h2>Decisions</h2>\n");
        table(&mut out, &["time", "status", "by", "note"]);
        for decision in document.decisions {
            let status = decision.status.as_str().to_lowercase();
            row(&mut out, None, &[time(decision.time.0), status, code(&decision.author), escaped(&decision.note)]);
        }
        out.push_str("</tbody></table>\n");
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn table(out: &mut String, header: &[&str]) {
    out.push_str("<table><thead><tr>");
    for name in header {
        let _ = write!(out, "<th scope=\"col\">{name}</th>");
    }
    out.push_str("</tr></thead><tbody>\n");
}

/// A row of cells that are HTML already.
fn row(out: &mut String, anchor: Option<(char, usize)>, cells: &[String]) {
    match anchor {
        Some((letter, number)) => {
            let _ = write!(out, "<tr id=\"{letter}{number}\">");
        }
        None => out.push_str("<tr>"),
    }
    for cell in cells {
        let _ = write!(out, "<td>{cell}</td>");
    }
    out.push_str("</tr>\n");
}

fn link((letter, number): (char, usize)) -> String {
    format!("<a href=\"#{letter}{number}\">{letter}{number}</a>")
}

fn range(first: (char, usize), last: (char, usize)) -> String {
    match last.1 - first.1 {
        0 => link(first),
        1 => format!("{}, {}", link(first), link(last)),
        _ => format!("{}–{}", link(first), link(last)),
    }
}

/// Text in which nothing is markup.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for character in shown(text, MAX_VALUE).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn code(value: &str) -> String {
    format!("<code>{}</code>", escaped(value))
}
