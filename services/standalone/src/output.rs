//! The one place that prints: tables for people, JSON for programs, and nothing hostile to a terminal.

use std::{
    borrow::Cow,
    io::{self, IsTerminal as _, Write as _},
};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::{arguments::Format, rpc::Failure};

/// The longest text a table shows in one cell, in characters.
const CELL: usize = 96;

/// Prints results on standard output.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    format: Format,
    terminal: bool,
}

impl Output {
    /// Output in a format.
    pub fn new(format: Format) -> Self {
        Self { format, terminal: io::stdout().is_terminal() }
    }

    /// Whether programs read the output.
    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Prints a line of text that may hold anything.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn line(self, text: &str) -> Result<(), Failure> {
        write(&format!("{}\n", visible(text)))
    }

    /// Prints a record as it came; on a terminal with its control characters made visible.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn raw(self, text: &str) -> Result<(), Failure> {
        if self.terminal { self.line(text) } else { write(&format!("{text}\n")) }
    }

    /// Prints a heading and a table below it; nothing if the table has no rows.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn section(self, heading: &str, rows: &Rows) -> Result<(), Failure> {
        if rows.rows.is_empty() {
            return Ok(());
        }
        write(&format!("\n{}\n", visible(heading)))?;
        self.table(rows)
    }

    /// Prints a table.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn table(self, rows: &Rows) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if self.terminal {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            // Programs and people who pipe want every row on one line.
            table.force_no_tty();
        }
        table.set_header(rows.header.iter().map(|name| name.to_uppercase()));
        for row in &rows.rows {
            table.add_row(row.iter().map(|cell| cut(&visible(cell))));
        }
        for (column, numeric) in table.column_iter_mut().zip(&rows.numeric) {
            if *numeric {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        write(&format!("{}\n", table.trim_fmt()))
    }

    /// Prints a JSON document.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn json(self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Broken(error.to_string()))?;
        self.json_text(&text)
    }

    /// Prints text that is JSON already.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn json_text(self, text: &str) -> Result<(), Failure> {
        write(&format!("{}\n", safe_json(text)))
    }
}

/// Rows of a table.
#[derive(Debug, Default)]
pub struct Rows {
    header: Vec<&'static str>,
    numeric: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Rows {
    /// A table with columns; a `#` before a name makes the column numeric.
    pub fn new(header: &[&'static str]) -> Self {
        let names = header.iter().map(|name| name.trim_start_matches('#')).collect();
        Self { header: names, numeric: header.iter().map(|name| name.starts_with('#')).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn add<const N: usize>(&mut self, row: [String; N]) {
        self.rows.push(row.into());
    }
}

/// Prints for people who watch, beside the results: on standard error.
pub fn note(text: &str) {
    // A closed terminal is no reason to fail.
    let _ = writeln!(io::stderr(), "{}", visible(text));
}

/// Prints text that is known to be clean, such as a completion script.
///
/// # Errors
/// When standard output is gone.
pub fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::output)
}

/// Text from logs with everything made visible that could move a cursor, hide or reorder what is shown.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_hidden(character) { shown.extend(character.escape_unicode()) } else { shown.push(character) }
    }
    Cow::Owned(shown)
}

/// Control characters, bidirectional marks, zero-width and other invisible characters.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// JSON text with hidden characters escaped, which only strings can hold.
pub fn safe_json(text: &str) -> Cow<'_, str> {
    let risky = |character: char| character != '\n' && is_hidden(character);
    if !text.chars().any(risky) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut units = [0_u16; 2];
    for character in text.chars() {
        if risky(character) {
            for unit in character.encode_utf16(&mut units) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

fn cut(text: &str) -> String {
    if text.chars().count() <= CELL {
        return text.to_owned();
    }
    text.chars().take(CELL - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_made_visible() {
        assert_eq!(visible("plain, größe, 名前"), "plain, größe, 名前");
        assert_eq!(visible("a\u{1b}[31mred\u{7}\r\n"), "a\\u{1b}[31mred\\u{7}\\u{d}\\u{a}");
        assert_eq!(visible("user\u{202e}gpj.exe\u{200b}"), "user\\u{202e}gpj.exe\\u{200b}");
        assert_eq!(visible("\u{9b}31m\u{e0041}"), "\\u{9b}31m\\u{e0041}");
    }

    #[test]
    fn characters_beyond_the_first_plane_are_escaped_as_pairs() {
        let text = safe_json("\"\u{e0041}\"").into_owned();
        assert_eq!(text, "\"\\udb40\\udc41\"");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), "\u{e0041}");
    }

    #[test]
    fn long_cells_are_cut() {
        let cell = cut(&"x".repeat(500));
        assert_eq!(cell.chars().count(), CELL);
        assert!(cell.ends_with('…'));
    }
}
