//! `quorate revoke`: what was issued is refused from now on.

use std::time::Duration;

use clap::{ArgGroup, Args};
use quorate_proto_api::cluster::revocation_target::{Jti, Target};
use quorate_proto_api::cluster::revocations_client::RevocationsClient;
use quorate_proto_api::cluster::{
    CrlState, RevocationReason as WireReason, RevocationTarget, RevokeRequest, RevokeResponse,
};
use quorate_proto_identity::x509::RevocationReason;
use quorate_proto_identity::{EntryId, NodeName, SpiffeId, UnixSeconds};
use serde::Serialize;
use tonic::Status;

use super::cluster::change::{ChangeArgs, NOTHING_DONE, lines};
use super::confirm::confirm;
use super::failure::Failure;
use super::json::Wide;
use super::output::{Format, say, say_json};
use super::socket::Connection;
use super::text::Table;
use crate::duration::Seconds;

/// What was tried, for messages.
const DEED: &str = "revoke";

/// How long is waited when nobody says, in seconds.
const DEFAULT_WAIT: i64 = 30;

/// Longer than the node waits by itself: its answer says more than silence.
const GRACE: Duration = Duration::from_secs(15);

/// What to begin with, below the options.
const HELP: &str = "\
What it takes back:
  --spiffe-id, --entry   every X509-SVID that was issued so far, and every JWT-SVID
  --serial               one X509-SVID, by its number in `openssl x509 -serial` or `quorate ledger search`
  --node                 every X509-SVID that a node has signed, for one that was retired in good order
  --jti                  one JWT-SVID

X509-SVIDs come into CRLs, which every open stream of the Workload API is handed at once, and which /crl of the operations \
socket has. Whether a consumer honours them is up to it: short lives cover those that do not. Tokens are refused by \
ValidateJWTSVID and our own proxy alone. Who is entitled gets a new SVID at once, unless it is banned.

Reasons: unspecified, key-compromise, ca-compromise, affiliation-changed, superseded, cessation-of-operation, \
privilege-withdrawn.

Examples:
  quorate revoke --spiffe-id spiffe://example.org/web --reason key-compromise
  quorate revoke --spiffe-id spiffe://example.org/web --ban
  quorate revoke --serial 4f0a1b2c3d4e5f60718293a4b5c6d7e8
  quorate revoke --node node-3 --not-compromised --ban";

/// What `quorate revoke` takes: one thing to revoke.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
#[command(group(ArgGroup::new("target").required(true).args(["serial", "spiffe_id", "entry", "node", "jti"])))]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    change: ChangeArgs,

    /// One X509-SVID, by its serial number: in decimal, or as its 32 hexadecimal digits
    #[arg(long, value_name = "NUMBER")]
    serial: Option<String>,

    /// Whatever was issued with this SPIFFE ID
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    /// Whatever was issued for the entry with this ID
    #[arg(long, value_name = "ID", value_parser = EntryId::new)]
    entry: Option<EntryId>,

    /// Whatever the node of this name has signed
    #[arg(long, value_name = "NAME", value_parser = NodeName::new)]
    node: Option<NodeName>,

    /// One JWT-SVID
    #[arg(long, value_name = "JTI")]
    jti: Option<String>,

    /// The `exp` of that token, in Unix seconds [default: when no token that was issued so far holds any more]
    #[arg(long, value_name = "SECONDS", requires = "jti")]
    expires_at: Option<i64>,

    /// Have no node issue to it any more, until `quorate revocations remove`
    #[arg(long, conflicts_with_all = ["serial", "jti"])]
    ban: bool,

    #[command(flatten)]
    how: HowArgs,

    /// Nobody else has the node's keys. A stolen node is removed with `quorate cluster remove --compromised`, which replaces
    /// what it could open, too
    #[arg(long, requires = "node")]
    not_compromised: bool,
}

/// What every command takes that revokes.
#[derive(Debug, Clone, Args)]
pub(super) struct HowArgs {
    /// Why
    #[arg(long, value_name = "REASON", default_value_t)]
    reason: RevocationReason,

    /// Do not ask, even if nodes are cut off whose workloads will all be refused
    #[arg(long)]
    yes: bool,

    /// How long to wait until it is carried out. It goes on without a listener
    #[arg(long, value_name = "TIME", default_value = "30s")]
    timeout: Seconds,
}

impl HowArgs {
    /// From what another command takes; what is left out takes its default.
    pub(super) fn new(reason: Option<RevocationReason>, yes: bool, timeout: Option<Seconds>) -> Self {
        Self { reason: reason.unwrap_or_default(), yes, timeout: timeout.unwrap_or(Seconds::new(DEFAULT_WAIT)) }
    }

    /// How long the node is to wait.
    pub(super) fn millis(&self) -> u64 {
        // 0 would take the node's default.
        self.timeout.get().unsigned_abs().saturating_mul(1_000).max(1)
    }

    /// How long the answer is waited for.
    pub(super) fn limit(&self) -> Duration {
        Duration::from_millis(self.millis()).saturating_add(GRACE)
    }

    /// The reason as the API has it.
    pub(super) fn wire_reason(&self) -> i32 {
        match self.reason {
            RevocationReason::Unspecified => WireReason::None,
            RevocationReason::KeyCompromise => WireReason::KeyCompromise,
            RevocationReason::CaCompromise => WireReason::CaCompromise,
            RevocationReason::AffiliationChanged => WireReason::AffiliationChanged,
            RevocationReason::Superseded => WireReason::Superseded,
            RevocationReason::CessationOfOperation => WireReason::CessationOfOperation,
            RevocationReason::PrivilegeWithdrawn => WireReason::PrivilegeWithdrawn,
        }
        .into()
    }
}

/// Revokes.
pub(super) async fn run(args: RevokeArgs) -> Result<(), Failure> {
    if let (Some(node), false) = (&args.node, args.not_compromised) {
        return Err(Failure::Usage(format!(
            "if the keys of {node} may be in wrong hands, `quorate cluster remove --compromised {node}` is the command: it also \
             replaces the root and token keys that the node could open. If it was retired in good order, say \
             --not-compromised"
        )));
    }
    let target = target(&args)?;
    let connection = args.change.admin.connect()?;
    let how = &args.how;
    carry_out(DEED, &args.change, how, &connection, async |dry_run, revoke_cut_off| {
        let message = RevokeRequest {
            target: Some(target.clone()),
            reason: how.wire_reason(),
            ban: args.ban,
            not_compromised: args.not_compromised,
            revoke_cut_off,
            dry_run,
            wait_millis: how.millis(),
        };
        let call = connection.request(message, how.limit());
        Ok(RevocationsClient::new(connection.channel()).revoke(call).await?.into_inner())
    })
    .await
    .and_then(|answer| told(&args.change, &answer))
}

fn target(args: &RevokeArgs) -> Result<RevocationTarget, Failure> {
    let RevokeArgs { serial, spiffe_id, entry, node, jti, expires_at, .. } = args;
    let serial = serial.clone().map(Target::Serial);
    let spiffe_id = spiffe_id.as_ref().map(|id| Target::SpiffeId(id.to_string()));
    let entry = entry.as_ref().map(|id| Target::EntryId(id.to_string()));
    let node = node.as_ref().map(|name| Target::Node(name.to_string()));
    let jti = jti.clone().map(|jti| Target::Jti(Jti { jti, expires_at: expires_at.unwrap_or_default() }));
    let target = serial.or(spiffe_id).or(entry).or(node).or(jti);
    let missing =
        || Failure::Usage("what is to be revoked? Give --spiffe-id, --entry, --serial, --node or --jti".to_owned());
    Ok(RevocationTarget { target: Some(target.ok_or_else(missing)?) })
}

/// Looks first who would be harmed besides, asks, and revokes. The call is told whether it is a dry run, and whether
/// issuers that are cut off are revoked whole.
pub(super) async fn carry_out(
    deed: &'static str,
    change: &ChangeArgs,
    how: &HowArgs,
    connection: &Connection,
    call: impl AsyncFn(bool, bool) -> Result<RevokeResponse, Status>,
) -> Result<RevokeResponse, Failure> {
    let plan = call(true, false).await.map_err(connection.failed(deed))?;
    if change.dry_run {
        return Ok(plan);
    }
    let someone_is_cut_off = !plan.cut_off.is_empty();
    if someone_is_cut_off && !how.yes {
        confirm(deed, &lines(&plan.sentences, &plan.warnings))?;
    }
    call(false, someone_is_cut_off).await.map_err(connection.failed(deed))
}

/// The answer, for programs.
#[derive(Serialize)]
pub(super) struct AnswerJson<'a> {
    dry_run: bool,
    sentences: &'a [String],
    warnings: &'a [String],
    cut_off: Vec<CutOffJson<'a>>,
    number: Wide<u64>,
    log_index: Wide<u64>,
    certificates: Vec<CertificateJson<'a>>,
    certificate_count: Wide<u64>,
    keys: Vec<KeyJson<'a>>,
    handed_to_streams: Wide<u64>,
    lacking_streams: Wide<u64>,
    crls: Option<CrlsJson<'a>>,
}

#[derive(Serialize)]
struct CutOffJson<'a> {
    node: &'a str,
    until: Wide<i64>,
}

#[derive(Serialize)]
struct CertificateJson<'a> {
    serial: &'a str,
    spiffe_id: &'a str,
    not_after: Wide<i64>,
}

#[derive(Serialize)]
struct KeyJson<'a> {
    id: &'a str,
    node: &'a str,
}

/// `quorate.cluster.v1.CrlState`
#[derive(Serialize)]
pub(super) struct CrlsJson<'a> {
    handed_out: bool,
    count: Wide<u64>,
    bytes: Wide<u64>,
    explanation: &'a str,
}

impl<'a> From<&'a CrlState> for CrlsJson<'a> {
    fn from(crls: &'a CrlState) -> Self {
        let CrlState { handed_out, count, bytes, explanation } = crls;
        Self { handed_out: *handed_out, count: Wide(*count), bytes: Wide(*bytes), explanation }
    }
}

impl<'a> AnswerJson<'a> {
    pub(super) fn new(dry_run: bool, answer: &'a RevokeResponse) -> Self {
        Self {
            dry_run,
            sentences: &answer.sentences,
            warnings: &answer.warnings,
            cut_off: answer.cut_off.iter().map(|of| CutOffJson { node: &of.node, until: Wide(of.until) }).collect(),
            number: Wide(answer.number),
            log_index: Wide(answer.log_index),
            certificates: answer
                .certificates
                .iter()
                .map(|of| CertificateJson {
                    serial: &of.serial,
                    spiffe_id: &of.spiffe_id,
                    not_after: Wide(of.not_after),
                })
                .collect(),
            certificate_count: Wide(answer.certificate_count),
            keys: answer.keys.iter().map(|key| KeyJson { id: &key.id, node: &key.node }).collect(),
            handed_to_streams: Wide(answer.handed_to_streams),
            lacking_streams: Wide(answer.lacking_streams),
            crls: answer.crls.as_ref().map(Into::into),
        }
    }
}

/// Prints what came of it.
///
/// # Errors
///
/// When standard output cannot be written.
pub(super) fn told(change: &ChangeArgs, answer: &RevokeResponse) -> Result<(), Failure> {
    match change.admin.output {
        Format::Json => say_json(&AnswerJson::new(change.dry_run, answer)),
        Format::Table => say(&described(change.dry_run, answer)),
    }
}

/// What came of it, for people.
pub(super) fn described(dry_run: bool, answer: &RevokeResponse) -> String {
    let mut text = lines(&answer.sentences, &answer.warnings);
    if !answer.certificates.is_empty() {
        let mut table = Table::new(["CERTIFICATE", "SPIFFE ID", "ENDS"]);
        for of in &answer.certificates {
            table.row([of.serial.clone(), of.spiffe_id.clone(), UnixSeconds(of.not_after).to_string()]);
        }
        text.push_str(&format!("\n{table}"));
    }
    if !answer.keys.is_empty() {
        let mut table = Table::new(["ISSUING KEY", "NODE"]);
        answer.keys.iter().for_each(|key| table.row([key.id.clone(), key.node.clone()]));
        text.push_str(&format!("\n{table}"));
    }
    if dry_run {
        text.push_str(NOTHING_DONE);
    }
    text
}
