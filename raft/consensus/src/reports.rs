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
//! A read-index round after the wait says that nobody could have been elected before it ended.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use quorate_proto_api::peer as proto;
use quorate_proto_api::peer::peer_client::PeerClient;
use quorate_proto_identity::MemberNumber;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, transport::Channel};

use crate::{
    clock::{ClockStatus, ClockVerdict, Sample, median},
    contact::{Contact, MemberContact},
    engine::Engine,
    handle::LinearizeError,
    limits::{CONTACT_LIMIT, REPORT_INTERVAL, REPORT_PAUSE},
    node::Node,
    peer::{Lane, client},
    role::Role,
    telemetry,
    transport::PeerKey,
};

/// Reports that are on their way at a time; more would only be older ones behind newer.
const ON_THE_WAY: usize = 16;
/// The pause before a leader that did not answer is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How often a leader looks whether it is still connected to its quorum.
const QUORUM_LOOK: Duration = Duration::from_millis(100);
/// Clock samples that are kept; the quickest of them counts.
const SAMPLES: usize = 8;

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
        let applied_by = loop {
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
            let Some(wait_until) = wait_until else { break applied_by };
            if now >= deadline {
                return Err(LinearizeError::Deadline);
            }
            // A report, or the end of somebody's contact, whichever comes first.
            drop(timeout_at(wait_until.min(deadline), changed.changed()).await);
        };
        self.reads.confirm(self, deadline).await?;
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

impl Node {
    /// Notes how the clock stands, and what follows from it (ELE-11).
    fn set_clock(&self, status: ClockStatus) {
        if let Some(millis) = status.offset_to_median_millis {
            telemetry::clock_offset(millis);
        }
        let before = self.clock.send_replace(status);
        if before.verdict != status.verdict {
            let millis = status.offset_to_median_millis.unwrap_or(0);
            match status.verdict {
                ClockVerdict::Good => {
                    tracing::info!(offset_millis = millis, "this node's clock agrees with the others")
                }
                ClockVerdict::Warn => {
                    tracing::warn!(offset_millis = millis, "this node's clock is off: check its source")
                }
                ClockVerdict::Refuse => tracing::error!(
                    offset_millis = millis,
                    "this node's clock is off by so much that it neither leads nor signs: set it right"
                ),
            }
        }
        if let Some(engine) = self.engine.get() {
            engine.elections.set_clock_is_fit(status.verdict != ClockVerdict::Refuse);
        }
    }
}

/// The member's side: reports as long as the node is one, whoever leads.
pub(crate) async fn report(node: Arc<Node>) {
    let mut role = node.role.subscribe();
    let mut samples = Samples::default();
    loop {
        let now = role.borrow_and_update().clone();
        match now {
            Role::Stopped { .. } => return,
            Role::Leader { .. } => {
                if let Some(quorum) = node.engine.get().and_then(|engine| engine.quorum_acknowledged(Instant::now())) {
                    node.connected_until(quorum + CONTACT_LIMIT);
                }
                drop(timeout(QUORUM_LOOK, role.changed()).await);
            }
            Role::Follower { leader: Some(leader) } | Role::Learner { leader: Some(leader) } => {
                let reporting = report_to(&node, leader.get(), &mut samples);
                tokio::select! {
                    biased;
                    changed = role.changed() => if changed.is_err() { return },
                    () = reporting => sleep(RETRY_PAUSE).await,
                }
            }
            Role::Unfounded | Role::Candidate | Role::Follower { leader: None } | Role::Learner { leader: None } => {
                if role.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The reports that are on their way: when and at which time of day each was sent.
#[derive(Debug, Default)]
struct OnTheWay {
    sent: VecDeque<(u64, Instant, i64)>,
    next: u64,
}

/// Samples of the offset to one leader.
#[derive(Debug, Default)]
struct Samples {
    leader: u64,
    kept: VecDeque<(Duration, i64)>,
}

impl Samples {
    fn add(&mut self, sample: &Sample) {
        if let Some(offset) = sample.offset() {
            self.kept.truncate(SAMPLES - 1);
            self.kept.push_front((sample.round_trip, offset));
        }
    }

    /// By the quickest of the newest samples.
    fn offset(&self) -> Option<i64> {
        self.kept.iter().min_by_key(|(round_trip, _)| *round_trip).map(|(_, offset)| *offset)
    }

    fn round_trip(&self) -> Option<Duration> {
        self.kept.front().map(|(round_trip, _)| *round_trip)
    }
}

/// Reports to one leader until something goes wrong.
async fn report_to(node: &Arc<Node>, leader: u64, samples: &mut Samples) {
    if samples.leader != leader {
        *samples = Samples { leader, kept: VecDeque::new() };
    }
    let line = node.peers.line(leader, Lane::Work);
    let mut client: PeerClient<Channel> = client(line.channel());
    let (reports, receiver) = mpsc::channel(ON_THE_WAY);
    let mut applied = node.reader().watch_applied_index();
    let mut way = OnTheWay::default();
    // The first report goes out with the call: some servers answer nothing before they have something to read.
    if send(node, &reports, &mut way, samples, *applied.borrow_and_update()).is_err() {
        return;
    }
    let watch = line.watch(CONTACT_LIMIT);
    let call = timeout(CONTACT_LIMIT, client.report(Request::new(ReceiverStream::new(receiver)))).await;
    let Ok(Ok(answers)) = call else { return };
    watch.answered();
    let mut answers = answers.into_inner();
    let mut next_report = Instant::now() + REPORT_INTERVAL;
    let mut earliest = Instant::now() + REPORT_PAUSE;
    let mut owed = false;
    let mut last_answer = Instant::now();
    loop {
        let due = if owed { earliest } else { next_report };
        tokio::select! {
            biased;
            answer = answers.message() => {
                let Ok(Some(answer)) = answer else { return };
                last_answer = Instant::now();
                take_answer(node, &answer, &mut way, samples);
            }
            () = sleep_until(due) => {
                // Silence: the stream hangs in a connection that is dead (SIM-09).
                if last_answer + CONTACT_LIMIT < Instant::now() {
                    drop(line.watch(Duration::ZERO));
                    return;
                }
                let index = *applied.borrow_and_update();
                if send(node, &reports, &mut way, samples, index).is_err() {
                    return;
                }
                owed = false;
                next_report = Instant::now() + REPORT_INTERVAL;
                earliest = Instant::now() + REPORT_PAUSE;
            }
            changed = applied.changed(), if !owed => {
                if changed.is_err() {
                    return;
                }
                owed = true;
            }
        }
    }
}

/// Sends a report, unless so many are on their way that it would only wait: then the next one says it all.
fn send(
    node: &Node,
    reports: &mpsc::Sender<proto::ReportRequest>,
    way: &mut OnTheWay,
    samples: &Samples,
    applied_index: u64,
) -> Result<(), ()> {
    let sender = node.peers.sender().ok_or(())?;
    let (number, sent_at) = (way.next, node.sources.now().0);
    let round_trip = samples.round_trip().unwrap_or_default();
    let report = proto::ReportRequest {
        sender: Some(sender),
        applied_index,
        number,
        sent_at,
        offset: samples.offset(),
        round_trip: u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX),
    };
    match reports.try_send(report) {
        Ok(()) => {
            way.next += 1;
            way.sent.push_back((number, Instant::now(), sent_at));
            Ok(())
        }
        Err(mpsc::error::TrySendError::Full(_)) => Ok(()),
        Err(mpsc::error::TrySendError::Closed(_)) => Err(()),
    }
}

/// An answer has come: this node is connected for a while longer, and knows more of its clock.
fn take_answer(node: &Node, answer: &proto::ReportResponse, way: &mut OnTheWay, samples: &mut Samples) {
    while way.sent.front().is_some_and(|(number, ..)| *number < answer.number) {
        way.sent.pop_front();
    }
    let Some((_, sent, sent_at)) = way.sent.pop_front().filter(|(number, ..)| *number == answer.number) else { return };
    let age = Duration::from_millis(answer.quorum_age);
    if let Some(until) = (sent + CONTACT_LIMIT).checked_sub(age) {
        node.connected_until(until);
    }
    samples.add(&Sample {
        sent: sent_at,
        received: answer.received_at,
        answered: answer.sent_at,
        returned: node.sources.now().0,
        round_trip: sent.elapsed(),
    });
    if let Some(offset) = samples.offset() {
        node.set_clock(ClockStatus::ahead_by(offset.saturating_sub(answer.median)));
    }
}

impl Node {
    /// Contact lasts until then at least.
    fn connected_until(&self, until: Instant) {
        let now = Instant::now();
        self.contact.send_if_modified(|contact| {
            let longer = match contact {
                Contact::Connected { until: known } => *known < until,
                Contact::CutOff { .. } => now < until,
            };
            if longer {
                if matches!(contact, Contact::CutOff { .. }) {
                    telemetry::connected(true);
                    tracing::info!("this node is connected to the cluster");
                }
                *contact = Contact::Connected { until };
            }
            longer
        });
    }

    /// Says when contact has ended.
    pub(crate) async fn mind_the_contact(self: Arc<Self>) {
        let mut contact = self.contact.subscribe();
        loop {
            let known = *contact.borrow_and_update();
            match known {
                Contact::CutOff { .. } => {
                    if contact.changed().await.is_err() {
                        return;
                    }
                }
                Contact::Connected { until } => {
                    tokio::select! {
                        biased;
                        changed = contact.changed() => if changed.is_err() { return },
                        () = sleep_until(until) => self.cut_off(until),
                    }
                }
            }
        }
    }

    fn cut_off(&self, since: Instant) {
        self.contact.send_if_modified(|contact| {
            let over = *contact == Contact::Connected { until: since };
            if over {
                telemetry::connected(false);
                tracing::warn!("this node is cut off: neither leader nor quorum has answered it in time");
                *contact = Contact::CutOff { since };
            }
            over
        });
    }
}
