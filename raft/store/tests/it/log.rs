//! The Raft log.

mod basics;
