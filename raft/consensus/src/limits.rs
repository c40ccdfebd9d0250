//! Every limit of this crate, with the reason for its value (design property 9).

use std::time::Duration;

use quorate_raft_machine::{command::COMMANDS_PER_BATCH, origins::OUTCOMES_PER_ORIGIN};

/// Commands in one batch. Beyond a few hundred the cost of the sync is spread thin enough, and a batch is also how long
/// `apply` holds the state's lock. It is what the stored form of a batch takes.
pub const BATCH_COMMANDS_MAX: usize = COMMANDS_PER_BATCH;

/// Encoded bytes of one batch of several commands. Small enough that a follower at a distance gets it within one
/// heartbeat interval.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Encoded bytes of one command, which is then a batch of its own. The largest command is a foreign bundle of up to
/// 1 MiB with its envelope.
pub const COMMAND_BYTES_MAX: usize = 1280 * 1024;

/// Batches that Raft works on at a time: one is being synced while the next is being encoded.
pub const BATCHES_IN_FLIGHT_MAX: usize = 2;

/// Proposals that wait for a batch. Eight full batches: more waiting would only turn into passed deadlines.
pub const QUEUE_PROPOSALS_MAX: usize = 4096;

/// Encoded bytes of all proposals that wait, so that large commands cannot fill the memory of a node.
pub const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Log entries in bytes that one AppendEntries may carry. A single larger entry cannot exist: the largest command fits.
pub const APPEND_ENTRIES_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Bytes of applied log after which a snapshot is taken. The log since the last snapshot is in memory too, and must be
/// replayed at a start: both want it small, while each snapshot writes the whole state.
pub const SNAPSHOT_LOG_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes of log below a snapshot that are kept for members that lag a little, so that they need no snapshot.
pub const LOG_TAIL_BYTES: u64 = 8 * 1024 * 1024;

/// Log entries that a slow subscriber may fall behind before it must read the state afresh: some seconds of a full load,
/// and some tens of megabytes when each of them is a full batch.
pub const EVENTS_KEPT: usize = 256;

/// The time limit of a proposal that names none.
pub const PROPOSAL_TIME_LIMIT: Duration = Duration::from_secs(10);

/// The time limit of one confirmation of leadership (ELE-07): it waits for apply, and has no limit of its own.
pub const CONFIRM_TIME_LIMIT: Duration = Duration::from_secs(1);

/// The pause after a confirmation of leadership that failed.
pub const CONFIRM_PAUSE: Duration = Duration::from_millis(50);

/// How long the driver waits for Raft to take a term on (ELE-04, ELE-06). It is one sync; a disk that stalls for longer
/// must not keep the driver from looking again.
pub const VOTE_FOR_NOBODY_TIME_LIMIT: Duration = Duration::from_millis(500);

/// How long a leader that hands over holds writes until the batches in flight are through and its successor has the whole
/// log (ELE-09). A successor that takes longer is not ready.
pub const TRANSFER_PREPARE_LIMIT: Duration = Duration::from_secs(1);

/// How long a leader that has fallen silent waits for its successor to lead (ELE-09).
pub const TRANSFER_TIME_LIMIT: Duration = Duration::from_millis(500);

/// How long a leader that is stopping tries to hand over. Without success the others elect by themselves, a lease later.
pub const TRANSFER_BEFORE_STOP_LIMIT: Duration = Duration::from_secs(3);

/// How often free space is looked at. Between two looks a busy log grows by some tens of megabytes at most, which the
/// reserve covers.
pub const SPACE_SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The time that a stopping node gives the batches in flight.
pub const DRAIN_TIME_LIMIT: Duration = Duration::from_secs(5);

/// How long a stopping node waits for Raft to end, and for the log to be closed. A disk that has not answered by then hangs.
pub const CLOSE_TIME_LIMIT: Duration = Duration::from_secs(5);

/// Sequences of one origin that are open at a time: as many as the state keeps outcomes for one origin.
pub const OPEN_SEQUENCES_MAX: usize = OUTCOMES_PER_ORIGIN;

/// Members that one membership may hold: far above any plan, and a bound for what is read from disk and peers.
pub const MEMBERS_MAX: usize = 4096;

/// Addresses of one member.
pub const MEMBER_ADDRESSES_MAX: usize = 16;

/// Bytes of one message between members: what one AppendEntries or one snapshot chunk may carry, and room around it. A
/// single entry of the largest kind is smaller.
pub const PEER_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of a message of a newcomer, who is not trusted yet: keys, names and addresses fit.
pub const JOIN_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the answer to a newcomer: a thousand members with keys and addresses fit.
pub const JOIN_ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Connections that one member may have open to this node: two lines, as many again while they are dialled anew, and
/// some that have not noticed their end.
pub const CONNECTIONS_PER_PEER_MAX: usize = 16;

/// Connections of members in all.
pub const PEER_CONNECTIONS_MAX: usize = 4096;

/// Connections of newcomers (ATK-26).
pub const JOIN_CONNECTIONS_MAX: usize = 32;

/// How long the connection of a newcomer may last: it asks one question.
pub const JOIN_CONNECTION_TIME_LIMIT: Duration = Duration::from_secs(30);

/// Connections that wait for another member's word about their key.
pub const CONNECTIONS_TO_VOUCH_MAX: usize = 64;

/// How long another member may take to vouch for a key.
pub const VOUCH_TIME_LIMIT: Duration = Duration::from_secs(1);

/// Keys that others vouch for at a time. Each is forgotten when its admission is applied.
pub const VOUCHED_KEYS_MAX: usize = 64;

/// Calls that one connection may have open: forwarded batches, reads, questions.
pub const CALLS_PER_CONNECTION_MAX: u32 = 256;

/// Deadlines missed in a row after which a connection is dialled anew (SIM-09). Fewer, and a slow disk costs handshakes;
/// more, and a healed cut is felt longer.
pub const MISSED_DEADLINES_MAX: u32 = 3;

/// How old the newest answer of the leader, or of a quorum, may be (design section 2): with it ends contact. Deletes wait
/// at most this long for a member that is gone.
pub const CONTACT_LIMIT: Duration = Duration::from_secs(1);

/// The longest pause between two reports of a member: four fit into the limit of contact.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// The least pause between two reports of a member, so that a busy log costs its leader a few hundred messages a second
/// and not one for each entry.
pub const REPORT_PAUSE: Duration = Duration::from_millis(2);

/// An offset of the clock that is worth a warning (design section 4, "Clocks").
pub const CLOCK_WARN_LIMIT: Duration = Duration::from_secs(1);

/// An offset of the clock with which a node does not lead, sign or join.
pub const CLOCK_REFUSE_LIMIT: Duration = Duration::from_secs(5);

/// How long a clock that was found to be off keeps its node out of elections once nobody compares it any more. The others
/// have stood several times by then. For ever would be a cluster without a leader, and so without anybody to compare clocks,
/// if a quorum cannot do without the node.
pub const CLOCK_JUDGEMENT_LIMIT: Duration = Duration::from_secs(3);

/// A slower round trip says too little of the clocks.
pub const CLOCK_SAMPLE_ROUND_TRIP_MAX: Duration = Duration::from_secs(1);

/// Wall clock and monotonic clock may differ by this over one call; beyond it the clock was set meanwhile.
pub const CLOCK_STEP_MAX: Duration = Duration::from_millis(100);

/// The time limit of one forwarding of proposals: when it has passed they are offered again, to whoever leads then.
pub const FORWARD_TIME_LIMIT: Duration = Duration::from_secs(2);

/// Bytes of commands in one forwarding.
pub const FORWARD_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Forwardings of one member that the leader works on at a time.
pub const FORWARDS_IN_FLIGHT_MAX: usize = 2;

/// Calls of one member that wait for an index to be applied everywhere: those who wait share them, and one that waits for a
/// member that is just being cut off must not hold the others up.
pub const AWAITS_IN_FLIGHT_MAX: usize = 4;

/// How long a connection whose key nobody knew takes up its place: a stranger costs the members so many questions a second
/// and no more.
pub const VOUCH_PAUSE: Duration = Duration::from_secs(1);

/// The pause before what was not taken is offered again.
pub const FORWARD_PAUSE: Duration = Duration::from_millis(20);

/// The time limit of one round of reading (ELE-07).
pub const READ_ROUND_TIME_LIMIT: Duration = Duration::from_secs(1);

/// Readers that wait for a round.
pub const READERS_MAX: usize = 65_536;

/// Bytes of a question to another member's actors, and of its answer.
pub const QUESTION_BYTES_MAX: usize = 1024 * 1024;

/// Questions of other members that this node's actors work on at a time.
pub const QUESTIONS_IN_FLIGHT_MAX: usize = 256;

/// Bytes of a snapshot that is taken from a leader (ATK-28): ten times what a million entries need.
pub const SNAPSHOT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// How long a snapshot may stand still on its way.
pub const SNAPSHOT_STALL_LIMIT: Duration = Duration::from_secs(30);

/// How long the receiver may take to install a snapshot when it has all of it.
pub const SNAPSHOT_INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// How long a member waits before it looks again whether its record says what it is.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(10);
