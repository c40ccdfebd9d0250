//! A request for an issuing certificate: made of a new key, sent to whoever leads, and answered when this node has
//! applied its record.

use std::time::Duration;

use bytes::Bytes;
use quorate_proto_identity::{
    AuthorityId, PrivateKey, UnixMillis,
    x509::{CrlError, CsrError, build_csr},
};
use quorate_raft_consensus::{AskError as NoAnswer, NotApplied};
use tokio::time::Instant;

use super::{IssuerArguments, lease::Lease};
use crate::{
    authority::{DocumentError, ISSUE_TIME_LIMIT, IssuingRequest, first_crl},
    own::NotAMember,
    peers::{PeerError, ask_issue},
};

/// How long the record of a certificate may take from the leader to this node.
const APPLY_TIME_LIMIT: Duration = Duration::from_secs(5);

/// Issuing lives that a key's first CRL lasts (CRL-03).
const CRL_LIVES: i64 = 2;

/// A new issuing key, and what is asked for it.
pub(crate) struct Prepared {
    pub(super) key: PrivateKey,
    pub(super) asked: Asked,
}

/// What is asked for a key, again and again until there is an answer.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The subject key ID of the key.
    pub(super) key_id: AuthorityId,
    /// Whether the key was made for it; else it is the one that this node signs with.
    pub(super) is_new: bool,
    /// When it was made.
    pub(super) made_at: UnixMillis,
    pub(super) request: IssuingRequest,
}

/// Why no request was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error(transparent)]
    Member(#[from] NotAMember),
    #[error("the issuing key could not be made")]
    Key(#[from] DocumentError),
    #[error("the certificate signing request could not be made")]
    Csr(#[from] CsrError),
    #[error("the first CRL could not be made")]
    Crl(#[from] CrlError),
    #[error("the task that made the request was lost")]
    Lost,
}

/// Why a request had no success. All of it may be tried again, with the same key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("the certificate is recorded and not applied on this node yet")]
    NotApplied(#[from] NotApplied),
    #[error("the task that sent the request was lost")]
    Lost,
}

impl AskError {
    /// Whether nobody led, or could be reached, when the request came: elections take their time, so once this is no
    /// trouble. What the leader of a moment ago refused, because it leads no more, is no trouble either.
    pub(super) fn is_want_of_leader(&self) -> bool {
        match self {
            Self::Peer(PeerError::Ask(no_answer)) => match no_answer {
                NoAnswer::Unfounded
                | NoAnswer::NoLeader
                | NoAnswer::NoMember(_)
                | NoAnswer::Unreachable { .. }
                | NoAnswer::Refused { .. }
                | NoAnswer::Deadline => true,
                NoAnswer::TooLarge { .. } | NoAnswer::Stopped { .. } => false,
            },
            Self::Lost => true,
            Self::Peer(PeerError::Malformed(_)) | Self::NotApplied(_) => false,
        }
    }
}

/// Makes a key, and what is to be sent for it.
pub(super) async fn prepare(arguments: &IssuerArguments) -> Result<Prepared, PrepareError> {
    let core = &arguments.core;
    let (member, policy, trust_domain) = core.state.read(|state| {
        let member = core.own.member(state)?.number;
        let founded = state.policy().copied().zip(state.cluster().map(|cluster| cluster.trust_domain.clone()));
        let (policy, trust_domain) = founded.ok_or(NotAMember::NotFounded)?;
        Ok::<_, NotAMember>((member, policy, trust_domain))
    })?;
    let key = arguments.workshop.key(policy.issuing_key_type).await?;
    let now = core.sources.now();
    let crl_end = now.seconds().plus(i64::from(policy.issuing_lifetime).saturating_mul(CRL_LIVES));
    let csr = Bytes::from(build_csr(&key, &trust_domain.id(), &[])?);
    let crl = first_crl(&key, now, crl_end)?;
    let key_id = AuthorityId::from_subject_key_id(&key.public_key().subject_key_id());
    let request = IssuingRequest { member, boot: core.keyring.boot, csr, crl };
    Ok(Prepared { key, asked: Asked { key_id, is_new: true, made_at: now, request } })
}

/// Makes what is to be sent for a further certificate of the key that this node signs with, because another root signs now.
/// A new key would have to wait while CRLs are out (CRL-07). The state has the key's CRL.
pub(super) fn prepare_further(arguments: &IssuerArguments, lease: &Lease) -> Result<Asked, PrepareError> {
    let core = &arguments.core;
    let (member, trust_domain) = core.state.read(|state| {
        let trust_domain = state.cluster().map(|cluster| cluster.trust_domain.clone()).ok_or(NotAMember::NotFounded)?;
        Ok::<_, NotAMember>((core.own.member(state)?.number, trust_domain))
    })?;
    let csr = Bytes::from(build_csr(lease.held_key.key(), &trust_domain.id(), &[])?);
    let request = IssuingRequest { member, boot: core.keyring.boot, csr, crl: Bytes::new() };
    Ok(Asked { key_id: lease.key_id.clone(), is_new: false, made_at: core.sources.now(), request })
}

/// Sends a request to whoever leads, and waits until its certificate is recorded and applied here.
pub(super) async fn ask(arguments: &IssuerArguments, request: IssuingRequest) -> Result<(), AskError> {
    let log_index = ask_issue(&arguments.handle, &request, Instant::now() + ISSUE_TIME_LIMIT).await?;
    Ok(arguments.handle.state().wait_applied(log_index, Instant::now() + APPLY_TIME_LIMIT).await?)
}
