//! Standard output: one answer, in one of two forms.

use std::fmt;
use std::io::{self, Write as _};

use serde::Serialize;

use super::failure::Failure;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people: aligned text.
    #[default]
    Table,
    /// For programs: JSON with the names of the API's fields, as the SPIRE CLI prints it.
    Json,
}

/// Prints an answer: `text` for people, or `json` for programs.
///
/// # Errors
///
/// When standard output cannot be written.
pub(crate) fn answer(format: Format, text: &impl fmt::Display, json: &impl Serialize) -> Result<(), Failure> {
    match format {
        Format::Table => say(&text.to_string()),
        Format::Json => say_json(json),
    }
}

/// Prints JSON, indented, with a newline at the end.
///
/// # Errors
///
/// When standard output cannot be written.
pub(crate) fn say_json(json: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(json).map_err(io::Error::from)?;
    text.push('\n');
    say(&text)
}

/// Prints text as it is.
///
/// # Errors
///
/// When standard output cannot be written. A reader that has gone (`| head`) is no failure: it had enough.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints to standard error. Who cannot be told there cannot be told.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
