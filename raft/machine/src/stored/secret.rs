//! Stored forms of shared secrets, and of the operations on them. Version 1, 2026-11-23.

use bytes::Bytes;
use prost::Message;
use quorate_proto_identity::UnixSeconds;

use super::authority::{StoredPart, StoredSealed, from_part, from_sealed, to_part, to_sealed};
use super::{StoredError, at_most, kind, present, to_bytes, valid};
use crate::authority::{SEALED_RECIPIENTS_LIMIT, Sealed, SealedFor};
use crate::command::Operation;
use crate::federation::{Secret, SecretName};
use crate::objects::Object;

#[derive(Clone, PartialEq, Message)]
struct StoredSecret {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    sealed: Option<StoredSealed>,
    #[prost(uint64, tag = "3")]
    revision: u64,
    #[prost(int64, tag = "4")]
    put_at: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredPutSecret {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    sealed: Option<StoredSealed>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredSealSecret {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    parts: Vec<StoredPart>,
    #[prost(uint64, tag = "3")]
    revision: u64,
}

pub(super) fn secret_name(text: &str) -> Result<SecretName, StoredError> {
    valid(SecretName::new(text), "name of a secret")
}

impl Object for Secret {
    const KIND: u8 = kind::SECRET;

    fn stored(&self) -> Vec<u8> {
        let Self { name, sealed, revision, put_at } = self;
        to_bytes(&StoredSecret {
            name: name.as_str().to_owned(),
            sealed: Some(from_sealed(sealed)),
            revision: *revision,
            put_at: put_at.0,
        })
    }
}

pub(crate) fn decode_secret(bytes: Bytes) -> Result<Secret, StoredError> {
    let stored = StoredSecret::decode(bytes)?;
    Ok(Secret {
        name: secret_name(&stored.name)?,
        sealed: to_sealed(present(stored.sealed, "sealed secret")?)?,
        revision: stored.revision,
        put_at: UnixSeconds(stored.put_at),
    })
}

pub(super) fn from_put_secret(name: &SecretName, sealed: &Sealed) -> StoredPutSecret {
    StoredPutSecret { name: name.as_str().to_owned(), sealed: Some(from_sealed(sealed)) }
}

pub(super) fn to_put_secret(stored: StoredPutSecret) -> Result<Operation, StoredError> {
    let sealed = to_sealed(present(stored.sealed, "sealed secret")?)?;
    Ok(Operation::PutSecret { name: secret_name(&stored.name)?, sealed })
}

pub(super) fn from_seal_secret(name: &SecretName, revision: u64, parts: &[SealedFor]) -> StoredSealSecret {
    StoredSealSecret { name: name.as_str().to_owned(), parts: parts.iter().map(from_part).collect(), revision }
}

pub(super) fn to_seal_secret(stored: StoredSealSecret) -> Result<Operation, StoredError> {
    at_most(&stored.parts, SEALED_RECIPIENTS_LIMIT, "recipients of a sealed secret")?;
    let parts = stored.parts.into_iter().map(to_part).collect::<Result<_, StoredError>>()?;
    Ok(Operation::SealSecret { name: secret_name(&stored.name)?, revision: stored.revision, parts })
}
