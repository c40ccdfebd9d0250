//! Why a Federation API gave no bundle, in words for the operator of this side.

use quorate_actors::FetchError;
use quorate_proto_identity::{SpiffeId, TrustDomain};
use tonic::{Code, Status};

use super::oauth::TokenError;
use crate::outbound::OutboundError;

/// Longest words of a peer that are told on.
const WORDS_LIMIT: usize = 300;

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The relationship leads to an endpoint of the standard, which this client does not ask.
    #[error("the endpoint is one of {profile}, and no Federation API")]
    OtherProfile {
        /// Its profile.
        profile: &'static str,
    },
    /// The server is to show a SPIFFE ID, and nothing is held to verify it with (FED-32).
    #[error(
        "no bundle of {trust_domain} is held, with which the server has to prove {id}: give one with `quorate bundle set`"
    )]
    NoBundle {
        /// Whose bundle is missing.
        trust_domain: TrustDomain,
        /// Whom the server has to be.
        id: SpiffeId,
    },
    /// The server was not reached, or is not who it has to be.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// There is no token to ask with.
    #[error("no access token was had")]
    Token(#[source] TokenError),
    /// Mutual TLS is configured, and this node has no endpoint certificate yet.
    #[error("this node has no endpoint certificate yet, which mutual TLS needs; it asks the leader for one")]
    NoIdentity,
    /// The secret of the relationship is not there, or is of no use.
    #[error("the {what} of this relationship {fault}: give it again with `quorate federation update`")]
    Secret {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The server speaks no HTTP/2, which a Federation API does.
    #[error("{host} speaks no HTTP/2: is {host} a Federation API?")]
    NotHttp2 {
        /// Its host.
        host: String,
    },
    /// The peer does not take our credential, or any.
    #[error("{host} does not take our credential ({credential}): {words}")]
    Unauthenticated {
        /// Its host.
        host: String,
        /// What we showed: `mutual_tls`, `api_key`, ...
        credential: &'static str,
        /// Its words.
        words: String,
    },
    /// The peer knows who we are, and its policy refuses.
    #[error("{host} refuses us by its policy: {words}")]
    PermissionDenied {
        /// Its host.
        host: String,
        /// Its words.
        words: String,
    },
    /// The peer answers with another error.
    #[error("{host} answers {code:?}: {words}")]
    Status {
        /// Its host.
        host: String,
        /// The code.
        code: Code,
        /// Its words.
        words: String,
    },
    /// The answer is none that can be used.
    #[error("the answer of {host} cannot be used: {fault}")]
    Answer {
        /// Its host.
        host: String,
        /// Why.
        fault: String,
    },
    /// A watch has come to its end. Another one may be opened.
    #[error("{host} ended the watch")]
    Ended {
        /// Its host.
        host: String,
    },
    /// Nothing was heard for longer than a live server is silent.
    #[error("{host} has been silent for {seconds} s; a server that lives says something every 20 s")]
    Silent {
        /// Its host.
        host: String,
        /// How long.
        seconds: u64,
    },
    /// The time for the call was over.
    #[error("{host} did not answer within {seconds} s")]
    Time {
        /// Its host.
        host: String,
        /// How long.
        seconds: u64,
    },
}

impl ClientError {
    /// What to make of a failed call.
    pub(super) fn of_status(host: &str, credential: &'static str, status: &Status) -> Self {
        let (host, words) = (host.to_owned(), words(status));
        let code = status.code();
        if code == Code::Unauthenticated {
            Self::Unauthenticated { host, credential, words }
        } else if code == Code::PermissionDenied {
            Self::PermissionDenied { host, words }
        } else if code == Code::Unimplemented {
            Self::Status { host, code, words: "it serves no Federation API there".to_owned() }
        } else {
            Self::Status { host, code, words }
        }
    }

    /// Whether another member of our cluster may have more luck: nothing was said by the peer against us.
    #[must_use]
    pub fn is_elsewhere_better(&self) -> bool {
        match self {
            Self::Outbound(error) => error.is_unreachable(),
            Self::Token(error) => error.is_elsewhere_better(),
            Self::NoIdentity | Self::Ended { .. } | Self::Silent { .. } | Self::Time { .. } => true,
            Self::Status { code, .. } => {
                matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown)
            }
            Self::OtherProfile { .. }
            | Self::NoBundle { .. }
            | Self::Secret { .. }
            | Self::NotHttp2 { .. }
            | Self::Unauthenticated { .. }
            | Self::PermissionDenied { .. }
            | Self::Answer { .. } => false,
        }
    }
}

impl From<ClientError> for FetchError {
    fn from(error: ClientError) -> Self {
        let mut words = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(next) = cause {
            words = format!("{words}: {next}");
            cause = next.source();
        }
        if error.is_elsewhere_better() { Self::unreachable(words) } else { Self::refused(words) }
    }
}

/// A peer's words, short, and without what could steer a terminal.
fn words(status: &Status) -> String {
    let message = status.message();
    if message.is_empty() {
        return "it gives no reason".to_owned();
    }
    message.chars().filter(|character| !character.is_control()).take(WORDS_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_credential_is_told_with_its_kind_and_the_peers_reason() {
        let status = Status::unauthenticated("the key\u{1b}[2J has expired");
        let error = ClientError::of_status("b.example", "api_key", &status);
        assert_eq!(error.to_string(), "b.example does not take our credential (api_key): the key[2J has expired");
        assert!(!error.is_elsewhere_better());
        let error = ClientError::of_status("b.example", "none", &Status::permission_denied(""));
        assert_eq!(error.to_string(), "b.example refuses us by its policy: it gives no reason");
    }

    #[test]
    fn what_the_peer_has_not_decided_another_member_may_try() {
        for (code, better) in
            [(Code::Unavailable, true), (Code::Unknown, true), (Code::NotFound, false), (Code::Unimplemented, false)]
        {
            assert_eq!(
                ClientError::of_status("h", "none", &Status::new(code, "x")).is_elsewhere_better(),
                better,
                "{code:?}"
            );
        }
        let long = Status::unavailable("x".repeat(10_000));
        assert!(ClientError::of_status("h", "none", &long).to_string().len() < 400);
    }
}
