//! Consensus: openraft joined to the replicated state machine and to the log on disk.
//!
//! ```text
//!   propose ──► queue ──► batcher ──► openraft ──► log storage ──► store: write-ahead log, fdatasync
//!      ▲        bounded   one entry      │  ▲                              │
//!      │                  for many       │  └──────────── synced ◄─────────┘
//!      │                                 ▼ committed
//!      └── outcome ◄── events ◄── adapter: apply(state, command) ──► snapshots, by bytes of log
//!                                        ▲
//!   read ────────────────────────────────┘
//! ```
//!
//! What others see is the [`Handle`]: propose, read, watch. It looks the same on a node that belongs to no cluster yet,
//! and on one whose consensus has ended; only the [`Role`] tells.
//!
//! What this crate never does:
//!
//! - show a type of openraft in its public interface, so that another version of it changes this crate alone;
//! - read a clock, draw a random number or block a thread other than through [`Sources`];
//! - answer a proposal before it is synced by a quorum and applied here (design property 1);
//! - go on after a failed sync: consensus ends on this node until a restart, and says why (design, section 4).
//!
//! Elections are ours to start, never openraft's:
//!
//! ```text
//!   peer service ──► Elections::{pre_vote, vote, take_over} ──► grant: Granted | Refused   (a voter's side)
//!   driver ──► decide: Ask | TakeOn | Elect | StepDown | Wait ──► PreVote of all voters ──► elect, once
//!   transfer ──► writes held, heartbeats off ──► TakeOver ──► the target stands             (a leader's way out)
//! ```
//!
//! `elections` decides, as functions of what is known; `driver` carries out and announces the [`Role`]; `transfer` hands
//! over; [`settings`] has the times, a row for members on one site and one for members at a distance.

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
mod reports;
mod runtime;
mod snapshot;
mod space;
mod stop;
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
pub use raft_members::{MembershipChangeError, RaftMembers};
pub use reader::{NotApplied, StateReader};
pub use recover::{RecoverError, Recovered, recover};
pub use role::Role;
pub use settings::Settings;
pub use snapshot::LoadError;
pub use sources::{Blocking, Entropy, NoObserver, Observer, Sources, WallClock, Work, WorkDone, WorkLost};
pub use transfer::TransferError;
