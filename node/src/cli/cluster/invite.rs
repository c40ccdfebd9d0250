//! `quorate cluster invite`, `invitations`, `revoke-invitation`

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::{
    Invitation, InviteRequest, InviteResponse, ListInvitationsRequest, MemberRole, RevokeInvitationRequest,
};
use quorate_proto_identity::NodeName;
use serde::Serialize;

use super::change::{ChangeArgs, NOTHING_DONE, lines, told};
use super::init::PlaceArgs;
use super::members::{dash, instant, labels_text};
use crate::cli::failure::Failure;
use crate::cli::json::Wide;
use crate::cli::output::{Format, answer, complain, say, say_json};
use crate::cli::socket::ReadArgs;
use crate::cli::text::Table;
use crate::duration::Seconds;

/// What follows the options.
const EXAMPLES: &str = "\
The invitation is one line on standard output, and a secret: whoever has it can join under that name, once, until it \
expires. Give it to the newcomer through a file that others cannot read, or a pipe:

  (umask 077; quorate cluster invite --name node-2 --region eu > node-2.invitation)
  ssh node-1 quorate cluster invite --name node-2 | quorate node --config /etc/quorate/node.toml --join-file -";

/// What `quorate cluster invite` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InviteArgs {
    #[command(flatten)]
    change: ChangeArgs,

    /// The newcomer's name, as in its configuration
    #[arg(long, value_name = "NAME", value_parser = NodeName::new)]
    name: NodeName,

    /// What it shall be [default: what the plan wants]
    #[arg(long, value_enum, value_name = "ROLE")]
    role: Option<WantedRole>,

    #[command(flatten)]
    place: PlaceArgs,

    /// How long the invitation holds
    #[arg(long, value_name = "TIME", default_value = "10m")]
    ttl: Seconds,
}

/// What a newcomer shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WantedRole {
    /// Votes; can open the root keys
    Voter,
    /// Follows the log, reads and signs
    Learner,
}

/// What `quorate cluster invitations` takes.
#[derive(Debug, Args)]
pub(crate) struct InvitationsArgs {
    #[command(flatten)]
    read: ReadArgs,
}

/// What `quorate cluster revoke-invitation` takes.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    change: ChangeArgs,

    /// The name that the invitation is for
    #[arg(value_name = "NAME")]
    name: NodeName,
}

/// `quorate.cluster.v1.InviteResponse`. The invitation is what was asked for, so it is printed.
#[derive(Serialize)]
struct InviteJson<'a> {
    invitation: &'a str,
    expires_at: Wide<i64>,
    sentences: &'a [String],
    log_index: Wide<u64>,
}

/// Makes an invitation. Standard output has the invitation alone; what there is to say goes beside it.
pub(super) async fn run(args: InviteArgs) -> Result<(), Failure> {
    let lifetime = u32::try_from(args.ttl.get())
        .ok()
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| Failure::Usage(format!("--ttl {}: an invitation has to hold for a while", args.ttl)))?;
    let role = match args.role {
        None => MemberRole::Unspecified,
        Some(WantedRole::Voter) => MemberRole::Voter,
        Some(WantedRole::Learner) => MemberRole::Learner,
    };
    let message = InviteRequest {
        name: args.name.to_string(),
        role: role.into(),
        labels: args.place.labels()?,
        region: args.place.region,
        zone: args.place.zone,
        lifetime,
        dry_run: args.change.dry_run,
    };
    let connection = args.change.admin.connect()?;
    let made = ClusterClient::new(connection.channel())
        .invite(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed("invite the node"))?
        .into_inner();
    let InviteResponse { invitation, expires_at, sentences, log_index } = &made;
    match args.change.admin.output {
        Format::Json => {
            say_json(&InviteJson { invitation, expires_at: Wide(*expires_at), sentences, log_index: Wide(*log_index) })
        }
        Format::Table => {
            complain(lines(sentences, &[]).trim_end());
            if args.change.dry_run {
                complain(NOTHING_DONE.trim_end())
            } else {
                say(&format!("{invitation}\n"))?
            }
            Ok(())
        }
    }
}

/// `quorate.cluster.v1.Invitation`
#[derive(Serialize)]
struct InvitationJson<'a> {
    name: &'a str,
    role: &'static str,
    region: &'a str,
    zone: &'a str,
    labels: &'a BTreeMap<String, String>,
    expires_at: Wide<i64>,
    expired: bool,
}

/// `quorate.cluster.v1.ListInvitationsResponse`
#[derive(Serialize)]
struct InvitationsJson<'a> {
    invitations: Vec<InvitationJson<'a>>,
}

/// Lists the invitations.
pub(super) async fn list(args: InvitationsArgs) -> Result<(), Failure> {
    let connection = args.read.connect()?;
    let invitations = ClusterClient::new(connection.channel())
        .list_invitations(connection.request(ListInvitationsRequest {}, CALL_LIMIT))
        .await
        .map_err(connection.failed("list the invitations"))?
        .into_inner()
        .invitations;
    let json = InvitationsJson { invitations: invitations.iter().map(to_json).collect() };
    answer(args.read.output(), &table(&invitations), &json)
}

fn to_json(invitation: &Invitation) -> InvitationJson<'_> {
    InvitationJson {
        name: &invitation.name,
        role: invitation.role().as_str_name(),
        region: &invitation.region,
        zone: &invitation.zone,
        labels: &invitation.labels,
        expires_at: Wide(invitation.expires_at),
        expired: invitation.expired,
    }
}

fn table(invitations: &[Invitation]) -> Table<7> {
    let mut table = Table::new(["NAME", "STATE", "ROLE", "REGION", "ZONE", "LABELS", "EXPIRES"]);
    for invitation in invitations {
        let state = if invitation.expired { "expired" } else { "open" };
        table.row([
            invitation.name.clone(),
            state.to_owned(),
            role_text(invitation.role()).to_owned(),
            dash(&invitation.region),
            dash(&invitation.zone),
            dash(&labels_text(&invitation.labels)),
            instant(invitation.expires_at),
        ]);
    }
    table
}

fn role_text(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Unspecified => "as planned",
        MemberRole::Voter => "voter",
        MemberRole::Learner => "learner",
    }
}

/// Takes an invitation back.
pub(super) async fn revoke(args: RevokeArgs) -> Result<(), Failure> {
    let connection = args.change.admin.connect()?;
    let message = RevokeInvitationRequest { name: args.name.to_string(), dry_run: args.change.dry_run };
    let answer = ClusterClient::new(connection.channel())
        .revoke_invitation(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed("take the invitation back"))?
        .into_inner();
    told(&args.change, &answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_is_open_until_it_expires() {
        let named = |name: &str| Invitation { name: name.into(), ..Invitation::default() };
        let text = table(&[
            Invitation { expires_at: 60, role: MemberRole::Voter.into(), ..named("a") },
            Invitation { expired: true, ..named("b") },
        ])
        .to_string();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
        assert!(rows[1].contains(&"open") && rows[1].contains(&"voter"), "{text}");
        assert!(rows[2].contains(&"expired") && rows[2].contains(&"as planned"), "{text}");
    }
}
