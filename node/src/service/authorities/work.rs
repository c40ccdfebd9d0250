//! Steps that take a while: what they will do, whom they wait for, what came of them.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use quorate_actors::{Authorities, AuthorityChange as Change, RotationProgress};
use quorate_proto_api::cluster::{AuthorityChange, AuthorityProgress};
use quorate_proto_identity::AuthorityId;
use quorate_raft_consensus::StateReader;
use quorate_raft_machine::{AuthorityKind, AuthorityState, AuthorityView, Caller};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::choose::choose;
use super::convert;
use super::story::Story;
use crate::service::authority_errors::status;
use crate::shutdown::Stopping;

/// How often it is asked how far members and streams are.
pub(super) const LOOK: Duration = Duration::from_millis(200);

/// How long the leader may take to say so; what it does not say is left out of one message.
pub(super) const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// A stream of progress.
pub(super) type Told = ReceiverStream<Result<AuthorityProgress, Status>>;

/// What a call works on.
pub(super) struct Task {
    pub(super) authorities: Authorities,
    pub(super) caller: Caller,
    pub(super) state: StateReader,
    pub(super) stopping: Stopping,
    pub(super) kind: AuthorityKind,
    /// The authorities of the kind when the call came.
    pub(super) known: Vec<AuthorityView>,
    pub(super) deadline: Instant,
}

impl Task {
    /// Makes an authority.
    pub(super) async fn prepare(&self) -> Result<AuthorityChange, Status> {
        let change = self.authorities.prepare(&self.caller, self.kind, self.deadline).await;
        let change = change.map_err(|error| status(&error))?;
        let sentence =
            format!("{} is prepared: it is in the bundle, and signs when it is activated.", self.title(&change.id));
        Ok(self.done(&change, sentence, Vec::new()))
    }

    /// "The root 3f1a" or "The token key 9c".
    pub(super) fn title(&self, id: &AuthorityId) -> String {
        match self.kind {
            AuthorityKind::X509 => format!("The root {id}"),
            AuthorityKind::Jwt => format!("The token key {id}"),
        }
    }

    fn done(&self, change: &Change, sentence: String, warnings: Vec<String>) -> AuthorityChange {
        let view = self.state.read(|state| state.authority(self.kind, &change.id));
        AuthorityChange {
            authority: view.as_ref().map(convert::authority),
            sentences: vec![sentence],
            warnings,
            log_index: change.log_index,
        }
    }

    /// What the gate in front of an authority's next step would wait for now, and whom a forced step would harm.
    pub(super) async fn gate(&self, id: &AuthorityId) -> Result<Gate, Status> {
        let now = self.authorities.gate(self.kind, id, self.deadline).await.map_err(|error| status(&error))?;
        Ok(Gate { waits_for: now.passed_by, fails_for: now.fails_for, fails_for_peers: now.fails_for_peers })
    }

    /// Does the work, and tells meanwhile how far members and streams are. Nothing when the caller has gone, or this node
    /// stops: a step that waits at a gate then waits no longer.
    async fn telling<T>(
        &self,
        story: &mut Story,
        step: &str,
        waits_for: &watch::Receiver<Vec<String>>,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        let mut stopping = self.stopping.clone();
        loop {
            let look = async {
                sleep(LOOK).await;
                self.progress().await
            };
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = stopping.asked() => {
                    story.end(Err(Status::unavailable("this node is stopping; ask another one how far it is"))).await;
                    return None;
                }
                progress = look => {
                    let waits_for = waits_for.borrow().clone();
                    story.stand(step, progress, waits_for).await;
                }
            }
            if story.is_unheard() {
                return None;
            }
        }
    }

    pub(super) async fn progress(&self) -> RotationProgress {
        self.authorities.progress(self.kind, Instant::now() + LOOK_LIMIT).await.unwrap_or_default()
    }
}

/// What a gate waits for.
pub(super) struct Gate {
    pub(super) waits_for: Vec<String>,
    pub(super) fails_for: Vec<String>,
    pub(super) fails_for_peers: Vec<String>,
}

impl Gate {
    /// What somebody has to know before the step is taken.
    pub(super) fn warnings(&self, force: bool) -> Vec<String> {
        let waits = self.waits_for.iter();
        if !force {
            return waits.map(|who| format!("It waits: {who}.")).collect();
        }
        let mut warnings: Vec<String> = waits.map(|who| format!("Forced, it does not wait: {who}.")).collect();
        if !self.fails_for.is_empty() {
            warnings.push(format!("The workloads of {} will fail.", self.fails_for.join(", ")));
        }
        warnings.extend(refused_elsewhere(&self.fails_for_peers));
        warnings
    }
}

/// What a forced step has done to whom.
fn harm(change: &Change) -> Vec<String> {
    let mut warnings: Vec<String> = change.passed_by.iter().map(|who| format!("It did not wait: {who}.")).collect();
    if !change.fails_for.is_empty() {
        warnings.push(format!("The workloads of {} fail until they catch up.", change.fails_for.join(", ")));
    }
    warnings.extend(refused_elsewhere(&change.fails_for_peers));
    warnings
}

/// Whose workloads refuse ours when readers of the bundle elsewhere are not waited for.
fn refused_elsewhere(peers: &[String]) -> Option<String> {
    (!peers.is_empty()).then(|| {
        format!(
            "Workloads of {} refuse what it signs until they have fetched our bundle, and so do those of every trust \
             domain that reads it without our knowing.",
            peers.join(", ")
        )
    })
}

/// Lets a prepared authority sign.
pub(super) async fn activate(task: Task, id: &str, force: bool, dry_run: bool) -> Result<Told, Status> {
    let id = choose(task.kind, &task.known, id, AuthorityState::Prepared)?.id.clone();
    let gate = task.gate(&id).await?;
    let (mut story, stream) = Story::new();
    tokio::spawn(async move {
        let will = format!("{} will sign; the one that signs now becomes old.", task.title(&id));
        story.will(vec![will], gate.warnings(force)).await;
        if dry_run {
            return;
        }
        let (tell, waits_for) = watch::channel(gate.waits_for);
        let tell = |waits_for: &[String]| drop(tell.send_replace(waits_for.to_vec()));
        let step = task.authorities.activate(&task.caller, task.kind, &id, force, task.deadline, tell);
        let Some(result) = task.telling(&mut story, "waiting at the gate", &waits_for, step).await else { return };
        let end = result.map(|change| {
            let done = format!("{} signs now, on every connected member.", task.title(&id));
            task.done(&change, done, harm(&change))
        });
        story.end(end.map_err(|error| status(&error))).await;
    });
    Ok(stream)
}

/// Replaces what an old authority signed.
pub(super) async fn taint(task: Task, id: &str, dry_run: bool) -> Result<Told, Status> {
    let id = choose(task.kind, &task.known, id, AuthorityState::Old)?.id.clone();
    let (mut story, stream) = Story::new();
    tokio::spawn(async move {
        let will = match task.kind {
            AuthorityKind::X509 => "issuing certificates and SVIDs under it are replaced at once",
            AuthorityKind::Jwt => "tokens of it are handed out no more; those that are out hold until it is revoked",
        };
        story.will(vec![format!("{} will be tainted: {will}.", task.title(&id))], Vec::new()).await;
        if dry_run {
            return;
        }
        let (_nobody, waits_for) = watch::channel(Vec::new());
        let step = task.authorities.taint(&task.caller, task.kind, &id, task.deadline);
        let Some(result) = task.telling(&mut story, "replacing what it signed", &waits_for, step).await else { return };
        let end = result.map(|change| {
            let done = "is tainted; no connected node hands out anything of it any more.";
            task.done(&change, format!("{} {done}", task.title(&id)), Vec::new())
        });
        story.end(end.map_err(|error| status(&error))).await;
    });
    Ok(stream)
}

/// Takes a tainted authority out of the bundle.
pub(super) async fn revoke(task: Task, id: &str, force: bool, dry_run: bool) -> Result<Told, Status> {
    let id = choose(task.kind, &task.known, id, AuthorityState::Tainted)?.id.clone();
    let gate = task.gate(&id).await?;
    let (mut story, stream) = Story::new();
    tokio::spawn(async move {
        let will = "will leave the bundle: nothing that it signed is accepted any more.";
        story.will(vec![format!("{} {will}", task.title(&id))], gate.warnings(force)).await;
        if dry_run {
            return;
        }
        let (tell, waits_for) = watch::channel(gate.waits_for);
        let tell = |waits_for: &[String]| drop(tell.send_replace(waits_for.to_vec()));
        let step = task.authorities.revoke(&task.caller, task.kind, &id, force, task.deadline, tell);
        let what = "waiting until nothing depends on it";
        let Some(result) = task.telling(&mut story, what, &waits_for, step).await else { return };
        let end = result.map(|change| {
            let done = format!("{} is revoked: it is out of the bundle of every connected member.", task.title(&id));
            task.done(&change, done, harm(&change))
        });
        story.end(end.map_err(|error| status(&error))).await;
    });
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_step_names_whose_workloads_will_fail() {
        let gate = Gate {
            waits_for: vec!["node-3 is cut off".into()],
            fails_for: vec!["node-3".into()],
            fails_for_peers: vec![],
        };
        assert_eq!(gate.warnings(false), ["It waits: node-3 is cut off."]);
        assert_eq!(gate.warnings(true).last().unwrap(), "The workloads of node-3 will fail.");
        let gate = Gate { fails_for_peers: vec!["a.example".into(), "b.example".into()], ..gate };
        let said = gate.warnings(true);
        assert!(said.last().unwrap().starts_with("Workloads of a.example, b.example refuse what it signs"), "{said:?}");
    }
}
