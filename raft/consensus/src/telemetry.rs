//! The metrics of this crate, all declared here; `docs/reference/metrics.md` lists them.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::role::Role;

const ROLE: &str = "quorate_consensus_role";
const TERM: &str = "quorate_consensus_term";
const ELECTIONS_TOTAL: &str = "quorate_consensus_elections_total";
const STEP_DOWNS_TOTAL: &str = "quorate_consensus_step_downs_total";
const APPLIED_INDEX: &str = "quorate_consensus_applied_index";
const COMMITTED_INDEX: &str = "quorate_consensus_committed_index";
const LOG_BYTES: &str = "quorate_consensus_log_bytes";
const LOG_SYNCS_TOTAL: &str = "quorate_consensus_log_syncs_total";
const FREE_SPACE_BYTES: &str = "quorate_consensus_free_space_bytes";
const QUEUED_PROPOSALS: &str = "quorate_consensus_queued_proposals";
const COMMANDS_TOTAL: &str = "quorate_consensus_commands_total";
const BATCHES_TOTAL: &str = "quorate_consensus_batches_total";
const BATCH_COMMANDS: &str = "quorate_consensus_batch_commands";
const BATCH_BYTES: &str = "quorate_consensus_batch_bytes";
const PROPOSALS_REFUSED_TOTAL: &str = "quorate_consensus_proposals_refused_total";
const CONNECTED: &str = "quorate_consensus_connected";
const CLOCK_OFFSET_SECONDS: &str = "quorate_consensus_clock_offset_seconds";
const COMMANDS_FORWARDED_TOTAL: &str = "quorate_consensus_commands_forwarded_total";
const SNAPSHOTS_TOTAL: &str = "quorate_consensus_snapshots_total";
const SNAPSHOT_SECONDS: &str = "quorate_consensus_snapshot_seconds";
const SNAPSHOT_BYTES: &str = "quorate_consensus_snapshot_bytes";

/// Describes all metrics to the recorder that is installed.
pub(crate) fn describe() {
    describe_gauge!(ROLE, "1 for the role that this node has in consensus, 0 for the others");
    describe_gauge!(TERM, "The term that this node is in");
    describe_counter!(ELECTIONS_TOTAL, "Times this node asked the others, or stood for election");
    describe_counter!(STEP_DOWNS_TOTAL, "Times this node left the lead, for want of a quorum or of a good clock");
    describe_gauge!(APPLIED_INDEX, "Log index of the last entry applied on this node");
    describe_gauge!(COMMITTED_INDEX, "Log index of the last entry that this node knows to be committed");
    describe_gauge!(LOG_BYTES, Unit::Bytes, "Bytes of log entries that are not purged");
    describe_counter!(LOG_SYNCS_TOTAL, "Times the log was synced");
    describe_gauge!(FREE_SPACE_BYTES, Unit::Bytes, "Free bytes on the file system of the log");
    describe_gauge!(QUEUED_PROPOSALS, "Proposals that wait for a batch");
    describe_counter!(COMMANDS_TOTAL, "Commands given to Raft by this node");
    describe_counter!(BATCHES_TOTAL, "Batches given to Raft by this node");
    describe_histogram!(BATCH_COMMANDS, "Commands in a batch");
    describe_histogram!(BATCH_BYTES, Unit::Bytes, "Encoded bytes of a batch");
    describe_counter!(PROPOSALS_REFUSED_TOTAL, "Proposals refused before they reached the log, by reason");
    describe_gauge!(CONNECTED, "1 while this node is connected to the leader, or leads with its quorum");
    describe_gauge!(
        CLOCK_OFFSET_SECONDS,
        Unit::Seconds,
        "How far this node's clock is ahead of the median of the members"
    );
    describe_counter!(COMMANDS_FORWARDED_TOTAL, "Commands sent on to the leader, repeats included");
    describe_counter!(SNAPSHOTS_TOTAL, "Snapshots, by whether they were built here, installed or given up");
    describe_histogram!(SNAPSHOT_SECONDS, Unit::Seconds, "Time to write a snapshot");
    describe_gauge!(SNAPSHOT_BYTES, Unit::Bytes, "Bytes of the newest snapshot");
}

/// The node took on a role.
pub(crate) fn role(role: &Role) {
    for name in Role::NAMES {
        gauge!(ROLE, "role" => name).set(if name == role.name() { 1.0 } else { 0.0 });
    }
}

/// The node is in this term.
pub(crate) fn term(term: u64) {
    gauge!(TERM).set(to_f64(term));
}

/// The node took a step of an election: `asked` the others, or `stood`.
pub(crate) fn election(step: &'static str) {
    counter!(ELECTIONS_TOTAL, "step" => step).increment(1);
}

/// The node left the lead by its own decision.
pub(crate) fn stepped_down() {
    counter!(STEP_DOWNS_TOTAL).increment(1);
}

/// An entry was applied.
pub(crate) fn applied(index: u64) {
    gauge!(APPLIED_INDEX).set(to_f64(index));
}

/// Figures that are sampled.
pub(crate) fn sample(committed: u64, log_bytes: u64, log_syncs: u64, queued: usize) {
    gauge!(COMMITTED_INDEX).set(to_f64(committed));
    gauge!(LOG_BYTES).set(to_f64(log_bytes));
    counter!(LOG_SYNCS_TOTAL).absolute(log_syncs);
    gauge!(QUEUED_PROPOSALS).set(to_f64(queued as u64));
}

/// Free space was looked at.
pub(crate) fn free_space(bytes: u64) {
    gauge!(FREE_SPACE_BYTES).set(to_f64(bytes));
}

/// A batch was given to Raft.
pub(crate) fn batch(commands: usize, bytes: usize) {
    counter!(BATCHES_TOTAL).increment(1);
    counter!(COMMANDS_TOTAL).increment(commands as u64);
    histogram!(BATCH_COMMANDS).record(to_f64(commands as u64));
    histogram!(BATCH_BYTES).record(to_f64(bytes as u64));
}

/// A proposal was refused before it reached the log.
pub(crate) fn refused(reason: &'static str) {
    counter!(PROPOSALS_REFUSED_TOTAL, "reason" => reason).increment(1);
}

/// Contact began or ended.
pub(crate) fn connected(is_connected: bool) {
    gauge!(CONNECTED).set(if is_connected { 1.0 } else { 0.0 });
}

/// The clock was compared.
pub(crate) fn clock_offset(millis: i64) {
    gauge!(CLOCK_OFFSET_SECONDS).set(millis as f64 / 1_000.0);
}

/// Commands went on to the leader.
pub(crate) fn forwarded(commands: usize) {
    counter!(COMMANDS_FORWARDED_TOTAL).increment(commands as u64);
}

/// A snapshot came to its end: `built`, `installed` or `given_up`.
pub(crate) fn snapshot(how: &'static str, seconds: f64, bytes: u64) {
    counter!(SNAPSHOTS_TOTAL, "how" => how).increment(1);
    histogram!(SNAPSHOT_SECONDS).record(seconds);
    if bytes > 0 {
        gauge!(SNAPSHOT_BYTES).set(to_f64(bytes));
    }
}

/// Gauges are floating point; what is beyond 2^53 is rounded, which no reader will notice.
fn to_f64(value: u64) -> f64 {
    value as f64
}
