//! Stored forms of what was founded and of the counters. Version 1, 2026-11-23.

use bytes::Bytes;
use prost::Message;
use quorate_proto_identity::{ClusterId, UnixMillis, UnixSeconds};

use super::{StoredError, kind, to_bytes, trust_domain, valid};
use crate::objects::Object;
use crate::state::{Cluster, Counters};

#[derive(Clone, PartialEq, Message)]
struct StoredCluster {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(string, tag = "2")]
    trust_domain: String,
    #[prost(uint64, tag = "3")]
    epoch: u64,
    #[prost(uint32, tag = "4")]
    version: u32,
    #[prost(int64, tag = "5")]
    founded_at: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredCounters {
    #[prost(int64, tag = "1")]
    time_millis: i64,
    #[prost(uint64, tag = "2")]
    next_creation_number: u64,
    #[prost(uint64, tag = "3")]
    next_member_number: u64,
    #[prost(uint64, tag = "4")]
    spiffe_sequence: u64,
    #[prost(uint64, tag = "5")]
    next_revocation_number: u64,
    #[prost(uint64, tag = "6")]
    next_key_number: u64,
    #[prost(uint64, tag = "7")]
    foreign_version: u64,
    #[prost(uint64, tag = "8")]
    federation_revision: u64,
}

impl Object for Cluster {
    const KIND: u8 = kind::CLUSTER;

    fn stored(&self) -> Vec<u8> {
        let Self { id, trust_domain, epoch, version, founded_at } = self;
        to_bytes(&StoredCluster {
            id: Bytes::copy_from_slice(id.as_bytes()),
            trust_domain: trust_domain.as_str().to_owned(),
            epoch: *epoch,
            version: *version,
            founded_at: founded_at.0,
        })
    }
}

pub(crate) fn decode_cluster(bytes: Bytes) -> Result<Cluster, StoredError> {
    let stored = StoredCluster::decode(bytes)?;
    Ok(Cluster {
        id: cluster_id(&stored.id)?,
        trust_domain: trust_domain(&stored.trust_domain)?,
        epoch: stored.epoch,
        version: stored.version,
        founded_at: UnixSeconds(stored.founded_at),
    })
}

pub(crate) fn cluster_id(bytes: &Bytes) -> Result<ClusterId, StoredError> {
    valid(<[u8; 16]>::try_from(bytes.as_ref()), "cluster ID").map(ClusterId::new)
}

impl Object for Counters {
    const KIND: u8 = kind::COUNTERS;

    fn stored(&self) -> Vec<u8> {
        let Self {
            time,
            next_creation_number,
            next_member_number,
            spiffe_sequence,
            next_revocation_number,
            next_key_number,
            foreign_version,
            federation_revision,
        } = *self;
        to_bytes(&StoredCounters {
            time_millis: time.0,
            next_creation_number,
            next_member_number,
            spiffe_sequence,
            next_revocation_number,
            next_key_number,
            foreign_version,
            federation_revision,
        })
    }
}

pub(crate) fn decode_counters(bytes: Bytes) -> Result<Counters, StoredError> {
    let stored = StoredCounters::decode(bytes)?;
    Ok(Counters {
        time: UnixMillis(stored.time_millis),
        next_creation_number: stored.next_creation_number,
        next_member_number: stored.next_member_number,
        spiffe_sequence: stored.spiffe_sequence,
        next_revocation_number: stored.next_revocation_number,
        next_key_number: stored.next_key_number,
        foreign_version: stored.foreign_version,
        federation_revision: stored.federation_revision,
    })
}
