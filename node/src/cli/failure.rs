//! Why a command did not do what was asked: what happened, to what, and what to do next.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use quorate_proto_api::LOG_INDEX_HEADER;
use quorate_proto_api::channel::Address;
use tonic::{Code, Status};

use super::exit::Exit;
use super::text::printable;
use crate::given::GivenError;

/// Which of a node's two sockets was asked. The same code means different things on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface {
    /// The admin socket.
    Admin,
    /// The Workload API.
    Workload,
}

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// An argument does not fit the others, or a file given does not hold what it should.
    #[error("{0}")]
    Usage(String),
    /// A file could not be read or written.
    #[error("cannot {deed} {}", path.display())]
    File {
        /// What was tried: "read", "write".
        deed: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A file that was given cannot be read.
    #[error("cannot read {}", path.display())]
    Given {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Nobody answers at the address.
    #[error("no node answers on {address}")]
    Unreachable {
        /// Which socket this is.
        surface: Surface,
        /// Where it was tried.
        address: Address,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The node refused, or could not.
    #[error("cannot {deed}: {} ({code:?})", printable(message))]
    Call {
        /// Which socket was asked.
        surface: Surface,
        /// What was asked for.
        deed: &'static str,
        /// The code of the answer.
        code: Code,
        /// The node's own words.
        message: String,
    },
    /// What was waited for has not come about yet. It may, and nothing is lost by asking again.
    #[error("cannot {deed}: {}", printable(what))]
    NotYet {
        /// What was asked for.
        deed: &'static str,
        /// What is missing.
        what: String,
    },
    /// Whoever was asked whether to go on did not say yes. Nothing was changed.
    #[error("cannot {deed}: {why}")]
    Declined {
        /// What was asked for.
        deed: &'static str,
        /// Why it was not begun.
        why: &'static str,
    },
    /// The node answered a call as no node should.
    #[error("cannot {deed}: the node's answer is wrong: {what}")]
    Answer {
        /// What was asked for.
        deed: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// Some items of a batch were not done; each was told of before.
    #[error("{failed} of {total} {items} failed")]
    Items {
        /// What they are: "entries".
        items: &'static str,
        /// How many were not done.
        failed: usize,
        /// Of how many.
        total: usize,
        /// Whether any of them may be done when it is asked for again later.
        later: bool,
    },
    /// The audit trail is not what it was; what was found is printed already.
    #[error("the audit trail is {what}")]
    Trail {
        /// How a script is told.
        exit: Exit,
        /// In words.
        what: &'static str,
    },
    /// Something on this side failed that should not.
    #[error("cannot {deed}")]
    Local {
        /// What was tried.
        deed: &'static str,
        /// What was said.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// Standard output or standard input failed.
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}

impl From<GivenError> for Failure {
    fn from(error: GivenError) -> Self {
        match error {
            GivenError::Unreadable { path, cause } => Self::Given { path, cause },
            wrong @ GivenError::Wrong { .. } => Self::Usage(wrong.to_string()),
        }
    }
}

impl Failure {
    /// What to make of a failed call.
    pub(crate) fn call(surface: Surface, deed: &'static str, address: &Address, status: &Status) -> Self {
        match dial_error(status) {
            Some(cause) => Self::Unreachable { surface, address: address.clone(), cause },
            // It is made, and says where: only that it holds everywhere is not known yet.
            None if status.metadata().contains_key(LOG_INDEX_HEADER) => {
                Self::NotYet { deed, what: status.message().to_owned() }
            }
            // The connection was there, so the call may have been carried out: it is no different from a deadline.
            None if is_silence(status) => {
                let message = "nobody answered in time".to_owned();
                Self::Call { surface, deed, code: Code::DeadlineExceeded, message }
            }
            None => Self::Call { surface, deed, code: status.code(), message: message(status) },
        }
    }

    /// What to make of the codes of a batch's items: each was told of before.
    ///
    /// # Errors
    ///
    /// When one of them is not `Ok`.
    pub(crate) fn of_items(items: &'static str, codes: impl Iterator<Item = Code>) -> Result<(), Self> {
        let (mut failed, mut total, mut later) = (0_usize, 0_usize, false);
        for code in codes {
            total = total.saturating_add(1);
            failed = failed.saturating_add(usize::from(code != Code::Ok));
            later |= matches!(exit_of(code), Exit::Unavailable);
        }
        if failed == 0 { Ok(()) } else { Err(Self::Items { items, failed, total, later }) }
    }

    /// The exit code that tells a script of it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Given { .. } => Exit::Usage,
            Self::Unreachable { cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => Exit::Denied,
            Self::Unreachable { .. } | Self::Items { later: true, .. } | Self::NotYet { .. } => Exit::Unavailable,
            Self::Call { code, .. } => exit_of(*code),
            Self::Trail { exit, .. } => *exit,
            Self::File { .. }
            | Self::Declined { .. }
            | Self::Answer { .. }
            | Self::Items { .. }
            | Self::Local { .. }
            | Self::Output(_) => Exit::Failed,
        }
    }

    /// What to do about it, where there is something to say.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { surface, cause, .. } => dial_advice(*surface, cause.kind()),
            Self::Call { surface, code, .. } => call_advice(*surface, *code),
            Self::Usage(_)
            | Self::File { .. }
            | Self::Given { .. }
            | Self::NotYet { .. }
            | Self::Declined { .. }
            | Self::Answer { .. }
            | Self::Items { .. }
            | Self::Trail { .. }
            | Self::Local { .. }
            | Self::Output(_) => None,
        }
    }

    /// The whole story: the failure, its causes, and the advice on a line of its own.
    pub(crate) fn story(&self) -> String {
        let mut story = self.to_string();
        let mut cause = self.source();
        while let Some(next) = cause {
            story.push_str(": ");
            story.push_str(&next.to_string());
            cause = next.source();
        }
        if let Some(advice) = self.advice() {
            story.push_str("\n  ");
            story.push_str(advice);
        }
        story
    }
}

/// The node's own words, or ours where there are none: a call that the socket does not know is answered without a text.
fn message(status: &Status) -> String {
    if !status.message().is_empty() {
        return status.message().to_owned();
    }
    let ours =
        if status.code() == Code::Unimplemented { "such calls are not served there" } else { "no reason was given" };
    ours.to_owned()
}

/// Whether the connection was given up because the other side said nothing: its process is stopped, or the host is
/// overloaded.
fn is_silence(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(cause) = source {
        if cause.to_string().contains("timed out") {
            return true;
        }
        source = cause.source();
    }
    false
}

/// The system's error when the socket could not be dialled.
fn dial_error(status: &Status) -> Option<io::Error> {
    if status.code() != Code::Unavailable {
        return None;
    }
    let mut source = status.source();
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            return Some(
                cause
                    .raw_os_error()
                    .map_or_else(|| io::Error::new(cause.kind(), cause.to_string()), io::Error::from_raw_os_error),
            );
        }
        source = cause.source();
    }
    None
}

fn dial_advice(surface: Surface, kind: io::ErrorKind) -> Option<&'static str> {
    match (kind, surface) {
        (io::ErrorKind::NotFound, Surface::Admin) => Some(
            "There is no such socket: is the node running? --socket PATH or QUORATE_ADMIN_SOCKET names another one.",
        ),
        (io::ErrorKind::NotFound, Surface::Workload) => Some(
            "There is no such socket: is the node running? --socket PATH or SPIFFE_ENDPOINT_SOCKET names another one.",
        ),
        (io::ErrorKind::ConnectionRefused, _) => {
            Some("A socket is there, but nobody listens on it: start the node again.")
        }
        (io::ErrorKind::PermissionDenied, Surface::Admin) => Some(
            "You may not open this socket. Admitted are root, the user that the node runs as, and the group \
             `admin.group` of its configuration.",
        ),
        (io::ErrorKind::PermissionDenied, Surface::Workload) => {
            Some("You may not reach this socket: the directories above it must let every user pass.")
        }
        _ => None,
    }
}

fn exit_of(code: Code) -> Exit {
    match code {
        Code::Ok => Exit::Done,
        Code::PermissionDenied | Code::Unauthenticated => Exit::Denied,
        // A deadline comes back as Cancelled, a lost connection as Unknown or Unavailable (SIM-09).
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => Exit::Unavailable,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => Exit::Failed,
    }
}

fn call_advice(surface: Surface, code: Code) -> Option<&'static str> {
    match (code, surface) {
        (Code::PermissionDenied, Surface::Admin) => {
            Some("Admitted are root, the user that the node runs as, and the group `admin.group` of its configuration.")
        }
        (Code::PermissionDenied, Surface::Workload) => Some(
            "No registration entry that matches this process gives it what was asked for, or it is banned. `quorate entry \
             create --spiffe-id ID --selector unix:uid:$(id -u)` registers the calling user; `quorate revocations list` \
             shows bans.",
        ),
        (Code::Unimplemented, Surface::Admin) => {
            Some("This may be the Workload API's socket: --socket PATH or QUORATE_ADMIN_SOCKET names the admin socket.")
        }
        (Code::Unimplemented, Surface::Workload) => Some(
            "This may be the admin socket: --socket PATH or SPIFFE_ENDPOINT_SOCKET names the one of the Workload API.",
        ),
        (Code::Unavailable, _) => Some("`quorate cluster status` says how the node stands."),
        (Code::DeadlineExceeded | Code::Cancelled | Code::Unknown, Surface::Admin) => {
            Some("No answer came. If this was a change, look whether it was made before you repeat it.")
        }
        (Code::Aborted, _) => Some("Somebody else changed it meanwhile: look at it again, then repeat."),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(surface: Surface, code: Code) -> Failure {
        let address = Address::Unix("/run/x.sock".into());
        Failure::call(surface, "count the entries", &address, &Status::new(code, "not now"))
    }

    #[test]
    fn the_story_says_what_was_tried_what_was_said_and_what_to_do() {
        let story = refused(Surface::Admin, Code::Unavailable).story();
        assert_eq!(
            story,
            "cannot count the entries: not now (Unavailable)\n  `quorate cluster status` says how the node stands."
        );
    }

    /// Property 5: the advice to look whether it was made would be wrong.
    #[test]
    fn a_change_that_is_made_and_may_not_hold_everywhere_is_told_as_the_node_told_it() {
        let mut status = Status::deadline_exceeded("the change is made, at log index 41, and ...");
        status.metadata_mut().insert(LOG_INDEX_HEADER, 41.into());
        let failure = Failure::call(Surface::Admin, "delete entries", &Address::Unix("/x".into()), &status);
        assert_eq!(failure.story(), "cannot delete entries: the change is made, at log index 41, and ...");
        assert_eq!(failure.exit(), Exit::Unavailable);
    }

    #[test]
    fn scripts_can_tell_refusal_from_absence_and_from_denial() {
        assert_eq!(refused(Surface::Admin, Code::NotFound).exit(), Exit::Failed);
        assert_eq!(refused(Surface::Admin, Code::Unavailable).exit(), Exit::Unavailable);
        assert_eq!(refused(Surface::Workload, Code::PermissionDenied).exit(), Exit::Denied);
        assert_eq!(Failure::Usage(String::new()).exit(), Exit::Usage);
        let unreachable = |kind: io::ErrorKind| Failure::Unreachable {
            surface: Surface::Admin,
            address: Address::Unix("/x".into()),
            cause: kind.into(),
        };
        assert_eq!(unreachable(io::ErrorKind::NotFound).exit(), Exit::Unavailable);
        assert_eq!(unreachable(io::ErrorKind::PermissionDenied).exit(), Exit::Denied);
    }

    #[test]
    fn a_call_that_the_socket_does_not_know_may_have_gone_to_the_other_socket() {
        let address = Address::Unix("/run/x.sock".into());
        for (surface, other) in [(Surface::Admin, "the Workload API's socket"), (Surface::Workload, "the admin socket")]
        {
            let story = Failure::call(surface, "count entries", &address, &Status::unimplemented("")).story();
            let start = "cannot count entries: such calls are not served there (Unimplemented)\n  This may be ";
            assert!(story.starts_with(&format!("{start}{other}")), "{story}");
        }
    }

    #[test]
    fn items_that_may_be_done_later_are_told_apart() {
        let exit = |codes: &[Code]| Failure::of_items("entries", codes.iter().copied()).map_err(|error| error.exit());
        assert_eq!(exit(&[Code::Ok, Code::Ok]), Ok(()));
        assert_eq!(exit(&[Code::Ok, Code::AlreadyExists]), Err(Exit::Failed));
        assert_eq!(exit(&[Code::AlreadyExists, Code::Unavailable]), Err(Exit::Unavailable));
    }

    #[test]
    fn words_of_a_node_cannot_steer_the_terminal() {
        let address = Address::Unix("/run/x.sock".into());
        let status = Status::internal("a\u{1b}[2Jb");
        let story = Failure::call(Surface::Admin, "count the entries", &address, &status).story();
        assert!(story.contains("a\\u{1b}[2Jb"), "{story}");
    }
}
