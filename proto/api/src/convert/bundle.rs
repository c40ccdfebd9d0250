//! Pieces of a bundle.

use bytes::Bytes;
use quorate_proto_identity::ids::AuthorityId;
use quorate_proto_identity::validity::UnixSeconds;

use crate::spire::types;

/// An X.509 authority for an answer: one certificate in DER.
#[must_use]
pub fn x509_certificate(der: impl Into<Bytes>, tainted: bool) -> types::X509Certificate {
    types::X509Certificate { asn1: der.into(), tainted }
}

/// A JWT authority for an answer: the key as SubjectPublicKeyInfo in DER.
#[must_use]
pub fn jwt_key(key_id: &AuthorityId, spki: impl Into<Bytes>, expires_at: UnixSeconds, tainted: bool) -> types::JwtKey {
    types::JwtKey { public_key: spki.into(), key_id: key_id.to_string(), expires_at: expires_at.0, tainted }
}
