//! Exit codes: what a script can tell apart without reading a word.

use std::process::ExitCode;

/// How a command ended. The numbers are a promise to scripts and are told by `quorate --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what was asked.
    Done = 0,
    /// It was refused or failed. Asking again the same way ends the same way.
    Failed = 1,
    /// The command line, or a file given with it, is wrong. Nothing was sent or started.
    Usage = 2,
    /// No node answers there, or the node cannot do it now. Asking again later may help.
    Unavailable = 3,
    /// The caller is not admitted, or there is no identity for it.
    Denied = 4,
    /// `audit verify` found the end of the trail missing.
    CutOff = 5,
    /// `audit verify` found the trail changed.
    Altered = 6,
}

/// The lines of `quorate --help` about exit codes.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  1  refused or failed; the message says what to change
  2  the command line, or a file given with it, is wrong; nothing was sent or started
  3  no node answers there, or it cannot do it now; try again later
  4  the caller is not admitted, or there is no identity for it
  5  audit verify: the trail is cut off
  6  audit verify: the trail was altered";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_tells_of_every_exit_code() {
        for exit in
            [Exit::Done, Exit::Failed, Exit::Usage, Exit::Unavailable, Exit::Denied, Exit::CutOff, Exit::Altered]
        {
            let line = format!("\n  {}  ", exit as u8);
            assert!(HELP.contains(&line), "{line:?}");
        }
    }
}
