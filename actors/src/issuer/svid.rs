//! One X509-SVID with its private key, and how it is made.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use quorate_proto_identity::{
    AuthorityId, EntryId, PrivateKey, SerialNumber, UnixMillis,
    x509::{LeafError, LeafTemplate},
};
use quorate_raft_consensus::sources::{Sources, WorkLost};
use quorate_raft_machine::{Policy, entry::Entry};

use super::{
    lease::Lease,
    renewal::{Granted, grant},
    serials::LiveSerial,
};
use crate::{
    refusal::Refusal,
    sources::{KeySource, KeySourceError, is_slow},
};

/// A version of an entry: tells all versions of all entries apart, those too that were deleted and created again under
/// the same ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntryVersion {
    pub(crate) id: EntryId,
    pub(crate) creation_number: u64,
    pub(crate) revision_number: u64,
}

impl EntryVersion {
    pub(crate) fn of(entry: &Entry) -> Self {
        Self { id: entry.id.clone(), creation_number: entry.creation_number, revision_number: entry.revision_number }
    }
}

/// An X509-SVID in the form that goes out: chain and key as bytes that all answers share. The key is wiped when the
/// last of them is gone.
pub(crate) struct Svid {
    /// Leaf and issuing certificate, DER, one after the other (WAPI-19).
    pub(crate) chain: Bytes,
    /// PKCS#8, DER.
    pub(crate) key: Bytes,
    /// The leaf's serial number.
    pub(crate) serial: SerialNumber,
    /// Its time.
    pub(crate) granted: Granted,
    /// When it is to be renewed.
    pub(crate) renew_at: UnixMillis,
    /// The subject key ID of the issuing key.
    pub(crate) issuing_key: AuthorityId,
    /// The serial number of the issuing certificate.
    pub(crate) issuing_serial: SerialNumber,
    /// The root above it.
    pub(crate) root: AuthorityId,
}

impl Svid {
    /// Whether it is to be replaced at `now` by one of this lease.
    pub(crate) fn is_due(&self, now: UnixMillis, lease: &Lease, ttl: u32) -> bool {
        let other = self.issuing_serial != lease.serial || self.issuing_key != lease.key_id;
        self.granted.is_due(now, self.renew_at, other, ttl, lease.validity.not_after())
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid").field("serial", &self.serial).field("granted", &self.granted).finish_non_exhaustive()
    }
}

/// Why no SVID was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// The certificate that would sign it has no second left.
    #[error("the issuing certificate is about to end")]
    NoTimeLeft,
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeySourceError),
    /// The leaf could not be signed.
    #[error("the SVID could not be signed")]
    Leaf(#[from] LeafError),
    /// The policy wants it in the audit trail first, and it did not get there.
    #[error(transparent)]
    NotRecorded(#[from] Refusal),
    /// The work was lost on its way to another thread.
    #[error(transparent)]
    Lost(#[from] WorkLost),
}

/// How long an X509-SVID of this entry lives, in seconds.
pub(crate) fn x509_ttl(entry: &Entry, policy: &Policy) -> u32 {
    if entry.x509_svid_ttl == 0 { policy.x509_svid_lifetime } else { entry.x509_svid_ttl }
}

/// Makes a key and signs the SVID of an entry. With EC keys this is some forty microseconds of work on the caller's own
/// thread; with RSA keys it goes where blocking is allowed.
pub(crate) async fn issue(
    sources: &Sources,
    keys: &Arc<dyn KeySource>,
    lease: &Arc<Lease>,
    entry: &Arc<Entry>,
    policy: &Policy,
) -> Result<Svid, IssueError> {
    let (kind, ttl) = (policy.x509_svid_key_type, x509_ttl(entry, policy));
    if is_slow(kind) || is_slow(lease.issuer().key().key_type()) {
        let (owned, keys, lease, entry) = (sources.clone(), Arc::clone(keys), Arc::clone(lease), Arc::clone(entry));
        let work = move || sign(&owned, lease.as_ref(), &keys.generate(kind)?, entry.as_ref(), ttl);
        return sources.run_blocking(work).await?;
    }
    sign(sources, lease, &keys.generate(kind)?, entry, ttl)
}

fn sign(sources: &Sources, lease: &Lease, key: &PrivateKey, entry: &Entry, ttl: u32) -> Result<Svid, IssueError> {
    let granted = grant(sources.now(), ttl, lease.validity.not_after()).ok_or(IssueError::NoTimeLeft)?;
    let serial = SerialNumber::from_random(sources.random());
    lease.held_key.will_sign(LiveSerial {
        serial,
        spiffe_id: entry.spiffe_id.clone(),
        entry: Some(entry.id.clone()),
        not_after: granted.validity.not_after(),
    });
    let mut chain = lease.issuer().issue(&LeafTemplate {
        spiffe_id: &entry.spiffe_id,
        dns_names: &entry.dns_names,
        subject: None,
        public_key: key.public_key(),
        serial,
        validity: granted.validity,
    })?;
    chain.extend_from_slice(lease.certificate());
    Ok(Svid {
        chain: chain.into(),
        key: Bytes::from_owner(Pkcs8(key.clone())),
        serial,
        granted,
        renew_at: granted.renew_at(sources.random_u64()),
        issuing_key: lease.key_id.clone(),
        issuing_serial: lease.serial,
        root: lease.root.clone(),
    })
}

/// Lends a key's own copy of its document, which is wiped with the key.
struct Pkcs8(PrivateKey);

impl AsRef<[u8]> for Pkcs8 {
    fn as_ref(&self) -> &[u8] {
        self.0.pkcs8()
    }
}
