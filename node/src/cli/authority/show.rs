//! `quorate authority show`

use clap::Args;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::authorities_client::AuthoritiesClient;
use quorate_proto_api::cluster::{
    Authority, AuthorityKind, AuthoritySet, AuthorityState, ShowAuthoritiesRequest, ShowAuthoritiesResponse,
};
use quorate_proto_identity::UnixSeconds;
use serde::Serialize;

use super::json::{self, AuthoritySetJson};
use crate::cli::failure::Failure;
use crate::cli::json::Wide;
use crate::cli::output::answer;
use crate::cli::socket::ReadArgs;
use crate::cli::text::Table;

/// What follows the options.
const COLUMNS: &str = "\
STATE   active: signs. prepared: signs next. old, tainted: in the bundle, signs no more. revoked: out of the bundle
ID      of a root its subject key ID, of a token key its `kid`: what `--id` takes
SINCE   when it came to that state
ENDS    the end of its own validity; what it signed ends no later
NOTE    what was ordered or found";

/// What `quorate authority show` takes.
#[derive(Debug, Args)]
#[command(after_help = COLUMNS)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    read: ReadArgs,
}

/// `quorate.cluster.v1.ShowAuthoritiesResponse`
#[derive(Serialize)]
struct ShowJson<'a> {
    x509: AuthoritySetJson<'a>,
    jwt: AuthoritySetJson<'a>,
    bundle_sequence: Wide<u64>,
}

/// Shows the authorities.
pub(super) async fn run(args: ShowArgs) -> Result<(), Failure> {
    let connection = args.read.connect()?;
    let ShowAuthoritiesResponse { x509, jwt, bundle_sequence } = AuthoritiesClient::new(connection.channel())
        .show(connection.request(ShowAuthoritiesRequest {}, CALL_LIMIT))
        .await
        .map_err(connection.failed("show the authorities"))?
        .into_inner();
    let (x509, jwt) = (x509.unwrap_or_default(), jwt.unwrap_or_default());
    let json = ShowJson {
        x509: AuthoritySetJson::from(&x509),
        jwt: AuthoritySetJson::from(&jwt),
        bundle_sequence: Wide(bundle_sequence),
    };
    answer(args.read.output(), &table(&x509, &jwt), &json)
}

fn table(x509: &AuthoritySet, jwt: &AuthoritySet) -> Table<6> {
    let mut table = Table::new(["KIND", "STATE", "ID", "SINCE", "ENDS", "NOTE"]);
    for (kind, set) in [(AuthorityKind::X509, x509), (AuthorityKind::Jwt, jwt)] {
        let AuthoritySet { active, prepared, old, revoked } = set;
        for authority in active.iter().chain(prepared).chain(old).chain(revoked) {
            table.row([
                json::kind(kind).to_owned(),
                json::state(authority.state()).to_owned(),
                authority.id.clone(),
                since(authority).map_or_else(|| "-".to_owned(), |at| UnixSeconds(at).to_string()),
                UnixSeconds(authority.not_after).to_string(),
                note(authority),
            ]);
        }
    }
    table
}

/// When an authority came to the state that it is in.
fn since(authority: &Authority) -> Option<i64> {
    match authority.state() {
        AuthorityState::Unspecified => None,
        AuthorityState::Prepared => Some(authority.prepared_at),
        AuthorityState::Active => authority.activated_at,
        AuthorityState::Old => authority.retired_at,
        AuthorityState::Tainted => authority.tainted_at,
        AuthorityState::Revoked => authority.revoked_at,
    }
}

fn note(authority: &Authority) -> String {
    match (authority.suspected_at, authority.replace_at) {
        (Some(at), _) => format!("somebody may have its key, since {}", UnixSeconds(at)),
        (None, Some(at)) if authority.retired_at.is_none() => format!("to be replaced, since {}", UnixSeconds(at)),
        (None, _) => match (authority.state(), authority.confirmed_at, authority.published_at) {
            (AuthorityState::Prepared, Some(at), _) => format!("in force at every peer, since {}", UnixSeconds(at)),
            (AuthorityState::Prepared, None, Some(at)) => format!("served by every member, since {}", UnixSeconds(at)),
            _ => String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(id: &str, state: AuthorityState) -> Authority {
        Authority { id: id.into(), state: state.into(), prepared_at: 60, not_after: 3_600, ..Authority::default() }
    }

    fn set() -> AuthoritySet {
        AuthoritySet {
            active: Some(Authority { activated_at: Some(120), ..authority("bb", AuthorityState::Active) }),
            prepared: None,
            old: vec![Authority {
                retired_at: Some(120),
                tainted_at: Some(180),
                suspected_at: Some(100),
                ..authority("aa", AuthorityState::Tainted)
            }],
            revoked: Vec::new(),
        }
    }

    #[test]
    fn authorities_are_listed_by_kind_the_one_that_signs_first() {
        let keys = AuthoritySet { prepared: Some(authority("k", AuthorityState::Prepared)), ..AuthoritySet::default() };
        assert_eq!(
            table(&set(), &keys).to_string(),
            "KIND  STATE     ID  SINCE                 ENDS                  NOTE\n\
             x509  active    bb  1970-01-01T00:02:00Z  1970-01-01T01:00:00Z\n\
             x509  tainted   aa  1970-01-01T00:03:00Z  1970-01-01T01:00:00Z  somebody may have its key, since \
             1970-01-01T00:01:40Z\n\
             jwt   prepared  k   1970-01-01T00:01:00Z  1970-01-01T01:00:00Z\n"
        );
    }

    /// Issue 5, point 3: under each kind `active` and `prepared`, and `old`, a list.
    #[test]
    fn programs_get_each_state_by_its_name_with_dates() {
        let value = serde_json::to_value(AuthoritySetJson::from(&set())).unwrap();
        assert_eq!(value["active"]["id"], "bb");
        assert_eq!(value["active"]["state"], "active");
        assert_eq!(value["active"]["activated_at"], "120");
        assert_eq!(value["active"]["not_after"], "3600");
        assert_eq!(value["prepared"], serde_json::Value::Null);
        assert_eq!(value["old"][0]["state"], "tainted");
        assert_eq!(value["old"][0]["tainted_at"], "180");
    }
}
