//! CRLs of roots, and issuing keys revoked whole (CRL-06): signed by the leader, which can open the roots.

use bytes::Bytes;
use quorate_proto_identity::{
    AuthorityId, SerialNumber, UnixSeconds,
    x509::{CrlError, ParsedCrl, RevokedCertificate, parse_crl},
};
use quorate_raft_machine::{IssuingCertificate, NewCrl, Operation, RevocationReason, State, X509Authority};

use super::{RevocationArguments, signing};
use crate::{
    authority::{IssuingError, confirm_office, open_root, propose, snapshot},
    metrics,
};

/// Why a key was not revoked, or a root's CRL not recorded. All of it may be tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// This node does not lead, the root does not open, or the command was not taken.
    #[error(transparent)]
    Issuing(#[from] IssuingError),
    /// The CRL could not be made.
    #[error("the CRL could not be made")]
    Crl(#[from] CrlError),
    /// The work was lost on its way to another thread.
    #[error(transparent)]
    Lost(#[from] quorate_raft_consensus::WorkLost),
}

/// Revokes every certificate of these keys, and puts it into the CRL of each root that signed one, in one step. Keys that
/// are revoked already stay so. Gives the log index. Only the leader can.
pub(crate) async fn revoke_keys(
    arguments: &RevocationArguments,
    keys: &[AuthorityId],
    reason: RevocationReason,
) -> Result<u64, KeysError> {
    let _alone = arguments.roots.lock().await;
    confirm_office(&arguments.authority).await?;
    let state = arguments.authority.handle.state();
    let now = arguments.core.sources.now().seconds();
    let (index, keys, roots) = state.read_at(|index, state| {
        let verifies = |key: &&AuthorityId| state.certificates_of(key).any(|issuing| issuing.is_live(now));
        let keys: Vec<AuthorityId> = keys.iter().filter(verifies).cloned().collect();
        let above = |root: &&X509Authority| {
            let under = |issuing: &IssuingCertificate| issuing.issuer == root.id && now <= issuing.validity.not_after();
            root.state.in_bundle() && keys.iter().flat_map(|key| state.certificates_of(key)).any(under)
        };
        (index, keys.clone(), state.x509_authorities().filter(above).cloned().collect::<Vec<_>>())
    });
    if keys.is_empty() {
        return Ok(index);
    }
    let mut root_crls = Vec::with_capacity(roots.len());
    for root in &roots {
        root_crls.push(sign_root_crl(arguments, root, &keys, reason).await?);
    }
    let count = keys.len();
    let operation = Operation::RevokeIssuingKeys { keys, reason, root_crls };
    let (_, log_index) = propose(&arguments.authority, operation).await?;
    roots.iter().for_each(|_| metrics::crl_signed("root"));
    tracing::warn!(target: "quorate::security", count, %reason, "issuing keys were revoked whole");
    Ok(log_index)
}

/// Brings the CRL of a root after what is revoked of its certificates.
pub(crate) async fn record_root_crl(arguments: &RevocationArguments, root: &AuthorityId) -> Result<(), KeysError> {
    let _alone = arguments.roots.lock().await;
    confirm_office(&arguments.authority).await?;
    let root = arguments.authority.handle.state().read(|state| state.x509_authority(root).cloned());
    let root = root.filter(|root| root.state.in_bundle()).ok_or(IssuingError::NoRoot)?;
    let new = sign_root_crl(arguments, &root, &[], RevocationReason::Unspecified).await?;
    propose(&arguments.authority, Operation::RecordCrl(Box::new(new))).await?;
    metrics::crl_signed("root");
    Ok(())
}

/// Signs the next CRL of a root: what is revoked under it and has not ended, and the certificates of these keys.
async fn sign_root_crl(
    arguments: &RevocationArguments,
    root: &X509Authority,
    keys: &[AuthorityId],
    reason: RevocationReason,
) -> Result<NewCrl, KeysError> {
    let state = arguments.authority.handle.state();
    let read = state.read(snapshot).map_err(IssuingError::from)?;
    let signer = open_root(&arguments.authority, &read, root).await?;
    let last = parse_crl(&root.crl)?;
    let this_update = signing::until_allowed(&arguments.core.sources, &last).await;
    let now = arguments.core.sources.now().seconds();
    let revoked = state.read(|state| revoked_under(state, root, &last, keys, reason, now));
    let next_update = last.next_update.max(root.validity.not_after());
    let crl = signing::sign(&arguments.core.sources, signer.key(), &last, this_update, next_update, revoked).await??;
    Ok(NewCrl { issuer: root.id.clone(), crl: Bytes::from(crl), covers: 0, revoked: Vec::new() })
}

/// Certificates that belong into a root's CRL. What the last one had keeps its date and reason.
fn revoked_under(
    state: &State,
    root: &X509Authority,
    last: &ParsedCrl,
    keys: &[AuthorityId],
    reason: RevocationReason,
    now: UnixSeconds,
) -> Vec<RevokedCertificate> {
    let mut under: Vec<(SerialNumber, Option<UnixSeconds>)> = Vec::new();
    for issuing in state.issuing_certificates() {
        let is_wanted = issuing.revoked_at.is_some() || keys.contains(&issuing.key_id);
        if is_wanted && issuing.issuer == root.id && now <= issuing.validity.not_after() {
            under.push((issuing.serial, issuing.revoked_at));
        }
    }
    let entry = |(serial, revoked_at): (SerialNumber, Option<UnixSeconds>)| {
        let known = last.revoked.iter().find(|known| known.serial == serial);
        known.copied().unwrap_or_else(|| {
            let reason = if revoked_at.is_none() { reason } else { RevocationReason::Unspecified };
            RevokedCertificate { serial, revoked_at: revoked_at.unwrap_or(now), reason }
        })
    };
    under.into_iter().map(entry).collect()
}
