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

/// How often free space is looked at. Between two looks a busy log grows by some tens of megabytes at most, which the
/// reserve covers.
pub const SPACE_SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The time that a stopping node gives the batches in flight.
pub const DRAIN_TIME_LIMIT: Duration = Duration::from_secs(5);

/// Sequences of one origin that are open at a time: as many as the state keeps outcomes for one origin.
pub const OPEN_SEQUENCES_MAX: usize = OUTCOMES_PER_ORIGIN;

/// Members that one membership may hold: far above any plan, and a bound for what is read from disk and peers.
pub const MEMBERS_MAX: usize = 4096;

/// Addresses of one member.
pub const MEMBER_ADDRESSES_MAX: usize = 16;
