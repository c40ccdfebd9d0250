//! How long readers of our bundle elsewhere have to learn of an authority before it signs (FED-03, FED-04).
//!
//! ```text
//!   prepared ── every live member applies it ──► published (a mark in the state)
//!      │                                             ├── 3 refresh hints, while a bundle endpoint or the Federation API
//!      │                                             │   is served; less, by policy, once all known peers confirm it
//!      │                                             └── JWKS cache time (token keys), while OIDC discovery is served
//!      └── publication_time of the policy ─────────────────────────────────────────────► all of them over: it may sign
//! ```
//!
//! The time counts from the last member, because a reader comes by at whichever it reaches, and one that lags still shows
//! the bundle of before. That all have it is a mark that the leader proposes when they say so. It lies in the log, so that
//! a change of leader neither loses nor begins the time anew, and everybody can tell until when it runs.
//!
//! Who reads is not known: the standard's endpoint is anonymous. So the time runs whatever relationships there are.

use quorate_proto_identity::UnixSeconds;

use super::{AuthorityKind, AuthorityView};
use crate::policy::{Publication, REFRESH_HINTS_TO_PUBLISH};
use crate::state::State;

/// What readers elsewhere have, from the mark on, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    /// Readers of the bundle.
    bundle: Option<i64>,
    /// Readers of token keys by OIDC discovery, who confirm nothing.
    keys: Option<i64>,
}

impl Reading {
    fn of(state: &State, kind: AuthorityKind) -> Self {
        let hints = state.policy().map_or(0, |policy| policy.refresh_hint.saturating_mul(REFRESH_HINTS_TO_PUBLISH));
        let keys = match kind {
            AuthorityKind::X509 => false,
            AuthorityKind::Jwt => state.serves_oidc(),
        };
        Self {
            bundle: state.serves_bundle_endpoint().then_some(i64::from(hints)),
            keys: keys.then(|| i64::from(state.jwks_cache_time())),
        }
    }

    /// Whether there may be any.
    const fn is_some(self) -> bool {
        self.bundle.is_some() || self.keys.is_some()
    }
}

/// How long readers elsewhere have from the mark on, in seconds; none where nothing is served to them.
#[must_use]
pub fn readers_time(state: &State, kind: AuthorityKind) -> Option<i64> {
    let Reading { bundle, keys } = Reading::of(state, kind);
    bundle.max(keys)
}

/// Whether an authority that is prepared waits for the mark that every live member serves it.
pub(super) fn lacks_mark(state: &State, authority: &AuthorityView) -> bool {
    Reading::of(state, authority.kind).is_some() && authority.times.published_at.is_none()
}

/// Whether confirmations of peers can still shorten the time of an authority that is marked as published.
pub(super) fn can_be_confirmed(state: &State, authority: &AuthorityView) -> bool {
    let times = authority.times;
    state.policy().is_some_and(|policy| policy.publication == Publication::ConfirmedByPeers)
        && times.published_at.is_some()
        && times.confirmed_at.is_none()
        && state.serves_federation_api()
        && state.relationships().next().is_some()
}

/// When readers elsewhere have had the time to learn of an authority that is prepared. None while that is not known,
/// because not every live member is known to serve it.
#[must_use]
pub fn published_at(state: &State, authority: &AuthorityView) -> Option<UnixSeconds> {
    let marked = authority.times.published_at;
    if lacks_mark(state, authority) {
        return None;
    }
    Some(published_at_from(state, authority, marked.unwrap_or(authority.times.prepared_at)))
}

/// The same, if every live member had it at `mark`.
#[must_use]
pub fn published_at_from(state: &State, authority: &AuthorityView, mark: UnixSeconds) -> UnixSeconds {
    let policy = state.policy();
    let mark = authority.times.published_at.unwrap_or(mark);
    let by_policy = authority.times.prepared_at.plus(policy.map_or(0, |policy| i64::from(policy.publication_time)));
    let Reading { bundle, keys } = Reading::of(state, authority.kind);
    let counts = policy.is_some_and(|policy| policy.publication == Publication::ConfirmedByPeers);
    let confirmed = authority.times.confirmed_at.filter(|_| counts);
    let bundle = bundle.map(|seconds| mark.plus(seconds)).map(|at| confirmed.map_or(at, |confirmed| at.min(confirmed)));
    let keys = keys.map(|seconds| mark.plus(seconds));
    [bundle, keys].into_iter().flatten().fold(by_policy, UnixSeconds::max)
}
