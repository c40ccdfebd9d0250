//! Stored forms of origins and their kept outcomes. Version 1, 2026-11-23.

use bytes::Bytes;
use prost::Message;

use super::{StoredError, to_bytes};
use crate::origins::{KeptOutcome, OriginRecord};

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredOrigin {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    boot: u64,
    #[prost(uint64, tag = "3")]
    floor: u64,
    #[prost(uint64, tag = "4")]
    last_used: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredKeptOutcome {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    boot: u64,
    #[prost(uint64, tag = "3")]
    sequence: u64,
    #[prost(bytes = "vec", tag = "4")]
    outcome: Vec<u8>,
    #[prost(string, repeated, tag = "5")]
    messages: Vec<String>,
}

pub(crate) fn encode_record(record: &OriginRecord) -> Vec<u8> {
    let OriginRecord { node, boot, floor, last_used } = *record;
    to_bytes(&StoredOrigin { node, boot, floor, last_used })
}

pub(crate) fn decode_record(bytes: Bytes) -> Result<OriginRecord, StoredError> {
    let StoredOrigin { node, boot, floor, last_used } = StoredOrigin::decode(bytes)?;
    Ok(OriginRecord { node, boot, floor, last_used })
}

/// The stored bytes of a kept outcome with these messages: its own, or none for what enters the state hash.
pub(crate) fn encode_outcome(kept: &KeptOutcome, messages: &[String]) -> Vec<u8> {
    let KeptOutcome { node, boot, sequence, ref outcome, messages: _ } = *kept;
    let (outcome, messages) = (outcome.clone(), messages.to_vec());
    to_bytes(&StoredKeptOutcome { node, boot, sequence, outcome, messages })
}

pub(crate) fn decode_outcome(bytes: Bytes) -> Result<KeptOutcome, StoredError> {
    let StoredKeptOutcome { node, boot, sequence, outcome, messages } = StoredKeptOutcome::decode(bytes)?;
    super::outcome::decode(&outcome, &messages)?;
    Ok(KeptOutcome { node, boot, sequence, outcome, messages })
}
