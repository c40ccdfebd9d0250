//! Asking before something is done that harms somebody.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use super::failure::Failure;
use super::output::complain;

/// Asks whether to go on. Whoever cannot be asked has to have said so before, with `--yes`.
///
/// # Errors
///
/// When the answer is no, or there is nobody to ask.
pub(super) fn confirm(deed: &'static str, harm: &str) -> Result<(), Failure> {
    complain(harm.trim_end());
    if !io::stdin().is_terminal() {
        return Err(Failure::Declined { deed, why: "standard input is no terminal to ask at: say --yes" });
    }
    let mut errors = io::stderr().lock();
    let _ = errors.write_all(b"Do it all the same? [y/N] ").and_then(|()| errors.flush());
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Declined { deed, why: "you said no; nothing was changed" }),
    }
}
