//! Workload attestation: which process is this, and what may it be called?
//!
//! The attestor actor is started and restarted by the supervisor. It keeps no answers: a
//! connection keeps its own, and looks again before each use, so a restart costs whoever waits one `Unavailable` and
//! nobody else anything. Looking at a process blocks (files, the system's directory of users), so each request runs as
//! blocking work, a few at a time, and holds its place in the mailbox until it is answered.

mod executable;
mod names;
mod process;
mod unix;

use std::{sync::Arc, time::Duration};

use quorate_raft_consensus::sources::Sources;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
};

pub use executable::{EXECUTABLE_BYTES_LIMIT, ExecutableId};
pub use process::{PeerCredentials, PeerProcess, ProcessError};
pub use unix::Attested;
pub(crate) use unix::{SecondLook, UnixAttestor, look_again};

use crate::mailbox::{Address, Envelope, MailboxError};

/// How many attestations may wait or run: each is a connection that has not been answered yet.
pub(crate) const ATTESTATIONS_LIMIT: usize = 1024;

/// How many run at once. More would only make the disk seek; hashing is remembered, so most take microseconds.
const ATTESTATIONS_AT_ONCE: usize = 4;

/// How long a caller waits: hashing the largest program allowed from a slow disk fits into it.
const ATTESTATION_TIME_LIMIT: Duration = Duration::from_secs(20);

/// What the attestor is asked.
pub(crate) enum AttestorMessage {
    /// Look at a process, knowing what its connection was attested as before.
    Attest {
        process: PeerProcess,
        before: Option<Arc<Attested>>,
        reply: oneshot::Sender<Result<Attested, ProcessError>>,
    },
}

/// The actor: runs attestations, a few at a time.
pub(crate) struct AttestorActor;

/// What it starts from.
#[derive(Clone)]
pub(crate) struct AttestorArguments {
    pub(crate) attestor: Arc<UnixAttestor>,
    pub(crate) sources: Sources,
}

/// What it keeps.
pub(crate) struct AttestorState {
    arguments: AttestorArguments,
    turns: Arc<Semaphore>,
    /// Running attestations; they die with the actor, and whoever waits learns of it.
    running: JoinSet<()>,
}

impl Actor for AttestorActor {
    type Msg = Envelope<AttestorMessage>;
    type State = AttestorState;
    type Arguments = AttestorArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let turns = Arc::new(Semaphore::new(ATTESTATIONS_AT_ONCE));
        Ok(AttestorState { arguments, turns, running: JoinSet::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        while state.running.try_join_next().is_some() {}
        let (message, permit) = envelope.open();
        match message {
            AttestorMessage::Attest { process, before, reply } => {
                let (arguments, turns) = (state.arguments.clone(), Arc::clone(&state.turns));
                state.running.spawn(async move {
                    let _permit = permit;
                    // The semaphore is never closed; were it, the caller would learn that nobody answers.
                    let Ok(_turn) = turns.acquire_owned().await else { return };
                    let attestor = arguments.attestor;
                    let work = move || attestor.attest(&process, before.as_deref());
                    if let Ok(answer) = arguments.sources.run_blocking(work).await {
                        // A caller that went away needs no answer.
                        drop(reply.send(answer));
                    }
                });
            }
        }
        Ok(())
    }
}

/// Where attestation is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Attestor {
    address: Address<AttestorMessage>,
}

impl Attestor {
    pub(crate) fn new(address: Address<AttestorMessage>) -> Self {
        Self { address }
    }

    /// Attests a process; `before` as in [`UnixAttestor::attest`].
    pub(crate) async fn attest(
        &self,
        process: PeerProcess,
        before: Option<Arc<Attested>>,
    ) -> Result<Attested, AttestationError> {
        let asked =
            self.address.ask(ATTESTATION_TIME_LIMIT, |reply| AttestorMessage::Attest { process, before, reply });
        Ok(asked.await??)
    }
}

/// Why a process was not attested. Not the caller's fault, as far as anyone knows: it is told `Unavailable`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttestationError {
    /// The process is gone or cannot be looked at.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The attestor is overloaded or not there.
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
}
