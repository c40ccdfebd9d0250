//! `quorate federation create`

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::{CreateRelationshipRequest, Relationship};
use quorate_proto_identity::TrustDomain;

use super::change::told;
use super::client;
use super::endpoint::{EndpointArgs, PinArgs, PollArgs};
use crate::cli::cluster::change::ChangeArgs;
use crate::cli::failure::Failure;
use crate::cli::output::complain;
use crate::given;

/// What to begin with, below the options.
const EXAMPLES: &str = "\
Which profile it is, the other side says:
  https_web       the server has a certificate of the Web, such as for an S3 bucket or behind a load balancer
  https_spiffe    the server has an X509-SVID: its trust domain's bundle is needed to begin, from --bundle
  federation_api  the Federation API of Quorate: bundles for those who prove who they are, and push

Secrets are read from a file that only you can read, or from standard input, and never from the command line.

Examples:
  quorate federation create two.example --profile https_web --url https://bundles.two.example/two.example.json
  quorate federation create two.example --profile https_spiffe --url https://two.example:8443/ \
--endpoint-spiffe-id spiffe://two.example/spire/server --bundle two.example.json
  quorate federation create two.example --profile federation_api --url https://two.example:8444 \
--endpoint-spiffe-id spiffe://two.example/spire/server --credential mutual-tls --bundle two.example.json
  quorate federation create two.example --profile federation_api --url https://api.two.example --credential api-key --secret-file key
  quorate federation create two.example --profile federation_api --url https://api.two.example --credential oauth \
--token-url https://login.two.example/token --client-id one --secret-file -";

/// What `quorate federation create` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    change: ChangeArgs,

    /// The foreign trust domain
    #[arg(value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id)]
    trust_domain: TrustDomain,

    #[command(flatten)]
    endpoint: EndpointArgs,

    /// The foreign trust domain's bundle to begin with: a SPIFFE bundle document, or X.509 authorities as PEM; `-` is standard
    /// input
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,

    #[command(flatten)]
    pins: PinArgs,

    #[command(flatten)]
    poll: PollArgs,
}

/// Makes a relationship.
pub(super) async fn run(args: CreateArgs) -> Result<(), Failure> {
    let endpoint = args.endpoint.endpoint()?;
    if args.endpoint.needs_a_secret() && args.endpoint.secret_file.is_none() {
        return Err(Failure::Usage(
            "--secret-file FILE is needed for this credential; `-` is standard input".to_owned(),
        ));
    }
    let bundle = match &args.bundle {
        Some(path) => {
            let given = given::bundle::read(path, &args.trust_domain)?;
            given.notes.iter().for_each(|note| complain(&format!("Note: {note}")));
            Bytes::from(given.bundle.to_json())
        }
        None => Bytes::new(),
    };
    let secret = args.endpoint.secret_file.as_deref().map(given::secret::read).transpose()?;
    let connection = args.change.admin.connect()?;
    let message = CreateRelationshipRequest {
        relationship: Some(Relationship {
            trust_domain: args.trust_domain.to_string(),
            endpoint: Some(endpoint),
            pins: args.pins.pins(),
            poll: args.poll.poll(None)?,
            ..Relationship::default()
        }),
        bundle,
        secret: secret.map(|secret| Bytes::copy_from_slice(&secret)).unwrap_or_default(),
        dry_run: args.change.dry_run,
    };
    let answer = client(&connection)
        .create_relationship(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed("create the relationship"))?
        .into_inner();
    told(&args.change, &answer)
}
