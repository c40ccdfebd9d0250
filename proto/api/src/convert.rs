//! Between wire messages and identity types, a file a message family.
//!
//! Into an identity type the way is a function that takes the name of the field and answers [`ConvertError`], which
//! names it; out of one it cannot fail. Services turn the error into `InvalidArgument` by `tonic::Status::from`.

mod bundle;
mod selector;
mod spiffe_id;
mod status;
mod svid;

pub use bundle::{jwt_key, x509_certificate};
pub use selector::{SELECTORS_LIMIT, selector_set};
pub use spiffe_id::{optional_spiffe_id, spiffe_id};
pub use status::{failed, ok};
pub use svid::{jwt_svid, x509_svid};

use quorate_proto_identity::selector::SelectorError;
use quorate_proto_identity::spiffe_id::SpiffeIdError;
use quorate_proto_identity::trust_domain::TrustDomainError;

/// A field of a message that does not hold what it should. The caller's mistake: `InvalidArgument`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The field is mandatory and not there.
    #[error("{field}: missing")]
    Missing {
        /// The field's name in the message.
        field: &'static str,
    },
    /// The trust domain of a SPIFFE ID in two pieces is no trust domain name.
    #[error("{field}: trust domain: {cause}")]
    TrustDomain {
        /// The field's name in the message.
        field: &'static str,
        /// What is wrong with the name.
        cause: TrustDomainError,
    },
    /// The two pieces are no SPIFFE ID together.
    #[error("{field}: {cause}")]
    SpiffeId {
        /// The field's name in the message.
        field: &'static str,
        /// What is wrong with the ID.
        cause: SpiffeIdError,
    },
    /// One selector of a list is none.
    #[error("{field}[{position}]: {cause}")]
    Selector {
        /// The field's name in the message.
        field: &'static str,
        /// Which one, counted from 0.
        position: usize,
        /// What is wrong with it.
        cause: SelectorError,
    },
    /// More selectors than one object may have.
    #[error("{field}: {count} selectors, the most is {SELECTORS_LIMIT}")]
    TooManySelectors {
        /// The field's name in the message.
        field: &'static str,
        /// How many were given.
        count: usize,
    },
}

impl From<ConvertError> for tonic::Status {
    fn from(error: ConvertError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}
