//! Why a call of the Workload API is refused, or a stream of it ends: one type, with the code that the caller sees.

use std::sync::Arc;

use crate::{mailbox::MailboxError, metrics};

/// A refusal, with the text that the caller sees. The codes are those of F9 of the conformance list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request breaks a rule, whoever sends it. Not to be repeated (EP-18).
    #[error("{0}")]
    InvalidArgument(Arc<str>),
    /// The caller has no identity here, or not the one it asked for (EP-21).
    #[error("{0}")]
    PermissionDenied(Arc<str>),
    /// This node cannot answer now, or has as much to do as it may (EP-19, design section 2, property 4).
    #[error("{0}")]
    Unavailable(Arc<str>),
}

impl Refusal {
    pub(crate) fn invalid(text: impl Into<Arc<str>>) -> Self {
        Self::InvalidArgument(text.into())
    }

    pub(crate) fn denied(text: impl Into<Arc<str>>) -> Self {
        Self::PermissionDenied(text.into())
    }

    pub(crate) fn unavailable(text: impl Into<Arc<str>>) -> Self {
        Self::Unavailable(text.into())
    }

    /// No entry gives this caller an identity.
    pub(crate) fn no_identity() -> Self {
        Self::denied("no identity issued")
    }

    /// Counts it and passes it on; for the one place where a refusal leaves this crate.
    pub(crate) fn counted(self) -> Self {
        metrics::refused(self.code());
        self
    }

    /// The name of the gRPC code, for logs and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidArgument(_) => "invalid_argument",
            Self::PermissionDenied(_) => "permission_denied",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

impl From<MailboxError> for Refusal {
    /// Full, absent and slow are all reasons to come again later, and no fault of the caller's.
    fn from(error: MailboxError) -> Self {
        Self::unavailable(error.to_string())
    }
}
