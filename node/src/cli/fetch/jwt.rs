//! `quorate fetch jwt`

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use quorate_proto_api::JWT_TTL_HEADER;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::workload::{Jwtsvid, JwtsvidRequest};
use quorate_proto_identity::{SpiffeId, UnixSeconds};
use serde::Serialize;

use super::client;
use crate::cli::failure::Failure;
use crate::cli::output::answer;
use crate::cli::socket::WorkloadArgs;
use crate::cli::text::Facts;
use crate::duration::Seconds;

/// What `quorate fetch jwt` takes.
#[derive(Debug, Args)]
pub(crate) struct JwtArgs {
    #[command(flatten)]
    workload: WorkloadArgs,

    /// For whom the token is. Can be repeated
    #[arg(long = "audience", value_name = "AUDIENCE", required = true)]
    audiences: Vec<String>,

    /// Of this identity alone [default: all that the caller has]
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    /// A shorter life than the entry gives, such as 60s
    #[arg(long, value_name = "TIME")]
    ttl: Option<Seconds>,
}

/// `JWTSVIDResponse`
#[derive(Serialize)]
struct AnswerJson<'a> {
    svids: Vec<SvidJson<'a>>,
}

#[derive(Serialize)]
struct SvidJson<'a> {
    spiffe_id: &'a str,
    svid: &'a str,
    hint: &'a str,
}

/// Fetches tokens and prints them: they are what was asked for.
pub(super) async fn run(args: JwtArgs) -> Result<(), Failure> {
    let connection = args.workload.connect()?;
    let spiffe_id = args.spiffe_id.map(|id| id.to_string()).unwrap_or_default();
    let mut request = connection.request(JwtsvidRequest { audience: args.audiences, spiffe_id }, CALL_LIMIT);
    if let Some(ttl) = args.ttl {
        request.metadata_mut().insert(JWT_TTL_HEADER, ttl.get().into());
    }
    let answered = client(&connection).fetch_jwtsvid(request).await;
    let svids = answered.map_err(connection.failed("fetch JWT-SVIDs"))?.into_inner().svids;
    let texts: Vec<String> = svids.iter().map(described).collect();
    let json = AnswerJson {
        svids: svids.iter().map(|Jwtsvid { spiffe_id, svid, hint }| SvidJson { spiffe_id, svid, hint }).collect(),
    };
    answer(args.workload.output, &texts.join("\n"), &json)
}

fn described(svid: &Jwtsvid) -> String {
    let mut facts = Facts::new();
    facts.add("SPIFFE ID", &svid.spiffe_id).add_unless_empty("Hint", &svid.hint);
    if let Some(expiry) = expiry(&svid.svid) {
        facts.add("Valid until", expiry);
    }
    facts.add("Token", &svid.svid);
    facts.to_string()
}

/// What the token says of its end. For people to read: nothing here verifies it.
fn expiry(token: &str) -> Option<UnixSeconds> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    claims.get("exp")?.as_i64().map(UnixSeconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_token_is_read_from_it_if_it_can_be() {
        let token = format!("x.{}.y", URL_SAFE_NO_PAD.encode(r#"{"exp":1700000000}"#));
        assert_eq!(expiry(&token), Some(UnixSeconds(1_700_000_000)));
        for token in ["", "a.b.c", "a", "a..c"] {
            assert_eq!(expiry(token), None);
        }
    }
}
