//! SVIDs as the server API answers them. `hint` is left empty: hints belong to entries, and the agent adds them.

use bytes::Bytes;
use quorate_proto_identity::spiffe_id::SpiffeId;
use quorate_proto_identity::validity::UnixSeconds;

use crate::spire::types;

/// An X509-SVID: certificates in DER, leaf first and without a root, with the leaf's own SPIFFE ID and end.
#[must_use]
pub fn x509_svid(chain: Vec<Bytes>, id: &SpiffeId, expires_at: UnixSeconds) -> types::X509svid {
    types::X509svid { cert_chain: chain, id: Some(id.into()), expires_at: expires_at.0, hint: String::new() }
}

/// A JWT-SVID with what its claims say.
#[must_use]
pub fn jwt_svid(token: String, id: &SpiffeId, issued_at: UnixSeconds, expires_at: UnixSeconds) -> types::Jwtsvid {
    types::Jwtsvid { token, id: Some(id.into()), expires_at: expires_at.0, issued_at: issued_at.0, hint: String::new() }
}
