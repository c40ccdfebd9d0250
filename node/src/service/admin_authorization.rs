//! Who may use the admin socket: decided by the kernel's word on the caller, before any service sees the call.
//!
//! ```text
//!   call ──► user is root, or the node's own?  ──► service
//!       └──► one of its groups is `admin.group`? ──► service
//!       └──► PermissionDenied, and a line in the security log
//! ```
//!
//! The socket's mode (0660) keeps others out already. This is the second lock: it holds when somebody widened the
//! mode, and for a process that was handed an open connection by another (the credentials are those of who dialled).

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use nix::unistd::{Gid, geteuid};
use quorate_actors::attestation::PeerCredentials;
use quorate_actors::audit::Auditor;
use quorate_raft_machine::{Caller, CallerIdentity};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::NamedService;
use tower::Service;

use crate::listeners::connection::Connection;
use crate::telemetry::SECURITY;

/// The user that may do everything on the host anyway.
const ROOT: u32 = 0;

/// Who is admitted.
#[derive(Debug, Clone)]
pub(super) struct AdminAuthorization {
    node_user: u32,
    group: Option<Gid>,
    /// Who is not admitted is recorded there, as come from this address.
    audit: Auditor,
    address: String,
}

impl AdminAuthorization {
    /// Admits root, the user that this process runs as, and the members of this group.
    pub(super) fn new(group: Option<Gid>) -> Self {
        Self { node_user: geteuid().as_raw(), group, audit: Auditor::none(), address: String::new() }
    }

    /// The same, whose refusals are in the audit trail.
    pub(super) fn recorded_in(self, audit: &Auditor, socket: &Path) -> Self {
        Self { audit: audit.clone(), address: socket.display().to_string(), ..self }
    }

    /// Whether a process with these credentials is admitted.
    fn admits(&self, credentials: &PeerCredentials) -> bool {
        let PeerCredentials { pid: _, uid, gid, groups } = credentials;
        let member_of = |group: Gid| {
            let supplementary = groups.as_deref().unwrap_or_default();
            *gid == group.as_raw() || supplementary.contains(&group.as_raw())
        };
        *uid == ROOT || *uid == self.node_user || self.group.is_some_and(member_of)
    }

    /// Lets a request pass, or answers the refusal.
    fn check(&self, request: &Request<Body>) -> Result<(), Status> {
        // Without a connection there is no caller to ask about: closed, not open.
        let credentials =
            request.extensions().get::<Arc<Connection>>().map(|connection| connection.process().credentials());
        if credentials.is_some_and(|credentials| self.admits(credentials)) {
            return Ok(());
        }
        let method = request.uri().path();
        tracing::warn!(
            target: SECURITY,
            method,
            uid = credentials.map(|credentials| credentials.uid),
            gid = credentials.map(|credentials| credentials.gid),
            pid = credentials.map(|credentials| credentials.pid),
            "a call on the admin socket was refused"
        );
        if let Some(PeerCredentials { uid, gid, pid, groups: _ }) = credentials {
            let identity = CallerIdentity::Unix { uid: *uid, gid: *gid, pid: pid.unsigned_abs() };
            self.audit.denied(&Caller { identity, address: self.address.clone() }, method);
        }
        Err(Status::permission_denied(format!("authorization denied for method {method}")))
    }
}

/// A service behind the authorization.
#[derive(Debug, Clone)]
pub(super) struct Authorized<S> {
    authorization: AdminAuthorization,
    service: S,
}

impl<S> Authorized<S> {
    /// Puts the authorization before a service.
    pub(super) fn new(authorization: &AdminAuthorization, service: S) -> Self {
        Self { authorization: authorization.clone(), service }
    }
}

impl<S: NamedService> NamedService for Authorized<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Authorized<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.authorization.check(&request) {
            Ok(()) => Box::pin(self.service.call(request)),
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: u32 = 990;
    const ADMINS: u32 = 4_000;

    fn credentials(uid: u32, gid: u32, groups: &[u32]) -> PeerCredentials {
        PeerCredentials { pid: 1, uid, gid, groups: Some(groups.into()) }
    }

    fn authorization(group: Option<u32>) -> AdminAuthorization {
        AdminAuthorization { node_user: NODE, ..AdminAuthorization::new(group.map(Gid::from_raw)) }
    }

    #[test]
    fn root_the_nodes_own_user_and_the_group_are_admitted() {
        let rule = authorization(Some(ADMINS));
        assert!(rule.admits(&credentials(ROOT, 0, &[])));
        assert!(rule.admits(&credentials(NODE, 990, &[])));
        assert!(rule.admits(&credentials(1_000, ADMINS, &[])));
        assert!(rule.admits(&credentials(1_000, 1_000, &[27, ADMINS])));
    }

    #[test]
    fn everybody_else_is_refused() {
        assert!(!authorization(Some(ADMINS)).admits(&credentials(1_000, 1_000, &[27])));
        assert!(!authorization(None).admits(&credentials(1_000, NODE, &[NODE, 0])));
        let unsaid = PeerCredentials { groups: None, ..credentials(1_000, 1_000, &[]) };
        assert!(!authorization(Some(ADMINS)).admits(&unsaid));
    }

    #[test]
    fn a_call_without_a_known_caller_is_refused_by_the_methods_name() {
        let request = Request::builder().uri("http://x/spire.api.server.entry.v1.Entry/GetEntry").body(Body::empty());
        let status = authorization(None).check(&request.unwrap()).unwrap_err();
        assert_eq!(status.code(), tonic::Code::PermissionDenied);
        assert_eq!(status.message(), "authorization denied for method /spire.api.server.entry.v1.Entry/GetEntry");
    }
}
