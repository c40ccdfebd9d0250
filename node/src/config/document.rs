//! Reading a configuration file with all its problems: each one with its line, none hiding another.

use std::collections::BTreeSet;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::options::{ConfigOption, OPTIONS, SECTIONS, WhenAbsent};
use super::suggest::nearest;

/// One thing wrong with a configuration, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line of the file, from 1; none for what is missing from it.
    pub line: Option<usize>,
    /// The problem in words.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// A value of the file or the default of its option.
pub(super) type Checked<T> = Result<T, String>;

/// A parsed file, and the problems found in it so far.
pub(super) struct Document<'i> {
    text: &'i str,
    root: DeTable<'i>,
    problems: Vec<Problem>,
    read: BTreeSet<String>,
}

impl<'i> Document<'i> {
    /// Parses the text as TOML and checks that every table and key in it is known.
    pub(super) fn parse(text: &'i str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut document = Self { text, root: root.into_inner(), problems: Vec::new(), read: BTreeSet::new() };
        for error in errors {
            let line = error.span().map(|span| line_of(text, span.start));
            let message = error.message().replace('\n', "; ");
            document.problems.push(Problem { line, message });
        }
        document.check_names();
        document
    }

    /// Reads an option that has a value always: the file's, or else its default.
    ///
    /// Answers nothing when there is none that `check` accepts; the problem is then recorded.
    pub(super) fn read<T>(&mut self, name: &'static str, check: impl Fn(&DeValue<'_>) -> Checked<T>) -> Option<T> {
        let option = self.option(name)?;
        match self.find(option) {
            Some((value, line)) => match check(value) {
                Ok(checked) => Some(checked),
                Err(reason) => {
                    self.problem(Some(line), format!("{name}: {reason}"));
                    None
                }
            },
            None => self.absent(option, check),
        }
    }

    /// Reads an option that may be absent: `Some(None)` when it is, nothing when it is wrong.
    pub(super) fn read_optional<T>(
        &mut self,
        name: &'static str,
        check: impl Fn(&DeValue<'_>) -> Checked<T>,
    ) -> Option<Option<T>> {
        let option = self.option(name)?;
        if self.find(option).is_none() {
            return Some(None);
        }
        self.read(name, check).map(Some)
    }

    /// The line on which the file sets this option, if it does.
    pub(super) fn line(&self, name: &str) -> Option<usize> {
        let option = OPTIONS.iter().find(|option| option.name() == name)?;
        self.find(option).map(|(_, line)| line)
    }

    /// Records a problem.
    pub(super) fn problem(&mut self, line: Option<usize>, message: String) {
        self.problems.push(Problem { line, message });
    }

    /// The names of the options that were asked for, for the test that none is forgotten.
    #[cfg(test)]
    pub(super) fn names_read(&self) -> Vec<String> {
        self.read.iter().cloned().collect()
    }

    /// All problems, in the order of the file.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        self.problems
    }

    fn option(&mut self, name: &'static str) -> Option<&'static ConfigOption> {
        let found = OPTIONS.iter().find(|option| option.name() == name);
        match found {
            Some(_) => drop(self.read.insert(name.to_owned())),
            None => self.problem(None, format!("{name} is not in the table of options")),
        }
        found
    }

    fn find(&self, option: &ConfigOption) -> Option<(&DeValue<'i>, usize)> {
        let value = if option.section.is_empty() {
            self.root.get(option.key)?
        } else {
            self.root.get(option.section)?.get_ref().as_table()?.get(option.key)?
        };
        Some((value.get_ref(), line_of(self.text, value.span().start)))
    }

    fn absent<T>(&mut self, option: &ConfigOption, check: impl Fn(&DeValue<'_>) -> Checked<T>) -> Option<T> {
        let name = option.name();
        let default = match option.when_absent {
            WhenAbsent::Value(default) => default,
            WhenAbsent::Required(example) | WhenAbsent::Absent(example) => {
                let message =
                    format!("{name} is missing and has no default; add for example: {} = {example}", option.key);
                self.problem(None, message);
                return None;
            }
        };
        let checked = DeValue::parse(default)
            .map_err(|error| error.message().to_owned())
            .and_then(|value: Spanned<DeValue<'_>>| check(value.get_ref()));
        match checked {
            Ok(value) => Some(value),
            Err(reason) => {
                self.problem(None, format!("the default of {name}: {reason}"));
                None
            }
        }
    }

    fn check_names(&mut self) {
        let mut found = Vec::new();
        for (key, value) in &self.root {
            let (key, line) = (key.get_ref().as_ref(), line_of(self.text, key.span().start));
            let section = SECTIONS.iter().find(|(name, _)| !name.is_empty() && *name == key);
            match (section, value.get_ref().as_table()) {
                (Some((section, _)), Some(table)) => {
                    for inner in table.keys() {
                        let line = line_of(self.text, inner.span().start);
                        found.extend(unknown_key(section, inner.get_ref(), line));
                    }
                }
                (Some(_), None) => found.push(Problem {
                    line: Some(line),
                    message: format!("{key} is a table; write [{key}] on a line of its own"),
                }),
                (None, Some(_)) => found.push(unknown_section(key, line)),
                (None, None) => found.extend(unknown_key("", key, line)),
            }
        }
        self.problems.extend(found);
    }
}

/// The problem with a key, if the table has no such option.
fn unknown_key(section: &str, key: &str, line: usize) -> Option<Problem> {
    let here = || OPTIONS.iter().filter(move |option| option.section == section);
    if here().any(|option| option.key == key) {
        return None;
    }
    let named = |key: &str| {
        if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
    };
    let elsewhere = || OPTIONS.iter().find(|option| option.key == key).map(ConfigOption::name);
    let hint = match nearest(key, here().map(|option| option.key)).map(named).or_else(elsewhere) {
        Some(meant) => format!("did you mean {meant}?"),
        None => {
            let known: Vec<&str> = here().map(|option| option.key).collect();
            let place = if section.is_empty() { "the top of the file" } else { section };
            format!("{place} takes: {}", known.join(", "))
        }
    };
    let message = format!("{} is not an option; {hint}", named(key));
    Some(Problem { line: Some(line), message })
}

fn unknown_section(key: &str, line: usize) -> Problem {
    let known = || SECTIONS.iter().map(|(name, _)| *name).filter(|name| !name.is_empty());
    let hint = match nearest(key, known()) {
        Some(meant) => format!("did you mean [{meant}]?"),
        None => format!("there are: {}", known().collect::<Vec<_>>().join(", ")),
    };
    Problem { line: Some(line), message: format!("[{key}] is not a table of options; {hint}") }
}

/// Line number, from 1, of a byte offset.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}
