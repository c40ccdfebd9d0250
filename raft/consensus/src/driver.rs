//! The election driver: looks at Raft, does what [`decide`] says, and announces this node's role.
//!
//! ```text
//!   Raft's books, Elections, clock ──► View ──► decide ──► Ask:      a round of PreVote, then decide again
//!                                                          TakeOn:   a vote of that term for nobody, then decide again
//!                                                          Elect:    once
//!                                                          StepDown: a vote of the next term for nobody
//!        └──► won an election ──► ensure_linearizable (ELE-07) ──► Role::Leader, announced
//!        └──► gone ──► Role::Stopped, with the first cause
//! ```
//!
//! One driver serves one Raft. It is the only one that starts elections, but for a leader that hands over (`transfer`).

mod pace;
mod round;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use openraft::{ServerState, error::RaftError, metrics::RaftServerMetrics};
use quorate_proto_identity::MemberNumber;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use self::{pace::Pace, round::ask};
use crate::{
    elections::{Action, Elections, Electorate, Round, Standing, View, decide, last_log},
    limits::{CONFIRM_PAUSE, CONFIRM_TIME_LIMIT, VOTE_FOR_NOBODY_TIME_LIMIT},
    log_id::vote_for_nobody,
    membership::RaftNode,
    role::Role,
    settings::Settings,
    sources::Sources,
    stop::{StopCause, with_causes},
    telemetry,
    type_config::Raft,
};

type Books = RaftServerMetrics<u64, RaftNode>;

/// What the driver works with.
pub(crate) struct Driver {
    pub(crate) raft: Raft,
    pub(crate) member: u64,
    pub(crate) elections: Arc<Elections>,
    pub(crate) electorate: Arc<dyn Electorate>,
    pub(crate) role: watch::Sender<Role>,
    pub(crate) sources: Sources,
    pub(crate) stop: StopCause,
}

/// What the driver remembers from one look to the next.
struct Memory {
    /// How long this node waits before it asks (ELE-05: drawn anew for each wait).
    timer: Duration,
    /// The settings that it was drawn by.
    settings: &'static Settings,
    /// The round that has just ended.
    round: Option<Round>,
    /// The term that it leads in, and since when.
    office: Option<(u64, Instant)>,
    /// The term in which its office was confirmed.
    confirmed: Option<u64>,
}

impl Driver {
    /// Works until Raft has ended.
    pub(crate) async fn run(self) {
        // Right after a start Raft's books are defaults (ELE-10). What the core itself answers, it answers after it has
        // written them.
        if self.raft.with_raft_state(|_| ()).await.is_ok() {
            let pace = Pace::start(&self.raft, &self.elections);
            self.follow_the_books().await;
            drop(pace);
        }
        self.announce_end();
    }

    /// Looks and acts until Raft has ended.
    async fn follow_the_books(&self) {
        let mut books = self.raft.server_metrics();
        let mut clock = self.elections.watch_clock();
        let settings = self.elections.settings();
        let mut memory = Memory { timer: self.draw_timer(), settings, round: None, office: None, confirmed: None };
        loop {
            let seen = books.borrow_and_update().clone();
            clock.mark_unchanged();
            self.note_office(&seen, &mut memory);
            self.note_settings(&mut memory);
            telemetry::term(seen.vote.leader_id().term);
            self.announce(self.role_in(&seen, &memory));
            let action = self.decide(&seen, &memory);
            let concluded = memory.round.take();
            let goes_on = match action {
                Action::Ask => {
                    telemetry::election("asked");
                    self.stands(&mut memory);
                    memory.round = self.ask(&mut books).await;
                    true
                }
                Action::TakeOn(term) => {
                    // The round still stands, and the election follows from it.
                    memory.round = concluded;
                    self.take_term_on(term, &mut books, &mut memory).await
                }
                Action::Elect => {
                    telemetry::election("stood");
                    self.stands(&mut memory);
                    tracing::info!(after_term = seen.vote.leader_id().term, "this node stands for election");
                    self.raft.trigger().elect().await.is_ok()
                }
                Action::StepDown => {
                    telemetry::stepped_down();
                    tracing::warn!(
                        clock_is_off = self.elections.clock_is_off_for(Instant::now()).is_some(),
                        "this node steps down: its quorum is out of reach, or its clock is off"
                    );
                    let next = seen.vote.leader_id().term.saturating_add(1);
                    self.take_term_on(next, &mut books, &mut memory).await
                }
                Action::Wait(limit) if memory.is_unconfirmed() => self.confirm(&mut memory, &mut books, limit).await,
                Action::Wait(limit) => changed_within(&mut books, &mut clock, limit).await,
            };
            if !goes_on {
                break;
            }
        }
    }

    fn decide(&self, books: &Books, memory: &Memory) -> Action {
        let now = Instant::now();
        let (contacts, settings) = (&self.elections.contacts, self.elections.settings());
        let configurations = books.membership_config.membership().get_joint_config();
        decide(&View {
            now,
            own: self.member,
            standing: standing(books.state),
            term: books.vote.leader_id().term,
            configurations,
            leader_contact: contacts.leader(),
            quorum_acknowledged: self.quorum_acknowledged(configurations, memory, now),
            last_attempt: contacts.last_attempt(),
            soft_grant: contacts.soft_grant(now),
            timer: memory.timer,
            round: memory.round.as_ref(),
            clock_is_off_for: self.elections.clock_is_off_for(now),
            settings,
        })
    }

    /// Since when a quorum has acknowledged this node as its leader. A silence that the leader itself has ordered, to hand
    /// over, does not count.
    fn quorum_acknowledged(&self, configurations: &[BTreeSet<u64>], memory: &Memory, now: Instant) -> Instant {
        if self.elections.is_handing_over() {
            return now;
        }
        let since = memory.office.map_or(now, |(_, since)| since).max(self.elections.transfer_ended());
        self.elections.contacts.quorum(self.member, configurations, now).map_or(since, |quorum| quorum.max(since))
    }

    /// Keeps in mind since when this node leads. One that leads no more waits like everybody else before it asks.
    fn note_office(&self, books: &Books, memory: &mut Memory) {
        let term = books.vote.leader_id().term;
        let leads = books.state == ServerState::Leader;
        match memory.office {
            Some((of, _)) if leads && of == term => {}
            Some(_) | None if leads => memory.office = Some((term, Instant::now())),
            Some(_) => {
                memory.office = None;
                self.elections.contacts.attempted(Instant::now());
            }
            None => {}
        }
    }

    /// A wait that was drawn by other settings than those in force is drawn anew.
    fn note_settings(&self, memory: &mut Memory) {
        let settings = self.elections.settings();
        if memory.settings != settings {
            memory.settings = settings;
            memory.timer = self.draw_timer();
        }
    }

    /// This node asks, or stands for election.
    fn stands(&self, memory: &mut Memory) {
        self.elections.stands(Instant::now());
        memory.timer = self.draw_timer();
    }

    /// A wait between the two bounds of the settings, in whole milliseconds.
    fn draw_timer(&self) -> Duration {
        let settings = self.elections.settings();
        let room = u64::try_from(settings.timer_max.saturating_sub(settings.timer_min).as_millis()).unwrap_or(u64::MAX);
        let drawn = self.sources.random_u64().checked_rem(room.saturating_add(1)).unwrap_or(0);
        settings.timer_min + Duration::from_millis(drawn)
    }

    /// Asks all other voters, unless something changes meanwhile.
    async fn ask(&self, books: &mut watch::Receiver<Books>) -> Option<Round> {
        let (configurations, term) = {
            let books = books.borrow();
            (books.membership_config.membership().get_joint_config().clone(), books.vote.leader_id().term)
        };
        let round = Round::new(Instant::now(), term);
        let last = last_log(&self.raft);
        let asking = ask(&*self.electorate, round, self.member, &configurations, last, self.elections.settings().ask);
        let round = tokio::select! {
            biased;
            _changed_or_gone = books.changed() => None,
            round = asking => Some(round),
        };
        // Who asks no more stands in nobody's way: a vote that it keeps for itself may be the one that another needs.
        if !round.as_ref().is_some_and(|round| round.is_won(self.member, &configurations)) {
            self.elections.contacts.release(self.member);
        }
        round
    }

    /// Takes a term on without standing in it: by a vote for nobody, which every candidate of that term outranks (ELE-04,
    /// ELE-06). `false` when Raft has ended.
    async fn take_term_on(&self, term: u64, books: &mut watch::Receiver<Books>, memory: &mut Memory) -> bool {
        let granted = match timeout(VOTE_FOR_NOBODY_TIME_LIMIT, self.raft.vote(vote_for_nobody(term))).await {
            Ok(Ok(response)) => response.vote_granted,
            Ok(Err(RaftError::Fatal(_))) => return false,
            // The disk stalls. What was asked for stays in Raft's queue.
            Err(_elapsed) => false,
        };
        let there = books.wait_for(|books| books.vote.leader_id().term >= term);
        match timeout(CONFIRM_PAUSE, there).await {
            Ok(Ok(_)) => {}
            Ok(Err(_gone)) => return false,
            // Raft takes no vote within its own short lease of a leader: the next look decides again.
            Err(_elapsed) => {
                tracing::debug!(term, granted, "a term was not taken on yet");
                memory.round = None;
            }
        }
        true
    }

    /// One read-index round, with a time limit, unless something changes meanwhile (ELE-07). `false` when Raft has ended.
    async fn confirm(&self, memory: &mut Memory, books: &mut watch::Receiver<Books>, limit: Option<Duration>) -> bool {
        let limit = limit.map_or(CONFIRM_TIME_LIMIT, |limit| limit.min(CONFIRM_TIME_LIMIT));
        let confirmed = tokio::select! {
            biased;
            changed = books.changed() => return changed.is_ok(),
            round = timeout(limit, self.raft.ensure_linearizable()) => matches!(round, Ok(Ok(_))),
        };
        if confirmed {
            memory.confirmed = memory.office.map(|(term, _)| term);
        } else {
            sleep(CONFIRM_PAUSE.min(limit)).await;
        }
        true
    }

    fn role_in(&self, books: &Books, memory: &Memory) -> Role {
        let leader = books.current_leader.filter(|leader| *leader != self.member).and_then(MemberNumber::new);
        match standing(books.state) {
            Standing::Learner => Role::Learner { leader },
            Standing::Follower => Role::Follower { leader },
            // An office that is not confirmed yet is none (ELE-07).
            Standing::Leader if memory.is_unconfirmed() => Role::Candidate,
            Standing::Candidate => Role::Candidate,
            Standing::Leader => Role::Leader { term: books.vote.leader_id().term },
        }
    }

    fn announce_end(&self) {
        let reason = self.stop.get().unwrap_or_else(|| {
            let ended = self.raft.metrics().borrow().running_state.clone();
            self.stop.record(match ended {
                Err(fatal) => with_causes(&fatal),
                // The core fell over without a word: only a panic does that.
                Ok(()) => "the consensus task panicked".to_owned(),
            })
        });
        self.announce(Role::Stopped { reason });
    }

    /// Tells a role, if it is another one than before.
    fn announce(&self, role: Role) {
        let changed = self.role.send_if_modified(|current| {
            let changed = *current != role;
            if changed {
                *current = role.clone();
            }
            changed
        });
        if changed {
            tracing::info!(role = %role, "this node's role in consensus changed");
            telemetry::role(&role);
            self.sources.observer().role(&role);
        }
    }
}

impl Memory {
    /// Whether it leads in a term in which that was not confirmed yet.
    fn is_unconfirmed(&self) -> bool {
        self.office.is_some_and(|(term, _)| self.confirmed != Some(term))
    }
}

fn standing(state: ServerState) -> Standing {
    match state {
        ServerState::Learner | ServerState::Shutdown => Standing::Learner,
        ServerState::Follower => Standing::Follower,
        ServerState::Candidate => Standing::Candidate,
        ServerState::Leader => Standing::Leader,
    }
}

/// Waits for a change, or for the time given. `false` when Raft has ended.
async fn changed_within(
    books: &mut watch::Receiver<Books>,
    clock: &mut watch::Receiver<Option<Instant>>,
    limit: Option<Duration>,
) -> bool {
    let elapsed = async {
        match limit {
            Some(limit) => sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        changed = books.changed() => changed.is_ok(),
        // Its sender lives as long as the driver.
        _ = clock.changed() => true,
        () = elapsed => true,
    }
}

/// The role of a node before the driver runs.
pub(crate) fn before_the_driver() -> watch::Sender<Role> {
    watch::Sender::new(Role::Unfounded)
}

/// Tells that consensus never came up, or went down without a driver.
pub(crate) fn announce_stop(role: &watch::Sender<Role>, reason: Arc<str>) {
    role.send_replace(Role::Stopped { reason });
}

#[cfg(test)]
mod tests;
