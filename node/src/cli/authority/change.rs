//! `quorate authority prepare`, `activate`, `taint`, `revoke`, `replace`

use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use quorate_proto_api::channel::BULK_CALL_LIMIT;
use quorate_proto_api::cluster::authorities_client::AuthoritiesClient;
use quorate_proto_api::cluster::{
    ActivateAuthorityRequest, AuthorityProgress, PrepareAuthorityRequest, ReplaceAuthorityRequest,
    RevokeAuthorityRequest, TaintAuthorityRequest,
};
use tonic::{Response, Status, Streaming};

use super::Kind;
use super::progress::{Shown, announced, follow, told};
use crate::cli::cluster::change::{ChangeArgs, lines};
use crate::cli::confirm::confirm;
use crate::cli::failure::Failure;
use crate::cli::socket::{AdminArgs, Connection};
use crate::duration::Seconds;

/// What follows the options of `prepare`.
const PREPARE: &str = "\
From now on it is in the bundle, so that everybody knows it before it signs. `quorate authority activate` lets it sign; routine \
rotation does so when its time has come. There is one prepared authority of a kind at most.";

/// What `quorate authority prepare` takes.
#[derive(Debug, Args)]
#[command(after_help = PREPARE)]
pub(crate) struct PrepareArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// What it shall sign
    #[arg(value_name = "KIND")]
    kind: Kind,
}

/// How long a command waits, and what it may break.
#[derive(Debug, Clone, Args)]
struct GateArgs {
    /// Do not wait at a gate. Names the members whose workloads will fail, and asks
    #[arg(long)]
    force: bool,

    /// With --force: do not ask
    #[arg(long, requires = "force")]
    yes: bool,

    /// How long to wait, at most an hour
    #[arg(long, value_name = "TIME", default_value = "1m")]
    timeout: Seconds,
}

impl GateArgs {
    fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout.get().unsigned_abs())
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.limit().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What follows the options of `activate`.
const ACTIVATE: &str = "\
Waits for the gate: every live member has applied the new authority, its open streams have been sent it, and it was in the \
bundle for the policy's publication time. A member that is cut off is waited for until its issuing certificate ends; `quorate \
cluster fence NAME` ends that at once. When the time is over the command says for whom it waited, nothing is changed, and the \
exit code is 1 (FailedPrecondition); routine rotation goes on to try.

The one that signed is `old` from then on: what it signed holds, and is replaced when it is renewed.

Examples:
  quorate authority activate x509
  quorate authority activate jwt --timeout 10m
  quorate authority activate x509 --force --dry-run";

/// What `quorate authority activate` takes.
#[derive(Debug, Args)]
#[command(after_help = ACTIVATE)]
pub(crate) struct ActivateArgs {
    #[command(flatten)]
    change: ChangeArgs,

    #[command(flatten)]
    gate: GateArgs,

    /// What it signs
    #[arg(value_name = "KIND")]
    kind: Kind,

    /// Which one [default: the only one that is prepared]
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    id: Option<String>,
}

/// What follows the options of `taint`.
const TAINT: &str = "\
Says that nothing the authority signed is to be believed: issuing certificates under it are replaced, then every SVID that a \
stream holds, each once; tokens of it are issued no more. It stays in the bundle until it is revoked, so nothing breaks \
meanwhile. The active authority cannot be tainted: `quorate authority replace --compromised` puts another in its place first.";

/// What `quorate authority taint` takes.
#[derive(Debug, Args)]
#[command(after_help = TAINT)]
pub(crate) struct TaintArgs {
    #[command(flatten)]
    change: ChangeArgs,

    /// What it signs
    #[arg(value_name = "KIND")]
    kind: Kind,

    /// Which one [default: the only one that is old]
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    id: Option<String>,
}

/// What follows the options of `revoke`.
const REVOKE: &str = "\
Takes the authority out of the bundle: nothing that it signed is accepted any more, tokens included. It must be tainted. The \
command is refused while a connected stream still holds what it signed; with --force that stream's workloads fail.";

/// What `quorate authority revoke` takes.
#[derive(Debug, Args)]
#[command(after_help = REVOKE)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    change: ChangeArgs,

    #[command(flatten)]
    gate: GateArgs,

    /// What it signs
    #[arg(value_name = "KIND")]
    kind: Kind,

    /// Which one [default: the only one that is tainted]
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    id: Option<String>,
}

/// What follows the options of `replace`.
const REPLACE: &str = "\
Prepares a new authority, unless one is prepared already, and activates it. With --compromised it goes on: the old one is \
tainted, everything under it is signed anew, and then it is revoked. The order is recorded first and each step is carried out \
by whoever leads, so a node that fails in between, the leader or the one that was asked, delays it and loses nothing.

Without --compromised the old authority stays in the bundle until its end, and nothing is signed anew before its time.

Examples:
  quorate authority replace x509
  quorate authority replace --compromised x509
  quorate authority replace --compromised jwt --dry-run";

/// What `quorate authority replace` takes.
#[derive(Debug, Args)]
#[command(after_help = REPLACE)]
pub(crate) struct ReplaceArgs {
    #[command(flatten)]
    change: ChangeArgs,

    #[command(flatten)]
    gate: GateArgs,

    /// What it signs
    #[arg(value_name = "KIND")]
    kind: Kind,

    /// Somebody may have its key: taint and revoke it, too
    #[arg(long)]
    compromised: bool,
}

/// Makes an authority.
pub(super) async fn prepare(args: PrepareArgs) -> Result<(), Failure> {
    const DEED: &str = "prepare an authority";
    let connection = args.admin.connect()?;
    let message = PrepareAuthorityRequest { kind: args.kind.to_wire() };
    let change = AuthoritiesClient::new(connection.channel())
        .prepare(connection.request(message, BULK_CALL_LIMIT))
        .await
        .map_err(connection.failed(DEED))?
        .into_inner();
    let shown = Shown { deed: DEED, output: args.admin.output, dry_run: false, limit: BULK_CALL_LIMIT };
    told(shown, None, &change)
}

/// Lets a prepared authority sign.
pub(super) async fn activate(args: ActivateArgs) -> Result<(), Failure> {
    let ActivateArgs { change, gate, kind, id } = args;
    let connection = change.admin.connect()?;
    let id = id.unwrap_or_default();
    carry_out("activate the authority", &connection, &change, &gate, async |dry_run| {
        let (id, force, timeout_millis) = (id.clone(), gate.force, gate.millis());
        let message = ActivateAuthorityRequest { kind: kind.to_wire(), id, force, timeout_millis, dry_run };
        AuthoritiesClient::new(connection.channel()).activate(connection.stream_request(message)).await
    })
    .await
}

/// Replaces at once what an old authority signed.
pub(super) async fn taint(args: TaintArgs) -> Result<(), Failure> {
    let TaintArgs { change, kind, id } = args;
    let connection = change.admin.connect()?;
    let shown = Shown {
        deed: "taint the authority",
        output: change.admin.output,
        dry_run: change.dry_run,
        limit: BULK_CALL_LIMIT,
    };
    let message = TaintAuthorityRequest { kind: kind.to_wire(), id: id.unwrap_or_default(), dry_run: change.dry_run };
    let mut client = AuthoritiesClient::new(connection.channel());
    follow(&connection, shown, client.taint(connection.stream_request(message))).await
}

/// Takes a tainted authority out of the bundle.
pub(super) async fn revoke(args: RevokeArgs) -> Result<(), Failure> {
    let RevokeArgs { change, gate, kind, id } = args;
    let connection = change.admin.connect()?;
    let id = id.unwrap_or_default();
    carry_out("revoke the authority", &connection, &change, &gate, async |dry_run| {
        let (id, force, timeout_millis) = (id.clone(), gate.force, gate.millis());
        let message = RevokeAuthorityRequest { kind: kind.to_wire(), id, force, timeout_millis, dry_run };
        AuthoritiesClient::new(connection.channel()).revoke(connection.stream_request(message)).await
    })
    .await
}

/// Puts another authority in the place of the active one.
pub(super) async fn replace(args: ReplaceArgs) -> Result<(), Failure> {
    let ReplaceArgs { change, gate, kind, compromised } = args;
    let connection = change.admin.connect()?;
    carry_out("replace the authority", &connection, &change, &gate, async |dry_run| {
        let (force, timeout_millis) = (gate.force, gate.millis());
        let message = ReplaceAuthorityRequest { kind: kind.to_wire(), compromised, force, timeout_millis, dry_run };
        AuthoritiesClient::new(connection.channel()).replace(connection.stream_request(message)).await
    })
    .await
}

/// The answer of a node, as it comes.
type Told = Result<Response<Streaming<AuthorityProgress>>, Status>;

/// Does what can be forced; forced, not before the caller knows whom that harms.
async fn carry_out(
    deed: &'static str,
    connection: &Connection,
    change: &ChangeArgs,
    gate: &GateArgs,
    call: impl AsyncFn(bool) -> Told,
) -> Result<(), Failure> {
    let shown = Shown { deed, output: change.admin.output, dry_run: change.dry_run, limit: gate.limit() };
    if gate.force && !gate.yes && !change.dry_run {
        let harm = announced(connection, Shown { dry_run: true, ..shown }, call(true)).await?;
        // Forced where nobody is waited for, it is as any other, and nobody needs to be asked.
        if !harm.warnings.is_empty() {
            confirm(deed, &lines(&[], &harm.warnings))?;
        }
    }
    follow(connection, shown, call(change.dry_run)).await
}
