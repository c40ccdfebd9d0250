//! The conformance vectors and properties of names, keys and documents, over the public interface.
//!
//! A file for each kind of document; `support` holds what makes documents that are wrong in just one way.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failing test, which is what is wanted"
)]

mod bearer_tokens;
mod bundles;
mod crls;
mod csrs_and_crls;
mod endpoints;
mod issued_certificates;
mod jwt_svids;
mod properties;
mod reference_library;
mod spiffe_ids;
mod support;
mod x509_svids;
