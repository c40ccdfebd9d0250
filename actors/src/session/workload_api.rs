//! The Workload API, as the node's gRPC service calls it.

use std::{collections::BTreeSet, sync::Arc};

use quorate_proto_api::workload::{
    JwtBundlesResponse, Jwtsvid, JwtsvidResponse, X509BundlesResponse, X509svidResponse,
};
use quorate_proto_identity::{SpiffeId, UnixSeconds, VerifiedJwtSvid, verify_jwt_svid};
use quorate_raft_machine::{Entry, Policy, State};

use super::{
    answer::{Answer, Kind},
    answer_size::{Room, by_age},
    caller::Caller,
    core::Core,
    group::{Group, Membership},
    keeper::Keepers,
    stream::AnswerStream,
    validation::{MayHave, ValidatedToken},
};
use crate::{
    attestation::Attestor,
    issuer::minter::{AUDIENCE_BYTES_LIMIT, check_audiences},
    metrics,
    refusal::Refusal,
};

/// How often tokens are signed again because the state changed under them, before the caller is told to come again.
const TRIES: usize = 8;

/// Answers workloads. Cheap to clone.
///
/// Every method first checks what the caller asked for, then that this node may answer at all (design section 2,
/// property 4), then who the caller is.
#[derive(Debug, Clone)]
pub struct WorkloadApi {
    shared: Arc<Shared>,
}

/// What the handle and all streams share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    attestor: Attestor,
    keepers: Keepers,
}

impl Shared {
    /// Opens a session for a caller.
    pub(crate) async fn open(&self, caller: &Caller, kind: Kind) -> Result<Membership, Refusal> {
        self.group(caller).await?.open(&self.core, kind).await
    }

    /// The group of a caller, if this node may answer.
    async fn group(&self, caller: &Caller) -> Result<Arc<Group>, Refusal> {
        self.core.leases.current(self.core.sources.now())?;
        caller.group(&self.attestor, &self.keepers).await
    }
}

impl WorkloadApi {
    pub(crate) fn new(core: Arc<Core>, attestor: Attestor, keepers: Keepers) -> Self {
        Self { shared: Arc::new(Shared { core, attestor, keepers }) }
    }

    /// FetchX509SVID: all X509-SVIDs of the caller, from now on.
    ///
    /// # Errors
    /// `PermissionDenied` without any identity; `Unavailable` while this node cannot answer.
    pub async fn x509_svids(&self, caller: &Arc<Caller>) -> Result<AnswerStream<X509svidResponse>, Refusal> {
        let take = |answer: &Answer| match answer {
            Answer::X509Svids(answer) => Some(answer.response.clone()),
            Answer::X509Bundles(_) | Answer::JwtBundles(_) => None,
        };
        self.stream(caller, Kind::X509Svids, take).await
    }

    /// FetchX509Bundles: the X.509 bundles of the caller, from now on.
    ///
    /// # Errors
    /// As [`x509_svids`](Self::x509_svids).
    pub async fn x509_bundles(&self, caller: &Arc<Caller>) -> Result<AnswerStream<X509BundlesResponse>, Refusal> {
        let take = |answer: &Answer| match answer {
            Answer::X509Bundles(bundles) => Some(bundles.x509.as_ref().clone()),
            Answer::X509Svids(_) | Answer::JwtBundles(_) => None,
        };
        self.stream(caller, Kind::X509Bundles, take).await
    }

    /// FetchJWTBundles: the JWT bundles of the caller, from now on.
    ///
    /// # Errors
    /// As [`x509_svids`](Self::x509_svids).
    pub async fn jwt_bundles(&self, caller: &Arc<Caller>) -> Result<AnswerStream<JwtBundlesResponse>, Refusal> {
        let take = |answer: &Answer| match answer {
            Answer::JwtBundles(bundles) => Some(bundles.jwt.as_ref().clone()),
            Answer::X509Svids(_) | Answer::X509Bundles(_) => None,
        };
        self.stream(caller, Kind::JwtBundles, take).await
    }

    /// FetchJWTSVID: a fresh token for each identity of the caller, or for just the one that is named. `ttl` asks for a
    /// life in seconds shorter than the entry's; a longer one gets the entry's.
    ///
    /// # Errors
    /// `InvalidArgument` for audiences or a life that are not in order; `PermissionDenied` without any identity, or
    /// without the one that is named (WAPI-34); `Unavailable` while this node cannot answer.
    pub async fn fetch_jwt_svids(
        &self,
        caller: &Caller,
        audiences: Vec<String>,
        spiffe_id: Option<&SpiffeId>,
        ttl: Option<u32>,
    ) -> Result<JwtsvidResponse, Refusal> {
        self.jwt_svids(caller, audiences, spiffe_id, ttl).await.map_err(|refusal| caller.refused(refusal))
    }

    /// ValidateJWTSVID: verifies a token for an audience, with the bundles that the caller may have: our own, and those of the
    /// trust domains that its entries federate with. Callers without an identity may ask, too.
    ///
    /// # Errors
    /// `InvalidArgument` for an empty argument and for every token that does not verify; `Unavailable` while this
    /// node cannot answer.
    pub async fn validate_jwt_svid(
        &self,
        caller: &Caller,
        audience: &str,
        token: &str,
    ) -> Result<ValidatedToken, Refusal> {
        self.validate(caller, audience, token).await.map_err(|refusal| caller.refused(refusal))
    }

    async fn stream<T>(
        &self,
        caller: &Arc<Caller>,
        kind: Kind,
        take: fn(&Answer) -> Option<T>,
    ) -> Result<AnswerStream<T>, Refusal> {
        let membership = self.shared.open(caller, kind).await.map_err(|refusal| caller.refused(refusal))?;
        match membership.slot().ended() {
            Some(refusal) => Err(caller.refused(refusal)),
            None => Ok(AnswerStream::new(Arc::clone(&self.shared), Arc::clone(caller), membership, take)),
        }
    }

    async fn jwt_svids(
        &self,
        caller: &Caller,
        audiences: Vec<String>,
        spiffe_id: Option<&SpiffeId>,
        ttl: Option<u32>,
    ) -> Result<JwtsvidResponse, Refusal> {
        check_audiences(&audiences)?;
        if ttl == Some(0) {
            return Err(Refusal::invalid("the life asked for is 0 seconds"));
        }
        let core = &self.shared.core;
        let group = self.shared.group(caller).await?;
        let _call = group.call()?;
        let audiences: Arc<[String]> = audiences.into();
        let policy = core.state.read(|state| state.policy().copied());
        let policy = policy.ok_or_else(|| Refusal::unavailable("no authority has been founded on this node yet"))?;
        for _ in 0..TRIES {
            let identities = group.identities(core)?;
            let wanted = match spiffe_id {
                // One token, however many entries have the ID (WAPI-31, SB-16): that of the first in the fixed order.
                Some(id) => identities.entries.iter().find(|entry| entry.spiffe_id == *id).into_iter().collect(),
                None => by_age(&identities.entries),
            };
            let mut room = Room::new();
            let mut svids = Vec::new();
            let mut keys = BTreeSet::new();
            for entry in &wanted {
                let life = jwt_ttl(entry, &policy);
                let life = ttl.map_or(life, |asked| asked.min(life));
                let signed = core.token(&entry.spiffe_id, Some(&entry.id), &audiences, life, None).await;
                let token = signed.map_err(|error| error.refusal())?;
                let spiffe_id = entry.spiffe_id.as_str().to_owned();
                let svid = Jwtsvid { spiffe_id, svid: token.text, hint: entry.hint.clone() };
                if !room.take(svid.spiffe_id.len().saturating_add(svid.svid.len()).saturating_add(svid.hint.len())) {
                    break;
                }
                metrics::issued("jwt", "workload");
                svids.push((&entry.id, svid));
                keys.insert(token.key_id);
                // A caller of a thousand identities must not hold a thread for as many signatures.
                tokio::task::coop::consume_budget().await;
            }
            identities.tell_jwt_left_out(wanted.len().saturating_sub(svids.len()));
            svids.sort_by_key(|(id, _)| *id);
            let svids: Vec<Jwtsvid> = svids.into_iter().map(|(_, svid)| svid).collect();
            if svids.is_empty() {
                return Err(Refusal::no_identity());
            }
            // And neither may the lease have ended while this waited or signed (design section 2, property 4).
            core.leases.current(core.sources.now())?;
            // Nor may a key have been tainted while others of these tokens were signed (INV-06).
            let untainted = keys.iter().all(|key| core.may_still_sign(key));
            if untainted && core.still_stand(&identities, &group.selectors) {
                return Ok(JwtsvidResponse { svids });
            }
        }
        Err(Refusal::unavailable("registrations change faster than they can be answered"))
    }

    async fn validate(&self, caller: &Caller, audience: &str, token: &str) -> Result<ValidatedToken, Refusal> {
        if audience.is_empty() {
            return Err(Refusal::invalid("audience must be specified"));
        }
        if audience.len() > AUDIENCE_BYTES_LIMIT {
            return Err(Refusal::invalid(format!("the audience is longer than {AUDIENCE_BYTES_LIMIT} bytes")));
        }
        if token.is_empty() {
            return Err(Refusal::invalid("svid must be specified"));
        }
        let core = &self.shared.core;
        let group = self.shared.group(caller).await?;
        let _call = group.call()?;
        let identities = group.identities(core)?;
        let bundles = core.bundles.current(&core.state)?;
        let own = &bundles.verification;
        let now = core.sources.now();
        // Attestation may have taken long.
        core.leases.current(now)?;
        let now = now.seconds();
        let may_have = MayHave::new(own, &identities.federates_with, &core.state);
        let verified = verify_jwt_svid(token, audience, &may_have, now).map_err(|error| {
            tracing::debug!(
                target: "quorate::security",
                error = &error as &dyn std::error::Error,
                "a JWT-SVID did not verify"
            );
            Refusal::invalid(error.to_string())
        })?;
        let told = ValidatedToken::new(&verified, own.trust_domain(), &core.foreign_claims);
        // What we revoked is ours; another domain's tokens may have a `jti` that one of ours has, too.
        let is_own = told.spiffe_id().trust_domain() == *own.trust_domain();
        match core.state.read(|state| token_rule(state, &verified).filter(|_| is_own)) {
            None => Ok(told),
            Some(number) => {
                tracing::debug!(
                    target: "quorate::security",
                    spiffe_id = %verified.spiffe_id(), number,
                    "a JWT-SVID was refused because it is revoked"
                );
                Err(Refusal::invalid(format!("the token is revoked, by revocation {number}")))
            }
        }
    }
}

/// The number of the revocation that refuses a token of our trust domain. One that does not say when it was issued counts as
/// old.
fn token_rule(state: &State, verified: &VerifiedJwtSvid) -> Option<u64> {
    let issued_at = verified.issued_at().unwrap_or(UnixSeconds(i64::MIN));
    state.token_refusal(verified.spiffe_id(), verified.jti(), issued_at).map(|revocation| revocation.number)
}

/// How long a JWT-SVID of this entry lives, in seconds.
fn jwt_ttl(entry: &Entry, policy: &Policy) -> u32 {
    if entry.jwt_svid_ttl == 0 { policy.jwt_svid_lifetime } else { entry.jwt_svid_ttl }
}
