//! Records for people, a line each as they come; or as they stand, which is JSON lines.

use quorate_actors::audit::Record;

use crate::cli::failure::Failure;
use crate::cli::output::{Format, say};
use crate::cli::text::printable;

/// Prints records one after the other.
pub(super) struct Lines {
    output: Format,
    has_head: bool,
}

impl Lines {
    /// None printed yet.
    pub(super) fn new(output: Format) -> Self {
        Self { output, has_head: false }
    }

    /// Prints a record.
    pub(super) fn say(&mut self, line: &str) -> Result<(), Failure> {
        match self.output {
            Format::Json => say(&format!("{line}\n")),
            Format::Table => {
                if !std::mem::replace(&mut self.has_head, true) {
                    say(&row("TIME", "RECORD", "INDEX", "WHAT", "OUTCOME", "WHO AND TO WHAT"))?;
                }
                // What cannot be read is shown as it stands: it is the operator's to judge.
                match serde_json::from_str::<Record>(line) {
                    Ok(record) => say(&told(&record)),
                    Err(_) => say(&format!("{}\n", printable(line))),
                }
            }
        }
    }
}

fn row(time: &str, number: &str, index: &str, what: &str, outcome: &str, rest: &str) -> String {
    format!("{time:<24}  {number:>8}  {index:>8}  {what:<26}  {outcome:<20}  {rest}").trim_end().to_owned() + "\n"
}

fn told(record: &Record) -> String {
    let mut rest = Vec::new();
    let named = [
        ("", &record.who),
        ("from ", &record.from),
        ("", &record.spiffe_id),
        ("entry ", &record.entry_id),
        ("serial ", &record.serial),
        ("jti ", &record.jti),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            rest.push(format!("{name}{value}"));
        }
    }
    rest.extend(record.detail.iter().map(|(name, value)| format!("{name}={value}")));
    let index = record.index.map(|index| index.to_string()).unwrap_or_default();
    row(
        &printable(&record.time),
        &record.record.to_string(),
        &index,
        &printable(&record.what),
        &printable(record.outcome.as_deref().unwrap_or_default()),
        &printable(&rest.join("  ")),
    )
}
