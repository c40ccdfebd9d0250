//! SPIFFE IDs.

use quorate_proto_identity::spiffe_id::SpiffeId;
use quorate_proto_identity::trust_domain::TrustDomain;

use super::ConvertError;
use crate::spire::types;

impl From<&SpiffeId> for types::Spiffeid {
    fn from(id: &SpiffeId) -> Self {
        Self { trust_domain: id.trust_domain_name().to_owned(), path: id.path().to_owned() }
    }
}

/// Takes a SPIFFE ID that must be there. The trust domain may be a plain name or `spiffe://name`, as with SPIRE.
///
/// # Errors
///
/// When it is missing, or when trust domain and path are no SPIFFE ID.
pub fn spiffe_id(field: &'static str, message: Option<&types::Spiffeid>) -> Result<SpiffeId, ConvertError> {
    optional_spiffe_id(field, message)?.ok_or(ConvertError::Missing { field })
}

/// Takes a SPIFFE ID that may be left out.
///
/// # Errors
///
/// When trust domain and path are no SPIFFE ID.
pub fn optional_spiffe_id(
    field: &'static str,
    message: Option<&types::Spiffeid>,
) -> Result<Option<SpiffeId>, ConvertError> {
    let Some(types::Spiffeid { trust_domain, path }) = message else {
        return Ok(None);
    };
    let trust_domain =
        TrustDomain::parse_name_or_id(trust_domain).map_err(|cause| ConvertError::TrustDomain { field, cause })?;
    SpiffeId::from_path(&trust_domain, path).map(Some).map_err(|cause| ConvertError::SpiffeId { field, cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(trust_domain: &str, path: &str) -> types::Spiffeid {
        types::Spiffeid { trust_domain: trust_domain.to_owned(), path: path.to_owned() }
    }

    #[test]
    fn an_id_goes_into_a_message_and_comes_back() {
        for text in ["spiffe://example.org", "spiffe://example.org/a/b"] {
            let id = SpiffeId::parse(text).unwrap();
            assert_eq!(spiffe_id("spiffe_id", Some(&(&id).into())).unwrap(), id);
        }
    }

    #[test]
    fn the_trust_domain_may_be_given_as_an_id() {
        let id = spiffe_id("spiffe_id", Some(&message("spiffe://example.org", "/a"))).unwrap();
        assert_eq!(id.as_str(), "spiffe://example.org/a");
    }

    #[test]
    fn what_is_wrong_is_said_with_the_name_of_the_field() {
        for (given, said) in [
            (None, "parent_id: missing"),
            (Some(message("Example.org", "/a")), "parent_id: trust domain: "),
            (Some(message("example.org", "a")), "parent_id: the path does not begin with /"),
            (Some(message("example.org", "/a//b")), "parent_id: the path has an empty segment at position 23"),
            (Some(message("example.org", "/")), "parent_id: the path has an empty segment"),
        ] {
            let status = tonic::Status::from(spiffe_id("parent_id", given.as_ref()).unwrap_err());
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().starts_with(said), "{}", status.message());
        }
    }
}
