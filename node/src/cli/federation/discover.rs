//! `quorate federation discover`

use clap::Args;
use quorate_proto_api::channel::BULK_CALL_LIMIT;
use quorate_proto_api::cluster::federation_discovery_client::FederationDiscoveryClient;
use quorate_proto_api::cluster::{
    DiscoverRequest, DiscoverResponse, FederationProposal, FoundBy, SeenBundle, SeenCertificate, SeenPolicy,
};
use quorate_proto_identity::{TrustDomain, UnixSeconds};
use serde::Serialize;

use super::describe::{hex, profile, sequence, server};
use super::endpoint::PinArgs;
use super::json::RelationshipJson;
use crate::cli::failure::Failure;
use crate::cli::json::{Base64, Wide};
use crate::cli::output::answer;
use crate::cli::socket::{AdminArgs, Connection};
use crate::cli::text::{Facts, printable};

/// Largest answer taken, in bytes: every place that can be found, with the largest bundle.
const ANSWER_BYTES_LIMIT: usize = 40 * 1024 * 1024;

/// What follows the options.
const HELP: &str = "\
DNS is not trust, and nothing is changed. What is shown has to be compared by another way, such as the telephone, with what
the operators of the other side read from `quorate bundle show` and from their certificates. Then accept it.

Looked for, in this order, until something is found:
  PTR, SRV and TXT records of _spiffe-fed._tcp.TRUST-DOMAIN   (DNS service discovery)
  SRV and TXT records of _spiffe-fed._tcp.TRUST-DOMAIN itself
  https://TRUST-DOMAIN/.well-known/spiffe-federation          (the document of a Federation API)

Examples:
  quorate federation discover two.example
  quorate federation discover two.example --url https://api.two.example:8444
  quorate federation accept two.example --proposal 3f9a01b2c3d4 --fingerprint 5b0c4f0a1b2c3d4e5f60718293a4b5c6d7e84f0a1b2c3d4e5f60718293a4b5c6";

/// What `quorate federation discover` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct DiscoverArgs {
    #[command(flatten)]
    admin: AdminArgs,

    #[command(flatten)]
    search: SearchArgs,

    /// Search nowhere, and ask the Federation API at this URL: https, host and port
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// What is searched for.
#[derive(Debug, Args)]
pub(super) struct SearchArgs {
    /// The foreign trust domain
    #[arg(value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id)]
    pub(super) trust_domain: TrustDomain,

    #[command(flatten)]
    pins: PinArgs,
}

impl SearchArgs {
    /// Searches; `url` names the Federation API to ask instead.
    pub(super) async fn search(&self, connection: &Connection, url: Option<&str>) -> Result<DiscoverResponse, Failure> {
        let message = DiscoverRequest {
            trust_domain: self.trust_domain.to_string(),
            url: url.unwrap_or_default().to_owned(),
            pins: self.pins.pins(),
        };
        let answer = FederationDiscoveryClient::new(connection.channel())
            .max_decoding_message_size(ANSWER_BYTES_LIMIT)
            .discover(connection.request(message, BULK_CALL_LIMIT))
            .await;
        Ok(answer.map_err(connection.failed("discover the trust domain"))?.into_inner())
    }
}

/// Searches, and shows what was found.
pub(super) async fn run(args: DiscoverArgs) -> Result<(), Failure> {
    let DiscoverArgs { admin, search, url } = args;
    let connection = admin.connect()?;
    let found = search.search(&connection, url.as_deref()).await?;
    answer(admin.output, &described(&search.trust_domain, &found), &FoundJson::from(&found))
}

fn described(domain: &TrustDomain, found: &DiscoverResponse) -> String {
    let mut text = String::new();
    for proposal in &found.proposals {
        text.push_str(&proposal_described(proposal));
        text.push('\n');
    }
    for remark in &found.remarks {
        text.push_str(&format!("Note: {}\n", printable(remark)));
    }
    text.push_str(&match found.proposals.len() {
        0 => format!(
            "Nothing was found for {domain}. Ask its operators for the endpoint: `quorate federation create --help`.\n"
        ),
        _ => "Compare the fingerprints by another way; then `quorate federation accept`. Nothing was changed.\n"
            .to_owned(),
    });
    text
}

/// A proposal, a fact a line.
pub(super) fn proposal_described(of: &FederationProposal) -> String {
    let mut facts = Facts::new();
    let endpoint = of.relationship.as_ref().and_then(|relationship| relationship.endpoint.as_ref());
    facts.add("Proposal", &of.id).add("Found", how(of)).add("URL", &of.url);
    match endpoint {
        Some(endpoint) => facts.add("Profile", profile(Some(endpoint))).add("Server", server(Some(endpoint)).1),
        None => facts.add("Profile", "not said, and never guessed: ask its operators, and give --profile"),
    };
    facts.add("Host", host(of)).add("DNSSEC", if of.dnssec { "vouches for every record" } else { "does not vouch" });
    facts.add_unless_empty("Address", &of.address);
    for certificate in &of.certificates {
        facts.add("Certificate", named(certificate)).add("  issued by", &certificate.issuer);
        facts
            .add("  valid until", UnixSeconds(certificate.not_after))
            .add("  key SHA-256", hex(&certificate.key_fingerprint));
    }
    if !of.web_trust.is_empty() {
        facts.add("Web", format_args!("not vouched for: {}", of.web_trust));
    }
    if let Some(bundle) = &of.seen_bundle {
        bundle_facts(&mut facts, bundle);
    }
    if let Some(policy) = &of.policy {
        facts.add("Answers", answers(policy));
    }
    for obstacle in &of.obstacles {
        facts.add("In the way", obstacle);
    }
    if of.needs_bundle {
        facts.add("To accept", "--bundle FILE, or --fingerprint of an authority, compared by another way");
    }
    facts.to_string()
}

fn bundle_facts(facts: &mut Facts, bundle: &SeenBundle) {
    facts.add(
        "Bundle served",
        format_args!(
            "sequence {}, {} X.509 and {} JWT authorities",
            sequence(bundle.sequence),
            bundle.x509_authorities.len(),
            bundle.jwt_key_ids.len()
        ),
    );
    for authority in &bundle.x509_authorities {
        facts.add("  authority", named(authority)).add("  key SHA-256", hex(&authority.key_fingerprint));
    }
}

fn how(of: &FederationProposal) -> String {
    match of.found_by() {
        FoundBy::DnsSd => format!("by DNS service discovery, as {:?}", of.source),
        FoundBy::Srv => "by SRV record".to_owned(),
        FoundBy::Document => format!("in {}", of.source),
        FoundBy::Unspecified => "-".to_owned(),
    }
}

fn host(of: &FederationProposal) -> &'static str {
    match (of.within_domain, of.confirm_host) {
        (true, _) => "the trust domain's name, or below it",
        (false, true) => "elsewhere, and nobody vouches for that: accept with --confirm-host",
        (false, false) => "elsewhere, as the trust domain's signed zone says",
    }
}

/// Who a certificate is for: its SPIFFE ID, its names, or its subject.
fn named(of: &SeenCertificate) -> String {
    if !of.spiffe_id.is_empty() {
        of.spiffe_id.clone()
    } else if of.names.is_empty() {
        of.subject.clone()
    } else {
        of.names.join(", ")
    }
}

/// Whom a Federation API answers.
pub(super) fn answers(policy: &SeenPolicy) -> String {
    let SeenPolicy { mutual_tls, api_keys, oauth, anonymous, watch } = policy;
    let mut who = Vec::new();
    if *mutual_tls {
        who.push("mutual TLS".to_owned());
    }
    if *api_keys {
        who.push("API keys".to_owned());
    }
    who.extend(oauth.iter().map(|issuer| format!("tokens of {issuer}")));
    if *anonymous {
        who.push("everybody".to_owned());
    }
    let who = if who.is_empty() { "nobody".to_owned() } else { who.join("; ") };
    if *watch { format!("{who}; and pushes") } else { who }
}

/// `quorate.cluster.v1.DiscoverResponse`
#[derive(Serialize)]
struct FoundJson<'a> {
    proposals: Vec<ProposalJson<'a>>,
    remarks: &'a [String],
}

/// `quorate.cluster.v1.FederationProposal`
#[derive(Serialize)]
struct ProposalJson<'a> {
    id: &'a str,
    found_by: &'static str,
    source: &'a str,
    relationship: Option<RelationshipJson<'a>>,
    url: &'a str,
    within_domain: bool,
    dnssec: bool,
    confirm_host: bool,
    needs_bundle: bool,
    address: &'a str,
    certificates: Vec<CertificateJson<'a>>,
    web_trust: &'a str,
    bundle: Base64<'a>,
    seen_bundle: Option<BundleJson<'a>>,
    policy: Option<PolicyJson<'a>>,
    obstacles: &'a [String],
}

/// `quorate.cluster.v1.SeenCertificate`; its fingerprint in hexadecimal, as it is compared.
#[derive(Serialize)]
struct CertificateJson<'a> {
    subject: &'a str,
    issuer: &'a str,
    spiffe_id: &'a str,
    names: &'a [String],
    not_after: Wide<i64>,
    key_fingerprint: String,
}

/// `quorate.cluster.v1.SeenBundle`
#[derive(Serialize)]
struct BundleJson<'a> {
    sequence: Option<Wide<u64>>,
    refresh_hint: Option<Wide<i64>>,
    x509_authorities: Vec<CertificateJson<'a>>,
    jwt_key_ids: &'a [String],
}

/// `quorate.cluster.v1.SeenPolicy`
#[derive(Serialize)]
struct PolicyJson<'a> {
    mutual_tls: bool,
    api_keys: bool,
    oauth: &'a [String],
    anonymous: bool,
    watch: bool,
}

impl<'a> From<&'a DiscoverResponse> for FoundJson<'a> {
    fn from(of: &'a DiscoverResponse) -> Self {
        let DiscoverResponse { proposals, remarks } = of;
        Self { proposals: proposals.iter().map(Into::into).collect(), remarks }
    }
}

impl<'a> From<&'a FederationProposal> for ProposalJson<'a> {
    fn from(of: &'a FederationProposal) -> Self {
        Self {
            id: &of.id,
            found_by: of.found_by().as_str_name(),
            source: &of.source,
            relationship: of.relationship.as_ref().map(Into::into),
            url: &of.url,
            within_domain: of.within_domain,
            dnssec: of.dnssec,
            confirm_host: of.confirm_host,
            needs_bundle: of.needs_bundle,
            address: &of.address,
            certificates: of.certificates.iter().map(Into::into).collect(),
            web_trust: &of.web_trust,
            bundle: Base64(&of.bundle),
            seen_bundle: of.seen_bundle.as_ref().map(Into::into),
            policy: of.policy.as_ref().map(|policy| PolicyJson {
                mutual_tls: policy.mutual_tls,
                api_keys: policy.api_keys,
                oauth: &policy.oauth,
                anonymous: policy.anonymous,
                watch: policy.watch,
            }),
            obstacles: &of.obstacles,
        }
    }
}

impl<'a> From<&'a SeenCertificate> for CertificateJson<'a> {
    fn from(of: &'a SeenCertificate) -> Self {
        let SeenCertificate { subject, issuer, spiffe_id, names, not_after, key_fingerprint } = of;
        let (not_after, key_fingerprint) = (Wide(*not_after), hex(key_fingerprint));
        Self { subject, issuer, spiffe_id, names, not_after, key_fingerprint }
    }
}

impl<'a> From<&'a SeenBundle> for BundleJson<'a> {
    fn from(of: &'a SeenBundle) -> Self {
        Self {
            sequence: of.sequence.map(Wide),
            refresh_hint: of.refresh_hint.map(Wide),
            x509_authorities: of.x509_authorities.iter().map(Into::into).collect(),
            jwt_key_ids: &of.jwt_key_ids,
        }
    }
}
