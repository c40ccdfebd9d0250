//! A replacement: a wish in the log, and how far whoever leads has come with it.

use std::time::Duration;

use quorate_actors::AuthorityError;
use quorate_proto_api::cluster::AuthorityChange;
use quorate_proto_identity::AuthorityId;
use quorate_raft_machine::{AuthorityState, AuthorityView};
use tokio::time::{Instant, sleep};
use tonic::{Response, Status};

use super::choose::choose;
use super::convert;
use super::story::Story;
use super::work::{Gate, LOOK, LOOK_LIMIT, Task, Told};
use crate::service::authority_errors::{made, status};
use crate::service::writes::at_log_index;

/// How long the gate of a forced replacement is waited for before it is forced: a member that is well needs less, and
/// nobody is harmed who would have been ready in a moment.
const FORCE_AFTER: Duration = Duration::from_secs(5);

/// Puts another authority in the place of the active one. What was recorded goes on when nobody listens.
pub(super) async fn replace(
    task: Task,
    compromised: bool,
    force: bool,
    dry_run: bool,
) -> Result<Response<Told>, Status> {
    let id = choose(task.kind, &task.known, "", AuthorityState::Active)?.id.clone();
    let prepared = task.known.iter().find(|authority| authority.state == AuthorityState::Prepared);
    let gate = match prepared {
        Some(prepared) => task.gate(&prepared.id).await?,
        None => Gate { waits_for: Vec::new(), fails_for: Vec::new(), fails_for_peers: Vec::new() },
    };
    let mut will = vec![format!("{} will be replaced: another one signs in its place.", task.title(&id))];
    if compromised {
        will.push("Then it is tainted, what it signed is replaced at once, and it leaves the bundle.".to_owned());
    }
    let warnings = gate.warnings(force);
    let (mut story, stream) = Story::new();
    if dry_run {
        story.will(will, warnings).await;
        return Ok(Response::new(stream));
    }
    let recorded = task.authorities.replace(&task.caller, task.kind, Some(&id), compromised, task.deadline).await;
    let log_index = match recorded {
        Ok(change) | Err(AuthorityError::NotEverywhere { change, .. }) => change.log_index,
        Err(error) => return Err(status(&error)),
    };
    tokio::spawn(async move {
        story.will(will, warnings).await;
        let replacement = Replacement { task, id, compromised, force, log_index, since: (None, Instant::now()) };
        if let Some(end) = replacement.follow(&mut story).await {
            story.end(end).await;
        }
    });
    Ok(at_log_index(stream, Some(log_index)))
}

/// How far a replacement has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Preparing,
    Activating,
    Tainting,
    Revoking,
    Over,
}

impl Stage {
    /// The stage that these authorities are in, of a replacement of the one of this ID.
    fn of(known: &[AuthorityView], id: &AuthorityId, compromised: bool) -> Self {
        let is_prepared = known.iter().any(|authority| authority.state == AuthorityState::Prepared);
        match known.iter().find(|authority| authority.id == *id).map(|authority| authority.state) {
            Some(AuthorityState::Active | AuthorityState::Prepared) if is_prepared => Self::Activating,
            Some(AuthorityState::Active | AuthorityState::Prepared) => Self::Preparing,
            Some(AuthorityState::Old) if compromised => Self::Tainting,
            Some(AuthorityState::Tainted) if compromised => Self::Revoking,
            // What has ended meanwhile is removed, and out of the bundle just as well.
            Some(AuthorityState::Old | AuthorityState::Tainted | AuthorityState::Revoked) | None => Self::Over,
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Preparing => "making a new one",
            Self::Activating => "activating the new one",
            Self::Tainting => "tainting the old one",
            Self::Revoking => "replacing what the old one signed",
            Self::Over => "done",
        }
    }
}

/// A replacement that is recorded, as it goes on.
struct Replacement {
    task: Task,
    /// The one that is replaced.
    id: AuthorityId,
    compromised: bool,
    force: bool,
    log_index: u64,
    /// The stage that it is in, and since when.
    since: (Option<Stage>, Instant),
}

impl Replacement {
    /// Tells how far it is until it is over, the time is, or nobody listens.
    async fn follow(mut self, story: &mut Story) -> Option<Result<AuthorityChange, Status>> {
        let mut stopping = self.task.stopping.clone();
        loop {
            let known = self.task.state.read(|state| state.authorities(self.task.kind));
            let stage = Stage::of(&known, &self.id, self.compromised);
            if self.since.0 != Some(stage) {
                self.since = (Some(stage), Instant::now());
            }
            let progress = self.task.progress().await;
            if stage == Stage::Over {
                story.stand(stage.in_words(), progress, Vec::new()).await;
                return Some(Ok(self.over(&known)));
            }
            let waits_for = progress.waits_for.join("; ");
            story.stand(stage.in_words(), progress, Vec::new()).await;
            if story.is_unheard() {
                return None;
            }
            if Instant::now() >= self.task.deadline {
                return Some(Err(self.unfinished(stage, &waits_for)));
            }
            self.force_through(stage, &known).await;
            tokio::select! {
                biased;
                () = stopping.asked() => return Some(Err(self.unfinished(stage, "another node to be asked: this one stops"))),
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Takes the step that was waited for long enough. Refused, it is only one that somebody else has taken meanwhile.
    async fn force_through(&self, stage: Stage, known: &[AuthorityView]) {
        if !self.force || self.since.1.elapsed() < FORCE_AFTER {
            return;
        }
        let Task { authorities, caller, kind, deadline, .. } = &self.task;
        let deadline = (*deadline).max(Instant::now() + LOOK_LIMIT);
        let forced = match stage {
            Stage::Activating => {
                let prepared = known.iter().find(|authority| authority.state == AuthorityState::Prepared);
                let Some(prepared) = prepared else { return };
                authorities.activate(caller, *kind, &prepared.id, true, deadline, |_waits_for| {}).await
            }
            Stage::Revoking => authorities.revoke(caller, *kind, &self.id, true, deadline, |_waits_for| {}).await,
            Stage::Preparing | Stage::Tainting | Stage::Over => return,
        };
        if let Err(error) = forced {
            tracing::info!(error = &error as &dyn std::error::Error, "a step of a replacement could not be forced");
        }
    }

    fn over(&self, known: &[AuthorityView]) -> AuthorityChange {
        let active = known.iter().find(|authority| authority.state == AuthorityState::Active);
        let mut sentences = Vec::new();
        if let Some(active) = active {
            sentences.push(format!("{} signs now.", self.task.title(&active.id)));
        }
        sentences.push(if self.compromised {
            format!(
                "{} is out of the bundle, and no stream of a connected member holds anything of it.",
                self.task.title(&self.id)
            )
        } else {
            format!("{} is old: what it signed holds until it is renewed.", self.task.title(&self.id))
        });
        AuthorityChange {
            authority: active.map(convert::authority),
            sentences,
            warnings: Vec::new(),
            log_index: self.log_index,
        }
    }

    fn unfinished(&self, stage: Stage, waits_for: &str) -> Status {
        let mut what = format!("the replacement goes on by itself, whoever leads; it is {}", stage.in_words());
        if !waits_for.is_empty() {
            what.push_str(", and waits for ");
            what.push_str(waits_for);
        }
        what.push_str("; `quorate authority show` tells how far it is");
        made(self.log_index, &what)
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{UnixSeconds, Validity};
    use quorate_raft_machine::{AuthorityKind, AuthorityTimes};

    use super::*;

    fn known(authorities: &[(&str, AuthorityState)]) -> Vec<AuthorityView> {
        let view = |(id, state): &(&str, AuthorityState)| AuthorityView {
            kind: AuthorityKind::X509,
            id: AuthorityId::new(id).unwrap(),
            state: *state,
            validity: Validity::new(UnixSeconds(0), UnixSeconds(1)).unwrap(),
            times: AuthorityTimes::default(),
            is_openable: true,
        };
        authorities.iter().map(view).collect()
    }

    #[test]
    fn a_replacement_is_told_by_what_became_of_the_one_that_is_replaced() {
        use AuthorityState::{Active, Old, Prepared, Revoked, Tainted};
        let id = AuthorityId::new("aa").unwrap();
        let stage =
            |authorities: &[(&str, AuthorityState)], compromised| Stage::of(&known(authorities), &id, compromised);
        assert_eq!(stage(&[("aa", Active)], true), Stage::Preparing);
        assert_eq!(stage(&[("aa", Active), ("bb", Prepared)], true), Stage::Activating);
        assert_eq!(stage(&[("aa", Old), ("bb", Active)], true), Stage::Tainting);
        assert_eq!(stage(&[("aa", Old), ("bb", Active)], false), Stage::Over);
        assert_eq!(stage(&[("aa", Tainted), ("bb", Active), ("cc", Prepared)], true), Stage::Revoking);
        assert_eq!(stage(&[("aa", Revoked), ("bb", Active)], true), Stage::Over);
        assert_eq!(stage(&[("bb", Active)], true), Stage::Over);
    }
}
