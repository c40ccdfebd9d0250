//! Stored forms of foreign bundles, and of the operations on them. Version 1, 2026-11-23.

use std::sync::Arc;

use bytes::Bytes;
use prost::{Message, Oneof};
use quorate_proto_identity::{Bundle, Certificate, JwtAuthority, PublicKey, UnixSeconds};

use super::{StoredError, kind, known, present, to_bytes, trust_domain, valid};
use crate::command::Operation;
use crate::federation::{
    BundleFields, FOREIGN_BUNDLE_BYTES_LIMIT, ForeignBundle, ForeignDeletion, ForeignOrigin, NewForeignBundle, SetHow,
    bundle_bytes,
};
use crate::objects::Object;

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredBundle {
    #[prost(string, tag = "1")]
    trust_domain: String,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    certificates: Vec<Bytes>,
    #[prost(message, repeated, tag = "3")]
    keys: Vec<StoredBundleKey>,
    #[prost(uint64, optional, tag = "4")]
    sequence: Option<u64>,
    #[prost(int64, optional, tag = "5")]
    refresh_hint: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredBundleKey {
    #[prost(string, tag = "1")]
    key_id: String,
    #[prost(bytes = "bytes", tag = "2")]
    public_key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct StoredForeignBundle {
    #[prost(message, optional, tag = "1")]
    bundle: Option<StoredBundle>,
    #[prost(uint32, tag = "2")]
    origin: u32,
    #[prost(uint64, optional, tag = "3")]
    fetched_sequence: Option<u64>,
    #[prost(int64, tag = "4")]
    changed_at: i64,
    #[prost(uint64, tag = "5")]
    version: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredNewForeign {
    #[prost(message, optional, tag = "1")]
    bundle: Option<StoredBundle>,
    #[prost(oneof = "StoredHow", tags = "2, 3, 4, 5")]
    how: Option<StoredHow>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredNothing {}

#[derive(Clone, Copy, PartialEq, Oneof)]
enum StoredHow {
    #[prost(message, tag = "2")]
    Fetched(StoredFetched),
    #[prost(message, tag = "3")]
    Create(StoredNothing),
    #[prost(message, tag = "4")]
    Update(StoredFields),
    #[prost(message, tag = "5")]
    Set(StoredNothing),
}

/// The fields that an update takes over.
#[derive(Clone, Copy, PartialEq, Message)]
struct StoredFields {
    #[prost(bool, tag = "1")]
    x509_authorities: bool,
    #[prost(bool, tag = "2")]
    jwt_authorities: bool,
    #[prost(bool, tag = "3")]
    refresh_hint: bool,
    #[prost(bool, tag = "4")]
    sequence: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StoredFetched {
    #[prost(uint64, tag = "1")]
    relationship_revision: u64,
    #[prost(bool, tag = "2")]
    accept_older: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredDeleteForeign {
    #[prost(string, tag = "1")]
    trust_domain: String,
    #[prost(uint32, tag = "2")]
    mode: u32,
}

pub(super) fn from_bundle(bundle: &Bundle) -> StoredBundle {
    let from_key = |key: &JwtAuthority| StoredBundleKey {
        key_id: key.key_id.clone(),
        public_key: Bytes::copy_from_slice(key.public_key.spki_der()),
    };
    let certificates = bundle.x509_authorities().iter();
    StoredBundle {
        trust_domain: bundle.trust_domain().as_str().to_owned(),
        certificates: certificates.map(|certificate| Bytes::copy_from_slice(certificate.der())).collect(),
        keys: bundle.jwt_authorities().iter().map(from_key).collect(),
        sequence: bundle.sequence(),
        refresh_hint: bundle.refresh_hint(),
    }
}

pub(super) fn to_bundle(stored: StoredBundle) -> Result<Bundle, StoredError> {
    let StoredBundle { trust_domain: name, certificates, keys, sequence, refresh_hint } = stored;
    let repeated = |what| StoredError::Value { what, reason: "it is there twice".to_owned() };
    let mut bundle = Bundle::new(trust_domain(&name)?);
    for certificate in certificates {
        let what = "certificate of a foreign bundle";
        if !bundle.add_x509_authority(valid(Certificate::parse(&certificate), what)?) {
            return Err(repeated(what));
        }
    }
    for StoredBundleKey { key_id, public_key } in keys {
        let what = "token key of a foreign bundle";
        let public_key = valid(PublicKey::from_spki_der(&public_key), what)?;
        if !bundle.add_jwt_authority(JwtAuthority { key_id, public_key }) {
            return Err(repeated(what));
        }
    }
    bundle.set_sequence(sequence);
    bundle.set_refresh_hint(refresh_hint);
    let length = bundle_bytes(&bundle);
    if length > FOREIGN_BUNDLE_BYTES_LIMIT {
        return Err(StoredError::TooMuch { what: "foreign bundle", length, limit: FOREIGN_BUNDLE_BYTES_LIMIT });
    }
    Ok(bundle)
}

impl Object for ForeignBundle {
    const KIND: u8 = kind::FOREIGN_BUNDLE;

    fn stored(&self) -> Vec<u8> {
        // The bundle says whose it is.
        let Self { trust_domain: _, bundle, origin, fetched_sequence, changed_at, version } = self;
        to_bytes(&StoredForeignBundle {
            bundle: Some(from_bundle(bundle)),
            origin: *origin as u32,
            fetched_sequence: *fetched_sequence,
            changed_at: changed_at.0,
            version: *version,
        })
    }
}

pub(crate) fn decode_foreign(bytes: Bytes) -> Result<ForeignBundle, StoredError> {
    let stored = StoredForeignBundle::decode(bytes)?;
    let bundle = to_bundle(present(stored.bundle, "foreign bundle")?)?;
    Ok(ForeignBundle {
        trust_domain: bundle.trust_domain().clone(),
        bundle: Arc::new(bundle),
        origin: known(ForeignOrigin::from_number(stored.origin), "origin of a foreign bundle")?,
        fetched_sequence: stored.fetched_sequence,
        changed_at: UnixSeconds(stored.changed_at),
        version: stored.version,
    })
}

pub(super) fn from_new_foreign(new: &NewForeignBundle) -> StoredNewForeign {
    let NewForeignBundle { bundle, how } = new;
    let how = match *how {
        SetHow::Fetched { relationship_revision, accept_older } => {
            StoredHow::Fetched(StoredFetched { relationship_revision, accept_older })
        }
        SetHow::Create => StoredHow::Create(StoredNothing {}),
        SetHow::Update(fields) => {
            let BundleFields { x509_authorities, jwt_authorities, refresh_hint, sequence } = fields;
            StoredHow::Update(StoredFields { x509_authorities, jwt_authorities, refresh_hint, sequence })
        }
        SetHow::Set => StoredHow::Set(StoredNothing {}),
    };
    StoredNewForeign { bundle: Some(from_bundle(bundle)), how: Some(how) }
}

pub(super) fn to_new_foreign(stored: StoredNewForeign) -> Result<Operation, StoredError> {
    let how = match present(stored.how, "way of setting a foreign bundle")? {
        StoredHow::Fetched(StoredFetched { relationship_revision, accept_older }) => {
            SetHow::Fetched { relationship_revision, accept_older }
        }
        StoredHow::Create(StoredNothing {}) => SetHow::Create,
        StoredHow::Update(StoredFields { x509_authorities, jwt_authorities, refresh_hint, sequence }) => {
            SetHow::Update(BundleFields { x509_authorities, jwt_authorities, refresh_hint, sequence })
        }
        StoredHow::Set(StoredNothing {}) => SetHow::Set,
    };
    let bundle = to_bundle(present(stored.bundle, "foreign bundle")?)?;
    Ok(Operation::SetForeignBundle(Box::new(NewForeignBundle { bundle, how })))
}

pub(super) fn from_delete_foreign(
    of: &quorate_proto_identity::TrustDomain,
    mode: ForeignDeletion,
) -> StoredDeleteForeign {
    StoredDeleteForeign { trust_domain: of.as_str().to_owned(), mode: mode as u32 }
}

pub(super) fn to_delete_foreign(stored: &StoredDeleteForeign) -> Result<Operation, StoredError> {
    Ok(Operation::DeleteForeignBundle {
        trust_domain: trust_domain(&stored.trust_domain)?,
        mode: known(ForeignDeletion::from_number(stored.mode), "mode of a deletion")?,
    })
}
