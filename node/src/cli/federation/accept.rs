//! `quorate federation accept`: a proposal becomes a relationship.
//!
//! ```text
//!   discover once more ──► the proposal that was compared ──► host confirmed? bundle or fingerprint given? ──► create
//! ```
//!
//! What was compared is what is accepted: the proposal's ID stands for URL, profile, SPIFFE ID and authorities, so one that
//! has changed meanwhile is not found under it.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::api_credential::Kind;
use quorate_proto_api::cluster::relationship_endpoint::Endpoint;
use quorate_proto_api::cluster::{
    CreateRelationshipRequest, DiscoverResponse, FederationProposal, Relationship, RelationshipEndpoint,
};
use quorate_proto_identity::{Bundle, TrustDomain};
use url::Url;

use super::change::told;
use super::client;
use super::describe::hex;
use super::discover::{SearchArgs, answers, proposal_described};
use super::endpoint::{EndpointArgs, Fingerprint, PollArgs, fingerprint};
use crate::cli::cluster::change::ChangeArgs;
use crate::cli::confirm::confirm;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, complain, say};
use crate::federation_discovery::fingerprint::authority_fingerprint;
use crate::given;

/// What follows the options.
const HELP: &str = "\
A fingerprint is the SHA-256 of a public key (SubjectPublicKeyInfo) of an authority, as `quorate federation discover` shows
it. The other side reads its own from its own node: `quorate bundle show --format pem` writes the authorities as PEM, and
  openssl x509 -in authority.pem -noout -pubkey | openssl pkey -pubin -outform der | sha256sum
prints one. Only authorities that a fingerprint names are taken to begin with; the first fetch brings the others.

Examples:
  quorate federation accept two.example --proposal 3f9a01b2c3d4
  quorate federation accept two.example --proposal 3f9a01b2c3d4 --fingerprint 5b0c4f0a1b2c3d4e5f60718293a4b5c6d7e84f0a1b2c3d4e5f60718293a4b5c6
  quorate federation accept two.example --proposal 3f9a01b2c3d4 --bundle two.example.json --credential mutual-tls
  quorate federation accept two.example --proposal 3f9a01b2c3d4 --confirm-host bundles.hosting.example";

/// What `quorate federation accept` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct AcceptArgs {
    #[command(flatten)]
    change: ChangeArgs,

    #[command(flatten)]
    search: SearchArgs,

    /// The proposal that was compared, as `quorate federation discover` shows it [default: the only one, after a question]
    #[arg(long, value_name = "ID")]
    proposal: Option<String>,

    /// The foreign trust domain's bundle, as it came by another way: a SPIFFE bundle document, or X.509 authorities as PEM; `-`
    /// is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "fingerprints")]
    bundle: Option<PathBuf>,

    /// The fingerprint of an authority, as it was compared by another way. Can be repeated
    #[arg(long = "fingerprint", value_name = "SHA256", value_parser = fingerprint)]
    fingerprints: Vec<Fingerprint>,

    /// The host, when it is not within the trust domain and DNSSEC does not vouch for it
    #[arg(long, value_name = "HOST")]
    confirm_host: Option<String>,

    #[command(flatten)]
    endpoint: EndpointArgs,

    #[command(flatten)]
    poll: PollArgs,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Accepts a proposal.
pub(super) async fn run(args: AcceptArgs) -> Result<(), Failure> {
    let connection = args.change.admin.connect()?;
    let found = args.search.search(&connection, args.endpoint.url.as_deref()).await?;
    let proposal = chosen(&found, args.proposal.as_deref())?;
    check(proposal, args.confirm_host.as_deref())?;
    let endpoint = endpoint(proposal, &args.endpoint)?;
    let domain = &args.search.trust_domain;
    let bundle = bundle(&args, domain, proposal, &found)?;
    let secret = args.endpoint.secret_file.as_deref().map(given::secret::read).transpose()?;
    if args.change.admin.output == Format::Table {
        say(&format!("{}\n", proposal_described(proposal)))?;
    }
    if args.proposal.is_none() && !args.yes && !args.change.dry_run {
        confirm("accept the proposal", "This was found just now. Was it compared by another way?")?;
    }
    let relationship = Relationship {
        endpoint: Some(endpoint),
        poll: args.poll.poll(None)?,
        ..proposal.relationship.clone().unwrap_or_default()
    };
    let message = CreateRelationshipRequest {
        relationship: Some(relationship),
        bundle: bundle.map(|bundle| Bytes::from(bundle.to_json())).unwrap_or_default(),
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

fn usage(text: impl Into<String>) -> Failure {
    Failure::Usage(text.into())
}

/// The proposal of this ID, or the only one.
fn chosen<'a>(found: &'a DiscoverResponse, id: Option<&str>) -> Result<&'a FederationProposal, Failure> {
    let ids = || found.proposals.iter().map(|proposal| proposal.id.as_str()).collect::<Vec<_>>().join(", ");
    match (id, found.proposals.as_slice()) {
        (_, []) => Err(usage(format!("nothing was found: {}", found.remarks.join("; ")))),
        (Some(id), proposals) => proposals.iter().find(|proposal| proposal.id == id).ok_or_else(|| {
            usage(format!(
                "the proposal {id} is not there any more, so what was compared has changed; there is: {}. Look with \
                 `quorate federation discover`",
                ids()
            ))
        }),
        (None, [only]) => Ok(only),
        (None, _) => Err(usage(format!("there are several proposals; say which, with --proposal: {}", ids()))),
    }
}

/// What stands in the way whatever else is given.
fn check(proposal: &FederationProposal, confirmed: Option<&str>) -> Result<(), Failure> {
    if let Some(obstacle) = proposal.obstacles.first() {
        return Err(usage(format!("this cannot be accepted: {obstacle}")));
    }
    let host = Url::parse(&proposal.url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    match confirmed {
        Some(confirmed) if !confirmed.eq_ignore_ascii_case(&host) => {
            Err(usage(format!("--confirm-host says {confirmed}, and the proposal's host is {host}")))
        }
        None if proposal.confirm_host => Err(usage(format!(
            "the host {host} is not within the trust domain, and nobody vouches for it. If its operators say by another way \
             that it is theirs: --confirm-host {host}"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// The endpoint: as proposed, with our credential; or by the options, where nobody said the profile.
fn endpoint(proposal: &FederationProposal, args: &EndpointArgs) -> Result<RelationshipEndpoint, Failure> {
    let proposed = proposal.relationship.as_ref().and_then(|relationship| relationship.endpoint.clone());
    let Some(RelationshipEndpoint { endpoint: Some(mut proposed) }) = proposed else {
        let by_options = EndpointArgs { url: Some(proposal.url.clone()), ..args.clone() };
        return by_options.endpoint();
    };
    if args.profile.is_some() || args.endpoint_spiffe_id.is_some() {
        return Err(usage("--profile and --endpoint-spiffe-id are for a proposal that says no profile; this one does"));
    }
    match &mut proposed {
        Endpoint::Api(api) => {
            if args.needs_a_secret() && args.secret_file.is_none() {
                return Err(usage("--secret-file FILE is needed for this credential; `-` is standard input"));
            }
            let credential = args.credential()?;
            let answers_us = match (&credential, &proposal.policy) {
                (_, None) => true,
                (Kind::None(_), Some(policy)) => policy.anonymous,
                (Kind::MutualTls(_), Some(policy)) => policy.mutual_tls,
                (Kind::ApiKey(_), Some(policy)) => policy.api_keys,
                (Kind::Oauth(_), Some(policy)) => !policy.oauth.is_empty(),
            };
            if let (false, Some(policy)) = (answers_us, &proposal.policy) {
                return Err(usage(format!(
                    "say how we prove who we are, with --credential. It answers {}",
                    answers(policy)
                )));
            }
            api.credential = Some(quorate_proto_api::cluster::ApiCredential { kind: Some(credential) });
            api.watch &= !args.no_watch;
        }
        Endpoint::Web(_) | Endpoint::Spiffe(_) => args.refuse_api_options()?,
    }
    Ok(RelationshipEndpoint { endpoint: Some(proposed) })
}

/// The bundle to begin with: one that came by another way, or of what was served the authorities that were.
fn bundle(
    args: &AcceptArgs,
    domain: &TrustDomain,
    proposal: &FederationProposal,
    found: &DiscoverResponse,
) -> Result<Option<Bundle>, Failure> {
    if let Some(path) = &args.bundle {
        let given = given::bundle::read(path, domain)?;
        given.notes.iter().for_each(|note| complain(&format!("Note: {note}")));
        return Ok(Some(given.bundle));
    }
    let spiffe_by_options = proposal.relationship.as_ref().is_some_and(|of| of.endpoint.is_none())
        && args.endpoint.endpoint_spiffe_id.as_ref().is_some_and(|id| id.trust_domain() == *domain);
    if args.fingerprints.is_empty() {
        return if proposal.needs_bundle || spiffe_by_options {
            Err(usage(
                "its server shows an X509-SVID, so its bundle is needed to begin: --bundle FILE, or --fingerprint of an \
                 authority that was compared by another way",
            ))
        } else {
            Ok(None)
        };
    }
    // Whose authorities they are, the fingerprints say, and not the place where they were served.
    let mut vouched = Bundle::new(domain.clone());
    let mut missing = args.fingerprints.clone();
    let mut served = Vec::new();
    for document in found.proposals.iter().filter(|proposal| !proposal.bundle.is_empty()) {
        let Ok(parsed) = Bundle::parse(domain, &document.bundle) else { continue };
        for authority in parsed.bundle.x509_authorities() {
            let Some(key) = authority_fingerprint(authority) else { continue };
            served.push(hex(&key));
            if args.fingerprints.contains(&key) {
                missing.retain(|wanted| *wanted != key);
                vouched.add_x509_authority(authority.clone());
            }
        }
    }
    served.sort();
    served.dedup();
    match missing.first() {
        Some(wanted) => Err(usage(format!(
            "no authority with the fingerprint {} is served; there is: {}. Either the fingerprint is mistyped, or somebody \
             else answers: do not accept it before that is known",
            hex(wanted),
            if served.is_empty() { "none".to_owned() } else { served.join(", ") }
        ))),
        None => Ok(Some(vouched)),
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_api::cluster::{ApiEndpoint, SeenPolicy, WebEndpoint};

    use super::*;

    fn web(id: &str) -> FederationProposal {
        let endpoint = Endpoint::Web(WebEndpoint { url: "https://b.example/".to_owned() });
        let relationship = Relationship {
            endpoint: Some(RelationshipEndpoint { endpoint: Some(endpoint) }),
            ..Relationship::default()
        };
        FederationProposal {
            id: id.to_owned(),
            url: "https://b.example/".to_owned(),
            relationship: Some(relationship),
            ..FederationProposal::default()
        }
    }

    fn found(proposals: Vec<FederationProposal>) -> DiscoverResponse {
        DiscoverResponse { proposals, remarks: vec!["no PTR".to_owned()] }
    }

    #[test]
    fn what_was_compared_is_what_is_accepted() {
        assert_eq!(chosen(&found(vec![web("a")]), None).unwrap().id, "a");
        assert_eq!(chosen(&found(vec![web("a"), web("b")]), Some("b")).unwrap().id, "b");
        for (proposals, id, said) in [
            (vec![], None, "nothing was found: no PTR"),
            (vec![web("a"), web("b")], None, "say which"),
            (vec![web("a")], Some("b"), "has changed"),
        ] {
            let error = chosen(&found(proposals), id).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    /// DNS is not trust.
    #[test]
    fn a_host_that_nobody_vouches_for_is_taken_only_when_it_is_named() {
        let elsewhere = FederationProposal { confirm_host: true, ..web("a") };
        assert!(check(&elsewhere, None).unwrap_err().to_string().contains("--confirm-host b.example"));
        assert!(check(&elsewhere, Some("c.example")).is_err());
        assert!(check(&elsewhere, Some("B.example")).is_ok());
        assert!(check(&web("a"), None).is_ok());
        let pinned = FederationProposal { obstacles: vec!["its key is not pinned".to_owned()], ..web("a") };
        assert!(check(&pinned, Some("b.example")).unwrap_err().to_string().contains("not pinned"));
    }

    /// Refuses: FED-50
    #[test]
    fn a_profile_that_nobody_said_has_to_be_given_and_one_that_was_said_cannot_be_changed() {
        let mut open = web("a");
        open.relationship = Some(Relationship::default());
        assert!(endpoint(&open, &EndpointArgs::default()).unwrap_err().to_string().contains("--profile"));
        let args = EndpointArgs { profile: Some(super::super::endpoint::Profile::HttpsWeb), ..EndpointArgs::default() };
        let taken = endpoint(&open, &args).unwrap();
        assert!(matches!(taken.endpoint, Some(Endpoint::Web(web)) if web.url == "https://b.example/"));
        assert!(endpoint(&web("a"), &args).is_err());
    }

    #[test]
    fn a_federation_api_is_shown_what_it_takes() {
        let mut api = web("a");
        let of = ApiEndpoint { url: "https://b.example/".to_owned(), watch: true, ..ApiEndpoint::default() };
        api.relationship = Some(Relationship {
            endpoint: Some(RelationshipEndpoint { endpoint: Some(Endpoint::Api(of)) }),
            ..Relationship::default()
        });
        api.policy = Some(SeenPolicy { mutual_tls: true, watch: true, ..SeenPolicy::default() });
        let error = endpoint(&api, &EndpointArgs::default()).unwrap_err().to_string();
        assert!(error.contains("--credential") && error.contains("mutual TLS; and pushes"), "{error}");
        let credential = Some(super::super::endpoint::Credential::MutualTls);
        let taken = endpoint(&api, &EndpointArgs { credential, no_watch: true, ..EndpointArgs::default() }).unwrap();
        assert!(matches!(taken.endpoint, Some(Endpoint::Api(api)) if !api.watch));
    }
}
