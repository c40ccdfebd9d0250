//! One retrieval: by this node, or by another member where this one has no way to the endpoint.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use quorate_proto_api::peer::{FetchAnswer, FetchFailed, FetchQuestion, FetchedDocument, FetchedSame, fetch_answer};
use quorate_proto_identity::{Bundle, MemberNumber, TrustDomain};
use quorate_raft_consensus::topics;
use quorate_raft_machine::federation::{ApiCredential, Endpoint, Relationship};
use tokio::time::{Instant, timeout_at};

use super::{
    FederationArguments,
    source::{Document, FetchError, FetchErrorKind, FetchRequest, Fetched},
};

/// How long a member may take to fetch: the 10 s of ATK-36 and some for looking up and proving who it is.
const FETCH_TIME_LIMIT: Duration = Duration::from_secs(12);

/// How long another member is waited for: its retrieval, there and back.
const ASK_TIME_LIMIT: Duration = Duration::from_secs(14);

/// How many other members are asked, one after the other, when this one has no way to an endpoint.
const OTHERS_LIMIT: usize = 2;

/// How long this node's endpoint certificate is waited for, where it is the credential: after a start it comes in moments.
const IDENTITY_WAIT_LIMIT: Duration = Duration::from_secs(2);

/// What a retrieval brought, and who fetched it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Retrieved {
    pub(super) fetched: Fetched,
    pub(super) by: Option<MemberNumber>,
}

/// Fetches: here first, then by other members, if the endpoint could not be reached from here; `by` is who did it last time.
pub(super) async fn retrieve(
    arguments: &FederationArguments,
    relationship: &Arc<Relationship>,
    etag: Option<String>,
    by: Option<MemberNumber>,
) -> Result<Retrieved, FetchError> {
    let own = arguments.handle.member();
    // A member that had a way last time, when this one had none, is asked first: the leader would wait in vain each time.
    let helper = by.filter(|by| Some(*by) != own);
    if let Some(helper) = helper {
        match ask_member(arguments, helper, relationship, etag.as_deref()).await {
            Ok(fetched) => return Ok(Retrieved { fetched, by: Some(helper) }),
            Err(error) if error.kind == FetchErrorKind::Refused => return Err(error),
            Err(_unreachable) => {}
        }
    }
    let failed = match fetch_here(arguments, relationship, etag.clone()).await {
        Ok(fetched) => return Ok(Retrieved { fetched, by: own }),
        Err(error) if error.kind == FetchErrorKind::Refused => return Err(error),
        Err(error) => error,
    };
    for member in others(arguments, helper) {
        match ask_member(arguments, member, relationship, etag.as_deref()).await {
            Ok(fetched) => return Ok(Retrieved { fetched, by: Some(member) }),
            Err(error) if error.kind == FetchErrorKind::Refused => return Err(error),
            Err(error) => tracing::debug!(
                trust_domain = %relationship.trust_domain, %member, error = %error, "another member has no way to the endpoint either"
            ),
        }
    }
    Err(failed)
}

/// Members that may have another way out: connected, and not those that were asked already.
fn others(arguments: &FederationArguments, asked: Option<MemberNumber>) -> Vec<MemberNumber> {
    let own = arguments.handle.member();
    let members = arguments.handle.members().into_iter().filter(|member| member.connected).map(|member| member.number);
    members.filter(|number| Some(*number) != own && Some(*number) != asked).take(OTHERS_LIMIT).collect()
}

/// Fetches from this node.
pub(super) async fn fetch_here(
    arguments: &FederationArguments,
    relationship: &Arc<Relationship>,
    etag: Option<String>,
) -> Result<Fetched, FetchError> {
    let Some(source) = &arguments.source else {
        return Err(FetchError::unreachable("this node fetches no bundles"));
    };
    // The time that is spent in waiting for others is not the endpoint's.
    let _permit = arguments.fetches.acquire().await;
    let deadline = Instant::now() + FETCH_TIME_LIMIT;
    let request = request(arguments, relationship, etag, deadline).await?;
    timeout_at(deadline, source.fetch(request))
        .await
        .unwrap_or_else(|_elapsed| Err(FetchError::refused("the endpoint did not answer in time")))
}

/// All that is needed to ask, as this node has it now.
pub(super) async fn request(
    arguments: &FederationArguments,
    relationship: &Arc<Relationship>,
    etag: Option<String>,
    deadline: Instant,
) -> Result<FetchRequest, FetchError> {
    let verify_with = match relationship.endpoint.server_spiffe_id() {
        Some(id) => Some(newest_bundle(arguments, &id.trust_domain())?),
        None => None,
    };
    let secret = match relationship.endpoint.secret() {
        Some(name) => {
            let opened = arguments.secrets.open(name).await;
            Some(Arc::new(
                opened.map_err(|error| FetchError::refused(format!("the secret {name} cannot be used: {error}")))?,
            ))
        }
        None => None,
    };
    let identity = match &relationship.endpoint {
        Endpoint::Api { credential: ApiCredential::MutualTls, .. } => {
            let mut published = arguments.endpoint.identity();
            let there = tokio::time::timeout(IDENTITY_WAIT_LIMIT, published.wait_for(Option::is_some)).await;
            let identity = there.ok().and_then(Result::ok).and_then(|identity| identity.clone());
            let none = || FetchError::unreachable("this node has no endpoint certificate to show at the moment");
            Some(identity.ok_or_else(none)?)
        }
        Endpoint::Web { .. } | Endpoint::Spiffe { .. } | Endpoint::Api { .. } => None,
    };
    Ok(FetchRequest { relationship: Arc::clone(relationship), verify_with, etag, secret, identity, deadline })
}

/// The newest bundle of the trust domain of an endpoint's SPIFFE ID: the one held for it, or our own (FED-41, FED-42).
fn newest_bundle(arguments: &FederationArguments, trust_domain: &TrustDomain) -> Result<Arc<Bundle>, FetchError> {
    let state = &arguments.core.state;
    let is_own = state.read(|state| state.cluster().is_some_and(|cluster| cluster.trust_domain == *trust_domain));
    if is_own {
        let own = arguments.core.bundles.current(state);
        let own = own.map_err(|error| FetchError::unreachable(error.to_string()))?;
        return Ok(Arc::new(own.verification.clone()));
    }
    let held = state.read(|state| state.foreign_bundle(trust_domain).map(|held| Arc::clone(&held.bundle)));
    held.ok_or_else(|| {
        FetchError::refused(format!(
            "no bundle of {trust_domain} is held, by which its endpoint's SVID could be verified: set the first one by hand \
             (`quorate bundle set {trust_domain}`); nothing is asked until then"
        ))
    })
}

async fn ask_member(
    arguments: &FederationArguments,
    member: MemberNumber,
    relationship: &Relationship,
    etag: Option<&str>,
) -> Result<Fetched, FetchError> {
    let question = FetchQuestion {
        trust_domain: relationship.trust_domain.to_string(),
        revision: relationship.revision,
        etag: etag.unwrap_or_default().to_owned(),
    };
    let deadline = Instant::now() + ASK_TIME_LIMIT;
    let answer = arguments.handle.ask(Some(member), topics::FETCH, question.encode_to_vec().into(), deadline).await;
    let answer = answer.map_err(|error| FetchError::unreachable(error.to_string()))?;
    let answer = FetchAnswer::decode(answer).map_err(|error| FetchError::unreachable(error.to_string()))?;
    from_answer(answer)
}

fn from_answer(answer: FetchAnswer) -> Result<Fetched, FetchError> {
    match answer.answer {
        Some(fetch_answer::Answer::Document(FetchedDocument { document, etag, host, address })) => {
            let etag = Some(etag).filter(|etag| !etag.is_empty());
            Ok(Fetched::Document(Document { bytes: document, etag, host, address }))
        }
        Some(fetch_answer::Answer::Same(FetchedSame { host, address })) => Ok(Fetched::NotModified { host, address }),
        Some(fetch_answer::Answer::Failed(FetchFailed { reason, unreachable: true })) => {
            Err(FetchError::unreachable(reason))
        }
        Some(fetch_answer::Answer::Failed(FetchFailed { reason, unreachable: false })) => {
            Err(FetchError::refused(reason))
        }
        None => Err(FetchError::unreachable("the member's answer cannot be read: is its program another version?")),
    }
}

/// Answers a leader that has no way to an endpoint. What is asked, and where, is what this node's own state says: a member
/// cannot be made to send anything anywhere else.
pub(crate) async fn answer_fetch(arguments: &FederationArguments, question: Bytes) -> Result<Bytes, String> {
    let FetchQuestion { trust_domain, revision, etag } =
        FetchQuestion::decode(question).map_err(|error| error.to_string())?;
    let trust_domain = TrustDomain::new(&trust_domain).map_err(|error| error.to_string())?;
    let relationship = arguments.core.state.read(|state| state.relationship(&trust_domain).cloned());
    let relationship = relationship
        .filter(|relationship| relationship.revision == revision)
        .ok_or_else(|| format!("this member does not know that relationship with {trust_domain} yet, or any more"))?;
    let etag = Some(etag).filter(|etag| !etag.is_empty());
    let answer = match fetch_here(arguments, &relationship, etag).await {
        Ok(Fetched::Document(Document { bytes, etag, host, address })) => {
            let etag = etag.unwrap_or_default();
            fetch_answer::Answer::Document(FetchedDocument { document: bytes, etag, host, address })
        }
        Ok(Fetched::NotModified { host, address }) => fetch_answer::Answer::Same(FetchedSame { host, address }),
        Err(FetchError { kind, words }) => fetch_answer::Answer::Failed(FetchFailed {
            reason: words,
            unreachable: kind == FetchErrorKind::Unreachable,
        }),
    };
    Ok(FetchAnswer { answer: Some(answer) }.encode_to_vec().into())
}
