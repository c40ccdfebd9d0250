//! SPIRE's LocalAuthority service (spire-api.md section 11), over authorities that the whole trust domain shares: any node
//! answers, and what is done holds everywhere when it is answered.
//!
//! ```text
//!   call ──► rules, over a state that is as new as the call ──► Authorities, which asks the leader ──► answer
//!               what SPIRE refuses, by SPIRE's codes              the gate: FailedPrecondition when it stays shut
//! ```
//!
//! `Get…State` is a local read, as all reads are. It shows the prepared one and the newest old one beside each other, where
//! SPIRE has one slot for both: the fields are there, and an old one is not hidden by the preparation of another.

mod rules;

use std::time::Duration;

use quorate_actors::{Authorities, AuthorityChange, AuthorityError};
use quorate_proto_api::spire::localauthority as api;
use quorate_proto_api::spire::localauthority::local_authority_server::{
    LocalAuthority as LocalAuthorityApi, LocalAuthorityServer,
};
use quorate_proto_identity::{AuthorityId, UnixSeconds};
use quorate_raft_machine::{AuthorityKind, AuthorityState, AuthorityView};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use self::rules::Slots;
use super::authority_errors;
use super::reads::{Consistency, Reads, at_applied_index, look};
use super::writes::{Writes, at_log_index};
use crate::node::Node;
use crate::telemetry::SECURITY;

/// How long a call waits for a gate, a key or a leader. SPIRE waits for nobody; its clients give up after some ten seconds,
/// if they give up at all. An operator who wants to wait longer has `quorate authority`.
const STEP_LIMIT: Duration = Duration::from_secs(8);

/// Why the calls about WIT keys are not answered; so answers SPIRE.
const NO_WIT: &str = "WIT-SVIDs are not supported";

/// Why the calls about upstream authorities are refused; so refuses SPIRE without one.
const NO_UPSTREAM: &str = "upstream authority is not configured";

/// The service.
#[derive(Clone)]
pub(super) struct LocalAuthorityService {
    node: Node,
    writes: Writes,
    reads: Reads,
}

/// Puts the service together.
pub(super) fn service(node: &Node, reads: &Reads) -> LocalAuthorityServer<LocalAuthorityService> {
    LocalAuthorityServer::new(LocalAuthorityService {
        node: node.clone(),
        writes: Writes::new(node),
        reads: reads.clone(),
    })
}

/// The authorities of a kind, as they are answered.
struct Shown {
    active: Option<api::AuthorityState>,
    prepared: Option<api::AuthorityState>,
    old: Option<api::AuthorityState>,
}

/// An authority that was changed, and where in the log that stands.
struct Changed {
    authority: Option<api::AuthorityState>,
    log_index: u64,
}

impl Changed {
    fn answer<T>(self, message: impl FnOnce(Option<api::AuthorityState>) -> T) -> Response<T> {
        at_log_index(message(self.authority), Some(self.log_index))
    }
}

fn to_wire(id: &AuthorityId, expires_at: UnixSeconds) -> api::AuthorityState {
    api::AuthorityState {
        authority_id: id.to_string(),
        expires_at: expires_at.0,
        upstream_authority_subject_key_id: String::new(),
    }
}

fn shown(authority: &AuthorityView) -> api::AuthorityState {
    to_wire(&authority.id, authority.validity.not_after())
}

/// What SPIRE's log says after each step; its test suites look for the sentence or the field (spire-api.md section 20).
fn tell(kind: AuthorityKind, change: &AuthorityChange) {
    let sentence = match (kind, change.state) {
        (AuthorityKind::X509, AuthorityState::Prepared) => "X509 CA prepared",
        (AuthorityKind::X509, AuthorityState::Active) => "X509 CA activated",
        (AuthorityKind::X509, AuthorityState::Tainted) => "X.509 authority tainted successfully",
        (AuthorityKind::X509, AuthorityState::Revoked) => "X.509 authority revoked successfully",
        (AuthorityKind::Jwt, AuthorityState::Prepared) => "JWT key prepared",
        (AuthorityKind::Jwt, AuthorityState::Active) => "JWT key activated",
        (AuthorityKind::Jwt, AuthorityState::Tainted) => "JWT authority tainted successfully",
        (AuthorityKind::Jwt, AuthorityState::Revoked) => "JWT authority revoked successfully",
        (AuthorityKind::X509 | AuthorityKind::Jwt, AuthorityState::Old) => return,
    };
    tracing::info!(target: SECURITY, local_authority_id = %change.id, "{sentence}");
}

impl LocalAuthorityService {
    fn authorities(&self) -> Result<Authorities, Status> {
        let system = self.node.system().ok_or_else(|| Status::unavailable("the node is starting; try again"))?;
        Ok(system.authorities().clone())
    }

    async fn state<T>(&self, kind: AuthorityKind, request: &Request<T>) -> Result<(Shown, u64), Status> {
        let state = self.reads.current(Consistency::of(request)?).await?;
        let (slots, applied) = look(state, |state| Slots::of(state, kind));
        let told = Shown {
            active: Some(shown(slots.signing()?)),
            prepared: slots.prepared.as_ref().map(shown),
            old: slots.newest_old().map(shown),
        };
        Ok((told, applied))
    }

    /// The authorities of a kind as they were when the call came, or newer: whichever node took what was done before.
    async fn slots(&self, kind: AuthorityKind, deadline: Instant) -> Result<Slots, Status> {
        self.reads.read_index(deadline).await?;
        Ok(self.reads.applied().read(|state| Slots::of(state, kind)))
    }

    async fn prepare<T>(&self, kind: AuthorityKind, request: Request<T>) -> Result<Changed, Status> {
        let deadline = Instant::now() + STEP_LIMIT;
        self.slots(kind, deadline).await?.may_prepare()?;
        let caller = self.writes.caller(&request);
        changed(kind, self.authorities()?.prepare(&caller, kind, deadline).await)
    }

    async fn activate<T>(&self, kind: AuthorityKind, request: Request<T>, id: &str) -> Result<Changed, Status> {
        let deadline = Instant::now() + STEP_LIMIT;
        let id = self.slots(kind, deadline).await?.may_activate(id)?;
        let caller = self.writes.caller(&request);
        changed(kind, self.authorities()?.activate(&caller, kind, &id, false, deadline, |_waits_for| {}).await)
    }

    async fn taint<T>(&self, kind: AuthorityKind, request: Request<T>, id: &str) -> Result<Changed, Status> {
        let deadline = Instant::now() + STEP_LIMIT;
        let id = self.slots(kind, deadline).await?.may_taint(id)?;
        let caller = self.writes.caller(&request);
        changed(kind, self.authorities()?.taint(&caller, kind, &id, deadline).await)
    }

    async fn revoke<T>(&self, kind: AuthorityKind, request: Request<T>, id: &str) -> Result<Changed, Status> {
        let deadline = Instant::now() + STEP_LIMIT;
        let id = self.slots(kind, deadline).await?.may_revoke(id)?;
        let caller = self.writes.caller(&request);
        changed(kind, self.authorities()?.revoke(&caller, kind, &id, false, deadline, |_waits_for| {}).await)
    }
}

fn changed(kind: AuthorityKind, result: Result<AuthorityChange, AuthorityError>) -> Result<Changed, Status> {
    let change = result.map_err(|error| authority_errors::status(&error))?;
    tell(kind, &change);
    let AuthorityChange { id, state, not_after, log_index, .. } = &change;
    let mut authority = to_wire(id, *not_after);
    // So answers SPIRE, whose record of a tainted key has no end.
    if kind == AuthorityKind::Jwt && *state == AuthorityState::Tainted {
        authority.expires_at = 0;
    }
    Ok(Changed { authority: Some(authority), log_index: *log_index })
}

fn no_wit<T>(method: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!("{method}: {NO_WIT}")))
}

fn no_upstream<T>() -> Result<Response<T>, Status> {
    Err(Status::failed_precondition(NO_UPSTREAM))
}

#[tonic::async_trait]
impl LocalAuthorityApi for LocalAuthorityService {
    async fn get_jwt_authority_state(
        &self,
        request: Request<api::GetJwtAuthorityStateRequest>,
    ) -> Result<Response<api::GetJwtAuthorityStateResponse>, Status> {
        let (Shown { active, prepared, old }, applied) = self.state(AuthorityKind::Jwt, &request).await?;
        Ok(at_applied_index(api::GetJwtAuthorityStateResponse { active, prepared, old }, applied))
    }

    async fn prepare_jwt_authority(
        &self,
        request: Request<api::PrepareJwtAuthorityRequest>,
    ) -> Result<Response<api::PrepareJwtAuthorityResponse>, Status> {
        let changed = self.prepare(AuthorityKind::Jwt, request).await?;
        Ok(changed.answer(|prepared_authority| api::PrepareJwtAuthorityResponse { prepared_authority }))
    }

    async fn activate_jwt_authority(
        &self,
        request: Request<api::ActivateJwtAuthorityRequest>,
    ) -> Result<Response<api::ActivateJwtAuthorityResponse>, Status> {
        let id = request.get_ref().authority_id.clone();
        let changed = self.activate(AuthorityKind::Jwt, request, &id).await?;
        Ok(changed.answer(|activated_authority| api::ActivateJwtAuthorityResponse { activated_authority }))
    }

    async fn taint_jwt_authority(
        &self,
        request: Request<api::TaintJwtAuthorityRequest>,
    ) -> Result<Response<api::TaintJwtAuthorityResponse>, Status> {
        let id = request.get_ref().authority_id.clone();
        let changed = self.taint(AuthorityKind::Jwt, request, &id).await?;
        Ok(changed.answer(|tainted_authority| api::TaintJwtAuthorityResponse { tainted_authority }))
    }

    async fn revoke_jwt_authority(
        &self,
        request: Request<api::RevokeJwtAuthorityRequest>,
    ) -> Result<Response<api::RevokeJwtAuthorityResponse>, Status> {
        let id = request.get_ref().authority_id.clone();
        let changed = self.revoke(AuthorityKind::Jwt, request, &id).await?;
        Ok(changed.answer(|revoked_authority| api::RevokeJwtAuthorityResponse { revoked_authority }))
    }

    async fn get_x509_authority_state(
        &self,
        request: Request<api::GetX509AuthorityStateRequest>,
    ) -> Result<Response<api::GetX509AuthorityStateResponse>, Status> {
        let (Shown { active, prepared, old }, applied) = self.state(AuthorityKind::X509, &request).await?;
        Ok(at_applied_index(api::GetX509AuthorityStateResponse { active, prepared, old }, applied))
    }

    async fn prepare_x509_authority(
        &self,
        request: Request<api::PrepareX509AuthorityRequest>,
    ) -> Result<Response<api::PrepareX509AuthorityResponse>, Status> {
        let changed = self.prepare(AuthorityKind::X509, request).await?;
        Ok(changed.answer(|prepared_authority| api::PrepareX509AuthorityResponse { prepared_authority }))
    }

    async fn activate_x509_authority(
        &self,
        request: Request<api::ActivateX509AuthorityRequest>,
    ) -> Result<Response<api::ActivateX509AuthorityResponse>, Status> {
        let id = request.get_ref().authority_id.clone();
        let changed = self.activate(AuthorityKind::X509, request, &id).await?;
        Ok(changed.answer(|activated_authority| api::ActivateX509AuthorityResponse { activated_authority }))
    }

    async fn taint_x509_authority(
        &self,
        request: Request<api::TaintX509AuthorityRequest>,
    ) -> Result<Response<api::TaintX509AuthorityResponse>, Status> {
        let id = request.get_ref().authority_id.clone();
        let changed = self.taint(AuthorityKind::X509, request, &id).await?;
        Ok(changed.answer(|tainted_authority| api::TaintX509AuthorityResponse { tainted_authority }))
    }

    async fn taint_x509_upstream_authority(
        &self,
        _request: Request<api::TaintX509UpstreamAuthorityRequest>,
    ) -> Result<Response<api::TaintX509UpstreamAuthorityResponse>, Status> {
        no_upstream()
    }

    async fn revoke_x509_authority(
        &self,
        request: Request<api::RevokeX509AuthorityRequest>,
    ) -> Result<Response<api::RevokeX509AuthorityResponse>, Status> {
        let id = request.get_ref().authority_id.clone();
        let changed = self.revoke(AuthorityKind::X509, request, &id).await?;
        Ok(changed.answer(|revoked_authority| api::RevokeX509AuthorityResponse { revoked_authority }))
    }

    async fn revoke_x509_upstream_authority(
        &self,
        _request: Request<api::RevokeX509UpstreamAuthorityRequest>,
    ) -> Result<Response<api::RevokeX509UpstreamAuthorityResponse>, Status> {
        no_upstream()
    }

    async fn get_wit_authority_state(
        &self,
        _request: Request<api::GetWitAuthorityStateRequest>,
    ) -> Result<Response<api::GetWitAuthorityStateResponse>, Status> {
        no_wit("GetWITAuthorityState")
    }

    async fn prepare_wit_authority(
        &self,
        _request: Request<api::PrepareWitAuthorityRequest>,
    ) -> Result<Response<api::PrepareWitAuthorityResponse>, Status> {
        no_wit("PrepareWITAuthority")
    }

    async fn activate_wit_authority(
        &self,
        _request: Request<api::ActivateWitAuthorityRequest>,
    ) -> Result<Response<api::ActivateWitAuthorityResponse>, Status> {
        no_wit("ActivateWITAuthority")
    }

    async fn taint_wit_authority(
        &self,
        _request: Request<api::TaintWitAuthorityRequest>,
    ) -> Result<Response<api::TaintWitAuthorityResponse>, Status> {
        no_wit("TaintWITAuthority")
    }

    async fn revoke_wit_authority(
        &self,
        _request: Request<api::RevokeWitAuthorityRequest>,
    ) -> Result<Response<api::RevokeWitAuthorityResponse>, Status> {
        no_wit("RevokeWITAuthority")
    }
}
