//! What is asked of an ACME authority, and what it answers: the trait behind which HTTP lies.

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use quorate_proto_identity::{EndpointUrl, PrivateKey, Validity};
use quorate_raft_machine::web::{AcmeChallenge, WebChallenge};

/// The answer to a question, some time later. It ends by itself: every implementation has a time limit.
pub type AcmeFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, AcmeError>> + Send + 'a>>;

/// With whom an authority has to do. The account is found by its key, and made if there is none: who begins again after a
/// crash finds what was there.
#[derive(Clone)]
pub struct AcmeAccount {
    /// The authority's directory.
    pub directory: EndpointUrl,
    /// Whom it writes to.
    pub contact: Vec<String>,
    /// The account's key, EC P-256.
    pub key: PrivateKey,
}

/// An order, as it is found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeOrder {
    /// Where the authority keeps it.
    pub url: String,
    /// The DNS name that it is for.
    pub domain: String,
    /// How control over the name is to be proved.
    pub challenge: AcmeChallenge,
}

/// What an order waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderStanding {
    /// For us to prove control.
    Challenge(WebChallenge),
    /// For nothing: control is proved, from an earlier order or by now.
    Proved,
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedWebCertificate {
    /// Leaf first, each DER.
    pub chain: Vec<Bytes>,
    /// The leaf's.
    pub validity: Validity,
}

/// Speaks with ACME authorities (RFC 8555). A simulation gives one that answers from a script.
pub trait AcmeClient: Send + Sync + 'static {
    /// Places an order for one DNS name; gives where it is kept.
    ///
    /// # Errors
    /// When the authority does not take it, or cannot be reached.
    fn place<'a>(&'a self, account: &'a AcmeAccount, domain: &'a str) -> AcmeFuture<'a, String>;

    /// Looks what an order waits for.
    ///
    /// # Errors
    /// When the order has failed, offers no challenge of this kind, or cannot be looked at.
    fn standing<'a>(&'a self, account: &'a AcmeAccount, order: &'a AcmeOrder) -> AcmeFuture<'a, OrderStanding>;

    /// Has the authority look at the challenge, which is out, and ends the order: asks for a certificate of `key`, and gives
    /// it. From wherever the order is: what was done before is not done again.
    ///
    /// # Errors
    /// When the order has failed, or cannot be ended now.
    fn finish<'a>(
        &'a self,
        account: &'a AcmeAccount,
        order: &'a AcmeOrder,
        key: &'a PrivateKey,
    ) -> AcmeFuture<'a, IssuedWebCertificate>;
}

/// Why an authority did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcmeError {
    /// It could not be asked, or has no time: the same may go well a little later.
    #[error("{reason}")]
    NotNow {
        /// What went wrong, with all causes.
        reason: String,
    },
    /// It said no. Another order may go well, once what it names is corrected.
    #[error("{reason}")]
    Refused {
        /// The authority's words, or ours about them.
        reason: String,
    },
}
