//! Stored form of a restore. Version 1, 2026-11-23.

use bytes::Bytes;
use prost::Message;

use super::authority::{StoredSealed, from_sealed, to_sealed};
use super::cluster::cluster_id;
use super::member::{StoredMemberRecord, from_record, to_record};
use super::secret::secret_name;
use super::{StoredError, at_most, authority_id, member_number, present};
use crate::authority::AUTHORITIES_LIMIT;
use crate::federation::SECRETS_LIMIT;
use crate::restore::{Restore, RestoredRoot, RestoredSecret, RestoredTokenKey};

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredRestore {
    #[prost(bytes = "bytes", tag = "1")]
    cluster_id: Bytes,
    #[prost(uint64, tag = "2")]
    number: u64,
    #[prost(message, optional, tag = "3")]
    member: Option<StoredMemberRecord>,
    #[prost(uint64, tag = "4")]
    floor: u64,
    #[prost(message, repeated, tag = "5")]
    roots: Vec<StoredRestoredKey>,
    #[prost(message, repeated, tag = "6")]
    token_keys: Vec<StoredRestoredKey>,
    #[prost(message, repeated, tag = "7")]
    secrets: Vec<StoredRestoredKey>,
}

/// A root, or a token key or secret, which have no CRL.
#[derive(Clone, PartialEq, Message)]
struct StoredRestoredKey {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bytes = "bytes", tag = "2")]
    crl: Bytes,
    #[prost(message, optional, tag = "3")]
    sealed: Option<StoredSealed>,
}

/// What an outcome says of a restore.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct StoredRestored {
    #[prost(uint64, tag = "1")]
    pub(super) member: u64,
    #[prost(uint64, tag = "2")]
    pub(super) sequence: u64,
    #[prost(uint64, tag = "3")]
    pub(super) revoked: u64,
}

pub(super) fn from_restore(restore: &Restore) -> StoredRestore {
    let Restore { cluster_id, number, member, floor, roots, token_keys, secrets } = restore;
    let from_root = |RestoredRoot { id, crl, sealed }: &RestoredRoot| StoredRestoredKey {
        id: id.as_str().to_owned(),
        crl: crl.clone(),
        sealed: Some(from_sealed(sealed)),
    };
    let from_key = |RestoredTokenKey { id, sealed }: &RestoredTokenKey| StoredRestoredKey {
        id: id.as_str().to_owned(),
        crl: Bytes::new(),
        sealed: Some(from_sealed(sealed)),
    };
    let from_secret = |RestoredSecret { name, sealed }: &RestoredSecret| StoredRestoredKey {
        id: name.as_str().to_owned(),
        crl: Bytes::new(),
        sealed: Some(from_sealed(sealed)),
    };
    StoredRestore {
        cluster_id: Bytes::copy_from_slice(cluster_id.as_bytes()),
        number: number.get(),
        member: Some(from_record(member)),
        floor: *floor,
        roots: roots.iter().map(from_root).collect(),
        token_keys: token_keys.iter().map(from_key).collect(),
        secrets: secrets.iter().map(from_secret).collect(),
    }
}

pub(super) fn to_restore(stored: StoredRestore) -> Result<Restore, StoredError> {
    at_most(&stored.roots, AUTHORITIES_LIMIT, "roots of a restore")?;
    at_most(&stored.token_keys, AUTHORITIES_LIMIT, "token keys of a restore")?;
    at_most(&stored.secrets, SECRETS_LIMIT, "secrets of a restore")?;
    let sealed = |sealed| to_sealed(present(sealed, "sealed key")?);
    let to_root = |root: StoredRestoredKey| {
        Ok::<_, StoredError>(RestoredRoot { id: authority_id(&root.id)?, crl: root.crl, sealed: sealed(root.sealed)? })
    };
    let to_key = |key: StoredRestoredKey| {
        Ok::<_, StoredError>(RestoredTokenKey { id: authority_id(&key.id)?, sealed: sealed(key.sealed)? })
    };
    let to_secret = |secret: StoredRestoredKey| {
        Ok::<_, StoredError>(RestoredSecret { name: secret_name(&secret.id)?, sealed: sealed(secret.sealed)? })
    };
    Ok(Restore {
        cluster_id: cluster_id(&stored.cluster_id)?,
        number: member_number(stored.number)?,
        member: to_record(present(stored.member, "member record")?)?,
        floor: stored.floor,
        roots: stored.roots.into_iter().map(to_root).collect::<Result<_, _>>()?,
        token_keys: stored.token_keys.into_iter().map(to_key).collect::<Result<_, _>>()?,
        secrets: stored.secrets.into_iter().map(to_secret).collect::<Result<_, _>>()?,
    })
}
