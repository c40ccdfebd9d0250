//! Names and documents of SPIFFE, and their rules.
//!
//! ```text
//!        names                       keys                        documents
//!  trust_domain  spiffe_id      key: PKCS#8 in and out      x509: roots, issuing certificates,
//!  selector      ids                 sign, verify                 leaves, requests, CRLs; verify
//!  dns_name      endpoint(_url)      |                      jwt_svid: sign, verify
//!        |                           |                      bundle: SPIFFE JWKS, plain JWKS, maps
//!        |                           |                      bearer: tokens of other issuers; verify
//!        +-------------+-------------+                               |
//!                      v                                             v
//!            values valid by construction  --------->  bytes out, or a typed refusal
//!                                   ^
//!                          the instant comes in as an argument
//! ```
//!
//! Everything here is a function of its arguments (and, for new keys and ECDSA signatures, of the crypto library's
//! random numbers). Nothing in this crate waits, opens a file or a socket, or asks a clock. Input from outside is
//! refused with a typed error and never normalised, and it never makes anything here panic.
//!
//! The rules are cited by the numbers of the project's conformance list: `ID-09` is a rule, `A-14` a choice where the
//! standards leave one, `XC-01` a test vector, `ATK-05` an attack.

#![forbid(unsafe_code)]

mod der;
mod hex;
mod json;

pub mod bearer;
pub mod bundle;
pub mod dns_name;
pub mod endpoint;
pub mod endpoint_url;
pub mod ids;
pub mod jwt_svid;
pub mod key;
pub mod selector;
pub mod spiffe_id;
pub mod trust_domain;
pub mod validity;
pub mod x509;

pub use bundle::{Bundle, BundleMap, BundleSource, JwtAuthority};
pub use dns_name::{DnsNameError, check_dns_name, wildcard_overlap};
pub use endpoint::WorkloadEndpoint;
pub use endpoint_url::{EndpointUrl, EndpointUrlError};
pub use ids::{AuthorityId, ClusterId, EntryId, InvalidId, MemberNumber, NodeName, SerialNumber};
pub use jwt_svid::{JwtClaims, JwtError, JwtSigner, VerifiedJwtSvid, verify_jwt_svid};
pub use key::{KeyError, KeyType, PrivateKey, PublicKey, PublicKeyKind};
pub use selector::{Selector, SelectorError, SelectorSet};
pub use spiffe_id::{SpiffeId, SpiffeIdError};
pub use trust_domain::{TrustDomain, TrustDomainError};
pub use validity::{UnixMillis, UnixSeconds, Validity, ValidityError};
pub use x509::{Certificate, LeafIssuer, LeafTemplate, VerifiedX509Svid, verify_x509_svid};
