//! Restoring a backup: the state of a cluster that is lost becomes the first state of another (design section 4; FLT-26).
//!
//! ```text
//!   state in the backup                              Operation::Restore                     first state of the new cluster
//!   entries, policy, plan, bans        ────────────────── stay ──────────────────────►
//!   relationships, foreign bundles      ────────────────── stay ──────────────────────►
//!   secrets                            ── stay, sealed anew ────────────────────────►
//!   roots, token keys                  ── stay, sealed anew, to be replaced at once ─►      old roots in the bundle to their end
//!   issuing certificates               ── revoked, in the CRL of each root ──────────►      nobody is live
//!   members, invitations, origins      ── void ──────────────────────────────────────►      one voter under a new number
//!   cluster ID, epoch                  ── new ───────────────────────────────────────►
//!   bundle sequence, CRL numbers       ── jump ahead to the floor ───────────────────►      above all that was ever served
//! ```

use bytes::Bytes;
use quorate_proto_identity::x509::parse_crl;
use quorate_proto_identity::{AuthorityId, ClusterId, MemberNumber, UnixMillis, UnixSeconds};

use crate::authority::Sealed;
use crate::federation::SecretName;
use crate::members::MemberDraft;
use crate::state::State;

/// How far the floor moves in a second of the restore's clock: 2^20. A bundle changes a few times an hour and a CRL at most
/// once a second, so no cluster comes near that between two restores, and each restore is ahead of the one before.
pub const FLOOR_PER_SECOND: u64 = 1 << 20;

/// What sequence numbers stay below: 2^53, up to where JSON numbers are exact for every reader. By
/// [`FLOOR_PER_SECOND`] that is reached in the year 2242.
pub const SEQUENCE_LIMIT: u64 = 1 << 53;

/// Makes of the state in a backup the first state of another cluster, whose only member this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// The new cluster: random, never that of the backup.
    pub cluster_id: ClusterId,
    /// The number that the member gets: the next that the state gives. Keys are sealed to it.
    pub number: MemberNumber,
    /// The member: a voter.
    pub member: MemberDraft,
    /// The sequence number of the bundle from here on, and the least number of every root's CRL: [`restore_floor`].
    pub floor: u64,
    /// Every root in the bundle whose key could be opened; the active one is among them.
    pub roots: Vec<RestoredRoot>,
    /// Every token key in use that could be opened; the active one is among them.
    pub token_keys: Vec<RestoredTokenKey>,
    /// Every secret that could be opened; the others are erased.
    pub secrets: Vec<RestoredSecret>,
}

/// A secret of a backup, as the restored cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredSecret {
    /// Which.
    pub name: SecretName,
    /// The secret, sealed to the member and to the recovery key, and to nobody else.
    pub sealed: Sealed,
}

/// A root of a backup, as the restored cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredRoot {
    /// Which.
    pub id: AuthorityId,
    /// Its next CRL, DER: with every unexpired issuing certificate that it signed (CRL-06).
    pub crl: Bytes,
    /// Its private key, sealed to the member and to the recovery key, and to nobody else.
    pub sealed: Sealed,
}

/// A token key of a backup, as the restored cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredTokenKey {
    /// Which.
    pub id: AuthorityId,
    /// Its private key, sealed to the member and to the recovery key, and to nobody else.
    pub sealed: Sealed,
}

/// The least floor of a restore at this instant: its Unix time times 2^20.
#[must_use]
pub fn least_restore_floor(now: UnixSeconds) -> u64 {
    u64::try_from(now.0).unwrap_or(0).saturating_mul(FLOOR_PER_SECOND)
}

/// The floor of a restore of this state at this instant. The milliseconds count, so that two restores of the same backup
/// have different floors. `None` when it would reach [`SEQUENCE_LIMIT`]: the clock is centuries ahead.
#[must_use]
pub fn restore_floor(state: &State, now: UnixMillis) -> Option<u64> {
    let numbers = state.x509_authorities().filter_map(|root| Some(parse_crl(&root.crl).ok()?.number));
    let known = numbers.fold(state.counters().spiffe_sequence, u64::max);
    let millis = u128::try_from(now.0).unwrap_or(0).saturating_mul(u128::from(FLOOR_PER_SECOND)) / 1_000;
    let by_time = u64::try_from(millis).unwrap_or(u64::MAX);
    Some(by_time.max(known.saturating_add(1))).filter(|floor| *floor < SEQUENCE_LIMIT)
}
