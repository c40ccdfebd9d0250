//! Why somebody is not answered: for whoever asks, for the audit trail, and for metrics.

use quorate_proto_identity::bearer::BearerError;
use quorate_proto_identity::x509::SvidError;
use quorate_proto_identity::{JwtError, SpiffeId, TrustDomain, UnixSeconds};
use tonic::{Code, Status};

/// A refusal, in words for the audit trail. Most of them go to whoever asks, too: they say what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Reason {
    /// More than one credential, or the same header twice.
    #[error("the call shows several credentials: send one of quorate-api-key and authorization, once")]
    SeveralCredentials,
    /// A header that cannot be a credential.
    #[error("the credential is not plain text")]
    NotText,
    /// Nothing was shown, and policy wants something.
    #[error("the call shows no credential, and this trust domain answers none without: {accepted}")]
    NothingShown {
        /// What is accepted.
        accepted: String,
    },
    /// The SPIFFE ID of the certificate is one of our own.
    #[error("{id} is of this trust domain itself: the Federation API is for others")]
    OwnDomain {
        /// The ID.
        id: SpiffeId,
    },
    /// The certificate's trust domain has no bundle here.
    #[error("the certificate names {peer}, with which there is no relationship, and of which there is no bundle")]
    NotFederated {
        /// The trust domain of the certificate.
        peer: TrustDomain,
    },
    /// There is a relationship, and no bundle yet.
    #[error("the certificate names {peer}, and no bundle of it has come yet: set it, or see to its relationship")]
    NoBundleYet {
        /// The trust domain of the certificate.
        peer: TrustDomain,
    },
    /// The certificate has not the form of an X509-SVID.
    #[error("the client certificate is not accepted: {}", with_causes(.0))]
    Certificate(SvidError),
    /// The certificate has ended.
    #[error("the client certificate has expired at {expired_at}: show one that is valid")]
    CertificateExpired {
        /// When.
        expired_at: UnixSeconds,
    },
    /// The certificate has not begun.
    #[error("the client certificate is valid from {begins_at} on: see to the clocks of both sides")]
    CertificateNotYet {
        /// When it does.
        begins_at: UnixSeconds,
    },
    /// The bundle of its trust domain does not verify the certificate.
    #[error("the client certificate is not accepted: {}", with_causes(.0))]
    NotVerified(SvidError),
    /// The certificate is good, and policy takes none here.
    #[error("this trust domain does not accept client certificates of {peer}")]
    CertificatesOff {
        /// Its trust domain.
        peer: TrustDomain,
    },
    /// The certificate is good, and its ID is not one of those that are named.
    #[error("{id} is not among the SPIFFE IDs that may ask here")]
    OtherId {
        /// Its ID.
        id: SpiffeId,
    },
    /// The header holds no API key.
    #[error("the metadata quorate-api-key holds no API key: one begins with qfk1_")]
    KeyMalformed,
    /// No such key. Told in the same words as a wrong secret.
    #[error("the API key is not known here: it was deleted, or it is mistyped")]
    KeyUnknown,
    /// There is such a key, and it has another secret.
    #[error("the API key is not known here: it was deleted, or it is mistyped")]
    KeyWrong,
    /// The key has ended.
    #[error("the API key has expired at {expired_at}: ask the operators of this trust domain to rotate it")]
    KeyExpired {
        /// When.
        expired_at: UnixSeconds,
    },
    /// The secret was replaced, and the time for both is over.
    #[error("the API key was rotated, and its former secret is taken no more since {expired_at}: use the new one")]
    KeyRotated {
        /// When.
        expired_at: UnixSeconds,
    },
    /// The key may not be used for this.
    #[error("the API key may not be used to {wanted} the bundle")]
    KeyScope {
        /// What was wanted.
        wanted: &'static str,
    },
    /// Policy takes no keys of this peer.
    #[error("this trust domain does not accept API keys of {peer} at present")]
    KeysOff {
        /// Whose key it is.
        peer: TrustDomain,
    },
    /// `authorization` is no bearer token.
    #[error("the metadata authorization holds no bearer token: it is Bearer, a space and a JWT")]
    NotBearer,
    /// The token is too long.
    #[error("the token has {length} bytes, which is too long")]
    TokenTooLong {
        /// How many bytes.
        length: usize,
    },
    /// The token is no JWT that could be verified, or breaks a rule.
    #[error("the token is not accepted: {}", with_causes(.0))]
    Token(BearerError),
    /// Nobody here trusts its issuer.
    #[error("this trust domain does not accept tokens of the token's issuer")]
    OtherIssuer,
    /// The issuer's keys could not be had. It may be otherwise in a moment.
    #[error("the keys of the token's issuer cannot be fetched: {why}")]
    NoIssuerKeys {
        /// Why.
        why: String,
    },
    /// The token is for somebody else.
    #[error("the token is for another audience than {wanted}")]
    OtherAudience {
        /// What `aud` has to name.
        wanted: String,
    },
    /// The token does not reach so far.
    #[error("the token has not the scope {wanted}")]
    TokenScope {
        /// What `scope` has to contain.
        wanted: String,
    },
    /// A claim is missing or has another value.
    #[error("the token's claim {name} is missing or has another value than policy wants")]
    Claim {
        /// Which claim.
        name: String,
    },
    /// Whoever asks, asks too often.
    #[error("too many calls: wait a moment, or watch the bundle in place of asking for it")]
    TooOften,
}

impl Reason {
    /// The reason in one word: stable, for audit records, metrics and programs (metadata `quorate-reason`).
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::SeveralCredentials => "several_credentials",
            Self::NotText => "not_text",
            Self::NothingShown { .. } => "no_credential",
            Self::OwnDomain { .. } => "own_domain",
            Self::NotFederated { .. } => "not_federated",
            Self::NoBundleYet { .. } => "no_bundle_yet",
            Self::Certificate(error) | Self::NotVerified(error) => of_certificate(error),
            Self::CertificateExpired { .. } => "certificate_expired",
            Self::CertificateNotYet { .. } => "certificate_not_yet",
            Self::CertificatesOff { .. } => "certificates_off",
            Self::OtherId { .. } => "other_id",
            Self::KeyMalformed => "key_malformed",
            Self::KeyUnknown => "key_unknown",
            Self::KeyWrong => "key_wrong",
            Self::KeyExpired { .. } => "key_expired",
            Self::KeyRotated { .. } => "key_rotated",
            Self::KeyScope { .. } => "key_scope",
            Self::KeysOff { .. } => "keys_off",
            Self::NotBearer => "not_bearer",
            Self::TokenTooLong { .. } => "token_too_long",
            Self::Token(error) => of_token(error),
            Self::OtherIssuer => "other_issuer",
            Self::NoIssuerKeys { .. } => "no_issuer_keys",
            Self::OtherAudience { .. } => "other_audience",
            Self::TokenScope { .. } => "token_scope",
            Self::Claim { .. } => "token_claim",
            Self::TooOften => "too_often",
        }
    }

    /// The code of the answer: whether the credential is no good, or good and not wanted here.
    const fn status_code(&self) -> Code {
        match self {
            Self::SeveralCredentials
            | Self::NotText
            | Self::NothingShown { .. }
            | Self::NotFederated { .. }
            | Self::NoBundleYet { .. }
            | Self::Certificate(_)
            | Self::CertificateExpired { .. }
            | Self::CertificateNotYet { .. }
            | Self::NotVerified(_)
            | Self::KeyMalformed
            | Self::KeyUnknown
            | Self::KeyWrong
            | Self::KeyExpired { .. }
            | Self::KeyRotated { .. }
            | Self::NotBearer
            | Self::TokenTooLong { .. }
            | Self::Token(_)
            | Self::OtherIssuer => Code::Unauthenticated,
            Self::OwnDomain { .. }
            | Self::CertificatesOff { .. }
            | Self::OtherId { .. }
            | Self::KeyScope { .. }
            | Self::KeysOff { .. }
            | Self::OtherAudience { .. }
            | Self::TokenScope { .. }
            | Self::Claim { .. } => Code::PermissionDenied,
            Self::NoIssuerKeys { .. } => Code::Unavailable,
            Self::TooOften => Code::ResourceExhausted,
        }
    }

    /// What whoever asks is told.
    pub(super) fn status(&self) -> Status {
        let mut status = Status::new(self.status_code(), self.words());
        status.metadata_mut().insert(REASON_HEADER, tonic::metadata::MetadataValue::from_static(self.told()));
        status
    }

    /// The words for whoever asks. They say nothing of what a stranger could otherwise try out: with whom we are federated,
    /// and what this node meets where it fetches an issuer's keys. The audit trail has it.
    fn words(&self) -> String {
        if self.is_of_no_known_issuer() {
            return NOT_ISSUED.to_owned();
        }
        if matches!(self, Self::NoIssuerKeys { .. }) { NO_ISSUER_KEYS.to_owned() } else { self.to_string() }
    }

    /// The word for whoever asks, which tells no more than the words do; nor whether a key of that ID is there.
    const fn told(&self) -> &'static str {
        if self.is_of_no_known_issuer() {
            return "certificate_issuer";
        }
        if matches!(self, Self::KeyWrong) { Self::KeyUnknown.code() } else { self.code() }
    }

    /// Whether no bundle here verifies the certificate, for whichever reason.
    const fn is_of_no_known_issuer(&self) -> bool {
        matches!(self, Self::NotFederated { .. } | Self::NoBundleYet { .. } | Self::NotVerified(_))
    }
}

/// What the holder of a certificate is told that no bundle here verifies.
const NOT_ISSUED: &str = "the client certificate was issued by no authority that is known here for its trust domain: the trust \
                          domains are not federated, or the bundle that is known here is another one; begin with an API key, \
                          or have the operators exchange bundles";

/// What the bearer of a token is told whose issuer does not answer us.
const NO_ISSUER_KEYS: &str = "the keys of the token's issuer cannot be fetched at present, so the token cannot be verified: \
                              ask again in a minute";

/// The metadata by which a refusal says its reason in one word.
pub const REASON_HEADER: &str = "quorate-reason";

/// An error with its causes, in one line: whoever asks sees nothing but the message.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

const fn of_certificate(error: &SvidError) -> &'static str {
    match error {
        SvidError::NoBundle { .. } => "not_federated",
        SvidError::NoAuthority { .. } => "no_authority",
        SvidError::Path(webpki::Error::CertExpired { .. }) => "certificate_expired",
        SvidError::Path(webpki::Error::CertNotValidYet { .. }) => "certificate_not_yet",
        SvidError::Path(webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey) => {
            "certificate_issuer"
        }
        SvidError::NoCertificate
        | SvidError::ChainTooLong { .. }
        | SvidError::Certificate(_)
        | SvidError::UriNames { .. }
        | SvidError::SpiffeId(_)
        | SvidError::NoPath
        | SvidError::Authority
        | SvidError::SigningKeyUsage
        | SvidError::NoDigitalSignature
        | SvidError::Purpose
        | SvidError::NoCrls
        | SvidError::Path(_) => "certificate_invalid",
    }
}

const fn of_token(error: &BearerError) -> &'static str {
    match error {
        BearerError::Jwt(JwtError::Expired { .. }) => "token_expired",
        BearerError::Jwt(JwtError::NotYetValid) => "token_not_yet",
        BearerError::Jwt(JwtError::Signature) => "token_signature",
        BearerError::Jwt(JwtError::Algorithm | JwtError::AlgorithmOfKey) => "token_algorithm",
        BearerError::UnknownKey => "token_key",
        BearerError::Jwt(_) | BearerError::Type | BearerError::NoIssuer => "token_malformed",
    }
}
