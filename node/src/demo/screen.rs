//! Standard output: lines that stay, and below them one that changes, where there is a terminal.

use std::io::{self, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;

/// Back to the begin of the line, and clear it (ECMA-48: CR, EL).
const CLEAR_LINE: &str = "\r\x1b[K";

/// The output. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Screen {
    terminal: bool,
    /// The line that changes, while one is shown.
    line: Arc<Mutex<String>>,
}

impl Screen {
    /// An output that is a terminal, or is none.
    pub(super) fn new(terminal: bool) -> Self {
        Self { terminal, line: Arc::default() }
    }

    /// Prints text that ends with a line end, at once, since whoever started the demonstration may be reading a pipe.
    /// Nobody has to: what cannot be written is not said, and the authority stays up.
    pub(super) fn say(&self, text: &str) {
        let line = self.line.lock();
        if self.terminal && !line.is_empty() {
            print(&format!("{CLEAR_LINE}{text}{line}"));
        } else {
            print(text);
        }
    }

    /// Shows a line in place of the one that was shown. Where there is no terminal, it is printed when it changes in
    /// what is before the first bar: figures that always move would fill a log.
    pub(super) fn status(&self, text: &str) {
        let mut line = self.line.lock();
        if self.terminal {
            text.clone_into(&mut line);
            print(&format!("{CLEAR_LINE}{text}"));
            return;
        }
        let head = text.split('|').next().unwrap_or_default();
        if *line != head {
            head.clone_into(&mut line);
            print(&format!("{text}\n"));
        }
    }

    /// Takes the changing line away.
    pub(super) fn end(&self) {
        let mut line = self.line.lock();
        if self.terminal && !line.is_empty() {
            print(CLEAR_LINE);
        }
        line.clear();
    }
}

fn print(text: &str) {
    let mut output = io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}
