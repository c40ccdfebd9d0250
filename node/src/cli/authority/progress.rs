//! Work on an authority, as it is followed: what it will do, a line that changes while it goes on, what it did.
//!
//! On a terminal the figures change in place, below the lines that stay. Elsewhere each change is a line, so that a log has
//! them all and a script reads the end alone.

use std::fmt::Write as _;
use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::{AuthorityChange, AuthorityProgress, RotationStand, Sentences, authority_progress};
use serde::Serialize;
use tonic::{Response, Status, Streaming};

use super::json::AuthorityJson;
use crate::cli::cluster::change::{NOTHING_DONE, lines};
use crate::cli::failure::Failure;
use crate::cli::json::Wide;
use crate::cli::output::{Format, complain, say, say_json};
use crate::cli::socket::Connection;
use crate::cli::text::printable;

/// Back to the begin of the line, and clear it (ECMA-48: CR, EL).
const CLEAR_LINE: &str = "\r\x1b[K";

/// How work is shown, and what it was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    /// What it is; goes on from "cannot".
    pub(super) deed: &'static str,
    /// The form of the answer.
    pub(super) output: Format,
    /// Whether only what would be done was asked for.
    pub(super) dry_run: bool,
    /// How long the node may follow the work before it says how far it came.
    pub(super) limit: Duration,
}

/// The answer of a change, for programs.
#[derive(Serialize)]
struct ChangeJson<'a> {
    dry_run: bool,
    authority: Option<AuthorityJson<'a>>,
    sentences: &'a [String],
    warnings: &'a [String],
    log_index: Wide<u64>,
}

/// Follows work to its end.
///
/// # Errors
///
/// When it was refused, when the connection was lost, and when the node says nothing although its time is over.
pub(super) async fn follow(
    connection: &Connection,
    shown: Shown,
    call: impl Future<Output = Result<Response<Streaming<AuthorityProgress>>, Status>>,
) -> Result<(), Failure> {
    let mut line = Line::new(io::stderr().is_terminal());
    let end = last(connection, shown, call, |told| line.show(shown.output, told)).await;
    line.end();
    match end? {
        Last::Done(will, change) => told(shown, Some(&will), &change),
        Last::Will(will) if shown.dry_run => would(shown, &will),
        Last::Will(_) => {
            Err(Failure::Answer { deed: shown.deed, what: "it ended without saying what was done".to_owned() })
        }
    }
}

/// What the work would do, and nothing else: the answer to a dry run.
///
/// # Errors
///
/// As [`follow`].
pub(super) async fn announced(
    connection: &Connection,
    shown: Shown,
    call: impl Future<Output = Result<Response<Streaming<AuthorityProgress>>, Status>>,
) -> Result<Sentences, Failure> {
    match last(connection, shown, call, |_told| Ok(())).await? {
        Last::Will(will) => Ok(will),
        Last::Done(..) => Err(Failure::Answer { deed: shown.deed, what: "a dry run did something".to_owned() }),
    }
}

/// Prints the answer of a change.
///
/// # Errors
///
/// When standard output cannot be written.
pub(super) fn told(shown: Shown, will: Option<&Sentences>, change: &AuthorityChange) -> Result<(), Failure> {
    let AuthorityChange { authority, sentences, warnings, log_index } = change;
    match shown.output {
        Format::Table => say(&lines(sentences, warnings)),
        Format::Json => {
            let announced = will.map(|will| will.warnings.as_slice()).unwrap_or_default();
            let warnings: Vec<String> = announced.iter().chain(warnings).cloned().collect();
            say_json(&ChangeJson {
                dry_run: false,
                authority: authority.as_ref().map(AuthorityJson::from),
                sentences,
                warnings: &warnings,
                log_index: Wide(*log_index),
            })
        }
    }
}

fn would(shown: Shown, will: &Sentences) -> Result<(), Failure> {
    let Sentences { sentences, warnings } = will;
    match shown.output {
        Format::Table => say(NOTHING_DONE),
        Format::Json => {
            say_json(&ChangeJson { dry_run: true, authority: None, sentences, warnings, log_index: Wide(0) })
        }
    }
}

/// How a stream ended.
enum Last {
    /// With what was done, after what was announced.
    Done(Sentences, Box<AuthorityChange>),
    /// With what was announced alone.
    Will(Sentences),
}

async fn last(
    connection: &Connection,
    shown: Shown,
    call: impl Future<Output = Result<Response<Streaming<AuthorityProgress>>, Status>>,
    mut show: impl FnMut(&authority_progress::Told) -> Result<(), Failure>,
) -> Result<Last, Failure> {
    let Shown { deed, limit, .. } = shown;
    let work = async {
        let mut stream = call.await.map_err(connection.failed(deed))?.into_inner();
        let mut announced = Sentences::default();
        while let Some(AuthorityProgress { told }) = stream.message().await.map_err(connection.failed(deed))? {
            let Some(told) = told else { continue };
            show(&told)?;
            match told {
                authority_progress::Told::Will(will) => announced = will,
                authority_progress::Told::Stand(_) => {}
                authority_progress::Told::Done(change) => return Ok(Last::Done(announced, Box::new(change))),
            }
        }
        Ok(Last::Will(announced))
    };
    // The node keeps the time; beyond it, this much for the way there and back.
    tokio::time::timeout(limit.saturating_add(CALL_LIMIT), work).await.unwrap_or_else(|_| {
        Err(Failure::NotYet {
            deed,
            what: "the node said nothing although its time is over; look with \
            `quorate authority show`"
                .to_owned(),
        })
    })
}

/// The line that changes.
struct Line {
    terminal: bool,
    figures: String,
    waits_for: Vec<String>,
}

impl Line {
    fn new(terminal: bool) -> Self {
        Self { terminal, figures: String::new(), waits_for: Vec::new() }
    }

    /// Shows one message. What programs read is not mixed with it.
    fn show(&mut self, output: Format, told: &authority_progress::Told) -> Result<(), Failure> {
        if output == Format::Json {
            return Ok(());
        }
        match told {
            authority_progress::Told::Will(will) => say(&lines(&will.sentences, &will.warnings))?,
            authority_progress::Told::Stand(stand) => self.stand(stand),
            authority_progress::Told::Done(_) => {}
        }
        Ok(())
    }

    fn stand(&mut self, stand: &RotationStand) {
        let figures = figures(stand);
        if self.waits_for != stand.waits_for {
            self.clear();
            for who in stand.waits_for.iter().filter(|who| !self.waits_for.contains(*who)) {
                complain(&format!("  waiting: {}", printable(who)));
            }
            self.waits_for.clone_from(&stand.waits_for);
            self.draw();
        }
        if figures != self.figures {
            self.figures = figures;
            if self.terminal {
                self.draw();
            } else {
                complain(&self.figures);
            }
        }
    }

    fn draw(&self) {
        if self.terminal {
            write_now(&format!("{CLEAR_LINE}{}", self.figures));
        }
    }

    fn clear(&self) {
        if self.terminal && !self.figures.is_empty() {
            write_now(CLEAR_LINE);
        }
    }

    /// The figures stay as the last of them were.
    fn end(&self) {
        if self.terminal && !self.figures.is_empty() {
            write_now("\n");
        }
    }
}

/// "  activating: members 2/3, streams 40/41 on the new authority"
fn figures(stand: &RotationStand) -> String {
    let mut text = format!("  {}", printable(&stand.step));
    if stand.members_all > 0 {
        let RotationStand { members_on, members_all, streams_on, streams_all, .. } = stand;
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            ": members {members_on}/{members_all}, streams {streams_on}/{streams_all} on the new authority"
        );
    }
    text
}

/// Who cannot be told on standard error cannot be told.
fn write_now(text: &str) {
    let mut output = io::stderr().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_rotation_is_told_in_figures_of_members_and_streams() {
        let stand = RotationStand {
            step: "re-signing".into(),
            members_on: 2,
            members_all: 3,
            streams_on: 40,
            streams_all: 41,
            waits_for: Vec::new(),
        };
        assert_eq!(figures(&stand), "  re-signing: members 2/3, streams 40/41 on the new authority");
        let before = RotationStand { step: "waiting for a leader".into(), ..RotationStand::default() };
        assert_eq!(figures(&before), "  waiting for a leader");
    }
}
