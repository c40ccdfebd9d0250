//! Between the API's settings of the discovery provider and the state machine's. What a request leaves open takes its
//! default.

use quorate_proto_api::cluster::{FormerIssuer as WireFormer, GetOidcResponse, OidcSettings as WireSettings};
use quorate_raft_machine::State;
use quorate_raft_machine::web::{FormerIssuer, JWKS_CACHE_TIME_DEFAULT, OidcSettings};
use tonic::Status;

/// How long the documents of an issuer are served after it was replaced, unless said otherwise, in seconds: a day to tell
/// everybody, and far longer than a token lives.
const OVERLAP_DEFAULT: u32 = 24 * 3_600;

/// Takes settings from a request. The state machine checks them again.
pub(super) fn settings(wire: WireSettings) -> Result<OidcSettings, Status> {
    let WireSettings { issuer, also, domains, jwks_cache_time, issuer_overlap } = wire;
    let settings = OidcSettings {
        issuer,
        also,
        domains,
        jwks_cache_time: if jwks_cache_time == 0 { JWKS_CACHE_TIME_DEFAULT } else { jwks_cache_time },
        issuer_overlap: issuer_overlap.unwrap_or(OVERLAP_DEFAULT),
    };
    settings.check().map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(settings)
}

/// The settings, and the issuers before.
pub(super) fn told(state: &State) -> GetOidcResponse {
    let provider = state.oidc();
    let now = state.counters().time.seconds();
    let former = provider.former.iter().filter(|former| now < former.until);
    GetOidcResponse {
        settings: provider.settings.as_ref().map(to_wire),
        revision: provider.revision,
        former: former
            .map(|FormerIssuer { issuer, until }| WireFormer { issuer: issuer.clone(), until: until.0 })
            .collect(),
    }
}

/// Gives settings out, every field set.
pub(super) fn to_wire(settings: &OidcSettings) -> WireSettings {
    let OidcSettings { issuer, also, domains, jwks_cache_time, issuer_overlap } = settings;
    WireSettings {
        issuer: issuer.clone(),
        also: also.clone(),
        domains: domains.clone(),
        jwks_cache_time: *jwks_cache_time,
        issuer_overlap: Some(*issuer_overlap),
    }
}
