//! A request for an endpoint certificate: a new key, sent to whoever leads, and the answer looked at before it is shown.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use quorate_proto_api::peer::{EndpointAnswer, EndpointQuestion};
use quorate_proto_identity::{
    AuthorityId, PrivateKey, SerialNumber, SpiffeId,
    key::KeyType,
    x509::{Certificate, CertificateError, CsrError, SvidError, build_csr, check_leaf_profile},
};
use quorate_raft_consensus::topics;
use tokio::time::Instant;

use super::{EndpointArguments, EndpointIdentity, endpoint_id};
use crate::{authority::DocumentError, issuer::renewal::Granted, peers::PeerError};

/// How long a request may take, there and back: a read-index round and a signature are milliseconds.
const ASK_TIME_LIMIT: Duration = Duration::from_secs(5);

/// The kind of key: what every TLS client takes, whatever the policy says of other keys (FED-15).
const ENDPOINT_KEY_TYPE: KeyType = KeyType::EcP256;

/// A certificate that came.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) identity: EndpointIdentity,
    pub(super) granted: Granted,
}

/// Why there is none. All of it may be tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("no authority has been founded on this node yet")]
    NotFounded,
    #[error("the key of the endpoint certificate could not be made")]
    Key(#[from] DocumentError),
    #[error("the certificate signing request could not be made")]
    Csr(#[from] CsrError),
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("the leader's endpoint certificate cannot be read")]
    Certificate(#[from] CertificateError),
    #[error("the leader's endpoint certificate is no X509-SVID")]
    Profile(#[from] SvidError),
    #[error("the leader's endpoint certificate is for another key, another ID or a root that this node does not know")]
    Other,
    #[error("the task that asked was lost")]
    Lost,
}

/// Makes a key and asks whoever leads for its certificate.
pub(super) async fn ask(arguments: &EndpointArguments) -> Result<Asked, AskError> {
    let state = &arguments.core.state;
    let id = state.read(|state| endpoint_id(&state.cluster()?.trust_domain)).ok_or(AskError::NotFounded)?;
    let key = arguments.workshop.key(ENDPOINT_KEY_TYPE).await?;
    let question = EndpointQuestion { csr: build_csr(&key, &id, &[])?.into() };
    let deadline = Instant::now() + ASK_TIME_LIMIT;
    let asked = arguments.handle.ask(None, topics::ENDPOINT, question.encode_to_vec().into(), deadline).await;
    let answer = EndpointAnswer::decode(asked.map_err(PeerError::from)?).map_err(PeerError::from)?;
    let identity = check(arguments, key, id, answer)?;
    let certificate = Certificate::parse(identity.chain.first().map_or(&[], Bytes::as_ref))?;
    let granted =
        Granted { validity: certificate.validity(), issued_at: arguments.core.sources.now(), cut_short: false };
    Ok(Asked { identity, granted })
}

/// Takes nothing on trust that will be shown to strangers: the certificate is of this key and this ID, and its root, which
/// this node has in its own bundle, signed it.
fn check(
    arguments: &EndpointArguments,
    key: PrivateKey,
    id: SpiffeId,
    answer: EndpointAnswer,
) -> Result<EndpointIdentity, AskError> {
    let certificate = Certificate::parse(&answer.certificate)?;
    let root = AuthorityId::new(&answer.root_id).map_err(|_malformed| AskError::Other)?;
    let root_der = arguments.core.state.read(|state| state.x509_authority(&root).map(|root| root.certificate.clone()));
    let root_certificate = Certificate::parse(&root_der.ok_or(AskError::Other)?)?;
    certificate.verify_signature(root_certificate.public_key()).map_err(|_other| AskError::Other)?;
    if check_leaf_profile(&certificate)? != id || certificate.public_key() != key.public_key() {
        return Err(AskError::Other);
    }
    let serial = SerialNumber::from_big_endian(certificate.serial()).ok_or(AskError::Other)?;
    let not_after = certificate.validity().not_after();
    let chain = vec![answer.certificate];
    Ok(EndpointIdentity { chain, key, spiffe_id: id, serial, root, not_after })
}
