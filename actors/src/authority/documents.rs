//! Makes what authorities consist of: keys, certificates, first CRLs, sealed parts. Nothing here decides when.

use std::sync::Arc;

use bytes::Bytes;
use quorate_proto_identity::{
    AuthorityId, ClusterId, KeyType, MemberNumber, PrivateKey, SerialNumber, TrustDomain, UnixMillis, UnixSeconds,
    Validity, ValidityError,
    x509::{AuthorityError, AuthorityTemplate, Certificate, CrlError, CrlTemplate, build_crl, build_root},
};
use quorate_raft_consensus::{Sources, WorkLost};
use quorate_raft_machine::{AuthorityKind, NewJwtAuthority, NewX509Authority, Recipient, Sealed};

use crate::{
    issuer::renewal::BACKDATE_SECONDS,
    keys::{CustodyError, KeyCustody, SealContext, seal_key},
    sources::{KeySource, KeySourceError, is_slow},
};

/// The number of a key's first CRL (CRL-02).
const FIRST_CRL_NUMBER: u64 = 1;

/// Bytes of the random `kid` of a token key; it is unique in the cluster without asking anybody.
const KEY_ID_BYTES: usize = 16;

/// Why a document was not made.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// No key pair could be made.
    #[error(transparent)]
    Key(#[from] KeySourceError),
    /// The lifetime gives no validity.
    #[error("the lifetime gives no validity")]
    Validity(#[from] ValidityError),
    /// The certificate could not be made.
    #[error("the certificate could not be made")]
    Certificate(#[from] AuthorityError),
    /// The CRL could not be made.
    #[error("the CRL could not be made")]
    Crl(#[from] CrlError),
    /// The private key could not be sealed.
    #[error("the private key could not be sealed")]
    Seal(#[from] CustodyError),
    /// The ID is none; a fault of the program.
    #[error("the key ID is malformed")]
    KeyId,
    /// The work was lost on its way to another thread.
    #[error(transparent)]
    Lost(#[from] WorkLost),
}

/// Someone who is to be able to open an authority's key.
#[derive(Debug, Clone)]
pub(crate) struct SealingRecipient {
    /// Who.
    pub(crate) recipient: Recipient,
    /// Its sealing public key.
    pub(crate) key: Bytes,
}

/// What new authorities are made with.
#[derive(Clone)]
pub(crate) struct Workshop {
    pub(crate) sources: Sources,
    pub(crate) keys: Arc<dyn KeySource>,
    pub(crate) custody: Arc<dyn KeyCustody>,
}

impl Workshop {
    /// Makes a key pair, elsewhere if that takes long.
    pub(crate) async fn key(&self, kind: KeyType) -> Result<PrivateKey, DocumentError> {
        if !is_slow(kind) {
            return Ok(self.keys.generate(kind)?);
        }
        let keys = Arc::clone(&self.keys);
        Ok(self.sources.run_blocking(move || keys.generate(kind)).await??)
    }

    /// Makes a root: key, self-signed certificate, its CRL (CRL-03), and the key sealed to its recipients.
    pub(crate) async fn root(
        &self,
        cluster: ClusterId,
        trust_domain: &TrustDomain,
        kind: KeyType,
        lifetime: u32,
        recipients: &[SealingRecipient],
    ) -> Result<NewX509Authority, DocumentError> {
        let key = self.key(kind).await?;
        let now = self.sources.now();
        let validity = validity(now, lifetime)?;
        let serial = SerialNumber::from_random(self.sources.random());
        let certificate = build_root(&AuthorityTemplate { trust_domain, serial, validity }, &key)?;
        // The root's CRL lasts as long as the root: freshness comes by push, not by expiry.
        let crl = first_crl(&key, now, validity.not_after())?;
        let sealed = self.seal(cluster, AuthorityKind::X509, &certificate.authority_id(), &key, recipients)?;
        Ok(NewX509Authority { certificate: Bytes::copy_from_slice(certificate.der()), crl, sealed, succeeds: None })
    }

    /// Makes a token key, sealed to its recipients.
    pub(crate) async fn token_key(
        &self,
        cluster: ClusterId,
        kind: KeyType,
        lifetime: u32,
        recipients: &[SealingRecipient],
    ) -> Result<NewJwtAuthority, DocumentError> {
        let key = self.key(kind).await?;
        let random: [u8; KEY_ID_BYTES] = self.sources.random();
        let id = AuthorityId::new(&format!("{:032x}", u128::from_be_bytes(random)));
        let id = id.map_err(|_malformed| DocumentError::KeyId)?;
        let sealed = self.seal(cluster, AuthorityKind::Jwt, &id, &key, recipients)?;
        let public_key = Bytes::copy_from_slice(key.public_key().spki_der());
        let validity = validity(self.sources.now(), lifetime)?;
        Ok(NewJwtAuthority { id, public_key, validity, sealed, succeeds: None })
    }

    fn seal(
        &self,
        cluster: ClusterId,
        kind: AuthorityKind,
        authority: &AuthorityId,
        key: &PrivateKey,
        recipients: &[SealingRecipient],
    ) -> Result<Sealed, DocumentError> {
        let to = |recipient: &SealingRecipient| {
            let authority = authority.clone();
            let context = SealContext::of_authority(cluster, kind, authority, recipient.recipient.clone());
            (context, recipient.key.clone())
        };
        let recipients: Vec<_> = recipients.iter().map(to).collect();
        Ok(seal_key(self.custody.as_ref(), key, &recipients)?)
    }
}

/// The validity of something made now that lives so many seconds.
pub(crate) fn validity(now: UnixMillis, lifetime: u32) -> Result<Validity, ValidityError> {
    let now = now.seconds();
    Validity::new(now.minus(BACKDATE_SECONDS), now.plus(i64::from(lifetime)))
}

/// The first, empty CRL of a key (CRL-03, CRL-04).
pub(crate) fn first_crl(key: &PrivateKey, now: UnixMillis, next_update: UnixSeconds) -> Result<Bytes, CrlError> {
    let template = CrlTemplate {
        this_update: now.seconds().minus(BACKDATE_SECONDS),
        next_update,
        number: FIRST_CRL_NUMBER,
        revoked: &[],
    };
    Ok(build_crl(&template, key)?.into())
}

/// The context of the key of an authority, as this member opens it.
pub(crate) fn own_context(
    cluster: ClusterId,
    kind: AuthorityKind,
    authority: AuthorityId,
    own: MemberNumber,
) -> SealContext {
    SealContext::of_authority(cluster, kind, authority, Recipient::Member(own))
}

/// Reads a root's own certificate again.
pub(crate) fn parse_root(der: &[u8]) -> Result<Certificate, AuthorityError> {
    Ok(Certificate::parse(der)?)
}
