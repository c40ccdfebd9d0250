//! The CRLs of this node's issuing keys: signed when a revocation means something that they signed, and recorded.

use std::sync::Arc;

use bytes::Bytes;
use quorate_proto_identity::{
    AuthorityId, UnixSeconds,
    x509::{CrlError, ParsedCrl, RevokedCertificate, parse_crl},
};
use quorate_raft_consensus::{Proposal, ProposeError, WorkLost};
use quorate_raft_machine::{
    Caller, IssuingKey, NewCrl, Operation, Refusal, RefusalCode, RevocationReason, State,
    revocation::{CRL_BYTES_LIMIT, CRL_LINGER},
};
use tokio::time::Instant;

use super::{RevocationArguments, questions::ask_revoke_keys, signing, withdrawal::FoundLeaf};
use crate::{
    authority::STEP_TIME_LIMIT,
    issuer::keyring::HeldKey,
    metrics,
    peers::{PeerError, StreamsAsked, StreamsWait, streams_told},
};

/// Issuing lives that a CRL lasts (CRL-03).
const CRL_LIVES: i64 = 2;

/// Why the CRL of a key of this node was not recorded. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnError {
    #[error("the CRL could not be made")]
    Crl(#[from] CrlError),
    #[error(transparent)]
    Lost(#[from] WorkLost),
    #[error("the CRL could not be recorded")]
    Propose(#[from] ProposeError),
    #[error("the CRL was not recorded")]
    Refused(#[source] Refusal),
    #[error("a key that is to be revoked whole could not be given up")]
    Peer(#[from] PeerError),
    #[error("the task that signed CRLs was lost")]
    TaskLost,
}

/// What is read of the state for the next CRL of a key.
struct Next {
    key: IssuingKey,
    pending: Vec<FoundLeaf>,
    covers: u64,
    lifetime: u32,
    /// Leaves in the last CRL that can be left out of the next one.
    ended: Vec<quorate_proto_identity::SerialNumber>,
}

/// Puts whatever was revoked into the CRLs of the keys that signed it, one CRL for each key; and gives keys up that are to
/// be revoked whole, once nothing depends on them any more.
pub(crate) async fn do_own(arguments: &RevocationArguments) -> Result<(), OwnError> {
    arguments.core.withdrawals();
    let mut failed = None;
    for held in arguments.core.keyring.all() {
        // One key does not wait for the trouble of another.
        let done = record_next(arguments, &held).await;
        failed = failed.or(done.err());
    }
    let given_up = give_up_doomed(arguments).await;
    failed.or(given_up.err()).map_or(Ok(()), Err)
}

/// Whether something of this is to be done.
pub(crate) fn is_wanted(arguments: &RevocationArguments) -> bool {
    let core = &arguments.core;
    core.withdrawals();
    let now = core.sources.now().seconds();
    core.keyring.all().iter().any(|held| {
        core.state.read(|state| {
            let verifies = state.certificates_of(&held.id).any(|issuing| issuing.is_live(now));
            verifies && (!held.not_recorded(state, now).is_empty() || (held.is_doomed() && state.crls_are_on()))
        })
    })
}

async fn record_next(arguments: &RevocationArguments, held: &Arc<HeldKey>) -> Result<(), OwnError> {
    let core = &arguments.core;
    if held.is_doomed() {
        return Ok(());
    }
    let read = || core.state.read(|state| next(state, held, core.withdrawals.seen(), core.sources.now().seconds()));
    let Some(before) = read() else { return Ok(()) };
    let this_update = signing::until_allowed(&core.sources, &parse_crl(&before.key.crl)?).await;
    // What was revoked while this waited shares the CRL (CRL-04).
    core.withdrawals();
    let Some(next) = read() else { return Ok(()) };
    let last = parse_crl(&next.key.crl)?;
    let next_update = last.next_update.max(this_update.plus(i64::from(next.lifetime).saturating_mul(CRL_LIVES)));
    let revoked = entries(&last, &next);
    let crl = signing::sign(&core.sources, held.key(), &last, this_update, next_update, revoked).await??;
    let count = next.pending.len();
    if crl.len() > CRL_BYTES_LIMIT {
        doom(held, "its CRL would be too long");
        return Ok(());
    }
    let new = NewCrl {
        issuer: held.id.clone(),
        crl: Bytes::from(crl),
        covers: next.covers,
        revoked: next.pending.into_iter().map(|found| found.leaf).collect(),
    };
    let proposal = Proposal::new(Caller::node(), vec![Operation::RecordCrl(Box::new(new))]).within(STEP_TIME_LIMIT);
    let applied = match arguments.authority.handle.propose(proposal).await {
        Ok(applied) | Err(ProposeError::NotEverywhere { applied, .. }) => applied,
        Err(error) => return Err(error.into()),
    };
    match applied.outcome.results.into_iter().next() {
        Some(Ok(_)) | None => {
            metrics::crl_signed("issuing_key");
            tracing::info!(target: "quorate::security", authority_id = %held.id, count, "a CRL of this node was recorded");
            Ok(())
        }
        Some(Err(refusal)) if refusal.code == RefusalCode::LimitReached => {
            doom(held, "there is no room for its CRL");
            Ok(())
        }
        Some(Err(refusal)) => Err(OwnError::Refused(refusal)),
    }
}

fn doom(held: &HeldKey, reason: &str) {
    if held.doom() {
        tracing::warn!(target: "quorate::security", authority_id = %held.id, reason, "an issuing key is to be revoked whole");
    }
}

/// What the next CRL of a key is made of; none when nothing is to be added, or the key is revoked.
fn next(state: &State, held: &HeldKey, covers: u64, now: UnixSeconds) -> Option<Next> {
    let key = state.issuing_key(&held.id)?.clone();
    state.certificates_of(&held.id).find(|issuing| issuing.is_live(now))?;
    // Whoever lifted the last rule and let its record end meant it: there is nothing left to refer to.
    let mut pending = held.not_recorded(state, now);
    pending.retain(|found| state.revocation(found.leaf.revocation).is_some());
    if pending.is_empty() {
        return None;
    }
    let ended = state.revoked_leaves_of(&held.id).filter(|leaf| now > leaf.not_after.plus(CRL_LINGER));
    let ended = ended.map(|leaf| leaf.serial).collect();
    Some(Next { key, pending, covers, lifetime: state.policy()?.issuing_lifetime, ended })
}

/// What the last CRL had and has not ended long ago, and what is new.
fn entries(last: &ParsedCrl, next: &Next) -> Vec<RevokedCertificate> {
    let kept = last.revoked.iter().filter(|known| !next.ended.contains(&known.serial)).copied();
    let new = next.pending.iter().map(|found| RevokedCertificate {
        serial: found.serial(),
        revoked_at: found.revoked_at,
        reason: found.reason,
    });
    kept.chain(new).collect()
}

/// Has keys of this node revoked whole that have to be, once it signs with another one and its streams hold nothing of them
/// (CRL-06). While CRLs are off nobody would notice, and nothing is done.
async fn give_up_doomed(arguments: &RevocationArguments) -> Result<(), OwnError> {
    let core = &arguments.core;
    let now = core.sources.now().seconds();
    let signs_with = core.leases.held().map(|lease| lease.key_id.clone());
    let doomed: Vec<AuthorityId> = core.state.read(|state| {
        let verifies = |id: &AuthorityId| state.certificates_of(id).any(|issuing| issuing.is_live(now));
        let doomed =
            core.keyring.all().into_iter().filter(|held| held.is_doomed() && Some(&held.id) != signs_with.as_ref());
        doomed.map(|held| held.id.clone()).filter(|id| state.crls_are_on() && verifies(id)).collect()
    });
    let mut free = Vec::new();
    for key in doomed {
        let asked = StreamsAsked {
            kind: quorate_raft_machine::AuthorityKind::X509,
            authority: Some(key.clone()),
            wait: StreamsWait::Moved(std::time::Duration::from_secs(1)),
        };
        if streams_told(&arguments.authority.streams, &asked).await.depending == 0 {
            free.push(key);
        }
    }
    if free.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + STEP_TIME_LIMIT;
    ask_revoke_keys(&arguments.authority.handle, &free, RevocationReason::Superseded, deadline).await?;
    Ok(())
}
