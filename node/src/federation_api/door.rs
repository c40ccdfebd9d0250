//! The door: each call shows what it has, is decided, and is recorded.
//!
//! ```text
//!   Call ──► Shown ──► Proof ──────────────► decide ──► Admitted ──► rate of this asker ──► served
//!              token: read, issuer named by a rule?        |
//!                     keys of that issuer, signature       └─► Reason: status for the caller, record for the auditor
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use quorate_actors::audit::Asked;
use quorate_proto_identity::UnixSeconds;
use quorate_proto_identity::bearer::BearerToken;
use quorate_raft_machine::access::ApiScope;
use tonic::{Request, Status};

use super::credential::{self, ClientChain, Shown};
use super::decide::{Asker, Granted, IssuedToken, Proof, decide, is_trusted_issuer};
use super::issuers::Issuers;
use super::rate::Rates;
use super::reason::Reason;
use crate::https::Peer;
use crate::metrics::FEDERATION_CALLS;
use crate::node::Node;
use crate::telemetry::SECURITY;

/// A call, as far as it says who makes it.
pub(super) struct Call {
    /// What is recorded: `federation.bundle` or `federation.watch`.
    pub(super) what: &'static str,
    /// What it needs.
    pub(super) wanted: ApiScope,
    from: SocketAddr,
    headers: HeaderMap,
    chain: Option<ClientChain>,
}

impl Call {
    /// What a request shows. A request without a connection is none of ours.
    pub(super) fn of<T>(request: &Request<T>, what: &'static str, wanted: ApiScope) -> Result<Self, Status> {
        let peer = request.extensions().get::<Arc<Peer>>().ok_or_else(|| Status::internal("no connection"))?;
        let chain = (!peer.certificates.is_empty()).then(|| ClientChain::from(peer.certificates.as_slice()));
        let headers = request.metadata().clone().into_headers();
        Ok(Self { what, wanted, from: peer.address, headers, chain })
    }
}

/// Somebody who is answered.
#[derive(Clone)]
pub(super) struct Admitted {
    pub(super) proof: Proof,
    pub(super) sort: &'static str,
    pub(super) granted: Granted,
    pub(super) from: SocketAddr,
}

impl Admitted {
    /// A record of what it was told.
    pub(super) fn record(&self, what: &'static str, detail: Vec<(&'static str, String)>) -> Asked {
        let mut detail = detail;
        detail.push(("proof", self.sort.to_owned()));
        if let Some(peer) = self.granted.asker.peer() {
            detail.push(("peer", peer.to_string()));
        }
        Asked { what, who: Some(self.granted.asker.to_string()), from: self.from.to_string(), refused: None, detail }
    }
}

/// Decides who is let in.
#[derive(Clone)]
pub(super) struct Door {
    node: Node,
    issuers: Issuers,
    rates: Arc<Rates>,
}

impl Door {
    pub(super) fn new(node: &Node) -> Self {
        Self { node: node.clone(), issuers: Issuers::new(node.outbound().clone()), rates: Arc::default() }
    }

    /// Lets a call in, or says why not. A refusal is recorded; what is answered, its caller records.
    ///
    /// # Errors
    /// What whoever asks is told.
    pub(super) async fn admit(&self, call: &Call) -> Result<Admitted, Status> {
        let sort = credential::tried(&call.headers, call.chain.as_ref());
        let result = self.try_admit(call, sort).await;
        let word = result.as_ref().map_or_else(|(reason, _)| reason.code(), |_| "granted");
        metrics::counter!(FEDERATION_CALLS, "call" => call.what, "proof" => sort, "result" => word).increment(1);
        result.map_err(|(reason, claimed)| self.refused(call, sort, &reason, claimed))
    }

    /// Decides again about somebody who was let in before: the state may have changed, and time has passed.
    ///
    /// # Errors
    /// Why it is let in no more; that is recorded.
    pub(super) fn still(&self, admitted: &Admitted, what: &'static str, wanted: ApiScope) -> Result<Granted, Status> {
        let now = self.now();
        let decided = self.node.consensus().state().read(|state| decide(state, &admitted.proof, wanted, now));
        decided.map_err(|reason| {
            let asked = Asked { refused: Some(reason.code()), ..admitted.record(what, Vec::new()) };
            self.node.audit().asked(asked);
            reason.status()
        })
    }

    /// The instant by which credentials are judged.
    pub(super) fn now(&self) -> UnixSeconds {
        self.node.sources().now().seconds()
    }

    async fn try_admit(&self, call: &Call, sort: &'static str) -> Result<Admitted, (Reason, Option<String>)> {
        let shown = Shown::of(&call.headers, call.chain.as_ref()).map_err(|reason| (reason, None))?;
        let claimed = claimed(&shown);
        let blame = |reason| (reason, claimed.clone());
        let proof = self.prove(shown).await.map_err(blame)?;
        let now = self.now();
        let state = self.node.consensus().state();
        let granted = state.read(|state| decide(state, &proof, call.wanted, now)).map_err(blame)?;
        let asker = granted.asker.to_string();
        let is_admitted = match &granted.asker {
            Asker::Anonymous => self.rates.admits_anonymous(call.from.ip()),
            Asker::Spiffe(_) | Asker::ApiKey { .. } | Asker::Token { .. } => self.rates.admits(&asker),
        };
        if !is_admitted {
            return Err((Reason::TooOften, Some(asker)));
        }
        Ok(Admitted { proof, sort, granted, from: call.from })
    }

    /// Verifies what can be verified without the state.
    async fn prove(&self, shown: Shown) -> Result<Proof, Reason> {
        let text = match shown {
            Shown::Nothing => return Ok(Proof::Nothing),
            Shown::Certificate(chain) => return Ok(Proof::Certificate(chain)),
            Shown::ApiKey(key) => return Ok(Proof::ApiKey(key.id().clone(), key.hash())),
            Shown::Token(text) => text,
        };
        let token = BearerToken::read(&text).map_err(Reason::Token)?;
        let issuer = token.issuer().to_owned();
        if !self.node.consensus().state().read(|state| is_trusted_issuer(state, &issuer)) {
            return Err(Reason::OtherIssuer);
        }
        let keys = self.issuers.keys(&issuer, token.key_id()).await;
        let keys = keys.map_err(|error| Reason::NoIssuerKeys { why: error.to_string() })?;
        let token = token.verify(&keys, self.now()).map_err(Reason::Token)?;
        Ok(Proof::Token(Arc::new(IssuedToken { issuer, token })))
    }

    fn refused(&self, call: &Call, sort: &'static str, reason: &Reason, claimed: Option<String>) -> Status {
        let code = reason.code();
        tracing::info!(target: SECURITY, call = call.what, proof = sort, reason = code, from = %call.from, "a peer was refused");
        let mut detail = vec![("proof", sort.to_owned()), ("reason", reason.to_string())];
        if let Some(claimed) = claimed {
            detail.push(("claimed", claimed));
        }
        let from = call.from.to_string();
        self.node.audit().asked(Asked { what: call.what, who: None, from, refused: Some(code), detail });
        reason.status()
    }
}

/// Who a call says that it is, for the record of its refusal: nothing of it is proved, and no secret is in it.
fn claimed(shown: &Shown) -> Option<String> {
    match shown {
        Shown::Nothing | Shown::Token(_) => None,
        Shown::ApiKey(key) => Some(format!("api_key:{}", key.id())),
        Shown::Certificate(chain) => {
            let leaf = quorate_proto_identity::Certificate::parse(chain.first()?).ok()?;
            leaf.extensions().uri_names.first().cloned()
        }
    }
}
