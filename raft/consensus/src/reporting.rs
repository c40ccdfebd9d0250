//! The member's side of reports: what it has applied goes to the leader, and the answers say that it is connected and how
//! its clock stands (`reports` has the leader's side).
//!
//! ```text
//!   follower, learner ── report: at each change, 2 ms apart at least, 250 ms at most ──► leader ──► answer
//!   leader            ── looks at its own quorum                                                      │
//!                                             contact: Connected until … ◄── sent, less the quorum's age
//!                                             clock: offset to the median ◄── four timestamps
//! ```
//!
//! Nobody waited for a member that was cut off. So an answer alone does not connect it again: it has first to apply what
//! the leader had applied when it began to count on it once more, which is in the first answer (INV-07).

use std::{collections::VecDeque, sync::Arc, time::Duration};

use quorate_proto_api::peer as proto;
use quorate_proto_api::peer::peer_client::PeerClient;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, transport::Channel};

use crate::{
    clock::{ClockStatus, ClockVerdict, Sample},
    contact::Contact,
    limits::{CONTACT_LIMIT, REPORT_INTERVAL, REPORT_PAUSE},
    node::Node,
    peer::{Lane, client},
    role::Role,
    telemetry,
};

/// Reports that are on their way at a time; more would only be older ones behind newer.
const ON_THE_WAY: usize = 16;
/// The pause before a leader that did not answer is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How often a leader looks whether it is still connected to its quorum.
const QUORUM_LOOK: Duration = Duration::from_millis(100);
/// Clock samples that are kept; the quickest of them counts.
const SAMPLES: usize = 8;

/// Reports as long as the node is a member, whoever leads.
pub(crate) async fn report(node: Arc<Node>) {
    let mut role = node.role.subscribe();
    let mut samples = Samples::default();
    loop {
        let now = role.borrow_and_update().clone();
        match now {
            Role::Stopped { .. } => return,
            Role::Leader { .. } => {
                if let Some(quorum) = node.engine.get().and_then(|engine| engine.quorum_acknowledged(Instant::now())) {
                    // Whoever leads has applied everything that was acknowledged before (ELE-07).
                    node.connected_until(quorum + CONTACT_LIMIT, true);
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

/// How far this node has to be to count as connected, after the leader did without it.
#[derive(Debug, Clone, Copy)]
struct Level {
    /// What the leader had applied when it first counted on this node again: whatever it acknowledged before is in there.
    index: u64,
    /// Until when it has counted on this node without a break, by this node's clock. Later is later by its own.
    until: Instant,
}

impl Level {
    /// An answer has come at `now`, by which the leader counts on this node until `until`.
    fn after(before: Option<Self>, now: Instant, until: Instant, leader_applied: u64) -> Self {
        match before {
            Some(level) if now < level.until => Self { index: level.index, until: level.until.max(until) },
            Some(_) | None => Self { index: leader_applied, until },
        }
    }
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
    let mut level = None;
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
                take_answer(node, &answer, &mut way, &mut level, samples);
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
fn take_answer(
    node: &Node,
    answer: &proto::ReportResponse,
    way: &mut OnTheWay,
    level: &mut Option<Level>,
    samples: &mut Samples,
) {
    while way.sent.front().is_some_and(|(number, ..)| *number < answer.number) {
        way.sent.pop_front();
    }
    let Some((_, sent, sent_at)) = way.sent.pop_front().filter(|(number, ..)| *number == answer.number) else { return };
    let age = Duration::from_millis(answer.quorum_age);
    if let Some(until) = (sent + CONTACT_LIMIT).checked_sub(age) {
        let level = level.insert(Level::after(*level, Instant::now(), until, answer.applied_index));
        node.connected_until(until, level.index <= node.reader().applied_index());
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
    /// Contact lasts until then at least. One that has ended begins again only where the node is level.
    fn connected_until(&self, until: Instant, is_level: bool) {
        let now = Instant::now();
        self.contact.send_if_modified(|contact| {
            let longer = match contact {
                Contact::Connected { until: known } if now < *known => *known < until,
                Contact::Connected { .. } | Contact::CutOff { .. } => is_level && now < until,
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

impl Node {
    /// Notes how the clock stands, and what follows from it (ELE-11).
    pub(crate) fn set_clock(&self, status: ClockStatus) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_07_the_level_of_a_member_is_that_of_the_first_answer_after_a_break() {
        let now = Instant::now();
        let answered = |before, after: u64, leader_applied| {
            let at = now + Duration::from_millis(after);
            Level::after(before, at, at + CONTACT_LIMIT, leader_applied)
        };
        let limit = u64::try_from(CONTACT_LIMIT.as_millis()).unwrap();

        let first = answered(None, 0, 10);
        assert_eq!(first.index, 10);
        // As long as answers follow each other closely enough, the leader waits for this member, and it need not chase.
        let second = answered(Some(first), limit - 1, 20);
        assert_eq!(second.index, 10);
        // After a break the leader has waited for nobody.
        assert_eq!(answered(Some(second), 2 * limit - 1, 30).index, 30);
    }

    #[test]
    fn a_late_answer_does_not_shorten_how_long_the_leader_counts_on_a_member() {
        let now = Instant::now();
        let level = Level { index: 10, until: now + CONTACT_LIMIT };
        assert_eq!(Level::after(Some(level), now, now + CONTACT_LIMIT / 2, 20).until, level.until);
    }
}
