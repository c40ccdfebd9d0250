//! Text for people: aligned columns, aligned facts, and nothing that steers a terminal.

use std::fmt;

/// Space between two columns.
const GAP: &str = "  ";

/// Text that may come from elsewhere (a hint, a message of a peer), made safe to print: control characters are written
/// as escapes, so that no entry can move the cursor or recolour what an operator reads.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, character| {
        if character.is_control() {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
        safe
    })
}

/// A size for people: "12.3 MiB".
pub(crate) fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// Rows under a head, aligned to the left.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    head: [&'static str; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table without rows.
    pub(crate) fn new(head: [&'static str; COLUMNS]) -> Self {
        Self { head, rows: Vec::new() }
    }

    /// Adds a row. Its cells are made printable here.
    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.map(|cell| printable(&cell)));
    }
}

impl<const COLUMNS: usize> fmt::Display for Table<COLUMNS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = self.head.map(width);
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(width(cell));
            }
        }
        line(f, self.head.iter().copied().zip(widths))?;
        for row in &self.rows {
            line(f, row.iter().map(String::as_str).zip(widths))?;
        }
        Ok(())
    }
}

/// Names and values, a line each, the values aligned.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    facts: Vec<(&'static str, String)>,
}

impl Facts {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a fact. The value is made printable here.
    pub(crate) fn add(&mut self, name: &'static str, value: impl fmt::Display) -> &mut Self {
        self.facts.push((name, printable(&value.to_string())));
        self
    }

    /// Adds a fact unless its value is empty.
    pub(crate) fn add_unless_empty(&mut self, name: &'static str, value: &str) -> &mut Self {
        if !value.is_empty() {
            self.add(name, value);
        }
        self
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.facts.iter().map(|(name, _)| width(name)).max().unwrap_or_default();
        for (name, value) in &self.facts {
            line(f, [(*name, widest), (value.as_str(), 0)].into_iter())?;
        }
        Ok(())
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// One line of cells, each filled up to its width; nothing after the last.
fn line<'a>(f: &mut fmt::Formatter<'_>, cells: impl Iterator<Item = (&'a str, usize)>) -> fmt::Result {
    let mut text = String::new();
    for (cell, width) in cells {
        if !text.is_empty() {
            text.push_str(GAP);
        }
        text.push_str(&format!("{cell:<width$}"));
    }
    writeln!(f, "{}", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_space_at_the_end() {
        let mut table = Table::new(["ID", "NAME", "WHERE"]);
        table.row(["1".into(), "node-1".into(), String::new()]);
        table.row(["12".into(), "n".into(), "eu".into()]);
        assert_eq!(table.to_string(), "ID  NAME    WHERE\n1   node-1\n12  n       eu\n");
    }

    #[test]
    fn facts_are_aligned_by_the_longest_name() {
        let mut facts = Facts::new();
        facts.add("role", "leader").add("applied index", 7).add_unless_empty("hint", "");
        assert_eq!(facts.to_string(), "role           leader\napplied index  7\n");
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(printable("a\u{1b}[31m\nb\u{7f}é"), "a\\u{1b}[31m\\nb\\u{7f}é");
    }
}
