//! This node's part in elections, as peers meet it: what the peer service answers and the network asks.
//!
//! ```text
//!   peer service ──► pre_vote, vote, take_over ──► grant ──► Raft
//!                ──► heard_of_leader      (accepted AppendEntries, each part of a snapshot: ELE-10)
//!   network      ──► acknowledged         (answers of followers: ELE-04, ELE-10)
//!                ──► is_transfer          (whether a Vote that goes out carries the flag: ELE-09)
//!   driver       ──► Electorate           (the network's side of PreVote and TakeOver)
//! ```

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use openraft::{
    error::{Fatal, RaftError},
    raft::{VoteRequest, VoteResponse},
};
use parking_lot::RwLock;
use tokio::{sync::watch, time::Instant};

use super::{Contacts, Grant, Request, SoftGrant, VoterView, grant};
use crate::{
    limits::CLOCK_JUDGEMENT_LIMIT,
    settings::Settings,
    type_config::{LogId, Raft, Vote},
};

/// A voter's answer to PreVote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PreVoteAnswer {
    /// Whether it would vote for the sender.
    pub(crate) granted: bool,
    /// The term that it is in (ELE-06).
    pub(crate) term: u64,
}

/// What asking another member takes.
pub(crate) type ElectorateFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// The other voters, as the driver reaches them. Calls have no time limit of their own: the driver drops what it no
/// longer waits for.
pub(crate) trait Electorate: Send + Sync + 'static {
    /// Asks `member` whether it would vote for this node, whose log ends with `last`. `None` when it cannot be reached.
    fn pre_vote(&self, member: u64, last: Option<LogId>) -> ElectorateFuture<Option<PreVoteAnswer>>;

    /// Asks `member` to stand for election, because this node, leader in `term`, hands over (ELE-09). The error is in
    /// words.
    fn take_over(&self, member: u64, term: u64, last: LogId) -> ElectorateFuture<Result<(), String>>;
}

/// Why this node does not stand for election when the leader asks it to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeOverRefused {
    /// The sender does not lead, as far as this node knows.
    #[error("the sender leads in term {asked}, and this node is in term {own} under another leader or none")]
    NotTheLeader {
        /// The sender's term.
        asked: u64,
        /// This node's.
        own: u64,
    },
    /// This node's log ends before the leader's.
    #[error("this node's log ends before the leader's")]
    Behind,
    /// This node has no vote.
    #[error("this node is not a voter")]
    NotAVoter,
    /// ELE-11.
    #[error("this node's clock is too far off to lead")]
    Clock,
    /// Consensus has ended here.
    #[error("consensus has ended on this node")]
    Stopped(#[source] Box<Fatal<u64>>),
}

/// What this node knows about elections, shared by driver, peer service and network. It outlives a Raft that is built
/// anew within the process.
#[derive(Debug)]
pub(crate) struct Elections {
    own: u64,
    pub(crate) contacts: Contacts,
    settings: RwLock<&'static Settings>,
    /// Until when the clock counts as too far off, or nothing.
    clock_is_off_until: watch::Sender<Option<Instant>>,
    /// True while office is being handed over: no heartbeats, no read-index rounds, no proposals.
    handing_over: watch::Sender<bool>,
    /// When office was last handed over, or was not for want of success.
    transfer_ended: RwLock<Instant>,
    /// The term in which this node stands because a leader hands over to it; 0 for none.
    transfer_term: AtomicU64,
}

impl Elections {
    /// Of the member `own`, in a process that starts now.
    pub(crate) fn new(own: u64, settings: &'static Settings, now: Instant) -> Self {
        Self {
            own,
            contacts: Contacts::new(now),
            settings: RwLock::new(settings),
            clock_is_off_until: watch::Sender::new(None),
            handing_over: watch::Sender::new(false),
            transfer_ended: RwLock::new(now),
            transfer_term: AtomicU64::new(0),
        }
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> &'static Settings {
        *self.settings.read()
    }

    /// Other settings are in force.
    pub(crate) fn set_settings(&self, settings: &'static Settings) {
        *self.settings.write() = settings;
    }

    /// Whether the clock of this node is close enough to the others' to ask and to lead (ELE-11). Called by whoever
    /// compares clocks, each time: after [`CLOCK_JUDGEMENT_LIMIT`] nothing is known of the clock any more.
    pub(crate) fn set_clock_is_fit(&self, fit: bool) {
        let now = Instant::now();
        let until = (!fit).then(|| now + CLOCK_JUDGEMENT_LIMIT);
        self.clock_is_off_until.send_if_modified(|known| {
            let turned = known.is_some_and(|until| now < until) != until.is_some();
            *known = until;
            turned
        });
    }

    /// Hears when it turns from one to the other.
    pub(crate) fn watch_clock(&self) -> watch::Receiver<Option<Instant>> {
        self.clock_is_off_until.subscribe()
    }

    /// How long it still counts as too far off, if it does.
    pub(crate) fn clock_is_off_for(&self, now: Instant) -> Option<Duration> {
        let until = *self.clock_is_off_until.borrow();
        until?.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// A leader was heard of: call it when Raft answered an AppendEntries neither with an error nor with `HigherVote`, and
    /// for every part of a snapshot that was taken.
    pub(crate) fn heard_of_leader(&self) {
        self.contacts.heard_of_leader(Instant::now());
    }

    /// `member` answered an AppendEntries that was sent at `sent` with anything but `HigherVote`.
    pub(crate) fn acknowledged(&self, member: u64, sent: Instant) {
        self.contacts.acknowledged(member, sent);
    }

    /// Whether a Vote that this node sends carries the transfer flag.
    pub(crate) fn is_transfer(&self, vote: &Vote) -> bool {
        vote.leader_id.term == self.transfer_term.load(Ordering::Acquire) && vote.leader_id.node_id == self.own
    }

    /// Answers PreVote.
    pub(crate) fn pre_vote(&self, raft: &Raft, candidate: u64, last: Option<LogId>) -> PreVoteAnswer {
        let granted = self.test(raft, &Request { candidate, last, transfer: false });
        PreVoteAnswer { granted, term: term_of(raft) }
    }

    /// Answers Vote: by the same test first, then by Raft's.
    ///
    /// # Errors
    ///
    /// When Raft has ended.
    pub(crate) async fn vote(
        &self,
        raft: &Raft,
        request: VoteRequest<u64>,
        transfer: bool,
    ) -> Result<VoteResponse<u64>, RaftError<u64>> {
        let candidate = request.vote.leader_id.node_id;
        if self.test(raft, &Request { candidate, last: request.last_log_id, transfer }) {
            raft.vote(request).await
        } else {
            let own_vote = raft.server_metrics().borrow().vote;
            Ok(VoteResponse::new(own_vote, last_log(raft), false))
        }
    }

    /// Puts a request to the test, and keeps the promise that granting it makes.
    fn test(&self, raft: &Raft, request: &Request) -> bool {
        let now = Instant::now();
        let view = VoterView {
            now,
            last: last_log(raft),
            leader_contact: self.contacts.leader(),
            quorum_acknowledged: self.quorum_acknowledged(raft, now),
            soft_grant: self.contacts.soft_grant(now),
            settings: self.settings(),
        };
        match grant(&view, request) {
            Grant::Granted(promise) => {
                self.contacts.promise(promise);
                true
            }
            Grant::Refused(why) => {
                tracing::debug!(candidate = request.candidate, %why, "a vote was refused");
                false
            }
        }
    }

    fn quorum_acknowledged(&self, raft: &Raft, now: Instant) -> Option<Instant> {
        let books = raft.server_metrics();
        let books = books.borrow();
        if !books.state.is_leader() {
            return None;
        }
        // It is silent on purpose, and has promised its office to one: the others are refused meanwhile.
        if self.is_handing_over() {
            return Some(now);
        }
        self.contacts.quorum(self.own, books.membership_config.membership().get_joint_config(), now)
    }

    /// Stands for election because `leader`, in `term` and with a log that ends with `last`, hands over (ELE-09). Once:
    /// what comes of it, the leader sees.
    ///
    /// # Errors
    ///
    /// [`TakeOverRefused`].
    pub(crate) async fn take_over(
        &self,
        raft: &Raft,
        leader: u64,
        term: u64,
        last: LogId,
    ) -> Result<(), TakeOverRefused> {
        let (own_term, current_leader, is_voter) = {
            let books = raft.server_metrics();
            let books = books.borrow();
            let configurations = books.membership_config.membership().get_joint_config();
            (books.vote.leader_id.term, books.current_leader, super::is_voter(self.own, configurations))
        };
        if own_term != term || current_leader != Some(leader) {
            return Err(TakeOverRefused::NotTheLeader { asked: term, own: own_term });
        }
        if !is_voter {
            return Err(TakeOverRefused::NotAVoter);
        }
        if last_log(raft) < Some(last) {
            return Err(TakeOverRefused::Behind);
        }
        if self.clock_is_off_for(Instant::now()).is_some() {
            return Err(TakeOverRefused::Clock);
        }
        tracing::info!(leader, term, "the leader hands over to this node, which stands for election");
        self.transfer_term.store(term.saturating_add(1), Ordering::Release);
        self.stands(Instant::now());
        raft.trigger().elect().await.map_err(|fatal| TakeOverRefused::Stopped(Box::new(fatal)))
    }

    /// This node asks, or stands for election: it is promised to itself for a while (ELE-05).
    pub(crate) fn stands(&self, now: Instant) {
        self.contacts.attempted(now);
        self.contacts.promise(SoftGrant { to: self.own, until: now + self.settings().sticky });
    }

    /// Whether office is being handed over, and nothing may be sent that the others take for a leader's contact.
    pub(crate) fn is_handing_over(&self) -> bool {
        *self.handing_over.borrow()
    }

    /// When the last transfer ended, or the process started.
    pub(crate) fn transfer_ended(&self) -> Instant {
        *self.transfer_ended.read()
    }

    /// Waits until office is not being handed over. Whoever starts a read-index round does so first: the round's
    /// heartbeats would renew what Raft takes for the leader's lease, and the transfer would fail.
    pub(crate) async fn no_transfer(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        drop(self.handing_over.subscribe().wait_for(|handing_over| !handing_over).await);
    }

    /// Begins to hand over. Whoever calls it holds the batcher's slots, so there is one at a time.
    pub(crate) fn begin_transfer(&self) -> TransferGuard<'_> {
        self.handing_over.send_replace(true);
        TransferGuard { elections: self }
    }
}

/// Office is being handed over as long as this lives.
#[derive(Debug)]
pub(crate) struct TransferGuard<'a> {
    elections: &'a Elections,
}

impl Drop for TransferGuard<'_> {
    fn drop(&mut self) {
        *self.elections.transfer_ended.write() = Instant::now();
        self.elections.handing_over.send_replace(false);
    }
}

/// The last entry of the log. Raft has no other public way to it.
pub(crate) fn last_log(raft: &Raft) -> Option<LogId> {
    raft.data_metrics().borrow().last_log
}

/// The term that Raft is in.
pub(crate) fn term_of(raft: &Raft) -> u64 {
    raft.server_metrics().borrow().vote.leader_id.term
}
