//! X.509: authorities, leaves, requests and CRLs made and read, and X509-SVIDs verified.
//!
//! What is read here is read by our own strict reader and not by a library's: the replicated state machine decides with
//! it, and two members of different versions must never disagree on whether a document is well formed. A path is built
//! by rustls-webpki, which reads each certificate once more by itself; both must agree.

mod authority;
mod certificate;
mod crl;
mod csr;
mod extensions;
mod instant;
mod leaf;
mod rcgen_keys;
mod signed;
mod verify;

pub use authority::{AuthorityError, AuthorityTemplate, build_issuing_certificate, build_root};
pub use certificate::{CERTIFICATE_LIMIT, Certificate, CertificateError};
pub use crl::{
    CRL_BACKDATE, CRL_LIMIT, CrlError, CrlFault, CrlSet, CrlSetError, CrlSource, CrlTemplate, FirstCrlError,
    NextCrlError, ParsedCrl, RevocationReason, RevokedCertificate, ThisUpdate, UnknownReason, build_crl, check_crl,
    check_first_crl, check_next_crl, parse_crl, this_update,
};
pub use csr::{CSR_LIMIT, CsrError, ParsedCsr, build_csr, parse_csr};
pub use extensions::{ExtendedKeyUsage, Extensions, KeyUsage};
pub use leaf::{LeafError, LeafIssuer, LeafTemplate};
pub use verify::{
    CHAIN_LIMIT, Purpose, SvidError, VerifiedX509Svid, check_leaf_profile, verify_unrevoked_x509_svid, verify_x509_svid,
};
