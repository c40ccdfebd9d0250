//! The supervisor: starts its children in order, starts one again when it ends, gives up when that does not help.
//!
//! Owns the children of one node; supervised by nobody (its end is the end of the [`System`](crate::System), which the
//! process watches). ractor's defaults are not ours: there a supervisor stops when any child ends; here a child's end
//! is answered by [`RestartPolicy`], and only a child that keeps dying takes the rest with it. Children do no clean-up
//! in `post_stop`, because it is skipped after a kill or a panic: what must happen at their end happens when their state
//! is dropped.

mod policy;

use std::{future::Future, pin::Pin, time::Duration};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::{sync::oneshot, sync::watch, task::JoinSet, time::Instant};

pub(crate) use policy::RESTART_POLICY;
use policy::{Decision, History, RestartPolicy};

use crate::metrics;

/// How long one child may take to end in good order. Children hold nothing that needs longer; one that does is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A start function's future.
pub(crate) type Starting = Pin<Box<dyn Future<Output = Result<ActorCell, SpawnErr>> + Send>>;

/// A child: what it is called, and how it is started under this supervisor, the first time and each time again.
pub(crate) struct ChildSpec {
    pub(crate) name: &'static str,
    pub(crate) policy: RestartPolicy,
    pub(crate) start: Box<dyn Fn(ActorCell) -> Starting + Send + Sync>,
}

impl ChildSpec {
    /// A child under the common policy.
    pub(crate) fn new(name: &'static str, start: impl Fn(ActorCell) -> Starting + Send + Sync + 'static) -> Self {
        Self { name, policy: RESTART_POLICY, start: Box::new(start) }
    }
}

/// What became of the children, for whoever holds the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemStatus {
    /// All are running, or being started again.
    Running,
    /// Stopped on request.
    Stopped,
    /// One child ended too often; everything was stopped. The process should end with an error, so that whoever runs it
    /// starts it afresh.
    Failed {
        /// Which child.
        actor: &'static str,
    },
}

/// The supervisor actor.
pub(crate) struct Supervisor;

/// What the supervisor is told.
pub(crate) enum SupervisorMessage {
    /// The wait before a restart is over.
    Restart(usize),
    /// Stop all children, last started first, then answer and end.
    Stop(oneshot::Sender<()>),
    /// Which actor this child is at present: for tests that kill it.
    #[cfg(test)]
    Child(&'static str, oneshot::Sender<Option<ActorCell>>),
}

/// What the supervisor starts from.
pub(crate) struct SupervisorArguments {
    pub(crate) children: Vec<ChildSpec>,
    pub(crate) status: watch::Sender<SystemStatus>,
}

/// What the supervisor keeps.
pub(crate) struct SupervisorState {
    children: Vec<Child>,
    status: watch::Sender<SystemStatus>,
    /// Waits before restarts; they die with the supervisor.
    waits: JoinSet<()>,
    stopping: bool,
}

struct Child {
    spec: ChildSpec,
    cell: Option<ActorCell>,
    history: History,
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = SupervisorArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut children = Vec::with_capacity(arguments.children.len());
        for spec in arguments.children {
            // A child that cannot start at all makes the whole start fail: nothing has been served yet, and the cause
            // reaches whoever started us.
            let cell = (spec.start)(myself.get_cell()).await?;
            children.push(Child { spec, cell: Some(cell), history: History::default() });
        }
        Ok(SupervisorState { children, status: arguments.status, waits: JoinSet::new(), stopping: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Restart(index) => restart(&myself, state, index).await,
            SupervisorMessage::Stop(reply) => {
                stop_children(state).await;
                state.status.send_replace(SystemStatus::Stopped);
                let _ = reply.send(());
                myself.stop(None);
            }
            #[cfg(test)]
            SupervisorMessage::Child(name, reply) => {
                let child = state.children.iter().find(|child| child.spec.name == name);
                drop(reply.send(child.and_then(|child| child.cell.clone())));
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(cell, _state, reason) => {
                ended(&myself, state, &cell, reason.as_deref().unwrap_or("stopped")).await;
            }
            SupervisionEvent::ActorFailed(cell, error) => ended(&myself, state, &cell, &error.to_string()).await,
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

/// A child has ended.
async fn ended(myself: &ActorRef<SupervisorMessage>, state: &mut SupervisorState, cell: &ActorCell, reason: &str) {
    if state.stopping {
        return;
    }
    let id = cell.get_id();
    let found = state
        .children
        .iter_mut()
        .enumerate()
        .find(|(_, child)| child.cell.as_ref().is_some_and(|current| current.get_id() == id));
    let Some((index, child)) = found else { return };
    child.cell = None;
    tracing::error!(actor = child.spec.name, reason, "an actor ended and is started again");
    decide(myself, state, index).await;
}

async fn decide(myself: &ActorRef<SupervisorMessage>, state: &mut SupervisorState, index: usize) {
    let Some(child) = state.children.get_mut(index) else { return };
    let name = child.spec.name;
    match child.spec.policy.decide(&mut child.history, Instant::now()) {
        Decision::RestartAfter(wait) => {
            metrics::actor_restarted(name);
            let myself = myself.clone();
            state.waits.spawn(async move {
                tokio::time::sleep(wait).await;
                // Fails only when the supervisor is ending, and then nothing is restarted any more.
                drop(myself.send_message(SupervisorMessage::Restart(index)));
            });
        }
        Decision::Escalate => {
            tracing::error!(actor = name, "an actor ends again and again, so all are stopped");
            stop_children(state).await;
            state.status.send_replace(SystemStatus::Failed { actor: name });
            myself.stop(Some(format!("{name} ends again and again")));
        }
    }
}

async fn restart(myself: &ActorRef<SupervisorMessage>, state: &mut SupervisorState, index: usize) {
    // Finished waits are let go here, so that the set holds only those that are running.
    while state.waits.try_join_next().is_some() {}
    if state.stopping {
        return;
    }
    let Some(child) = state.children.get_mut(index) else { return };
    match (child.spec.start)(myself.get_cell()).await {
        Ok(cell) => child.cell = Some(cell),
        Err(error) => {
            tracing::error!(actor = child.spec.name, error = %error, "an actor could not be started again");
            decide(myself, state, index).await;
        }
    }
}

/// Stops the children one by one, the last started first: later ones use earlier ones.
async fn stop_children(state: &mut SupervisorState) {
    state.stopping = true;
    state.waits.abort_all();
    for child in state.children.iter_mut().rev() {
        let Some(cell) = child.cell.take() else { continue };
        if cell.stop_and_wait(None, Some(STOP_LIMIT)).await.is_err() {
            tracing::warn!(actor = child.spec.name, "an actor did not stop in time and is killed");
            cell.kill();
        }
    }
}

#[cfg(test)]
mod tests;
