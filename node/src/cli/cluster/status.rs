//! `quorate cluster status`

use clap::Args;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::{ClockVerdict, Role, StatusRequest, StatusResponse};
use serde::Serialize;

use super::members::{MemberJson, instant, table};
use super::plan::{PlanJson, in_short};
use crate::cli::failure::Failure;
use crate::cli::json::Wide;
use crate::cli::output::answer;
use crate::cli::socket::AdminArgs;
use crate::cli::text::Facts;
use crate::duration::Seconds;

/// What follows the options.
const HELP: &str = "\
Every node answers this, a node that waits for its founding and one that is cut off from the others too. The exit code is 0 \
when there was an answer, whatever it says: `/ready` of the operations address is for probes. Equal state hashes at equal \
applied indexes say that two nodes hold the same state.";

/// What `quorate cluster status` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Says how the node stands.
pub(super) async fn run(args: StatusArgs) -> Result<(), Failure> {
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
            .add("Contact", contact(status))
            .add("Applied index", status.applied_index)
            .add("State hash", &status.state_hash)
            .add("Issuing until", instant(status.issuing_not_after))
            .add("Clock", clock(status))
            .add("Entries", status.entries_count)
            .add("Bundle sequence", status.bundle_sequence)
            .add("Policy revision", status.policy_revision)
            .add("Commands", format!("version {}", status.command_version));
        if let Some(plan) = &status.plan {
            facts.add("Plan", in_short(plan));
        }
        facts.add_unless_empty("Recovery key", &status.recovery_key);
        // The first is that of the founding; each recovery after a loss of the quorum begins another.
        if status.epoch > 1 {
            facts.add("Epoch", format!("{}: the cluster was recovered after a loss of its quorum", status.epoch));
        }
        if status.open_invitations > 0 {
            facts.add("Invitations", format!("{} open", status.open_invitations));
        }
    }
    facts.add("Version", &status.version);
    let mut text = facts.to_string();
    if !status.members.is_empty() {
        text.push('\n');
        text.push_str(&table(status).to_string());
    }
    text
}

fn leader(status: &StatusResponse) -> String {
    match (status.leader, status.leader_name.as_str()) {
        (0, _) => "none known".to_owned(),
        (number, "") => format!("member {number}"),
        (number, name) => format!("{name} (member {number})"),
    }
}

fn contact(status: &StatusResponse) -> String {
    match (status.connected, status.cut_off_millis) {
        (true, _) if status.role() == Role::Leader => "with a majority".to_owned(),
        (true, _) => "with the leader".to_owned(),
        (false, Some(millis)) => {
            let seconds = i64::try_from(millis / 1_000).unwrap_or(i64::MAX);
            format!("cut off for {}", Seconds::new(seconds))
        }
        (false, None) => "none yet".to_owned(),
    }
}

fn clock(status: &StatusResponse) -> String {
    let Some(offset) = status.clock_offset_millis else { return "not compared yet".to_owned() };
    let verdict = match status.clock_verdict() {
        ClockVerdict::Unspecified | ClockVerdict::Good => "",
        ClockVerdict::Warn => ": set it right",
        ClockVerdict::Refuse => ": this node neither leads nor signs until it is set right",
    };
    format!("{offset:+} ms to the members' median{verdict}")
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

/// `quorate.cluster.v1.StatusResponse`, but that `leader` is the leader's name: a number says little without the list.
#[derive(Serialize)]
struct StatusJson<'a> {
    founded: bool,
    trust_domain: &'a str,
    cluster_id: &'a str,
    node_name: &'a str,
    member: Wide<u64>,
    role: &'static str,
    term: Wide<u64>,
    leader: &'a str,
    leader_member: Wide<u64>,
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
    epoch: Wide<u64>,
    command_version: u32,
    connected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_off_millis: Option<Wide<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_offset_millis: Option<Wide<i64>>,
    clock_verdict: &'static str,
    leader_answered: bool,
    plan: Option<PlanJson>,
    open_invitations: u32,
    recovery_key: &'a str,
    log_time: Wide<i64>,
}

impl<'a> From<&'a StatusResponse> for StatusJson<'a> {
    fn from(status: &'a StatusResponse) -> Self {
        Self {
            founded: status.founded,
            trust_domain: &status.trust_domain,
            cluster_id: &status.cluster_id,
            node_name: &status.node_name,
            member: Wide(status.member),
            role: status.role().as_str_name(),
            term: Wide(status.term),
            leader: &status.leader_name,
            leader_member: Wide(status.leader),
            applied_index: Wide(status.applied_index),
            state_hash: &status.state_hash,
            issuing_not_after: Wide(status.issuing_not_after),
            ready: status.ready,
            reasons: &status.reasons,
            members: status.members.iter().map(MemberJson::from).collect(),
            entries_count: Wide(status.entries_count),
            bundle_sequence: Wide(status.bundle_sequence),
            policy_revision: Wide(status.policy_revision),
            version: &status.version,
            epoch: Wide(status.epoch),
            command_version: status.command_version,
            connected: status.connected,
            cut_off_millis: status.cut_off_millis.map(Wide),
            clock_offset_millis: status.clock_offset_millis.map(Wide),
            clock_verdict: status.clock_verdict().as_str_name(),
            leader_answered: status.leader_answered,
            plan: status.plan.as_ref().map(PlanJson::from),
            open_invitations: status.open_invitations,
            recovery_key: &status.recovery_key,
            log_time: Wide(status.log_time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let status = StatusResponse { leader: 2, leader_name: "node-2".into(), ..StatusResponse::default() };
        assert_eq!(leader(&status), "node-2 (member 2)");
        assert_eq!(serde_json::to_value(StatusJson::from(&status)).unwrap()["leader"], "node-2");
        assert_eq!(leader(&StatusResponse::default()), "none known");
    }

    #[test]
    fn a_node_that_is_cut_off_says_for_how_long_and_a_wrong_clock_what_it_costs() {
        let mut status = StatusResponse { cut_off_millis: Some(90_500), ..StatusResponse::default() };
        assert_eq!(contact(&status), "cut off for 1m30s");
        assert_eq!(clock(&status), "not compared yet");
        status.clock_offset_millis = Some(6_200);
        status.clock_verdict = ClockVerdict::Refuse.into();
        assert_eq!(
            clock(&status),
            "+6200 ms to the members' median: this node neither leads nor signs until it is set right"
        );
    }
}
