//! A request for an issuing certificate: made of a new key, sent to whoever leads, and answered when this node has
//! applied its record.

use std::time::Duration;

use bytes::Bytes;
use quorate_proto_identity::{
    PrivateKey,
    x509::{CrlError, CsrError, build_csr},
};
use quorate_raft_consensus::{LinearizeError, NotApplied};
use tokio::time::Instant;

use super::IssuerArguments;
use crate::{
    authority::{AuthorityMessage, DocumentError, IssuingError, IssuingRequest, STEP_TIME_LIMIT, first_crl},
    mailbox::MailboxError,
    own::NotAMember,
};

/// How long a request may take altogether: a read-index round, a signature, and a proposal.
const REQUEST_TIME_LIMIT: Duration = Duration::from_secs(3 * STEP_TIME_LIMIT.as_secs());

/// Issuing lives that a key's first CRL lasts (CRL-03).
const CRL_LIVES: i64 = 2;

/// A new issuing key, with the request for its certificate.
pub(crate) struct Prepared {
    pub(super) key: PrivateKey,
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

/// Why a request had no success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error(transparent)]
    Refused(#[from] IssuingError),
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
    #[error("the certificate is recorded and not applied on this node yet")]
    NotApplied(#[from] NotApplied),
    #[error("the task that sent the request was lost")]
    Lost,
}

impl AskError {
    /// Whether nobody led, or surely led, when the request came: elections take their time, so once this is no trouble.
    pub(super) fn is_want_of_leader(&self) -> bool {
        let Self::Refused(refused) = self else { return false };
        matches!(refused, IssuingError::NotLeader { .. } | IssuingError::Linearize(LinearizeError::NotLeader { .. }))
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
    Ok(Prepared { key, request: IssuingRequest { member, csr, crl } })
}

/// Sends a request, and waits until its certificate is recorded and applied here.
pub(super) async fn ask(arguments: &IssuerArguments, request: IssuingRequest) -> Result<(), AskError> {
    let issue = |reply| AuthorityMessage::Issue { request, reply };
    let log_index = arguments.authority.ask(REQUEST_TIME_LIMIT, issue).await??;
    Ok(arguments.handle.state().wait_applied(log_index, Instant::now() + STEP_TIME_LIMIT).await?)
}
