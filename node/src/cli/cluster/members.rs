//! `quorate cluster members`: a row for each member, and the same for programs.

use std::collections::BTreeMap;

use clap::Args;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::{Member, MemberRole, MemberStatus, RaftRole, StatusRequest, StatusResponse};
use quorate_proto_identity::UnixSeconds;
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::json::Wide;
use crate::cli::output::answer;
use crate::cli::socket::AdminArgs;
use crate::cli::text::Table;

/// What follows the options.
const COLUMNS: &str = "\
ROLE      what the member is in the Raft group, and in brackets what it is wanted to be
CONTACT   how long ago the leader heard of it; `lost` after one second of silence
BEHIND    how much of the leader's log it has not applied yet
CLOCK     how far its clock is ahead of the members' median; more than 1 s is a warning, with 5 s it stops signing
SIGNS UNTIL  the end of its issuing certificate: what a member may still do that is cut off
-         not known here: the leader did not answer, or has not heard of it";

/// What `quorate cluster members` takes.
#[derive(Debug, Args)]
#[command(after_help = COLUMNS)]
pub(crate) struct MembersArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// List those that were removed, too
    #[arg(long)]
    all: bool,
}

/// The members, for programs.
#[derive(Serialize)]
struct MembersJson<'a> {
    leader: &'a str,
    leader_answered: bool,
    members: Vec<MemberJson<'a>>,
}

/// Lists the members.
pub(super) async fn run(args: MembersArgs) -> Result<(), Failure> {
    let connection = args.admin.connect()?;
    let status = ClusterClient::new(connection.channel())
        .status(connection.request(StatusRequest { removed_members: args.all }, CALL_LIMIT))
        .await
        .map_err(connection.failed("list the members"))?
        .into_inner();
    let mut text = table(&status).to_string();
    text.push('\n');
    text.push_str(&particulars(&status.members).to_string());
    if !status.leader_answered && status.founded {
        text.push_str("\nThe leader did not answer: what only it knows is left out.\n");
    }
    let json = MembersJson {
        leader: &status.leader_name,
        leader_answered: status.leader_answered,
        members: status.members.iter().map(MemberJson::from).collect(),
    };
    answer(args.admin.output, &text, &json)
}

/// How each member stands.
pub(super) fn table(status: &StatusResponse) -> Table<10> {
    let mut table = Table::new([
        "MEMBER",
        "NAME",
        "ROLE",
        "CONTACT",
        "BEHIND",
        "CLOCK",
        "ROUND TRIP",
        "REGION",
        "ZONE",
        "SIGNS UNTIL",
    ]);
    let newest = status.members.iter().filter_map(|member| member.applied_index).max().unwrap_or_default();
    for member in &status.members {
        table.row([
            member.number.to_string(),
            member.name.clone(),
            role(member),
            contact(member),
            known(member.applied_index, |applied| newest.saturating_sub(applied).to_string()),
            known(member.clock_offset_millis, |millis| format!("{millis:+} ms")),
            known(member.round_trip_micros, micros),
            dash(&member.region),
            dash(&member.zone),
            instant(member.issuing_not_after),
        ]);
    }
    table
}

/// What does not change from one moment to the next.
fn particulars(members: &[Member]) -> Table<6> {
    let mut table = Table::new(["MEMBER", "NAME", "VERSION", "COMMANDS", "ADDRESSES", "LABELS"]);
    for member in members {
        table.row([
            member.number.to_string(),
            member.name.clone(),
            dash(&member.build),
            member.version.to_string(),
            dash(&member.addresses.join(",")),
            dash(&labels_text(&member.labels)),
        ]);
    }
    table
}

fn role(member: &Member) -> String {
    match member.status() {
        MemberStatus::Leaving => return "leaving".to_owned(),
        MemberStatus::Removed => return "removed".to_owned(),
        MemberStatus::Compromised => return "removed as compromised".to_owned(),
        MemberStatus::Unspecified | MemberStatus::Admitted => {}
    }
    let (is, kind) = match member.raft_role() {
        RaftRole::Voter if member.leads => ("leader", MemberRole::Voter),
        RaftRole::Voter => ("voter", MemberRole::Voter),
        RaftRole::Learner => ("learner", MemberRole::Learner),
        RaftRole::None => ("joining", MemberRole::Unspecified),
        RaftRole::Unspecified => ("-", MemberRole::Unspecified),
    };
    match member.wanted_role() {
        MemberRole::Voter if kind != MemberRole::Voter => format!("{is} (voter)"),
        MemberRole::Learner if kind != MemberRole::Learner => format!("{is} (learner)"),
        MemberRole::Unspecified | MemberRole::Voter | MemberRole::Learner => is.to_owned(),
    }
}

fn contact(member: &Member) -> String {
    let age = |millis: u64| match millis {
        0..10_000 => format!("{millis} ms"),
        _ => format!("{} s", millis / 1_000),
    };
    match (member.connected, member.report_age_millis) {
        (None, _) => "-".to_owned(),
        (Some(true), _) if member.leads => "leads".to_owned(),
        (Some(true), Some(millis)) => age(millis),
        (Some(true), None) => "yes".to_owned(),
        (Some(false), Some(millis)) => format!("lost, {}", age(millis)),
        (Some(false), None) => "lost".to_owned(),
    }
}

/// A time in microseconds, at two or three digits.
fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!("{} ms", micros / 1_000),
    }
}

fn known<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), text)
}

/// A cell that is not empty, so that columns can be counted.
pub(super) fn dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

/// An instant; a dash for none.
pub(super) fn instant(seconds: i64) -> String {
    match seconds {
        0 => "-".to_owned(),
        seconds => UnixSeconds(seconds).to_string(),
    }
}

/// Labels as they are given on the command line.
pub(super) fn labels_text(labels: &BTreeMap<String, String>) -> String {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(",")
}

/// `quorate.cluster.v1.Member`
#[derive(Serialize)]
pub(super) struct MemberJson<'a> {
    number: Wide<u64>,
    name: &'a str,
    spiffe_id: &'a str,
    region: &'a str,
    zone: &'a str,
    labels: &'a BTreeMap<String, String>,
    voter: bool,
    issuing_not_after: Wide<i64>,
    wanted_role: &'static str,
    raft_role: &'static str,
    status: &'static str,
    leads: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied_index: Option<Wide<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connected: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report_age_millis: Option<Wide<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_offset_millis: Option<Wide<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_micros: Option<Wide<u64>>,
    version: u32,
    build: &'a str,
    addresses: &'a [String],
    role_pinned: bool,
}

impl<'a> From<&'a Member> for MemberJson<'a> {
    fn from(member: &'a Member) -> Self {
        Self {
            number: Wide(member.number),
            name: &member.name,
            spiffe_id: &member.spiffe_id,
            region: &member.region,
            zone: &member.zone,
            labels: &member.labels,
            voter: member.voter,
            issuing_not_after: Wide(member.issuing_not_after),
            wanted_role: member.wanted_role().as_str_name(),
            raft_role: member.raft_role().as_str_name(),
            status: member.status().as_str_name(),
            leads: member.leads,
            applied_index: member.applied_index.map(Wide),
            connected: member.connected,
            report_age_millis: member.report_age_millis.map(Wide),
            clock_offset_millis: member.clock_offset_millis.map(Wide),
            round_trip_micros: member.round_trip_micros.map(Wide),
            version: member.version,
            build: &member.build,
            addresses: &member.addresses,
            role_pinned: member.role_pinned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(number: u64, raft: RaftRole, wanted: MemberRole) -> Member {
        Member {
            number,
            name: format!("node-{number}"),
            raft_role: raft.into(),
            wanted_role: wanted.into(),
            status: MemberStatus::Admitted.into(),
            ..Member::default()
        }
    }

    #[test]
    fn a_role_says_what_is_and_what_is_wanted() {
        let leader = Member { leads: true, ..member(1, RaftRole::Voter, MemberRole::Voter) };
        assert_eq!(role(&leader), "leader");
        assert_eq!(role(&member(2, RaftRole::Learner, MemberRole::Voter)), "learner (voter)");
        assert_eq!(role(&member(2, RaftRole::Voter, MemberRole::Learner)), "voter (learner)");
        assert_eq!(role(&member(2, RaftRole::None, MemberRole::Learner)), "joining (learner)");
        assert_eq!(role(&member(2, RaftRole::Learner, MemberRole::Learner)), "learner");
        let gone = Member { status: MemberStatus::Compromised.into(), ..Member::default() };
        assert_eq!(role(&gone), "removed as compromised");
    }

    #[test]
    fn what_is_not_known_is_a_dash_and_what_is_known_has_a_unit() {
        let mut near = member(1, RaftRole::Voter, MemberRole::Voter);
        near.connected = Some(true);
        near.report_age_millis = Some(120);
        near.applied_index = Some(50);
        near.clock_offset_millis = Some(-3);
        near.round_trip_micros = Some(1_234);
        let far = Member { applied_index: Some(41), ..member(2, RaftRole::Voter, MemberRole::Voter) };
        let status = StatusResponse { members: vec![near, far], ..StatusResponse::default() };
        assert_eq!(
            table(&status).to_string(),
            "MEMBER  NAME    ROLE   CONTACT  BEHIND  CLOCK  ROUND TRIP  REGION  ZONE  SIGNS UNTIL\n\
             1       node-1  voter  120 ms   0       -3 ms  1.2 ms      -       -     -\n\
             2       node-2  voter  -        9       -      -           -       -     -\n"
        );
        let lost = Member { connected: Some(false), report_age_millis: Some(61_000), ..Member::default() };
        assert_eq!(contact(&lost), "lost, 61 s");
    }
}
