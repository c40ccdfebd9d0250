//! `quorate federation update`: changes what is given and leaves the rest.

use bytes::Bytes;
use clap::Args;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::{EndpointPins, GetRelationshipRequest, UpdateRelationshipRequest};
use quorate_proto_identity::TrustDomain;

use super::change::told;
use super::client;
use super::endpoint::{EndpointArgs, PinArgs, PollArgs};
use crate::cli::cluster::change::ChangeArgs;
use crate::cli::failure::Failure;
use crate::given;

/// What follows the options.
const EXAMPLES: &str = "\
An endpoint is replaced as a whole: give --profile and all that belongs to it. --secret-file alone puts another secret in
place of the one that is kept. The bundle that is held stays; `quorate bundle set` puts in another one.

Examples:
  quorate federation update two.example --profile https_web --url https://bundles.two.example/new.json
  quorate federation update two.example --secret-file -
  quorate federation update two.example --poll-floor 5m --follow-redirects false
  quorate federation update two.example --no-pins";

/// What `quorate federation update` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    change: ChangeArgs,

    /// The foreign trust domain
    #[arg(value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id)]
    trust_domain: TrustDomain,

    #[command(flatten)]
    endpoint: EndpointArgs,

    #[command(flatten)]
    pins: PinArgs,

    /// Take all pins away
    #[arg(long, conflicts_with_all = ["hosts", "keys"])]
    no_pins: bool,

    #[command(flatten)]
    poll: PollArgs,
}

/// Changes a relationship.
pub(super) async fn run(args: UpdateArgs) -> Result<(), Failure> {
    const DEED: &str = "change the relationship";
    let endpoint = args.endpoint.is_given().then(|| args.endpoint.endpoint()).transpose()?;
    let pins = if args.no_pins { Some(EndpointPins::default()) } else { args.pins.pins() };
    if endpoint.is_none() && pins.is_none() && args.endpoint.secret_file.is_none() && args.poll.poll(None)?.is_none() {
        return Err(Failure::Usage("nothing is given that could be changed".to_owned()));
    }
    let secret = args.endpoint.secret_file.as_deref().map(given::secret::read).transpose()?;
    let connection = args.change.admin.connect()?;
    let mut client = client(&connection);
    let message = GetRelationshipRequest { trust_domain: args.trust_domain.to_string() };
    let held = client
        .get_relationship(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed(DEED))?
        .into_inner();
    let message = UpdateRelationshipRequest {
        trust_domain: args.trust_domain.to_string(),
        endpoint,
        pins,
        poll: args.poll.poll(held.poll)?,
        secret: secret.map(|secret| Bytes::copy_from_slice(&secret)).unwrap_or_default(),
        // What was left out is taken from what was just seen, so nobody may have changed it meanwhile.
        expected_revision: held.revision,
        dry_run: args.change.dry_run,
    };
    let answer = client
        .update_relationship(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed(DEED))?
        .into_inner();
    told(&args.change, &answer)
}
