//! Who asks, and whether it is answered: a pure decision.
//!
//! ```text
//!   Proof (what was shown, as far as it could be verified without the state)
//!        + AccessView (rules, API keys, foreign bundles)   ──► decide ──► Granted: who, by what, until when
//!        + what is wanted, and the instant                            └─► Reason
//! ```
//!
//! A watch is decided anew whenever the state changes, from the same proof: a deleted key, a removed relationship or another
//! rule ends it (FED-48).

use std::fmt;
use std::sync::Arc;

use quorate_proto_identity::bearer::VerifiedBearer;
use quorate_proto_identity::x509::{Purpose, SvidError};
use quorate_proto_identity::{Bundle, SpiffeId, TrustDomain, UnixSeconds, verify_x509_svid};
use quorate_raft_machine::SecretHash;
use quorate_raft_machine::access::{AccessRule, ApiKey, ApiKeyId, ApiScope, MutualTls, OAuthRule};

use super::credential::ClientChain;
use super::key_text::same_hash;
use super::reason::Reason;

/// What of the state the decision needs.
pub(super) trait AccessView {
    /// Our own trust domain.
    fn own(&self) -> Option<TrustDomain>;
    /// The rule that holds for a peer, or for somebody of whom nothing is known.
    fn rule(&self, peer: Option<&TrustDomain>) -> AccessRule;
    /// The rules that were set for single peers, in the order of their names.
    fn peer_rules(&self) -> Vec<(TrustDomain, AccessRule)>;
    /// The API key of this ID.
    fn api_key(&self, id: &ApiKeyId) -> Option<ApiKey>;
    /// The bundle of a foreign trust domain.
    fn foreign_bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>>;
    /// Whether there is a relationship with a trust domain.
    fn is_related(&self, trust_domain: &TrustDomain) -> bool;
}

/// What was shown. A token is here once it was verified with the keys of its issuer; all else is verified with the state.
#[derive(Clone)]
pub(super) enum Proof {
    /// Nothing.
    Nothing,
    /// A client certificate, whose key the handshake has proved.
    Certificate(ClientChain),
    /// An API key: its ID, and the hash of the secret that was shown.
    ApiKey(ApiKeyId, SecretHash),
    /// A token.
    Token(Arc<IssuedToken>),
}

/// A token that its issuer has signed.
#[derive(Debug)]
pub(super) struct IssuedToken {
    /// `iss`, with whose keys it was verified.
    pub(super) issuer: String,
    /// What it says.
    pub(super) token: VerifiedBearer,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asker {
    /// Nobody knows.
    Anonymous,
    /// A workload or server of a federated trust domain.
    Spiffe(SpiffeId),
    /// The holder of an API key.
    ApiKey {
        /// Which key.
        id: ApiKeyId,
        /// Whom it was given to.
        peer: TrustDomain,
    },
    /// The bearer of a token.
    Token {
        /// Who issued it.
        issuer: String,
        /// To whom.
        subject: String,
        /// Which peer the rule is for that takes it; none for the rule for everybody.
        peer: Option<TrustDomain>,
    },
}

impl Asker {
    /// Which trust domain it belongs to, if that is known.
    pub(super) fn peer(&self) -> Option<TrustDomain> {
        match self {
            Self::Anonymous => None,
            Self::Spiffe(id) => Some(id.trust_domain()),
            Self::ApiKey { id: _, peer } => Some(peer.clone()),
            Self::Token { issuer: _, subject: _, peer } => peer.clone(),
        }
    }
}

impl fmt::Display for Asker {
    /// As audit records have it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => formatter.write_str("anonymous"),
            Self::Spiffe(id) => write!(formatter, "{id}"),
            Self::ApiKey { id, peer: _ } => write!(formatter, "api_key:{id}"),
            Self::Token { issuer, subject, peer: _ } => write!(formatter, "oauth:{issuer}#{subject}"),
        }
    }
}

/// Somebody is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Granted {
    /// Who.
    pub(super) asker: Asker,
    /// When its credential ends, if it ever does.
    pub(super) until: Option<UnixSeconds>,
}

/// Decides whether somebody is answered.
///
/// # Errors
/// Why not.
pub(super) fn decide(
    view: &(impl AccessView + ?Sized),
    proof: &Proof,
    wanted: ApiScope,
    now: UnixSeconds,
) -> Result<Granted, Reason> {
    match proof {
        Proof::Nothing => anonymous(view),
        Proof::Certificate(chain) => certificate(view, chain, now),
        Proof::ApiKey(id, hash) => api_key(view, id, hash, wanted, now),
        Proof::Token(issued) => token(view, issued, now),
    }
}

fn anonymous(view: &(impl AccessView + ?Sized)) -> Result<Granted, Reason> {
    let rule = view.rule(None);
    if rule.anonymous {
        return Ok(Granted { asker: Asker::Anonymous, until: None });
    }
    let accepted = [
        (rule.mutual_tls != MutualTls::Off, "a client certificate of a federated trust domain"),
        (rule.api_keys, "an API key (metadata quorate-api-key)"),
        (!rule.oauth.is_empty(), "a token (metadata authorization: Bearer)"),
    ];
    let accepted: Vec<&str> = accepted.into_iter().filter_map(|(is_on, what)| is_on.then_some(what)).collect();
    let accepted = match accepted.as_slice() {
        [] => "only peers that have a rule of their own are answered".to_owned(),
        some => format!("show {}", some.join(", or ")),
    };
    Err(Reason::NothingShown { accepted })
}

/// The bundle of one trust domain, where there is one.
struct One(Option<Arc<Bundle>>);

impl quorate_proto_identity::BundleSource for One {
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<&Bundle> {
        self.0.as_deref().filter(|bundle| bundle.trust_domain() == trust_domain)
    }
}

/// A certificate is verified with the bundle of its own trust domain and no other (FED-11, FED-51), and that bundle is there
/// only while the trust domain is federated (FED-48).
fn certificate(view: &(impl AccessView + ?Sized), chain: &ClientChain, now: UnixSeconds) -> Result<Granted, Reason> {
    // Without any bundle the verifier checks the leaf's form, and then says whose bundle it needs.
    let peer = match verify_x509_svid(chain, &One(None), now, Purpose::Client) {
        Err(SvidError::NoBundle { trust_domain }) => trust_domain,
        Err(error) => return Err(Reason::Certificate(error)),
        Ok(verified) => verified.spiffe_id().trust_domain(),
    };
    if view.own().as_ref() == Some(&peer) {
        return Err(own_domain(chain, peer));
    }
    within_its_time(chain, now)?;
    let Some(bundle) = view.foreign_bundle(&peer) else {
        return Err(if view.is_related(&peer) { Reason::NoBundleYet { peer } } else { Reason::NotFederated { peer } });
    };
    let verified = verify_x509_svid(chain, &One(Some(bundle)), now, Purpose::Client).map_err(Reason::NotVerified)?;
    let id = verified.spiffe_id().clone();
    match view.rule(Some(&peer)).mutual_tls {
        MutualTls::Off => return Err(Reason::CertificatesOff { peer }),
        MutualTls::Ids(ids) if !ids.contains(&id) => return Err(Reason::OtherId { id }),
        MutualTls::AnyId | MutualTls::Ids(_) => {}
    }
    let until = verified.leaf().validity().not_after();
    Ok(Granted { asker: Asker::Spiffe(id), until: Some(until) })
}

/// Looked at before any bundle: what a stranger is told of a certificate that it made itself is the same for every trust
/// domain that it can name.
fn within_its_time(chain: &ClientChain, now: UnixSeconds) -> Result<(), Reason> {
    let leaf = chain.first().ok_or(Reason::Certificate(SvidError::NoCertificate))?;
    let leaf = quorate_proto_identity::Certificate::parse(leaf);
    let validity = leaf.map_err(|error| Reason::Certificate(SvidError::Certificate(error)))?.validity();
    if now > validity.not_after() {
        return Err(Reason::CertificateExpired { expired_at: validity.not_after() });
    }
    if now < validity.not_before() {
        return Err(Reason::CertificateNotYet { begins_at: validity.not_before() });
    }
    Ok(())
}

fn own_domain(chain: &ClientChain, own: TrustDomain) -> Reason {
    let leaf = chain.first().and_then(|leaf| quorate_proto_identity::Certificate::parse(leaf).ok());
    let id = leaf.and_then(|leaf| quorate_proto_identity::x509::check_leaf_profile(&leaf).ok());
    Reason::OwnDomain { id: id.unwrap_or_else(|| own.id()) }
}

fn api_key(
    view: &(impl AccessView + ?Sized),
    id: &ApiKeyId,
    shown: &SecretHash,
    wanted: ApiScope,
    now: UnixSeconds,
) -> Result<Granted, Reason> {
    let key = view.api_key(id).ok_or(Reason::KeyUnknown)?;
    let until = if same_hash(&key.secret.hash, shown) {
        let expired_at = key.secret.expires_at;
        if now >= expired_at {
            return Err(Reason::KeyExpired { expired_at });
        }
        expired_at
    } else {
        let former = key.former.as_ref().filter(|former| same_hash(&former.hash, shown)).ok_or(Reason::KeyWrong)?;
        if now >= former.expires_at {
            return Err(Reason::KeyRotated { expired_at: former.expires_at });
        }
        former.expires_at
    };
    let peer = key.peer.clone();
    if !view.rule(Some(&peer)).api_keys {
        return Err(Reason::KeysOff { peer });
    }
    // Who may watch may get: the first thing that a watch sends is the bundle.
    let may = key.scopes.contains(&wanted) || (wanted == ApiScope::Get && key.scopes.contains(&ApiScope::Watch));
    if !may {
        return Err(Reason::KeyScope { wanted: wanted.name() });
    }
    Ok(Granted { asker: Asker::ApiKey { id: id.clone(), peer }, until: Some(until) })
}

/// Whether any rule takes tokens of this issuer: only then are its keys fetched, so that nobody can make this node ask a
/// server that no operator has named (ATK-31, ATK-37).
pub(super) fn is_trusted_issuer(view: &(impl AccessView + ?Sized), issuer: &str) -> bool {
    candidates(view, issuer).next().is_some()
}

/// The rules that take tokens of this issuer: those for single peers first, since they say more.
fn candidates(
    view: &(impl AccessView + ?Sized),
    issuer: &str,
) -> impl Iterator<Item = (Option<TrustDomain>, OAuthRule)> {
    let peers = view.peer_rules().into_iter().map(|(peer, rule)| (Some(peer), rule));
    let rules = peers.chain(std::iter::once((None, view.rule(None))));
    let issuer = issuer.to_owned();
    rules
        .flat_map(|(peer, rule)| rule.oauth.into_iter().map(move |rule| (peer.clone(), rule)))
        .filter(move |(_, rule)| rule.issuer == issuer)
}

/// The first rule that fits counts; when none does, the refusal is of the rule that was the nearest.
fn token(view: &(impl AccessView + ?Sized), issued: &IssuedToken, now: UnixSeconds) -> Result<Granted, Reason> {
    let IssuedToken { issuer, token } = issued;
    if now >= token.expires_at().plus(quorate_proto_identity::jwt_svid::LEEWAY_SECONDS) {
        let expired = quorate_proto_identity::JwtError::Expired { expired_at: token.expires_at() };
        return Err(Reason::Token(expired.into()));
    }
    let mut nearest: Option<(u8, Reason)> = None;
    for (peer, rule) in candidates(view, issuer) {
        let (distance, reason) = match fits(&rule, token) {
            Ok(()) => {
                let asker = Asker::Token { issuer: issuer.clone(), subject: token.subject().to_owned(), peer };
                return Ok(Granted { asker, until: Some(token.expires_at()) });
            }
            Err(refusal) => refusal,
        };
        if nearest.as_ref().is_none_or(|(least, _)| distance < *least) {
            nearest = Some((distance, reason));
        }
    }
    Err(nearest.map_or(Reason::OtherIssuer, |(_, reason)| reason))
}

/// Whether a token is what a rule wants; else why not, and how far it got: fewer is nearer.
fn fits(rule: &OAuthRule, token: &VerifiedBearer) -> Result<(), (u8, Reason)> {
    let OAuthRule { issuer: _, audience, scope, claims } = rule;
    if !token.is_for(audience) {
        return Err((3, Reason::OtherAudience { wanted: audience.clone() }));
    }
    if !token.has_scope(scope) {
        return Err((2, Reason::TokenScope { wanted: scope.clone() }));
    }
    match claims.iter().find(|(name, value)| !token.claim_has(name, value)) {
        Some((name, _)) => Err((1, Reason::Claim { name: name.clone() })),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
