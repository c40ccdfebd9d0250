//! Consensus: openraft joined to the replicated state machine, to the log on disk, and to the other members.
//!
//! ```text
//!   propose ──► queue ──► batcher ──┬─ leads ──► openraft ──► log storage ──► store: write-ahead log, fdatasync
//!      ▲        bounded   one entry │               │  ▲  └─► network ──► other members: append, vote, snapshot
//!      │                  for many  │               │  └── synced here and at a quorum ◄───┘
//!      │                            └─ else ──► Propose, to the leader; again under its origin when it moves
//!      │                                            ▼ committed
//!      └── outcome ◄── events ◄── adapter: apply(state, command) ──► snapshots, by bytes of log
//!                                       ▲
//!   read, read_index ───────────────────┘    driver: when to ask, stand, step down; when office is confirmed
//!
//!   peer port ──► gate: whose key? ──► service ──► openraft, queue, rounds of reading, reports, questions
//! ```
//!
//! What others see is the [`Handle`]: propose, read, watch, ask, change who takes part. It looks the same on a node that
//! belongs to no cluster yet, and on one whose consensus has ended; only the [`Role`] tells.
//!
//! | Modules | |
//! |-|-|
//! | `batcher`, `queue`, `forwarding`, `origin`, `proposal` | a write, from the caller to the log of whoever leads |
//! | `everywhere`, `reports`, `reporting`, [`contact`], [`clock`] | who has applied what, who is connected, whose clock is off |
//! | `reads`, `reader` | linearizable and local reads |
//! | `elections`, `driver`, `transfer` | who leads (ELE-01 to ELE-11) |
//! | `peer`, `network`, [`transport`], [`ask`] | the wire between members (ATK-25 to ATK-28) |
//! | `founding`, [`joining`], `recover`, `raft_members`, `announcing` | how a node becomes a member, and what it is then |
//! | `log_storage`, `unsynced`, `adapter`, `snapshot`, `compaction` | openraft's storage |
//! | `tap` | who hears of every command as it is applied |
//!
//! What this crate never does:
//!
//! - show a type of openraft in its public interface, so that another version of it changes this crate alone;
//! - read a clock, draw a random number, open a socket or block a thread other than through [`Sources`] and
//!   [`transport::Transport`];
//! - answer a proposal before it is synced by a quorum and applied here (design property 1), or a withdrawal before the
//!   connected members have applied it (property 5);
//! - listen to a key that is no member's (ATK-25), or to a member in another's name (ATK-27);
//! - go on after a failed sync: consensus ends on this node until a restart, and says why (design, section 4).

#![forbid(unsafe_code)]

pub mod ask;
pub mod clock;
pub mod config;
pub mod contact;
pub mod joining;
pub mod limits;
pub mod role;
pub mod settings;
pub mod sources;
pub mod transport;

mod adapter;
mod announcing;
mod batch;
mod batcher;
mod compaction;
mod driver;
mod elections;
mod engine;
mod entries;
mod events;
mod everywhere;
mod forwarding;
mod founding;
mod handle;
mod health;
mod log_id;
mod log_storage;
mod membership;
mod network;
mod node;
mod origin;
mod peer;
mod proposal;
mod questions;
mod queue;
mod raft_members;
mod reader;
mod reads;
mod recover;
mod reporting;
mod reports;
mod restore;
mod runtime;
mod snapshot;
mod space;
mod stop;
mod tap;
mod telemetry;
#[cfg(test)]
mod testing;
mod transfer;
mod type_config;
mod unsynced;

pub use ask::{AnswerFuture, Answerer, AskError, topics};
pub use clock::{ClockStatus, ClockVerdict};
pub use config::{Announcement, BatchLimits, Config, QueueLimits, SnapshotLimits};
pub use contact::{Contact, MemberContact};
pub use engine::EngineError;
pub use events::AppliedEvents;
pub use founding::{FoundError, Founded};
pub use handle::{Handle, LinearizeError};
pub use health::Health;
pub use joining::{Admitted, FoundingAnswerer, FoundingStatus, JoinError, JoinRequest, KnownPeer};
pub use membership::{MemberNode, MembershipError};
pub use node::{Consensus, StartError};
pub use proposal::{Applied, Proposal, ProposeError, Uncertainty, Unresolved};
/// The seam to the disk, as [`Consensus::start`] takes it: whoever else writes what must be durable goes through it too.
pub use quorate_raft_store::disk;
pub use raft_members::{MembershipChangeError, RaftMembers};
pub use reader::{NotApplied, StateReader};
pub use recover::{RecoverError, Recovered, recover};
pub use restore::{Restoration, RestoreError, Restored, restore};
pub use role::Role;
pub use settings::Settings;
pub use snapshot::LoadError;
pub use sources::{Blocking, Entropy, NoObserver, Observer, Sources, WallClock, Work, WorkDone, WorkLost};
pub use tap::{AppliedCommand, NoTap, Settling, TAP_SETTLE_LIMIT, Tap};
pub use transfer::TransferError;
