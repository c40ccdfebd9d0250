//! What members ask each other about revocations: asked here, and answered here.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use quorate_proto_api::peer::{
    CoveredAnswer, CoveredQuestion, LeafAnswer, LeafQuestion, RevokeKeysAnswer, RevokeKeysQuestion, SentAnswer,
    SentQuestion,
};
use quorate_proto_identity::{AuthorityId, MemberNumber, SerialNumber, UnixSeconds};
use quorate_raft_consensus::{AnswerFuture, Handle, topics};
use quorate_raft_machine::{AuthorityKind, RevocationReason, State};
use tokio::time::{Instant, timeout_at};

use super::{RevocationArguments, keys::revoke_keys};
use crate::{errors::with_causes, issuer::keyring::HeldKey, peers::PeerError, session::core::Core};

/// How often it is looked whether streams have fetched what they are waited for.
const STREAMS_LOOK: Duration = Duration::from_millis(5);

/// The longest that the streams of a member are waited for, whoever asks: a client that reads nothing must not hold up
/// more than the one question.
const STREAMS_WAIT_LIMIT: Duration = Duration::from_secs(1);

/// How often it is looked whether CRLs have been recorded, beside every log entry that is applied.
const COVERED_LOOK: Duration = Duration::from_millis(50);

/// How much earlier an answer is given than its asker stops waiting, so that it gets there.
const WAY_BACK: Duration = Duration::from_millis(250);

/// Which revocation a member is asked of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Covered {
    /// Its number.
    pub(crate) number: u64,
    /// Where in the log it stands.
    pub(crate) log_index: u64,
}

/// What a member says of what its open streams were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Whether it has applied what it was asked for.
    pub(crate) applied: bool,
    /// How many open streams carry CRLs.
    pub(crate) streams: u64,
    /// How many of them have not been sent these.
    pub(crate) lacking: u64,
}

/// Asks a member whether everything that it signed of a revocation is in recorded CRLs; it waits until that is so. Gives the
/// log index up to which they are: whoever asks has not applied as much, perhaps.
pub(crate) async fn ask_covered(
    handle: &Handle,
    member: MemberNumber,
    of: Covered,
    deadline: Instant,
) -> Result<Option<u64>, PeerError> {
    let question = CoveredQuestion { number: of.number, log_index: of.log_index, wait_millis: wait_millis(deadline) };
    let answer = handle.ask(Some(member), topics::COVERED, question.encode_to_vec().into(), deadline).await?;
    let CoveredAnswer { covered, log_index } = CoveredAnswer::decode(answer)?;
    Ok(covered.then_some(log_index))
}

/// Asks a member whether its open streams have been sent the CRLs of the state at an index, and hold nothing that depends on
/// these keys; it waits until that is so.
pub(crate) async fn ask_sent(
    handle: &Handle,
    member: MemberNumber,
    log_index: u64,
    off_keys: &[AuthorityId],
    deadline: Instant,
) -> Result<Sent, PeerError> {
    let off_keys = off_keys.iter().map(ToString::to_string).collect();
    let question = SentQuestion { log_index, wait_millis: wait_millis(deadline), off_keys };
    let answer = handle.ask(Some(member), topics::SENT, question.encode_to_vec().into(), deadline).await?;
    let SentAnswer { applied, streams, lacking } = SentAnswer::decode(answer)?;
    Ok(Sent { applied, streams, lacking })
}

/// Asks a member whether it signed a certificate with this serial number, and by which key; without a number, whether it is
/// there.
pub(crate) async fn ask_leaf(
    handle: &Handle,
    member: MemberNumber,
    serial: Option<SerialNumber>,
    deadline: Instant,
) -> Result<Option<AuthorityId>, PeerError> {
    let serial = serial.map(|serial| Bytes::copy_from_slice(serial.as_bytes())).unwrap_or_default();
    let question = LeafQuestion { serial };
    let answer = handle.ask(Some(member), topics::LEAF, question.encode_to_vec().into(), deadline).await?;
    Ok(AuthorityId::new(&LeafAnswer::decode(answer)?.issuing_key).ok())
}

/// Asks whoever leads to revoke keys whole. Gives the log index.
pub(crate) async fn ask_revoke_keys(
    handle: &Handle,
    keys: &[AuthorityId],
    reason: RevocationReason,
    deadline: Instant,
) -> Result<u64, PeerError> {
    let key_ids = keys.iter().map(ToString::to_string).collect();
    let question = RevokeKeysQuestion { key_ids, reason: u32::from(reason.code()) };
    let answer = handle.ask(None, topics::REVOKE_KEYS, question.encode_to_vec().into(), deadline).await?;
    Ok(RevokeKeysAnswer::decode(answer)?.log_index)
}

fn wait_millis(deadline: Instant) -> u64 {
    let wait = deadline.saturating_duration_since(Instant::now()).saturating_sub(WAY_BACK);
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

impl RevocationArguments {
    /// Answers a question about revocations; none when it is about something else.
    pub(crate) fn answer(&self, topic: u32, question: Bytes) -> Option<AnswerFuture> {
        let own = self.clone();
        Some(match topic {
            topics::COVERED => Box::pin(async move { own.covered(question).await }),
            topics::SENT => Box::pin(async move { own.sent(question).await }),
            topics::LEAF => Box::pin(async move { own.leaf(question) }),
            topics::REVOKE_KEYS => Box::pin(async move { own.revoke_asked(question).await }),
            _ => return None,
        })
    }

    async fn covered(&self, question: Bytes) -> Result<Bytes, String> {
        let CoveredQuestion { number, log_index, wait_millis } =
            CoveredQuestion::decode(question).map_err(|error| error.to_string())?;
        let until = Instant::now() + Duration::from_millis(wait_millis);
        let state = self.authority.handle.state();
        let mut applied = state.watch_applied_index();
        loop {
            let reached = *applied.borrow_and_update();
            let covered = reached >= log_index && is_covered(&self.core, number);
            if covered || Instant::now() >= until {
                let log_index = if covered { reached } else { 0 };
                return Ok(CoveredAnswer { covered, log_index }.encode_to_vec().into());
            }
            let look = (Instant::now() + COVERED_LOOK).min(until);
            if let Ok(Err(_gone)) = timeout_at(look, applied.changed()).await {
                tokio::time::sleep_until(look).await;
            }
        }
    }

    async fn sent(&self, question: Bytes) -> Result<Bytes, String> {
        let SentQuestion { log_index, wait_millis, off_keys } =
            SentQuestion::decode(question).map_err(|error| error.to_string())?;
        let off_keys = off_keys.iter().map(|key| AuthorityId::new(key)).collect::<Result<Vec<_>, _>>();
        let off_keys = off_keys.map_err(|error| error.to_string())?;
        let until = Instant::now() + Duration::from_millis(wait_millis);
        if self.authority.handle.state().wait_applied(log_index, until).await.is_err() {
            return Ok(SentAnswer { applied: false, streams: 0, lacking: 0 }.encode_to_vec().into());
        }
        let until = until.min(Instant::now() + STREAMS_WAIT_LIMIT);
        loop {
            let streams = self.authority.streams.crl_streams();
            let mut lacking = self.authority.streams.told(AuthorityKind::X509, None).lacking;
            for key in &off_keys {
                lacking = lacking.max(self.authority.streams.told(AuthorityKind::X509, Some(key)).depending);
            }
            if lacking == 0 || Instant::now() >= until {
                return Ok(SentAnswer { applied: true, streams, lacking }.encode_to_vec().into());
            }
            tokio::time::sleep(STREAMS_LOOK).await;
        }
    }

    fn leaf(&self, question: Bytes) -> Result<Bytes, String> {
        let LeafQuestion { serial } = LeafQuestion::decode(question).map_err(|error| error.to_string())?;
        let found = SerialNumber::from_big_endian(&serial).and_then(|serial| self.core.keyring.find(serial));
        let answer = found.map_or_else(LeafAnswer::default, |(key, live)| LeafAnswer {
            issuing_key: key.to_string(),
            spiffe_id: live.spiffe_id.to_string(),
            entry_id: live.entry.map(|entry| entry.to_string()).unwrap_or_default(),
            not_after: live.not_after.0,
        });
        Ok(answer.encode_to_vec().into())
    }

    async fn revoke_asked(&self, question: Bytes) -> Result<Bytes, String> {
        let RevokeKeysQuestion { key_ids, reason } =
            RevokeKeysQuestion::decode(question).map_err(|error| error.to_string())?;
        let keys = key_ids.iter().map(|key| AuthorityId::new(key)).collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|error| error.to_string())?;
        let reason = u8::try_from(reason).ok().and_then(RevocationReason::from_code).unwrap_or_default();
        let log_index = revoke_keys(self, &keys, reason).await.map_err(|error| with_causes(&error))?;
        Ok(RevokeKeysAnswer { log_index }.encode_to_vec().into())
    }
}

/// Whether everything that this process signed of the revocations up to a number is in recorded CRLs, or under keys that are
/// revoked whole; and whether everybody knows of what a former process of this node signed that it is not.
pub(crate) fn is_covered(core: &Arc<Core>, number: u64) -> bool {
    core.withdrawals();
    let now = core.sources.now().seconds();
    core.withdrawals.seen() >= number
        && core.state.read(|state| former_process_is_known(core, state, now))
        && core.keyring.all().iter().all(|held| core.state.read(|state| key_is_covered(state, held, now)))
}

/// Whether nothing verifies that a former process of this node signed, or a key of this process is on record: before that
/// nobody sees that keys of the former one are gone, and to be revoked whole (CRL-06).
fn former_process_is_known(core: &Core, state: &State, now: UnixSeconds) -> bool {
    let Ok(own) = core.own.member(state) else { return true };
    let keys = || state.issuing_keys().filter(|key| key.member == own.number);
    let newest = keys().max_by_key(|key| key.number);
    newest.is_none_or(|newest| newest.boot == core.keyring.boot)
        || !keys().any(|key| state.certificates_of(&key.id).any(|issuing| issuing.is_live(now)))
}

fn key_is_covered(state: &State, held: &HeldKey, now: UnixSeconds) -> bool {
    let verifies = state.certificates_of(&held.id).any(|issuing| issuing.is_live(now));
    !verifies || (!held.serials.has_gap() && held.not_recorded(state, now).is_empty())
}
