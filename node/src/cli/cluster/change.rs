//! What commands that change something have in common: they say what they will do, and what they did.

use std::future::Future;
use std::time::Duration;

use clap::Args;
use quorate_proto_api::cluster::{ChangeResponse, Progress, Sentences, progress};
use serde::Serialize;
use tonic::{Status, Streaming};

use crate::cli::failure::Failure;
use crate::cli::json::Wide;
use crate::cli::output::{Format, complain, say, say_json};
use crate::cli::socket::{AdminArgs, Connection};
use crate::cli::text::printable;
use crate::duration::Seconds;

/// What every command takes that changes something.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChangeArgs {
    #[command(flatten)]
    pub(crate) admin: AdminArgs,

    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What a command takes whose work goes on for a while.
#[derive(Debug, Clone, Args)]
pub(super) struct WorkArgs {
    #[command(flatten)]
    pub(super) change: ChangeArgs,

    /// How long to wait for the end. The work goes on without a listener, under whoever leads
    #[arg(long, value_name = "TIME", default_value = "2m")]
    timeout: Seconds,
}

/// The answer of a change, for programs.
#[derive(Serialize)]
struct ChangeJson<'a> {
    dry_run: bool,
    sentences: &'a [String],
    warnings: &'a [String],
    log_index: Wide<u64>,
}

/// Prints the answer of a change that is one call.
///
/// # Errors
///
/// When standard output cannot be written.
pub(crate) fn told(args: &ChangeArgs, answer: &ChangeResponse) -> Result<(), Failure> {
    let ChangeResponse { sentences, warnings, log_index } = answer;
    match args.admin.output {
        Format::Table => {
            say(&lines(sentences, warnings))?;
            if args.dry_run { say(NOTHING_DONE) } else { Ok(()) }
        }
        Format::Json => {
            say_json(&ChangeJson { dry_run: args.dry_run, sentences, warnings, log_index: Wide(*log_index) })
        }
    }
}

/// The last line of a dry run.
pub(crate) const NOTHING_DONE: &str = "This was a dry run: nothing was changed.\n";

/// A line for each sentence, and one for each warning.
pub(crate) fn lines(sentences: &[String], warnings: &[String]) -> String {
    let plain = sentences.iter().map(|sentence| format!("{}\n", printable(sentence)));
    plain.chain(warnings.iter().map(|warning| format!("Note: {}\n", printable(warning)))).collect()
}

/// Follows work to its end, showing the steps, for as long as the caller wants to wait.
///
/// # Errors
///
/// When it was refused or the connection was lost, and when it takes longer than that; the text says which.
pub(super) async fn follow(
    args: &WorkArgs,
    connection: &Connection,
    deed: &'static str,
    call: impl Future<Output = Result<tonic::Response<Streaming<Progress>>, Status>>,
) -> Result<(), Failure> {
    let limit = Duration::from_secs(args.timeout.get().unsigned_abs());
    let work = async {
        let mut stream = call.await.map_err(connection.failed(deed))?.into_inner();
        let mut shown = Shown { args: &args.change, will: Sentences::default(), step: String::new() };
        while let Some(Progress { told }) = stream.message().await.map_err(connection.failed(deed))? {
            if shown.show(told)? {
                return Ok(());
            }
        }
        shown.end(deed)
    };
    match tokio::time::timeout(limit, work).await {
        Ok(end) => end,
        Err(_) => Err(Failure::NotYet {
            deed,
            what: format!(
                "it was begun and has not come to its end after {}; it goes on, and `quorate cluster members` shows how \
                 far it is",
                args.timeout
            ),
        }),
    }
}

/// What was shown of a work so far.
struct Shown<'a> {
    args: &'a ChangeArgs,
    will: Sentences,
    step: String,
}

impl Shown<'_> {
    /// Shows one message; whether it was the last.
    fn show(&mut self, told: Option<progress::Told>) -> Result<bool, Failure> {
        let text = self.args.admin.output == Format::Table;
        match told {
            Some(progress::Told::Will(will)) => {
                if text {
                    say(&lines(&will.sentences, &will.warnings))?;
                }
                self.will = will;
            }
            Some(progress::Told::Step(step)) => {
                // A step that goes on is told once.
                if text && step != self.step {
                    complain(&format!("  {}", printable(&step)));
                }
                self.step = step;
            }
            Some(progress::Told::Done(done)) => {
                told_at_end(self.args, &self.will, &done)?;
                return Ok(true);
            }
            None => {}
        }
        Ok(false)
    }

    /// The stream came to its end without a last word: as it should on a dry run, and else not.
    fn end(&self, deed: &'static str) -> Result<(), Failure> {
        if !self.args.dry_run {
            return Err(Failure::Answer { deed, what: "it ended without saying what was done".to_owned() });
        }
        match self.args.admin.output {
            Format::Table => say(NOTHING_DONE),
            Format::Json => {
                let Sentences { sentences, warnings } = &self.will;
                say_json(&ChangeJson { dry_run: true, sentences, warnings, log_index: Wide(0) })
            }
        }
    }
}

fn told_at_end(args: &ChangeArgs, will: &Sentences, done: &ChangeResponse) -> Result<(), Failure> {
    match args.admin.output {
        Format::Table => told(args, done),
        Format::Json => {
            let mut all = done.clone();
            all.warnings.splice(0..0, will.warnings.iter().cloned());
            told(args, &all)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_lines_and_warnings_are_marked() {
        let text = lines(&["Done.".to_owned()], &["Look\u{1b} there.".to_owned()]);
        assert_eq!(text, "Done.\nNote: Look\\u{1b} there.\n");
    }
}
