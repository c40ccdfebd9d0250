//! `quorate cluster`

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use quorate_proto_api::channel::{BULK_CALL_LIMIT, CALL_LIMIT};
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::{InitRequest, InitResponse, Member, Role, StatusRequest, StatusResponse};
use quorate_proto_identity::UnixSeconds;
use serde::Serialize;

use super::failure::Failure;
use super::json::Wide;
use super::output::answer;
use super::policy::PolicyFile;
use super::socket::AdminArgs;
use super::text::{Facts, Table};

/// What can be done with a cluster.
#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Found an authority on this node, once. Trust domain and node name are those of its configuration
    Init(InitArgs),
    /// Say how this node stands
    Status(StatusArgs),
}

/// What `quorate cluster init` takes.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The trust domain's policy, as `quorate policy show` prints one [default: the default policy]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// The region that this node is in
    #[arg(long, value_name = "REGION", default_value = "")]
    region: String,

    /// The zone within that region
    #[arg(long, value_name = "ZONE", default_value = "")]
    zone: String,

    /// A further fact about this node; entries can select it by `quorate:label:KEY:VALUE`. Can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

/// What `quorate cluster status` takes.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

impl ClusterCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Init(args) => init(args).await,
            Self::Status(args) => status(args).await,
        }
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write a label as KEY=VALUE".to_owned()),
    }
}

async fn init(args: InitArgs) -> Result<(), Failure> {
    let mut labels = BTreeMap::new();
    for (key, value) in args.labels {
        if let Some(earlier) = labels.insert(key.clone(), value) {
            return Err(Failure::Usage(format!("--label {key}: given twice, once as {earlier:?}")));
        }
    }
    let policy = args.policy.as_deref().map(PolicyFile::read).transpose()?.map(|file| file.onto_default());
    let connection = args.admin.connect()?;
    let message = InitRequest { policy, region: args.region, zone: args.zone, labels };
    let founded = ClusterClient::new(connection.channel())
        .init(connection.request(message, BULK_CALL_LIMIT))
        .await
        .map_err(connection.failed("found the authority"))?
        .into_inner();
    let InitResponse { cluster_id, trust_domain, node_name, member, log_index } = &founded;
    let mut facts = Facts::new();
    facts
        .add("Trust domain", trust_domain)
        .add("Cluster", cluster_id)
        .add("Node", node_name)
        .add("Member", member)
        .add("Log index", log_index);
    let json = InitJson { cluster_id, trust_domain, node_name, member: Wide(*member), log_index: Wide(*log_index) };
    answer(args.admin.output, &facts, &json)
}

async fn status(args: StatusArgs) -> Result<(), Failure> {
    let connection = args.admin.connect()?;
    let status = ClusterClient::new(connection.channel())
        .status(connection.request(StatusRequest::default(), CALL_LIMIT))
        .await
        .map_err(connection.failed("ask the node how it stands"))?
        .into_inner();
    answer(args.admin.output, &described(&status), &StatusJson::from(&status))
}

/// A status in words. Lines that say nothing before the founding are left out then.
fn described(status: &StatusResponse) -> String {
    let mut facts = Facts::new();
    facts.add("Node", &status.node_name).add("Trust domain", &status.trust_domain).add("Role", role(status.role()));
    facts.add("Ready", if status.ready { "yes" } else { "no" });
    for reason in &status.reasons {
        facts.add("", reason);
    }
    if status.founded {
        facts
            .add("Cluster", &status.cluster_id)
            .add("Member", status.member)
            .add("Term", status.term)
            .add("Leader", leader(status))
            .add("Applied index", status.applied_index)
            .add("State hash", &status.state_hash)
            .add("Issuing until", instant(status.issuing_not_after))
            .add("Entries", status.entries_count)
            .add("Bundle sequence", status.bundle_sequence)
            .add("Policy revision", status.policy_revision);
    }
    facts.add("Version", &status.version);
    let mut text = facts.to_string();
    if !status.members.is_empty() {
        text.push('\n');
        text.push_str(&members(&status.members).to_string());
    }
    text
}

fn members(members: &[Member]) -> Table<7> {
    let mut table = Table::new(["MEMBER", "NAME", "VOTES", "REGION", "ZONE", "LABELS", "ISSUING UNTIL"]);
    for member in members {
        let labels: Vec<String> = member.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        table.row([
            member.number.to_string(),
            member.name.clone(),
            if member.voter { "yes" } else { "no" }.to_owned(),
            dash(&member.region),
            dash(&member.zone),
            dash(&labels.join(",")),
            instant(member.issuing_not_after),
        ]);
    }
    table
}

/// A cell that is not empty, so that columns can be counted.
fn dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

fn instant(seconds: i64) -> String {
    match seconds {
        0 => "-".to_owned(),
        seconds => UnixSeconds(seconds).to_string(),
    }
}

fn leader(status: &StatusResponse) -> String {
    match status.leader {
        0 => "none known".to_owned(),
        number => match status.members.iter().find(|member| member.number == number) {
            Some(member) => format!("{} (member {number})", member.name),
            None => format!("member {number}"),
        },
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Unspecified => "unknown",
        Role::Waiting => "waiting: not founded; `quorate cluster init` founds an authority here",
        Role::Learner => "learner",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        Role::Stopped => "stopped",
    }
}

/// `quorate.cluster.v1.InitResponse`
#[derive(Serialize)]
struct InitJson<'a> {
    cluster_id: &'a str,
    trust_domain: &'a str,
    node_name: &'a str,
    member: Wide<u64>,
    log_index: Wide<u64>,
}

/// `quorate.cluster.v1.StatusResponse`
#[derive(Serialize)]
struct StatusJson<'a> {
    founded: bool,
    trust_domain: &'a str,
    cluster_id: &'a str,
    node_name: &'a str,
    member: Wide<u64>,
    role: &'static str,
    term: Wide<u64>,
    leader: Wide<u64>,
    applied_index: Wide<u64>,
    state_hash: &'a str,
    issuing_not_after: Wide<i64>,
    ready: bool,
    reasons: &'a [String],
    members: Vec<MemberJson<'a>>,
    entries_count: Wide<u64>,
    bundle_sequence: Wide<u64>,
    policy_revision: Wide<u64>,
    version: &'a str,
}

/// `quorate.cluster.v1.Member`
#[derive(Serialize)]
struct MemberJson<'a> {
    number: Wide<u64>,
    name: &'a str,
    spiffe_id: &'a str,
    region: &'a str,
    zone: &'a str,
    labels: &'a BTreeMap<String, String>,
    voter: bool,
    issuing_not_after: Wide<i64>,
}

impl<'a> From<&'a StatusResponse> for StatusJson<'a> {
    fn from(status: &'a StatusResponse) -> Self {
        let member = |member: &'a Member| MemberJson {
            number: Wide(member.number),
            name: &member.name,
            spiffe_id: &member.spiffe_id,
            region: &member.region,
            zone: &member.zone,
            labels: &member.labels,
            voter: member.voter,
            issuing_not_after: Wide(member.issuing_not_after),
        };
        Self {
            founded: status.founded,
            trust_domain: &status.trust_domain,
            cluster_id: &status.cluster_id,
            node_name: &status.node_name,
            member: Wide(status.member),
            role: status.role().as_str_name(),
            term: Wide(status.term),
            leader: Wide(status.leader),
            applied_index: Wide(status.applied_index),
            state_hash: &status.state_hash,
            issuing_not_after: Wide(status.issuing_not_after),
            ready: status.ready,
            reasons: &status.reasons,
            members: status.members.iter().map(member).collect(),
            entries_count: Wide(status.entries_count),
            bundle_sequence: Wide(status.bundle_sequence),
            policy_revision: Wide(status.policy_revision),
            version: &status.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_pairs() {
        assert_eq!(label("rack=a=b"), Ok(("rack".to_owned(), "a=b".to_owned())));
        assert_eq!(label("rack="), Ok(("rack".to_owned(), String::new())));
        assert!(label("rack").is_err());
        assert!(label("=a").is_err());
    }

    #[test]
    fn a_node_that_waits_says_what_to_do() {
        let status = StatusResponse {
            node_name: "node-1".into(),
            trust_domain: "example.org".into(),
            role: Role::Waiting.into(),
            reasons: vec!["no authority was founded here".into()],
            version: "0.1.0".into(),
            ..StatusResponse::default()
        };
        assert_eq!(
            described(&status),
            "Node          node-1\n\
             Trust domain  example.org\n\
             Role          waiting: not founded; `quorate cluster init` founds an authority here\n\
             Ready         no\n\
             \x20             no authority was founded here\n\
             Version       0.1.0\n"
        );
    }

    #[test]
    fn the_leader_is_named() {
        let member = Member { number: 2, name: "node-2".into(), ..Member::default() };
        let status = StatusResponse { leader: 2, members: vec![member], ..StatusResponse::default() };
        assert_eq!(leader(&status), "node-2 (member 2)");
        assert_eq!(leader(&StatusResponse::default()), "none known");
    }
}
