//! What we show to a Federation API: in TLS, or in the metadata of the call.

use quorate_actors::EndpointIdentity;
use quorate_proto_api::API_KEY_HEADER;
use quorate_raft_machine::federation::ApiCredential;
use rustls::pki_types::CertificateDer;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use zeroize::Zeroizing;

use super::error::ClientError;
use super::oauth::{Client, Token, Tokens};
use crate::outbound::{ClientIdentity, Outbound};

/// Longest API key: ours have 64 characters, and others' are of their own kind.
const KEY_BYTES_LIMIT: usize = 4_096;

/// A credential that is ready to be shown.
pub(super) enum Shown {
    /// Nothing is.
    Nothing,
    /// A certificate, within TLS.
    Certificate(ClientIdentity),
    /// An API key.
    Key(MetadataValue<Ascii>),
    /// A token, with its header.
    Token(Token, MetadataValue<Ascii>),
}

impl Shown {
    /// Makes a credential ready; for OAuth this may ask for a token.
    pub(super) async fn prepare(
        credential: &ApiCredential,
        secret: Option<&[u8]>,
        identity: Option<&EndpointIdentity>,
        tokens: &Tokens,
        outbound: &Outbound,
    ) -> Result<Self, ClientError> {
        match credential {
            ApiCredential::None => Ok(Self::Nothing),
            ApiCredential::MutualTls => certificate(identity.ok_or(ClientError::NoIdentity)?),
            ApiCredential::ApiKey { .. } => key(secret),
            ApiCredential::OAuth { .. } => {
                let client = oauth_client(credential, secret)?;
                let token = tokens.get(outbound, &client).await.map_err(ClientError::Token)?;
                let header = Zeroizing::new(format!("Bearer {}", token.as_str()));
                let value = sensitive(&header).ok_or(ClientError::Secret { what: "token", fault: "cannot be sent" })?;
                Ok(Self::Token(token, value))
            }
        }
    }

    /// What is shown within TLS.
    pub(super) fn certificate(&self) -> Option<&ClientIdentity> {
        match self {
            Self::Certificate(identity) => Some(identity),
            Self::Nothing | Self::Key(_) | Self::Token(..) => None,
        }
    }

    /// Puts what is shown in the metadata there.
    pub(super) fn put_into(&self, metadata: &mut MetadataMap) {
        match self {
            Self::Nothing | Self::Certificate(_) => {}
            Self::Key(value) => drop(metadata.insert(API_KEY_HEADER, value.clone())),
            Self::Token(_, value) => drop(metadata.insert("authorization", value.clone())),
        }
    }
}

/// What a token is asked for with.
pub(super) fn oauth_client<'a>(
    credential: &'a ApiCredential,
    secret: Option<&'a [u8]>,
) -> Result<Client<'a>, ClientError> {
    let missing = ClientError::Secret { what: "client secret", fault: "is not there" };
    match credential {
        ApiCredential::OAuth { token_url, client_id, scope, audience, secret: _ } => {
            Ok(Client { token_url, client_id, secret: trimmed(secret.ok_or(missing)?), scope, audience })
        }
        ApiCredential::None | ApiCredential::MutualTls | ApiCredential::ApiKey { .. } => Err(missing),
    }
}

fn certificate(identity: &EndpointIdentity) -> Result<Shown, ClientError> {
    let chain = identity.chain.iter().map(|certificate| CertificateDer::from(certificate.to_vec())).collect();
    let identity = ClientIdentity::new(chain, &identity.key).map_err(crate::outbound::OutboundError::from)?;
    Ok(Shown::Certificate(identity))
}

fn key(secret: Option<&[u8]>) -> Result<Shown, ClientError> {
    let wrong = |fault| ClientError::Secret { what: "API key", fault };
    let key = trimmed(secret.ok_or_else(|| wrong("is not there"))?);
    let text = std::str::from_utf8(key).ok().filter(|text| !text.is_empty() && text.len() <= KEY_BYTES_LIMIT);
    let value = text.and_then(sensitive).ok_or_else(|| wrong("is none that can be sent"))?;
    Ok(Shown::Key(value))
}

/// A file that holds a secret often ends with a line break, which is no part of it.
fn trimmed(secret: &[u8]) -> &[u8] {
    secret.trim_ascii()
}

/// A header's value that is shown by nobody who logs headers.
fn sensitive(text: &str) -> Option<MetadataValue<Ascii>> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return None;
    }
    let mut value = MetadataValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(shown: Result<Shown, ClientError>) -> String {
        shown.err().unwrap().to_string()
    }

    #[test]
    fn an_api_key_is_shown_without_the_line_break_of_its_file_and_is_not_printed() {
        let mut metadata = MetadataMap::new();
        key(Some(b"qk_abc\n")).unwrap().put_into(&mut metadata);
        assert_eq!(metadata.get(API_KEY_HEADER).unwrap().to_str().unwrap(), "qk_abc");
        assert!(!format!("{metadata:?}").contains("qk_abc"), "{metadata:?}");
    }

    #[test]
    fn a_key_that_is_missing_or_cannot_be_a_header_is_told_and_not_sent() {
        assert!(words(key(None)).contains("API key of this relationship is not there"));
        for bad in [&b""[..], b" \n", b"a\nb", b"\xff", &[b'a'; KEY_BYTES_LIMIT + 1]] {
            assert!(words(key(Some(bad))).contains("none that can be sent"), "{bad:?}");
        }
    }
}
