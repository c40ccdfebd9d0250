//! SVIDs as the server API answers them.

use bytes::Bytes;
use quorate_proto_identity::spiffe_id::SpiffeId;
use quorate_proto_identity::validity::Validity;

use crate::spire::types;

/// An X509-SVID: certificates in DER, leaf first, and the leaf's own SPIFFE ID and validity. `hint` is left empty, as
/// the server API has it.
#[must_use]
pub fn x509_svid(
    chain: impl IntoIterator<Item = impl Into<Bytes>>,
    id: &SpiffeId,
    validity: Validity,
) -> types::X509svid {
    types::X509svid {
        cert_chain: chain.into_iter().map(Into::into).collect(),
        id: Some(id.into()),
        expires_at: validity.not_after().0,
        hint: String::new(),
    }
}

/// A JWT-SVID with what its claims say. `hint` is left empty, as the server API has it.
#[must_use]
pub fn jwt_svid(token: String, id: &SpiffeId, validity: Validity) -> types::Jwtsvid {
    types::Jwtsvid {
        token,
        id: Some(id.into()),
        expires_at: validity.not_after().0,
        issued_at: validity.not_before().0,
        hint: String::new(),
    }
}
