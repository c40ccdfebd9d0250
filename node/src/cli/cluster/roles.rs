//! `quorate cluster promote`, `demote`, `fence`, `remove`, `transfer-leader`

use clap::Args;
use quorate_proto_api::channel::BULK_CALL_LIMIT;
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::{
    FenceRequest, MemberRole, RemoveRequest, SetMemberRoleRequest, TransferLeadershipRequest,
    TransferLeadershipResponse,
};
use quorate_proto_identity::NodeName;
use serde::Serialize;

use super::change::{ChangeArgs, NOTHING_DONE, WorkArgs, follow, lines, told};
use crate::cli::failure::Failure;
use crate::cli::json::Wide;
use crate::cli::output::{Format, say, say_json};

/// What follows the options of `promote`.
const PROMOTE: &str = "\
The root keys are sealed to it first; then it is given a vote. A voter is worth what its disk and its network are worth: \
every write waits for a majority of them. With an automatic plan (`quorate cluster plan`) the leader does this by itself.";

/// What `quorate cluster promote` takes.
#[derive(Debug, Args)]
#[command(after_help = PROMOTE)]
pub(crate) struct PromoteArgs {
    #[command(flatten)]
    work: WorkArgs,

    /// The member's name
    #[arg(value_name = "NAME")]
    name: NodeName,
}

/// What follows the options of `demote`.
const DEMOTE: &str = "\
It loses its vote first; then what is sealed of the root keys to it is erased from the state. It goes on to serve.";

/// What `quorate cluster demote` takes.
#[derive(Debug, Args)]
#[command(after_help = DEMOTE)]
pub(crate) struct DemoteArgs {
    #[command(flatten)]
    work: WorkArgs,

    /// The member's name
    #[arg(value_name = "NAME")]
    name: NodeName,
}

/// What follows the options of `fence`.
const FENCE: &str = "\
For a member that cannot be reached and must not sign any more, or that holds up the activation of an authority. A member \
that is cut off learns of it only when it is back: until the end of its issuing certificate it may sign, which this \
command prints. One that is in contact has stopped when this command returns, and asks for a new issuing certificate: it \
is `quorate cluster remove` that keeps a member out.";

/// What `quorate cluster fence` takes.
#[derive(Debug, Args)]
#[command(after_help = FENCE)]
pub(crate) struct FenceArgs {
    #[command(flatten)]
    change: ChangeArgs,

    /// The member's name
    #[arg(value_name = "NAME")]
    name: NodeName,
}

/// What follows the options of `remove`.
const REMOVE: &str = "\
Its issuing certificates are revoked, it loses its vote and its place in the group, and what is sealed to it is erased. \
Its number is never given again; a node of that name can join again with an empty data directory and a new invitation.

Without --compromised the keys that it could open stay in use: the command prints what that machine could still sign, and \
until when. With --compromised new roots and token keys are made that it never held, and the command answers once they \
sign.

Examples:
  quorate cluster remove node-4 --dry-run
  quorate cluster remove node-4
  quorate cluster remove node-4 --compromised";

/// What `quorate cluster remove` takes.
#[derive(Debug, Args)]
#[command(after_help = REMOVE)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    work: WorkArgs,

    /// The member's name
    #[arg(value_name = "NAME")]
    name: NodeName,

    /// Its keys may be in wrong hands: replace everything that it could open
    #[arg(long)]
    compromised: bool,
}

/// What follows the options of `transfer-leader`.
const TRANSFER: &str = "\
Writes wait for the hand-over, some round trips, and none is lost. A node that is stopped in order does this by itself.";

/// What `quorate cluster transfer-leader` takes.
#[derive(Debug, Args)]
#[command(after_help = TRANSFER)]
pub(crate) struct TransferArgs {
    #[command(flatten)]
    change: ChangeArgs,

    /// The voter that shall lead [default: the one that suits best]
    #[arg(value_name = "NAME")]
    name: Option<NodeName>,
}

/// Makes a member a voter.
pub(super) async fn promote(args: PromoteArgs) -> Result<(), Failure> {
    set_role(&args.work, &args.name, MemberRole::Voter, "promote the member").await
}

/// Makes a member a learner.
pub(super) async fn demote(args: DemoteArgs) -> Result<(), Failure> {
    set_role(&args.work, &args.name, MemberRole::Learner, "demote the member").await
}

async fn set_role(args: &WorkArgs, name: &NodeName, role: MemberRole, deed: &'static str) -> Result<(), Failure> {
    let connection = args.change.admin.connect()?;
    let message = SetMemberRoleRequest { name: name.to_string(), role: role.into(), dry_run: args.change.dry_run };
    let mut client = ClusterClient::new(connection.channel());
    follow(args, &connection, deed, client.set_member_role(connection.stream_request(message))).await
}

/// Revokes a member's issuing certificates.
pub(super) async fn fence(args: FenceArgs) -> Result<(), Failure> {
    let connection = args.change.admin.connect()?;
    let message = FenceRequest { name: args.name.to_string(), dry_run: args.change.dry_run };
    let answer = ClusterClient::new(connection.channel())
        .fence(connection.request(message, BULK_CALL_LIMIT))
        .await
        .map_err(connection.failed("fence the member"))?
        .into_inner();
    told(&args.change, &answer)
}

/// Removes a member.
pub(super) async fn remove(args: RemoveArgs) -> Result<(), Failure> {
    let connection = args.work.change.admin.connect()?;
    let RemoveArgs { work, name, compromised } = &args;
    let message = RemoveRequest { name: name.to_string(), compromised: *compromised, dry_run: work.change.dry_run };
    let mut client = ClusterClient::new(connection.channel());
    follow(work, &connection, "remove the member", client.remove(connection.stream_request(message))).await
}

/// `quorate.cluster.v1.TransferLeadershipResponse`
#[derive(Serialize)]
struct TransferJson<'a> {
    dry_run: bool,
    sentences: &'a [String],
    leader: &'a str,
    term: Wide<u64>,
}

/// Hands leadership over.
pub(super) async fn transfer(args: TransferArgs) -> Result<(), Failure> {
    let connection = args.change.admin.connect()?;
    let name = args.name.map(|name| name.to_string()).unwrap_or_default();
    let message = TransferLeadershipRequest { name, dry_run: args.change.dry_run };
    let answer = ClusterClient::new(connection.channel())
        .transfer_leadership(connection.request(message, BULK_CALL_LIMIT))
        .await
        .map_err(connection.failed("hand leadership over"))?
        .into_inner();
    let TransferLeadershipResponse { sentences, leader, term } = &answer;
    match args.change.admin.output {
        Format::Table => {
            say(&lines(sentences, &[]))?;
            if args.change.dry_run { say(NOTHING_DONE) } else { Ok(()) }
        }
        Format::Json => say_json(&TransferJson { dry_run: args.change.dry_run, sentences, leader, term: Wide(*term) }),
    }
}
