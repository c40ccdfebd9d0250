//! Consensus: openraft joined to the replicated state machine and to the log on disk.
//!
//! ```text
//!   propose ──► queue ──► batcher ──► openraft ──► log storage ──► store: write-ahead log, fdatasync
//!      ▲        bounded   one entry      │  ▲                              │
//!      │                  for many       │  └──────────── synced ◄─────────┘
//!      │                                 ▼ committed
//!      └── outcome ◄── events ◄── adapter: apply(state, command) ──► snapshots, by bytes of log
//!                                        ▲
//!   read ────────────────────────────────┘    election driver: when to stand, when office is confirmed
//! ```
//!
//! What others see is the `Handle`: propose, read, watch. It looks the same on a node that belongs to no cluster yet,
//! and on one whose consensus has ended; only the [`Role`] tells.
//!
//! What this crate never does:
//!
//! - show a type of openraft in its public interface, so that another version of it changes this crate alone;
//! - read a clock, draw a random number or block a thread other than through [`Sources`];
//! - answer a proposal before it is synced by a quorum and applied here (design property 1);
//! - go on after a failed sync: consensus ends on this node until a restart, and says why (design, section 4).

#![forbid(unsafe_code)]

pub mod config;
pub mod limits;
pub mod role;
pub mod settings;
pub mod sources;

pub use config::{BatchLimits, Config, QueueLimits, SnapshotLimits};
pub use role::Role;
pub use settings::{Settings, Spread};
pub use sources::{Blocking, Entropy, NoObserver, Observer, Sources, WallClock, Work, WorkDone, WorkLost};
