//! The election driver: looks at Raft, does what [`decide`] says, and announces this node's role.
//!
//! ```text
//!   Raft's books ──► View ──► decide ──► elect
//!        └──► won an election ──► ensure_linearizable (ELE-07) ──► Role::Leader, announced
//!        └──► gone ──► Role::Stopped, with the first cause
//! ```

use std::{sync::Arc, time::Duration};

use openraft::{ServerState, metrics::RaftServerMetrics};
use quorate_proto_identity::MemberNumber;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    elections::{Action, Standing, View, decide},
    limits::{CONFIRM_PAUSE, CONFIRM_TIME_LIMIT},
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
    pub(crate) settings: &'static Settings,
    pub(crate) role: watch::Sender<Role>,
    pub(crate) sources: Sources,
    pub(crate) stop: StopCause,
}

impl Driver {
    /// Works until Raft has ended.
    pub(crate) async fn run(self) {
        let mut books = self.raft.server_metrics();
        let mut last_attempt = None;
        let mut confirmed = None;
        loop {
            let now = books.borrow_and_update().clone();
            let wait = match self.decide(&now, last_attempt) {
                Action::Elect => {
                    last_attempt = Some(Instant::now());
                    if self.raft.trigger().elect().await.is_err() {
                        break;
                    }
                    Some(self.settings.timer_min)
                }
                Action::Wait(wait) => wait,
            };
            let term = now.vote.leader_id().term;
            let leads = now.state == ServerState::Leader;
            if leads && confirmed != Some(term) {
                // Said first, so that an office that was lost and won again is never announced unconfirmed.
                self.announce(Role::Candidate);
                match self.confirm(&mut books).await {
                    Confirmation::Confirmed => confirmed = Some(term),
                    Confirmation::Failed => sleep(CONFIRM_PAUSE).await,
                    Confirmation::Overtaken => {}
                    Confirmation::Gone => break,
                }
                if confirmed != Some(term) {
                    continue;
                }
            }
            self.announce(self.role_in(&now));
            if !changed_within(&mut books, wait).await {
                break;
            }
        }
        self.announce_end();
    }

    fn decide(&self, books: &Books, last_attempt: Option<Instant>) -> Action {
        decide(&View {
            now: Instant::now(),
            own: self.member,
            standing: standing(books.state),
            configurations: books.membership_config.membership().get_joint_config(),
            last_attempt,
            settings: self.settings,
        })
    }

    /// One read-index round, with a time limit, unless something changes meanwhile.
    async fn confirm(&self, books: &mut watch::Receiver<Books>) -> Confirmation {
        tokio::select! {
            biased;
            changed = books.changed() => match changed {
                Ok(()) => Confirmation::Overtaken,
                Err(_closed) => Confirmation::Gone,
            },
            round = timeout(CONFIRM_TIME_LIMIT, self.raft.ensure_linearizable()) => match round {
                Ok(Ok(_)) => Confirmation::Confirmed,
                Ok(Err(_)) | Err(_) => Confirmation::Failed,
            },
        }
    }

    fn role_in(&self, books: &Books) -> Role {
        let leader = books.current_leader.filter(|leader| *leader != self.member).and_then(MemberNumber::new);
        match standing(books.state) {
            // A driver runs for members alone: where Raft has not read the membership yet, it is about to.
            Standing::Learner => Role::Learner { leader },
            Standing::Follower => Role::Follower { leader },
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

enum Confirmation {
    Confirmed,
    Failed,
    Overtaken,
    Gone,
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
async fn changed_within(books: &mut watch::Receiver<Books>, wait: Option<Duration>) -> bool {
    match wait {
        None => books.changed().await.is_ok(),
        Some(wait) => match timeout(wait, books.changed()).await {
            Ok(changed) => changed.is_ok(),
            Err(_elapsed) => true,
        },
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
