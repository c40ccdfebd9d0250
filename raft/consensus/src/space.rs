//! Free space, looked at by a timer, so that proposals are refused before the disk is full.
//!
//! ```text
//!   free bytes   plenty ────────── reserve ─────────────────────────── floor ────────── none
//!   taken        every proposal      │  upkeep, deletes, revocations     │  nothing
//! ```
//!
//! A log that meets a full disk is a log whose write failed, and a failed write ends consensus for good (WAL-09). Reserve
//! and floor keep it from coming to that. The reserve is there to be used up by what the authority cannot do without:
//! were its own upkeep refused too, each node would stop signing when its issuing certificate ends, over a disk on which
//! a few kilobytes more would have done. The look costs a system call, so it is not taken for each write.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use quorate_raft_machine::Operation;
use quorate_raft_store::{disk::Disk, free_space::FreeSpace};
use tokio::time::{MissedTickBehavior, interval};

use crate::{limits::SPACE_SAMPLE_INTERVAL, proposal::ProposeError, sources::Sources, stop::with_causes, telemetry};

/// How many bytes proposals leave free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    reserve: u64,
    floor: u64,
}

impl Limits {
    /// A floor above the reserve would make no sense: it counts for as much.
    pub(crate) fn new(reserve: u64, floor: u64) -> Self {
        Self { reserve, floor: floor.min(reserve) }
    }

    /// Whether a command of these operations may be taken while so many bytes are free. It goes by the most demanding of
    /// its operations.
    pub(crate) fn check(self, operations: &[Operation], available: u64) -> Result<(), ProposeError> {
        let keep = if operations.iter().all(may_use_the_reserve) { self.floor } else { self.reserve };
        if available < keep { Err(ProposeError::NoSpace { available, reserve: keep }) } else { Ok(()) }
    }

    fn room(self, available: u64) -> Room {
        match available {
            bytes if bytes < self.floor => Room::None,
            bytes if bytes < self.reserve => Room::Upkeep,
            _ => Room::All,
        }
    }
}

/// What there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    All,
    Upkeep,
    None,
}

/// Whether an operation is one that the reserve is kept for: the authority's upkeep, without which it stops signing
/// (design section 2, properties 4 and 5), and what takes rights or bytes away, which an operator wants above all when
/// something is wrong. So is what brings a node in place of one whose disk is full.
///
/// A founding is none of them. Nothing depends yet on what it would begin, whoever runs it is at hand to make room, and
/// an authority that could take no entries would be of no use.
const fn may_use_the_reserve(operation: &Operation) -> bool {
    match operation {
        Operation::DeleteEntry { .. }
        | Operation::PruneExpiredEntries
        | Operation::PrepareX509Authority(_)
        | Operation::ActivateX509Authority { .. }
        | Operation::PrepareJwtAuthority(_)
        | Operation::ActivateJwtAuthority { .. }
        | Operation::TaintX509Authority { .. }
        | Operation::TaintJwtAuthority { .. }
        | Operation::RevokeX509Authority { .. }
        | Operation::RevokeJwtAuthority { .. }
        | Operation::PruneAuthorities
        | Operation::RecordIssuingCertificate(_)
        | Operation::RevokeIssuingCertificate { .. }
        | Operation::CreateInvitation(_)
        | Operation::DeleteInvitation { .. }
        | Operation::AdmitMember(_)
        | Operation::AnnounceMember { .. }
        | Operation::SetMemberRole { .. }
        | Operation::RemoveMember { .. }
        | Operation::CompleteRemoval { .. }
        | Operation::SealX509Authority { .. }
        | Operation::SealJwtAuthority { .. }
        | Operation::StripSeals { .. }
        | Operation::RaiseEpoch
        | Operation::ResetTime { .. }
        | Operation::Revoke(_)
        | Operation::RemoveRevocation { .. }
        | Operation::RecordCrl(_)
        | Operation::ActivateIssuingKey { .. }
        | Operation::RevokeIssuingKeys { .. }
        | Operation::PruneRevocations
        | Operation::MarkAuthority { .. }
        | Operation::AnchorAudit { .. }
        | Operation::MarkPublished { .. }
        | Operation::DeleteRelationship { .. }
        | Operation::SetForeignBundle(_)
        | Operation::DeleteForeignBundle { .. }
        | Operation::DeleteSecret { .. }
        | Operation::DeleteApiKey { .. }
        | Operation::SetAccessSettings { .. }
        | Operation::SealSecret { .. }
        | Operation::BeginWebOrder { .. }
        | Operation::SetWebChallenge { .. }
        | Operation::RecordWebCertificate(_)
        | Operation::FailWebOrder { .. } => true,
        Operation::Found(_)
        | Operation::CreateEntry(_)
        | Operation::CreateApiKey(_)
        | Operation::RotateApiKey(_)
        | Operation::SetAccessRule { .. }
        | Operation::UpdateEntry { .. }
        | Operation::SetPolicy { .. }
        | Operation::SetMember { .. }
        | Operation::SetRecoveryKey { .. }
        | Operation::SetPlan(_)
        | Operation::RaiseVersion { .. }
        | Operation::Restore(_)
        | Operation::CreateRelationship(_)
        | Operation::UpdateRelationship { .. }
        | Operation::PutSecret { .. }
        | Operation::SetAcme { .. }
        | Operation::RequestWebCertificate { .. }
        | Operation::SetOidc { .. } => false,
    }
}

/// What the last look found.
#[derive(Debug)]
pub(crate) struct Space {
    available: AtomicU64,
    limits: Limits,
    disk: Arc<dyn Disk>,
    directory: PathBuf,
}

impl Space {
    /// Nothing has been looked at yet: until then there is room.
    pub(crate) fn new(disk: Arc<dyn Disk>, directory: PathBuf, limits: Limits) -> Arc<Self> {
        Arc::new(Self { available: AtomicU64::new(u64::MAX), limits, disk, directory })
    }

    /// Refuses what there was no room for at the last look.
    pub(crate) fn check(&self, operations: &[Operation]) -> Result<(), ProposeError> {
        self.limits.check(operations, self.available.load(Ordering::Relaxed))
    }

    /// Whether a snapshot may be begun. Below the reserve it could take what the log needs, and the log can do without a
    /// snapshot: it grows by no more than what lies between reserve and floor.
    pub(crate) fn has_room_for_a_snapshot(&self) -> bool {
        self.limits.room(self.available.load(Ordering::Relaxed)) == Room::All
    }

    /// Free bytes at the last look, if there was one.
    pub(crate) fn available(&self) -> Option<u64> {
        Some(self.available.load(Ordering::Relaxed)).filter(|available| *available != u64::MAX)
    }

    /// Looks now. Where free space cannot be told, the last answer stands: the log itself will say if the disk is gone.
    pub(crate) async fn look(self: &Arc<Self>, sources: &Sources) {
        let space = Arc::clone(self);
        let measure = move || FreeSpace::measure(space.disk.as_ref(), &space.directory, space.limits.reserve);
        match sources.run_blocking(measure).await {
            Ok(Ok(FreeSpace { available_bytes, .. })) => {
                let before = self.available.swap(available_bytes, Ordering::Relaxed);
                self.report(before, available_bytes);
                telemetry::free_space(available_bytes);
            }
            Ok(Err(error)) => tracing::warn!(error = %with_causes(&error), "free space cannot be told"),
            Err(_lost) => {}
        }
    }

    /// Says so when what there is room for has changed.
    fn report(&self, before: u64, now: u64) {
        let room = self.limits.room(now);
        if room == self.limits.room(before) {
            return;
        }
        let Limits { reserve, floor } = self.limits;
        let directory = self.directory.display();
        match room {
            Room::All => {
                tracing::info!(available_bytes = now, "there is space on the disk again: every proposal is taken");
            }
            Room::Upkeep => tracing::error!(
                available_bytes = now,
                reserve_bytes = reserve,
                %directory,
                "the disk is nearly full: until space is freed, only deletes, revocations and the authority's own upkeep \
                 are taken"
            ),
            Room::None => tracing::error!(
                available_bytes = now,
                floor_bytes = floor,
                %directory,
                "the disk is full but for the last reserve: nothing is taken until space is freed, and this node stops \
                 signing when its issuing certificate ends"
            ),
        }
    }

    /// Looks again and again.
    pub(crate) async fn watch(self: Arc<Self>, sources: Sources, after_each: impl Fn() + Send + Sync) {
        let mut ticks = interval(SPACE_SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look(&sources).await;
            after_each();
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{AuthorityId, EntryId, MemberNumber};
    use quorate_raft_machine::Policy;

    use super::*;

    const RESERVE: u64 = 1_000;
    const FLOOR: u64 = 100;

    fn delete() -> Operation {
        Operation::DeleteEntry { id: EntryId::new("a").unwrap(), revoke: None }
    }

    fn set_policy() -> Operation {
        Operation::SetPolicy { policy: Policy::default(), expected_revision: 0 }
    }

    fn kept(operations: &[Operation], available: u64) -> Option<u64> {
        match Limits::new(RESERVE, FLOOR).check(operations, available) {
            Ok(()) => None,
            Err(ProposeError::NoSpace { available: said, reserve }) => {
                assert_eq!(said, available);
                Some(reserve)
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn what_keeps_the_authority_alive_and_what_takes_away_may_use_up_the_reserve() {
        let id = || AuthorityId::new("key").unwrap();
        let member = MemberNumber::FIRST;
        for operation in [
            delete(),
            Operation::PruneExpiredEntries,
            Operation::PruneAuthorities,
            Operation::ActivateX509Authority { id: id(), issuing_certificates: vec![] },
            Operation::ActivateJwtAuthority { id: id() },
            Operation::TaintX509Authority { id: id() },
            Operation::TaintJwtAuthority { id: id() },
            Operation::RevokeX509Authority { id: id() },
            Operation::RevokeJwtAuthority { id: id() },
            Operation::RevokeIssuingCertificate { member, serial: None },
        ] {
            let operations = [operation];
            assert_eq!(kept(&operations, RESERVE - 1), None, "{operations:?}");
            assert_eq!(kept(&operations, FLOOR), None, "{operations:?}");
            assert_eq!(kept(&operations, FLOOR - 1), Some(FLOOR), "{operations:?}");
        }
    }

    #[test]
    fn what_makes_the_state_grow_or_can_wait_leaves_the_reserve_alone() {
        assert_eq!(kept(&[set_policy()], RESERVE), None);
        assert_eq!(kept(&[set_policy()], RESERVE - 1), Some(RESERVE));
    }

    #[test]
    fn a_command_goes_by_its_most_demanding_operation() {
        assert_eq!(kept(&[delete(), set_policy(), delete()], RESERVE - 1), Some(RESERVE));
    }

    #[test]
    fn a_floor_above_the_reserve_counts_for_as_much() {
        assert_eq!(Limits::new(50, 100), Limits::new(50, 50));
        assert!(Limits::new(0, 100).check(&[set_policy()], 0).is_ok());
    }
}
