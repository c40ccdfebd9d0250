//! Who has applied what: each member reports to the leader, and learns from the answers that it is connected (design
//! section 2, property 5) and how its clock stands.
//!
//! ```text
//!   member: applied index moved, or 250 ms passed ──► report ──► leader: kept, with when it came
//!           connected until …, clock            ◄── answer ◄──   only while a quorum is behind it
//!
//!   a withdrawal: committed ──► every connected member has applied it? ──► this node led all the while? ──► acknowledged
//! ```
//!
//! The last question matters: a leader that was replaced would wait for nobody, because its members report elsewhere.
//! A read-index round of this node after the wait, in the same term, says that nobody was elected before it ended.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use quorate_proto_api::peer as proto;
use quorate_proto_identity::MemberNumber;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    clock::{ClockStatus, median},
    contact::MemberContact,
    engine::Engine,
    handle::LinearizeError,
    limits::CONTACT_LIMIT,
    node::Node,
    role::Role,
    transport::PeerKey,
};

/// Answers that wait to be sent.
const ON_THE_WAY: usize = 16;

/// What members have reported to this node, while it leads.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    members: BTreeMap<u64, Report>,
    /// The term that this node leads in, and since when at the latest.
    leading: Option<(u64, Instant)>,
}

#[derive(Debug, Clone, Copy)]
struct Report {
    applied: u64,
    came: Instant,
    offset: Option<i64>,
    round_trip: Option<Duration>,
}

impl Reports {
    /// Since when this node leads in this term, as far as it has been asked: the first look counts.
    fn leading_since(&self, term: u64) -> Instant {
        let mut inner = self.inner.lock();
        match inner.leading {
            Some((known, since)) if known == term => since,
            Some(_) | None => {
                let now = Instant::now();
                inner.leading = Some((term, now));
                now
            }
        }
    }

    fn keep(&self, member: u64, report: Report) {
        self.inner.lock().members.insert(member, report);
        self.changed.send_replace(());
    }

    fn of(&self, member: u64) -> Option<Report> {
        self.inner.lock().members.get(&member).copied()
    }

    /// The median of the clocks of those who are connected, ahead of this node's, which counts too.
    fn median(&self, now: Instant) -> i64 {
        let inner = self.inner.lock();
        let fresh = inner.members.values().filter(|report| now < report.came + CONTACT_LIMIT);
        let mut offsets: Vec<i64> = fresh.filter_map(|report| report.offset).collect();
        offsets.push(0);
        median(offsets)
    }

    /// Until when a member counts as connected.
    fn connected_until(&self, member: u64, leading_since: Instant) -> Instant {
        let reported = self.of(member).map(|report| report.came + CONTACT_LIMIT);
        reported.map_or(leading_since + CONTACT_LIMIT, |until| until.max(leading_since + CONTACT_LIMIT))
    }
}

impl Node {
    /// Who leads, as far as this node knows.
    pub(crate) fn leader(&self) -> Option<MemberNumber> {
        self.engine.get()?.leader()
    }

    /// See [`Handle::members`](crate::Handle::members).
    pub(crate) fn member_contacts(&self, now: Instant) -> Vec<MemberContact> {
        let Some(engine) = self.engine.get() else { return Vec::new() };
        let own = MemberContact {
            number: engine.member,
            applied_index: self.reader().applied_index(),
            last_report: None,
            connected: self.contact.borrow().is_connected_at(now),
            clock_offset_millis: self.role.borrow().is_leader().then_some(0),
            round_trip: None,
        };
        let mut contacts = vec![own];
        if let Role::Leader { term } = &*self.role.borrow() {
            let since = self.reports.leading_since(*term);
            for member in self.peers.roster().others(engine.member.get()) {
                let report = self.reports.of(member);
                let Some(number) = MemberNumber::new(member) else { continue };
                contacts.push(MemberContact {
                    number,
                    applied_index: report.map_or(0, |report| report.applied),
                    last_report: report.map(|report| report.came),
                    connected: now < self.reports.connected_until(member, since),
                    clock_offset_millis: report.and_then(|report| report.offset),
                    round_trip: report.and_then(|report| report.round_trip),
                });
            }
            contacts.sort_unstable_by_key(|contact| contact.number);
        }
        contacts
    }

    /// Waits, as the leader, until every connected member has applied `index`. Gives how many have, this node included.
    pub(crate) async fn await_everywhere_as_leader(
        self: &Arc<Self>,
        index: u64,
        deadline: Instant,
    ) -> Result<u32, LinearizeError> {
        let not_leader = || LinearizeError::NotLeader { leader: self.leader() };
        let engine = self.engine.get().ok_or_else(not_leader)?;
        let mut changed = self.reports.changed.subscribe();
        self.reader().wait_applied(index, deadline).await.map_err(|_late| LinearizeError::Deadline)?;
        let (term, applied_by) = loop {
            changed.mark_unchanged();
            let term = match &*self.role.borrow() {
                Role::Leader { term } => *term,
                Role::Stopped { reason } => return Err(LinearizeError::Stopped { reason: Arc::clone(reason) }),
                Role::Unfounded | Role::Learner { .. } | Role::Follower { .. } | Role::Candidate => {
                    return Err(not_leader());
                }
            };
            let (now, since) = (Instant::now(), self.reports.leading_since(term));
            let mut wait_until = None;
            let mut applied_by = 1;
            for member in self.peers.roster().others(engine.member.get()) {
                if self.reports.of(member).is_some_and(|report| report.applied >= index) {
                    applied_by += 1;
                    continue;
                }
                let until = self.reports.connected_until(member, since);
                if now < until {
                    wait_until = Some(wait_until.map_or(until, |earliest: Instant| earliest.min(until)));
                }
            }
            let Some(wait_until) = wait_until else { break (term, applied_by) };
            if now >= deadline {
                return Err(LinearizeError::Deadline);
            }
            // A report, or the end of somebody's contact, whichever comes first.
            drop(timeout_at(wait_until.min(deadline), changed.changed()).await);
        };
        self.reads.confirm_term(self, term, deadline).await?;
        Ok(applied_by)
    }
}

/// The leader's side: keeps what a member reports, and answers as long as a quorum is behind this node.
pub(crate) fn answer(
    node: Arc<Node>,
    peer: Arc<PeerKey>,
    mut reports: Streaming<proto::ReportRequest>,
) -> impl tokio_stream::Stream<Item = Result<proto::ReportResponse, Status>> + Send + 'static {
    let (answers, receiver) = mpsc::channel(ON_THE_WAY);
    tokio::spawn(async move {
        loop {
            // Whoever has nothing to report is as good as gone.
            let Ok(Ok(Some(report))) = timeout(CONTACT_LIMIT * 2, reports.message()).await else { return };
            let answer = take_report(&node, &peer, &report);
            let goes_on = answer.is_ok();
            if answers.send(answer).await.is_err() || !goes_on {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

fn take_report(node: &Node, peer: &PeerKey, report: &proto::ReportRequest) -> Result<proto::ReportResponse, Status> {
    let received_at = node.sources.now().0;
    let now = Instant::now();
    let peers = &node.peers;
    let member = peers.roster().authenticate(peers.identity(), &peer.key, report.sender.as_ref());
    let member = member.map_err(|refusal| Status::permission_denied(refusal.to_string()))?;
    let no_leader = || Status::failed_precondition("this member does not lead");
    let engine = node.engine.get().ok_or_else(no_leader)?;
    let Role::Leader { term } = &*node.role.borrow() else { return Err(no_leader()) };
    node.reports.leading_since(*term);
    let quorum = engine.quorum_acknowledged(now).ok_or_else(no_leader)?;
    let quorum_age = now.saturating_duration_since(quorum);
    if quorum_age >= CONTACT_LIMIT {
        return Err(no_leader());
    }
    node.reports.keep(
        member,
        Report {
            applied: report.applied_index,
            came: now,
            offset: report.offset,
            round_trip: (report.round_trip > 0).then(|| Duration::from_micros(report.round_trip)),
        },
    );
    let median = node.reports.median(now);
    node.set_clock(ClockStatus::ahead_by(median.saturating_neg()));
    Ok(proto::ReportResponse {
        number: report.number,
        received_at,
        sent_at: node.sources.now().0,
        median,
        applied_index: node.reader().applied_index(),
        quorum_age: u64::try_from(quorum_age.as_millis()).unwrap_or(u64::MAX).saturating_add(1),
    })
}

impl Engine {
    /// The newest instant that a quorum has acknowledged this leader since.
    pub(crate) fn quorum_acknowledged(&self, now: Instant) -> Option<Instant> {
        let books = self.raft().server_metrics();
        let books = books.borrow();
        let configurations = books.membership_config.membership().get_joint_config();
        self.elections.contacts.quorum(self.member.get(), configurations, now)
    }
}
