//! Why consensus ended on this node, said once and kept.
//!
//! The first cause wins: what follows a failed sync (dropped callbacks, closed channels, refused proposals) only repeats
//! it in less telling words.

use std::{
    error::Error,
    sync::{Arc, OnceLock},
};

/// A cell that is filled at most once, shared by the log, the state machine, the batcher and the driver.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopCause {
    cell: Arc<OnceLock<Arc<str>>>,
}

impl StopCause {
    /// Records why consensus ended, unless that is known already. Gives back the cause that counts.
    pub(crate) fn record(&self, reason: impl Into<Arc<str>>) -> Arc<str> {
        let mut first = false;
        let reason = Arc::clone(self.cell.get_or_init(|| {
            first = true;
            reason.into()
        }));
        if first {
            tracing::error!(reason = %reason, "consensus has ended on this node until it is restarted");
        }
        reason
    }

    /// Records an end that was asked for, which nobody needs to be alarmed about.
    pub(crate) fn record_end(&self, reason: &str) {
        self.cell.get_or_init(|| Arc::from(reason));
    }

    /// The cause, once there is one.
    pub(crate) fn get(&self) -> Option<Arc<str>> {
        self.cell.get().map(Arc::clone)
    }
}

/// An error with its causes, on one line.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    causes_onto(error.to_string(), error.source())
}

/// A text with the causes that it does not tell of already: errors of libraries repeat those of others.
pub(crate) fn causes_onto(mut text: String, mut cause: Option<&(dyn Error + 'static)>) -> String {
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let inner = std::io::Error::other("nobody answers");
        let outer = std::io::Error::other(std::io::Error::other(inner));
        assert_eq!(with_causes(&outer), "nobody answers");
        assert_eq!(causes_onto("the call failed".to_owned(), Some(&outer)), "the call failed: nobody answers");
    }

    #[test]
    fn the_first_cause_is_the_one_that_is_kept() {
        let cause = StopCause::default();
        assert_eq!(cause.get(), None);
        assert_eq!(&*cause.record("the disk failed"), "the disk failed");
        assert_eq!(&*cause.record("a channel closed"), "the disk failed");
        assert_eq!(cause.get().as_deref(), Some("the disk failed"));
    }
}
