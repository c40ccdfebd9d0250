//! The life of the trust domain's authorities, for operators: `quorate.cluster.v1.Authorities`.
//!
//! ```text
//!   show, timeline        the state of this node
//!   prepare               one step, one answer
//!   activate, revoke      a gate: a stream that tells for whom it waits ──► done, or FailedPrecondition at the deadline
//!   taint                 done when nothing of it is handed out any more; a stream that tells how far that is
//!   replace               a wish in the log; a stream that tells how far whoever leads has come with it
//! ```
//!
//! The steps are the leader's ([`Authorities`]); this node asks it, and asks again when another one leads.

mod choose;
mod convert;
mod replace;
mod story;
mod work;

use std::time::Duration;

use quorate_actors::Authorities;
use quorate_proto_api::cluster::authorities_server::{Authorities as AuthoritiesApi, AuthoritiesServer};
use quorate_proto_api::cluster::{
    ActivateAuthorityRequest, AuthorityChange, PrepareAuthorityRequest, ReplaceAuthorityRequest,
    RevokeAuthorityRequest, ShowAuthoritiesRequest, ShowAuthoritiesResponse, ShowTimelineRequest, ShowTimelineResponse,
    TaintAuthorityRequest,
};
use quorate_raft_machine::AuthorityKind;
use quorate_raft_machine::authority::timeline;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use self::work::{Task, Told};
use super::authority_errors;
use super::reads::{Consistency, Reads, at_applied_index, look};
use super::writes::{Writes, at_log_index};
use crate::node::Node;

/// How long a step may take that waits for no gate: a key of 4,096 bits is made in seconds.
const STEP_LIMIT: Duration = Duration::from_secs(30);

/// How long a gate is waited for when the caller does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// The longest that a gate is waited for, whatever the caller says: a call is not the place to wait for a day.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// The service.
#[derive(Clone)]
pub(super) struct AuthoritiesService {
    node: Node,
    writes: Writes,
    reads: Reads,
}

/// Puts the service together.
pub(super) fn service(node: &Node, reads: &Reads) -> AuthoritiesServer<AuthoritiesService> {
    AuthoritiesServer::new(AuthoritiesService { node: node.clone(), writes: Writes::new(node), reads: reads.clone() })
}

impl AuthoritiesService {
    fn authorities(&self) -> Result<Authorities, Status> {
        let system = self.node.system().ok_or_else(|| Status::unavailable("the node is starting; try again"))?;
        Ok(system.authorities().clone())
    }

    /// What a call works on: a kind, as the cluster has agreed on it when the call came.
    async fn task<T>(&self, request: &Request<T>, kind: i32, wait: Duration) -> Result<Task, Status> {
        let kind = convert::kind(kind)?;
        let deadline = Instant::now() + wait;
        let authorities = self.authorities()?;
        let known = authorities.list(kind, deadline).await.map_err(|error| authority_errors::status(&error))?;
        Ok(Task {
            authorities,
            caller: self.writes.caller(request),
            state: self.reads.applied().clone(),
            stopping: self.node.stopping(),
            kind,
            known,
            deadline,
        })
    }
}

fn wait(millis: u64) -> Duration {
    match millis {
        0 => DEFAULT_WAIT,
        millis => Duration::from_millis(millis).min(LONGEST_WAIT),
    }
}

#[tonic::async_trait]
impl AuthoritiesApi for AuthoritiesService {
    async fn show(
        &self,
        request: Request<ShowAuthoritiesRequest>,
    ) -> Result<Response<ShowAuthoritiesResponse>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let (shown, applied) = look(state, |state| ShowAuthoritiesResponse {
            x509: Some(convert::set(state.authorities(AuthorityKind::X509))),
            jwt: Some(convert::set(state.authorities(AuthorityKind::Jwt))),
            bundle_sequence: state.bundle().sequence,
        });
        Ok(at_applied_index(shown, applied))
    }

    async fn timeline(&self, request: Request<ShowTimelineRequest>) -> Result<Response<ShowTimelineResponse>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let now = self.node.sources().now().seconds();
        let (steps, applied) = look(state, |state| timeline(state, now));
        let steps = steps.iter().map(convert::step).collect();
        Ok(at_applied_index(ShowTimelineResponse { steps, now: now.0 }, applied))
    }

    async fn prepare(&self, request: Request<PrepareAuthorityRequest>) -> Result<Response<AuthorityChange>, Status> {
        let task = self.task(&request, request.get_ref().kind, STEP_LIMIT).await?;
        let change = task.prepare().await?;
        let log_index = change.log_index;
        Ok(at_log_index(change, Some(log_index)))
    }

    type ActivateStream = Told;

    async fn activate(&self, request: Request<ActivateAuthorityRequest>) -> Result<Response<Told>, Status> {
        let ActivateAuthorityRequest { kind, id, force, timeout_millis, dry_run } = request.get_ref().clone();
        let task = self.task(&request, kind, wait(timeout_millis)).await?;
        work::activate(task, &id, force, dry_run).await.map(Response::new)
    }

    type TaintStream = Told;

    async fn taint(&self, request: Request<TaintAuthorityRequest>) -> Result<Response<Told>, Status> {
        let TaintAuthorityRequest { kind, id, dry_run } = request.get_ref().clone();
        let task = self.task(&request, kind, STEP_LIMIT).await?;
        work::taint(task, &id, dry_run).await.map(Response::new)
    }

    type RevokeStream = Told;

    async fn revoke(&self, request: Request<RevokeAuthorityRequest>) -> Result<Response<Told>, Status> {
        let RevokeAuthorityRequest { kind, id, force, timeout_millis, dry_run } = request.get_ref().clone();
        let task = self.task(&request, kind, wait(timeout_millis)).await?;
        work::revoke(task, &id, force, dry_run).await.map(Response::new)
    }

    type ReplaceStream = Told;

    async fn replace(&self, request: Request<ReplaceAuthorityRequest>) -> Result<Response<Told>, Status> {
        let ReplaceAuthorityRequest { kind, compromised, force, timeout_millis, dry_run } = *request.get_ref();
        let task = self.task(&request, kind, wait(timeout_millis)).await?;
        replace::replace(task, compromised, force, dry_run).await
    }
}
