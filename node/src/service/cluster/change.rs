//! What the calls that change something have in common.

use std::time::Duration;

use quorate_actors::Membership;
use quorate_proto_api::cluster::{ChangeResponse, Progress, Sentences, progress};
use quorate_proto_identity::{MemberNumber, NodeName, UnixSeconds};
use quorate_raft_consensus::{Handle, RaftMembers};
use quorate_raft_machine::{Done, Member, Operation, State};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::ClusterService;
use crate::service::reads::{Consistency, at_applied_index};
use crate::service::writes::{at_log_index, refused};

/// Messages of a stream of steps that wait for a slow client.
const STEPS_BUFFER: usize = 16;

/// How often it is looked how far work is whose progress is not an entry in this node's log.
const LOOK: Duration = Duration::from_millis(50);

/// What somebody asked to be told about a member: the member, and where it stands in Raft.
pub(super) struct Subject {
    pub(super) member: Member,
    pub(super) raft: RaftMembers,
}

impl Subject {
    /// "node-2 (member 2)".
    pub(super) fn title(&self) -> String {
        title(&self.member)
    }

    pub(super) fn number(&self) -> MemberNumber {
        self.member.number
    }
}

/// "node-2 (member 2)".
pub(super) fn title(member: &Member) -> String {
    format!("{} (member {})", member.record.name, member.number)
}

/// A number of things in words: "1 voter", "3 voters".
pub(super) fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// An instant for people.
pub(super) fn instant(at: UnixSeconds) -> String {
    at.to_string()
}

impl ClusterService {
    pub(super) fn consensus(&self) -> &Handle {
        self.node.consensus()
    }

    /// Where changes of the membership are looked after, once there is an authority and this node serves it.
    pub(super) fn membership(&self) -> Result<Membership, Status> {
        let system = self.node.system().ok_or_else(|| Status::unavailable("the node is starting; try again"))?;
        Ok(system.membership().clone())
    }

    /// Waits until this node may tell of the cluster, for a change to begin with.
    pub(super) async fn ready_to_change<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.reads.current(Consistency::of(request)?).await.map(drop)
    }

    /// The member of this name that has not gone.
    pub(super) fn subject(&self, name: &str) -> Result<Subject, Status> {
        let name = node_name(name)?;
        let raft = self.consensus().raft_members();
        self.reads.applied().read(|state| match state.member_by_name(&name) {
            Some(member) => Ok(Subject { member: member.clone(), raft }),
            None => Err(no_member(state, &name)),
        })
    }

    /// Has one operation carried out.
    pub(super) async fn change<T>(&self, request: &Request<T>, operation: Operation) -> Result<(Done, u64), Status> {
        let caller = self.writes.caller(request);
        let written = self.writes.write(caller, vec![operation]).await?;
        match written.results.into_iter().next() {
            Some(Ok(done)) => Ok((done, written.log_index)),
            Some(Err(refusal)) => Err(refused(&refusal)),
            None => Err(Status::internal(format!("the command at log index {} has no outcome", written.log_index))),
        }
    }
}

/// A name that a node can have.
pub(super) fn node_name(name: &str) -> Result<NodeName, Status> {
    NodeName::new(name).map_err(|error| Status::invalid_argument(format!("name: {name:?}: {error}")))
}

fn no_member(state: &State, name: &NodeName) -> Status {
    let names: Vec<&str> = state
        .members()
        .filter(|member| !member.record.status.has_gone())
        .map(|member| member.record.name.as_str())
        .collect();
    Status::not_found(format!("there is no member named {name}; the members: {}", names.join(", ")))
}

/// The answer of a change, with its log index as metadata when there is one.
pub(super) fn changed(
    sentences: Vec<String>,
    warnings: Vec<String>,
    log_index: Option<u64>,
) -> Response<ChangeResponse> {
    let message = ChangeResponse { sentences, warnings, log_index: log_index.unwrap_or_default() };
    at_log_index(message, log_index)
}

/// The other end of a stream of steps. Whoever tells steps goes on when nobody listens: what was begun is the leader's.
pub(super) struct Steps {
    sender: mpsc::Sender<Result<Progress, Status>>,
    last: String,
}

impl Steps {
    /// A stream, and where its messages are put.
    pub(super) fn new() -> (Self, ReceiverStream<Result<Progress, Status>>) {
        let (sender, receiver) = mpsc::channel(STEPS_BUFFER);
        (Self { sender, last: String::new() }, ReceiverStream::new(receiver))
    }

    /// Tells what will be done.
    pub(super) async fn will(&self, sentences: Vec<String>, warnings: Vec<String>) {
        self.tell(progress::Told::Will(Sentences { sentences, warnings })).await;
    }

    /// Tells the step that is waited for now, once.
    pub(super) async fn step(&mut self, step: String) {
        if step != self.last {
            self.tell(progress::Told::Step(step.clone())).await;
            self.last = step;
        }
    }

    /// Tells the end.
    pub(super) async fn done(&self, sentences: Vec<String>, warnings: Vec<String>, log_index: u64) {
        self.tell(progress::Told::Done(ChangeResponse { sentences, warnings, log_index })).await;
    }

    /// Tells why there will be no good end.
    pub(super) async fn failed(&self, status: Status) {
        // Nobody listens any more, which is nobody's fault.
        drop(self.sender.send(Err(status)).await);
    }

    /// Whether the caller has gone.
    pub(super) fn is_unheard(&self) -> bool {
        self.sender.is_closed()
    }

    async fn tell(&self, told: progress::Told) {
        drop(self.sender.send(Ok(Progress { told: Some(told) })).await);
    }
}

/// How far work is.
pub(super) enum Stand {
    /// It goes on; this is waited for.
    Waiting(String),
    /// It is done; what has come about, one sentence each.
    Done(Vec<String>),
    /// It will not come to its end: somebody decided otherwise meanwhile.
    Over(Status),
}

impl Stand {
    /// How far the way to an aim has come.
    pub(super) fn of(progress: quorate_actors::Progress) -> Self {
        match progress.waits_for {
            Some(what) => Self::Waiting(format!("waiting for {what}")),
            None => Self::Done(progress.done),
        }
    }
}

/// Tells steps until the work is done, and gives what has come about; nothing when somebody was told why not, or nobody
/// listens. Looks after each entry that is applied here, and now and then.
pub(super) async fn follow(
    service: &ClusterService,
    steps: &mut Steps,
    stand: impl Fn(&ClusterService) -> Stand,
) -> Option<Vec<String>> {
    let mut applied = service.reads.applied().watch_applied_index();
    let mut stopping = service.node.stopping();
    loop {
        applied.mark_unchanged();
        match stand(service) {
            Stand::Done(done) => return Some(done),
            Stand::Over(status) => {
                steps.failed(status).await;
                return None;
            }
            Stand::Waiting(step) => steps.step(step).await,
        }
        if steps.is_unheard() {
            return None;
        }
        tokio::select! {
            biased;
            () = stopping.asked() => {
                let text = "this node is stopping; the work goes on, and `quorate cluster members` at another one shows how \
                            far it is";
                steps.failed(Status::unavailable(text)).await;
                return None;
            }
            _ = applied.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// A stream whose first message tells what will be done, and that ends there.
pub(super) async fn dry_run(
    service: &ClusterService,
    sentences: Vec<String>,
    warnings: Vec<String>,
) -> Response<ReceiverStream<Result<Progress, Status>>> {
    let (steps, stream) = Steps::new();
    steps.will(sentences, warnings).await;
    at_applied_index(stream, service.reads.applied().applied_index())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_counted_in_words() {
        assert_eq!(counted(1, "voter"), "1 voter");
        assert_eq!(counted(0, "voter"), "0 voters");
    }

    #[tokio::test]
    async fn a_step_that_goes_on_is_told_once() {
        use tokio_stream::StreamExt as _;
        let (mut steps, stream) = Steps::new();
        for step in ["a", "a", "b"] {
            steps.step(step.to_owned()).await;
        }
        drop(steps);
        assert_eq!(stream.collect::<Vec<_>>().await.len(), 2);
    }
}
