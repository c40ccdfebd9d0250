//! `quorate revocations`: what was revoked, and how a ban or a token rule is lifted.

use clap::{Args, Subcommand};
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::revocation_target::Target;
use quorate_proto_api::cluster::revocations_client::RevocationsClient;
use quorate_proto_api::cluster::{
    ListRevocationsRequest, ListRevocationsResponse, RemoveRevocationRequest, Revocation, RevocationReason,
};
use quorate_proto_identity::UnixSeconds;
use serde::Serialize;

use super::cluster::change::{ChangeArgs, told};
use super::failure::Failure;
use super::json::Wide;
use super::output::answer;
use super::revoke::CrlsJson;
use super::socket::ReadArgs;
use super::text::{Table, printable};

/// What follows the commands of `quorate revocations --help`.
const HELP: &str = "\
A revocation is kept until an hour after everything has ended that it can be about, and one that bans until it is removed.
Removing one lifts its ban, and its rule for tokens; a certificate that is in a CRL stays there.

Examples:
  quorate revocations list
  quorate revocations remove 7";

/// What can be done with revocations.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(super) enum RevocationsCommand {
    /// List the revocations, and how the CRLs stand
    List(ListArgs),
    /// Lift the ban and the token rule of a revocation
    Remove(RemoveArgs),
}

/// What `quorate revocations list` takes.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    read: ReadArgs,
}

/// What `quorate revocations remove` takes.
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    #[command(flatten)]
    change: ChangeArgs,

    /// The number of the revocation, as `quorate revocations list` shows it
    #[arg(value_name = "NUMBER")]
    number: u64,
}

impl RevocationsCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::List(args) => list(args).await,
            Self::Remove(args) => remove(args).await,
        }
    }
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let connection = args.read.connect()?;
    let listed = RevocationsClient::new(connection.channel())
        .list(connection.request(ListRevocationsRequest {}, CALL_LIMIT))
        .await
        .map_err(connection.failed("list the revocations"))?
        .into_inner();
    let json = ListJson {
        revocations: listed.revocations.iter().map(Into::into).collect(),
        crls: listed.crls.as_ref().map(Into::into),
    };
    answer(args.read.output(), &described(&listed), &json)
}

async fn remove(args: RemoveArgs) -> Result<(), Failure> {
    let connection = args.change.admin.connect()?;
    let message = RemoveRevocationRequest { number: args.number, dry_run: args.change.dry_run };
    let answer = RevocationsClient::new(connection.channel())
        .remove(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed("remove the revocation"))?
        .into_inner();
    told(&args.change, &answer)
}

/// `quorate.cluster.v1.ListRevocationsResponse`
#[derive(Serialize)]
struct ListJson<'a> {
    revocations: Vec<RevocationJson<'a>>,
    crls: Option<CrlsJson<'a>>,
}

/// `quorate.cluster.v1.Revocation`
#[derive(Serialize)]
struct RevocationJson<'a> {
    number: Wide<u64>,
    target: TargetJson<'a>,
    subject: &'a str,
    reason: &'static str,
    ban: bool,
    token_rule: bool,
    up_to: Wide<i64>,
    expires_at: Wide<i64>,
    certificates: Wide<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum TargetJson<'a> {
    Serial(&'a str),
    SpiffeId(&'a str),
    EntryId(&'a str),
    Node(&'a str),
    Jti { jti: &'a str, expires_at: Wide<i64> },
    Unknown,
}

impl<'a> From<&'a Revocation> for RevocationJson<'a> {
    fn from(of: &'a Revocation) -> Self {
        let target = match of.target.as_ref().and_then(|target| target.target.as_ref()) {
            Some(Target::Serial(serial)) => TargetJson::Serial(serial),
            Some(Target::SpiffeId(id)) => TargetJson::SpiffeId(id),
            Some(Target::EntryId(id)) => TargetJson::EntryId(id),
            Some(Target::Node(name)) => TargetJson::Node(name),
            Some(Target::Jti(jti)) => TargetJson::Jti { jti: &jti.jti, expires_at: Wide(jti.expires_at) },
            None => TargetJson::Unknown,
        };
        Self {
            number: Wide(of.number),
            target,
            subject: &of.subject,
            reason: of.reason().as_str_name(),
            ban: of.ban,
            token_rule: of.token_rule,
            up_to: Wide(of.up_to),
            expires_at: Wide(of.expires_at),
            certificates: Wide(of.certificates),
        }
    }
}

fn described(listed: &ListRevocationsResponse) -> String {
    let crls = listed.crls.clone().unwrap_or_default();
    let stand = if crls.handed_out {
        format!("CRLs are handed out: {} of {} bytes; {}.\n", crls.count, crls.bytes, printable(&crls.explanation))
    } else {
        format!("No CRLs are handed out: {}.\n", printable(&crls.explanation))
    };
    if listed.revocations.is_empty() {
        return format!("There are no revocations\n{stand}");
    }
    let mut table = Table::new(["NUMBER", "WHAT", "REASON", "BANNED", "TOKENS", "IN CRLS", "ISSUED UP TO", "ENDS"]);
    let yes = |is: bool| if is { "yes" } else { "-" }.to_owned();
    for of in &listed.revocations {
        table.row([
            of.number.to_string(),
            what(of),
            reason(of.reason()).to_owned(),
            yes(of.ban),
            if of.token_rule { "refused" } else { "-" }.to_owned(),
            of.certificates.to_string(),
            UnixSeconds(of.up_to).to_string(),
            UnixSeconds(of.expires_at).to_string(),
        ]);
    }
    format!("{table}\n{stand}")
}

fn what(of: &Revocation) -> String {
    match of.target.as_ref().and_then(|target| target.target.as_ref()) {
        Some(Target::Serial(serial)) => format!("certificate {serial}"),
        Some(Target::SpiffeId(id)) => id.clone(),
        Some(Target::EntryId(id)) => format!("entry {id} ({})", of.subject),
        Some(Target::Node(name)) => format!("node {name}"),
        Some(Target::Jti(jti)) => format!("token {}", jti.jti),
        None => "?".to_owned(),
    }
}

fn reason(reason: RevocationReason) -> &'static str {
    match reason {
        RevocationReason::Unspecified | RevocationReason::None => "-",
        RevocationReason::KeyCompromise => "key-compromise",
        RevocationReason::CaCompromise => "ca-compromise",
        RevocationReason::AffiliationChanged => "affiliation-changed",
        RevocationReason::Superseded => "superseded",
        RevocationReason::CessationOfOperation => "cessation-of-operation",
        RevocationReason::PrivilegeWithdrawn => "privilege-withdrawn",
    }
}
