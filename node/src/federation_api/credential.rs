//! What a call shows of who makes it: taken out of its metadata and its connection, and not believed yet.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use quorate_proto_api::API_KEY_HEADER;
use quorate_proto_identity::jwt_svid::TOKEN_LIMIT;
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::key_text::{ApiKeyText, KEY_TEXT_LIMIT};
use super::reason::Reason;

/// The scheme of a bearer token, with the space behind it (RFC 6750 section 2.1); its case does not matter.
const BEARER: &str = "bearer ";

/// The certificates that a client sent with the handshake, its own first. That it holds the key was proved by the handshake,
/// and nothing else was looked at.
pub(super) type ClientChain = Arc<[CertificateDer<'static>]>;

/// What a call shows.
pub(super) enum Shown {
    /// Nothing.
    Nothing,
    /// A client certificate.
    Certificate(ClientChain),
    /// An API key.
    ApiKey(ApiKeyText),
    /// A bearer token.
    Token(Zeroizing<String>),
}

impl std::fmt::Debug for Shown {
    /// Says which sort, and never the credential.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.sort())
    }
}

impl Shown {
    /// Takes a call's credential. Metadata goes before a certificate: who sends both means the one that was put there for
    /// this call.
    ///
    /// # Errors
    /// When there are several, or one that has not the form of a credential.
    pub(super) fn of(headers: &HeaderMap, chain: Option<&ClientChain>) -> Result<Self, Reason> {
        let key = only(headers, API_KEY_HEADER)?;
        let authorization = only(headers, AUTHORIZATION.as_str())?;
        match (key, authorization) {
            (Some(_), Some(_)) => Err(Reason::SeveralCredentials),
            (Some(key), None) if key.len() <= KEY_TEXT_LIMIT => {
                ApiKeyText::parse(key).map(Self::ApiKey).map_err(|_| Reason::KeyMalformed)
            }
            (Some(_), None) => Err(Reason::KeyMalformed),
            (None, Some(value)) => token(value),
            (None, None) => Ok(match chain {
                Some(chain) if !chain.is_empty() => Self::Certificate(Arc::clone(chain)),
                Some(_) | None => Self::Nothing,
            }),
        }
    }

    /// Which sort of proof it is, as audit records and metrics have it.
    pub(super) const fn sort(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Certificate(_) => "mutual_tls",
            Self::ApiKey(_) => "api_key",
            Self::Token(_) => "oauth",
        }
    }
}

/// The sort of credential that a call tried, also when it has not the form of one.
pub(super) fn tried(headers: &HeaderMap, chain: Option<&ClientChain>) -> &'static str {
    match (headers.contains_key(API_KEY_HEADER), headers.contains_key(AUTHORIZATION)) {
        (true, true) => "several",
        (true, false) => "api_key",
        (false, true) => "oauth",
        (false, false) if chain.is_some_and(|chain| !chain.is_empty()) => "mutual_tls",
        (false, false) => "nothing",
    }
}

/// The value of a header that may be there once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Reason> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Reason::SeveralCredentials);
    }
    value.to_str().map(Some).map_err(|_| Reason::NotText)
}

fn token(value: &str) -> Result<Shown, Reason> {
    let (scheme, token) = value.split_at_checked(BEARER.len()).ok_or(Reason::NotBearer)?;
    if !scheme.eq_ignore_ascii_case(BEARER) {
        return Err(Reason::NotBearer);
    }
    if token.len() > TOKEN_LIMIT {
        return Err(Reason::TokenTooLong { length: token.len() });
    }
    Ok(Shown::Token(Zeroizing::new(token.to_owned())))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const KEY: &str = "qfk1_0000000000000007_CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk";

    fn shown(headers: &[(&'static str, &str)], certificates: usize) -> Result<&'static str, Reason> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let chain: ClientChain = (0..certificates).map(|_| CertificateDer::from(vec![1])).collect();
        Shown::of(&map, Some(&chain)).map(|shown| shown.sort())
    }

    #[test]
    fn each_sort_of_credential_is_found_and_metadata_goes_before_a_certificate() {
        assert_eq!(shown(&[], 0).unwrap(), "nothing");
        assert_eq!(shown(&[], 2).unwrap(), "mutual_tls");
        assert_eq!(shown(&[("quorate-api-key", KEY)], 1).unwrap(), "api_key");
        for scheme in ["Bearer", "bearer", "BEARER"] {
            assert_eq!(shown(&[("authorization", &format!("{scheme} a.b.c"))], 1).unwrap(), "oauth");
        }
    }

    #[test]
    fn several_credentials_and_those_of_no_form_are_refused() {
        let key = ("quorate-api-key", KEY);
        let code = |headers: &[(&'static str, &str)]| shown(headers, 0).unwrap_err().code();
        assert_eq!(code(&[key, ("authorization", "Bearer a.b.c")]), "several_credentials");
        assert_eq!(code(&[key, key]), "several_credentials");
        assert_eq!(code(&[("quorate-api-key", "secret")]), "key_malformed");
        assert_eq!(code(&[("authorization", "Basic YTpi")]), "not_bearer");
        assert_eq!(code(&[("authorization", "Bearer")]), "not_bearer");
        assert_eq!(code(&[("authorization", &format!("Bearer {}", "a".repeat(TOKEN_LIMIT + 1)))]), "token_too_long");
    }
}
