//! Authorities for programs.

use quorate_proto_api::cluster::{Authority, AuthorityKind, AuthoritySet, AuthorityState};
use serde::Serialize;

use crate::cli::json::Wide;

/// The standard word for a state, as it is printed.
pub(super) fn state(state: AuthorityState) -> &'static str {
    match state {
        AuthorityState::Unspecified => "unknown",
        AuthorityState::Prepared => "prepared",
        AuthorityState::Active => "active",
        AuthorityState::Old => "old",
        AuthorityState::Tainted => "tainted",
        AuthorityState::Revoked => "revoked",
    }
}

/// The word for a kind, as it is printed and typed.
pub(super) fn kind(kind: AuthorityKind) -> &'static str {
    match kind {
        AuthorityKind::Unspecified => "unknown",
        AuthorityKind::X509 => "x509",
        AuthorityKind::Jwt => "jwt",
    }
}

/// `quorate.cluster.v1.Authority`, its state as a word.
#[derive(Serialize)]
pub(super) struct AuthorityJson<'a> {
    id: &'a str,
    state: &'static str,
    not_before: Wide<i64>,
    not_after: Wide<i64>,
    prepared_at: Wide<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    activated_at: Option<Wide<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retired_at: Option<Wide<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tainted_at: Option<Wide<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Wide<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replace_at: Option<Wide<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspected_at: Option<Wide<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<Wide<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed_at: Option<Wide<i64>>,
}

impl<'a> From<&'a Authority> for AuthorityJson<'a> {
    fn from(authority: &'a Authority) -> Self {
        Self {
            id: &authority.id,
            state: state(authority.state()),
            not_before: Wide(authority.not_before),
            not_after: Wide(authority.not_after),
            prepared_at: Wide(authority.prepared_at),
            activated_at: authority.activated_at.map(Wide),
            retired_at: authority.retired_at.map(Wide),
            tainted_at: authority.tainted_at.map(Wide),
            revoked_at: authority.revoked_at.map(Wide),
            replace_at: authority.replace_at.map(Wide),
            suspected_at: authority.suspected_at.map(Wide),
            published_at: authority.published_at.map(Wide),
            confirmed_at: authority.confirmed_at.map(Wide),
        }
    }
}

/// `quorate.cluster.v1.AuthoritySet`
#[derive(Serialize)]
pub(super) struct AuthoritySetJson<'a> {
    active: Option<AuthorityJson<'a>>,
    prepared: Option<AuthorityJson<'a>>,
    old: Vec<AuthorityJson<'a>>,
    revoked: Vec<AuthorityJson<'a>>,
}

impl<'a> From<&'a AuthoritySet> for AuthoritySetJson<'a> {
    fn from(set: &'a AuthoritySet) -> Self {
        let AuthoritySet { active, prepared, old, revoked } = set;
        Self {
            active: active.as_ref().map(AuthorityJson::from),
            prepared: prepared.as_ref().map(AuthorityJson::from),
            old: old.iter().map(AuthorityJson::from).collect(),
            revoked: revoked.iter().map(AuthorityJson::from).collect(),
        }
    }
}
