//! What is due of revocation, done by the leader: keys that are gone, CRLs of roots, new keys that may sign, pruning.

use std::{collections::BTreeSet, time::Duration};

use quorate_proto_identity::{AuthorityId, MemberNumber, UnixMillis, UnixSeconds};
use quorate_raft_machine::{
    Done, IssuingKey, IssuingKeyState, KeyRevocationCause, Operation, RevocationDue, RevocationReason,
    RevocationTarget, State, node_id, revocation::due,
};
use tokio::{task::JoinSet, time::Instant};

use super::{
    RevocationArguments,
    keys::{KeysError, record_root_crl, revoke_keys},
    questions::{Sent, ask_sent},
};
use crate::authority::{IssuingError, confirm_office, propose};

/// How long a member has to tell what its streams have.
const SENT_WAIT: Duration = Duration::from_millis(1500);

/// How much longer than the leader's clock says a member counts as live, in seconds: both clocks may be 5 s off.
const CLOCK_MARGIN: i64 = 10;

/// How long keys are waited for that are to be revoked whole, in seconds: until their node signs with another one and its
/// streams hold nothing of them. A node that does not come to that is not waited for any longer.
const GIVING_UP_LIMIT: i64 = 120;

/// A renewed key signs although a member that is cut off may not have told its streams, once its forerunner has so many parts
/// of its life left: else this node would sign nothing any more.
const URGENT_PART: i64 = 4;

/// Why something that is due was not done. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DueError {
    /// Signing or proposing failed.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// It has to wait.
    #[error("{0}")]
    Waits(String),
    /// The task ended without a word: a fault of the program, which the log tells of.
    #[error("the task that took the step was lost")]
    Lost,
}

impl From<IssuingError> for DueError {
    fn from(error: IssuingError) -> Self {
        Self::Keys(error.into())
    }
}

/// Whether something is due.
pub(crate) fn is_anything_due(state: &State, now: UnixSeconds) -> bool {
    !due(state, now).is_empty()
}

/// The first instant after `now` at which more may be due than at `now`: when a new key has settled. Everything else comes
/// with an event, or can wait for the next look.
pub(crate) fn next_instant(state: &State, now: UnixSeconds) -> Option<UnixMillis> {
    let settle = state.policy().map_or(0, |policy| i64::from(policy.crl_settle_time()));
    let prepared = state.issuing_keys().filter(|key| key.state == IssuingKeyState::Prepared);
    prepared.map(|key| key.recorded_at.plus(settle)).filter(|at| *at > now).min().map(UnixSeconds::millis)
}

/// Does everything that is due now.
pub(crate) async fn do_what_is_due(arguments: &RevocationArguments) -> Result<(), DueError> {
    let state = arguments.authority.handle.state();
    let now = arguments.core.sources.now().seconds();
    if state.read(|state| due(state, now).is_empty()) {
        return Ok(());
    }
    confirm_office(&arguments.authority).await?;
    let mut failed = None;
    for step in state.read(|state| due(state, now)) {
        let done = match step {
            RevocationDue::RevokeGoneKeys { keys } => revoke_gone(arguments, keys).await,
            RevocationDue::SignRootCrl { root } => Ok(record_root_crl(arguments, &root).await?),
            RevocationDue::ActivateIssuingKey { key } => activate(arguments, key).await,
            RevocationDue::Prune => prune(arguments).await,
        };
        // One key does not wait for another.
        failed = failed.or(done.err());
    }
    failed.map_or(Ok(()), Err)
}

async fn prune(arguments: &RevocationArguments) -> Result<(), DueError> {
    while let Done::RevocationsPruned { more: true, .. } =
        propose(&arguments.authority, Operation::PruneRevocations).await?.0
    {}
    Ok(())
}

/// Revokes keys that are gone, as far as nobody is harmed who could still be spared.
async fn revoke_gone(
    arguments: &RevocationArguments,
    keys: Vec<(AuthorityId, KeyRevocationCause)>,
) -> Result<(), DueError> {
    let mut waiting = Vec::new();
    for reason in [RevocationReason::CessationOfOperation, RevocationReason::Superseded] {
        let mut ready = Vec::new();
        for (key, cause) in keys.iter().filter(|(_, cause)| reason_of(*cause) == reason) {
            match may_go(arguments, key, *cause).await {
                Ok(()) => ready.push(key.clone()),
                Err(waits_for) => waiting.push(waits_for),
            }
        }
        if !ready.is_empty() {
            revoke_keys(arguments, &ready, reason).await?;
        }
    }
    if waiting.is_empty() { Ok(()) } else { Err(DueError::Waits(waiting.join("; "))) }
}

fn reason_of(cause: KeyRevocationCause) -> RevocationReason {
    match cause {
        KeyRevocationCause::Restarted | KeyRevocationCause::MemberGone | KeyRevocationCause::NodeRevoked => {
            RevocationReason::CessationOfOperation
        }
        KeyRevocationCause::NoRoom => RevocationReason::Superseded,
    }
}

/// Whether a key can be revoked now: its member is gone, or signs with another key, and neither its streams nor, if it was
/// started again, the clients that come back to it hold anything of the old one (CRL-06).
async fn may_go(arguments: &RevocationArguments, key: &AuthorityId, cause: KeyRevocationCause) -> Result<(), String> {
    let state = arguments.authority.handle.state();
    let now = arguments.core.sources.now().seconds();
    let Some(going) = state.read(|state| Going::of(state, key, now)) else { return Ok(()) };
    let is_connected = is_connected(arguments, going.member);
    match cause {
        KeyRevocationCause::MemberGone => return Ok(()),
        KeyRevocationCause::NodeRevoked if going.is_banned || !is_connected => return Ok(()),
        KeyRevocationCause::NodeRevoked | KeyRevocationCause::NoRoom | KeyRevocationCause::Restarted => {}
    }
    // Since when there was no room the state does not tell. Streams that hold what a key signed are waited for until that ends.
    let gives_up = going.since.is_some_and(|since| now >= since.plus(GIVING_UP_LIMIT));
    if gives_up && cause != KeyRevocationCause::NoRoom {
        return Ok(());
    }
    let Some(successor) = &going.successor else {
        return Err(format!("member {} signs with no other key yet", going.member));
    };
    // Clients of a process that was started again come back within this, and are given SVIDs of the new key.
    let back_at = successor.recorded_at.plus(2 * going.settle);
    if cause == KeyRevocationCause::Restarted && now < back_at {
        return Err(format!("clients of member {} have until {back_at} to come back", going.member));
    }
    if !is_connected {
        return Ok(());
    }
    let index = state.applied_index();
    let until = Instant::now() + SENT_WAIT;
    match ask_sent(&arguments.authority.handle, going.member, index, std::slice::from_ref(key), until).await {
        Ok(Sent { applied: true, lacking: 0, .. }) | Err(_) => Ok(()),
        Ok(Sent { lacking, .. }) => Err(format!("{lacking} streams of member {} hold SVIDs of it", going.member)),
    }
}

/// A key that is to be revoked whole.
struct Going {
    member: MemberNumber,
    is_banned: bool,
    /// The newest key of the member, if it signs, and is another one.
    successor: Option<IssuingKey>,
    /// Since when it is waited for, as far as the state tells.
    since: Option<UnixSeconds>,
    settle: i64,
}

impl Going {
    fn of(state: &State, id: &AuthorityId, now: UnixSeconds) -> Option<Self> {
        let key = state.issuing_key(id)?;
        let member = state.member(key.member)?;
        let cluster = state.cluster()?;
        let own_id = node_id(&cluster.trust_domain, member.record.name.as_str()).ok()?;
        let newer = state.issuing_keys().filter(|other| other.member == key.member && other.number > key.number);
        let newest = newer.max_by_key(|other| other.number);
        let signs = |other: &&IssuingKey| {
            other.state == IssuingKeyState::Signing
                && state.certificates_of(&other.id).any(|issuing| issuing.is_live(now))
        };
        let revoked = state.revocations().filter(|revocation| revocation.target == RevocationTarget::Node(key.member));
        let revoked_at = revoked.map(|revocation| revocation.created_at).max();
        Some(Self {
            member: key.member,
            is_banned: state.is_banned(None, &own_id, key.member).is_some(),
            successor: newest.filter(signs).cloned(),
            since: newest.map(|newest| newest.recorded_at).max(revoked_at),
            settle: state.policy().map_or(0, |policy| i64::from(policy.crl_settle_time())),
        })
    }
}

fn is_connected(arguments: &RevocationArguments, member: MemberNumber) -> bool {
    let handle = &arguments.authority.handle;
    handle.member() == Some(member)
        || handle.members().iter().any(|contact| contact.number == member && contact.connected)
}

/// Lets a new key sign, once every live member has sent its CRL to all its open streams (CRL-07).
async fn activate(arguments: &RevocationArguments, id: AuthorityId) -> Result<(), DueError> {
    let state = arguments.authority.handle.state();
    let now = arguments.core.sources.now().seconds();
    let (is_on, index, live, is_urgent) = state.read_at(|index, state| {
        let live = state.live_members(now.minus(CLOCK_MARGIN));
        (state.crls_are_on(), index, live, is_urgent(state, &id, now))
    });
    if is_on {
        let (connected, absent): (Vec<_>, Vec<_>) =
            live.into_iter().partition(|member| is_connected(arguments, *member));
        if !absent.is_empty() {
            let names = names(arguments, &absent);
            if !is_urgent {
                return Err(DueError::Waits(format!(
                    "key {id} does not sign yet: {names} cut off and may hand out CRLs without its own, until it is back, its \
                     certificate ends, or it is fenced"
                )));
            }
            tracing::warn!(
                target: "quorate::security", authority_id = %id, names,
                "an issuing key signs although members are cut off whose streams may not have its CRL: its forerunner ends soon"
            );
        }
        until_sent(arguments, &id, connected, index).await?;
    }
    propose(&arguments.authority, Operation::ActivateIssuingKey { key: id }).await?;
    Ok(())
}

/// Waits until the streams of members have been sent the CRLs of the state at an index. A client that reads nothing is not
/// waited for longer than a second.
async fn until_sent(
    arguments: &RevocationArguments,
    id: &AuthorityId,
    members: Vec<MemberNumber>,
    index: u64,
) -> Result<(), DueError> {
    let until = Instant::now() + SENT_WAIT;
    let mut asked = JoinSet::new();
    for member in members {
        let handle = arguments.authority.handle.clone();
        asked.spawn(async move { (member, ask_sent(&handle, member, index, &[], until).await) });
    }
    let mut behind = BTreeSet::new();
    while let Some(joined) = asked.join_next().await {
        match joined {
            Ok((_, Ok(Sent { applied: true, lacking: 0, .. }))) => {}
            Ok((member, Ok(Sent { applied: true, lacking, .. }))) => {
                tracing::warn!(authority_id = %id, %member, lacking, "streams have not fetched the CRL of a key that begins to sign");
            }
            Ok((member, Ok(Sent { applied: false, .. }) | Err(_))) => drop(behind.insert(member)),
            Err(lost) => tracing::warn!(error = %lost, "a question after streams was lost"),
        }
    }
    if behind.is_empty() {
        return Ok(());
    }
    let behind = names(arguments, &behind.into_iter().collect::<Vec<_>>());
    Err(DueError::Waits(format!("key {id} does not sign yet: {behind} behind, and may hand out CRLs without its own")))
}

/// Whether the key that signs in the meantime ends soon.
fn is_urgent(state: &State, id: &AuthorityId, now: UnixSeconds) -> bool {
    let Some(key) = state.issuing_key(id) else { return false };
    let former = state.issuing_keys().filter(|former| {
        former.member == key.member && former.boot == key.boot && former.state == IssuingKeyState::Signing
    });
    let certificates =
        former.flat_map(|former| state.certificates_of(&former.id)).filter(|issuing| issuing.is_live(now));
    certificates.max_by_key(|issuing| issuing.validity.not_after()).is_some_and(|last| {
        let left = last.validity.not_after().since(now);
        left.saturating_mul(URGENT_PART) <= last.validity.seconds()
    })
}

fn names(arguments: &RevocationArguments, members: &[MemberNumber]) -> String {
    let names: Vec<String> = arguments.authority.handle.state().read(|state| {
        let name = |number: &MemberNumber| {
            let member = state.member(*number);
            member.map_or_else(|| format!("member {number}"), |member| member.record.name.to_string())
        };
        members.iter().map(name).collect()
    });
    format!("{} {}", names.join(", "), if members.len() == 1 { "is" } else { "are" })
}
