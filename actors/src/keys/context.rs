//! What a sealed key is bound to, beside the recipient's key: opened anywhere else, it does not open.

use std::fmt;

use quorate_proto_identity::ids::{AuthorityId, ClusterId};
use quorate_raft_machine::SecretName;
use quorate_raft_machine::authority::{AuthorityKind, Recipient};

/// First bytes of everything sealed here, so that no other use of the same key pair can be confused with it. The number
/// counts changes of the form.
const DOMAIN: &[u8] = b"quorate sealed authority key 1";

/// The number in place of a kind of authority, for secrets of the cluster.
const SECRET_KIND: u32 = 0x100;

/// Where a sealed key belongs: the cluster, what it is the key of, and who it is sealed to. A part copied to another
/// authority, cluster or recipient is refused when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealContext {
    /// The cluster.
    pub cluster: ClusterId,
    /// What is sealed.
    pub item: SealedItem,
    /// Who may open it.
    pub recipient: Recipient,
}

/// What is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealedItem {
    /// The private key of an authority.
    Authority {
        /// Root or token key.
        kind: AuthorityKind,
        /// Which.
        id: AuthorityId,
    },
    /// A secret that every member may open.
    Secret(SecretName),
}

impl SealedItem {
    /// The number and the name that tell it from everything else that is sealed.
    #[must_use]
    pub fn parts(&self) -> (u32, &str) {
        match self {
            Self::Authority { kind, id } => (*kind as u32, id.as_str()),
            Self::Secret(name) => (SECRET_KIND, name.as_str()),
        }
    }
}

impl fmt::Display for SealedItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority { kind: _, id } => write!(f, "authority {id}"),
            Self::Secret(name) => write!(f, "secret {name}"),
        }
    }
}

impl SealContext {
    /// That of an authority's key.
    #[must_use]
    pub const fn of_authority(cluster: ClusterId, kind: AuthorityKind, id: AuthorityId, recipient: Recipient) -> Self {
        Self { cluster, item: SealedItem::Authority { kind, id }, recipient }
    }

    /// That of a secret.
    #[must_use]
    pub const fn of_secret(cluster: ClusterId, name: SecretName, recipient: Recipient) -> Self {
        Self { cluster, item: SealedItem::Secret(name), recipient }
    }

    /// HPKE's `info`: what is common to all parts of a cluster.
    pub(crate) fn info(&self) -> Vec<u8> {
        let mut bytes = DOMAIN.to_vec();
        bytes.extend_from_slice(self.cluster.as_bytes());
        bytes
    }

    /// HPKE's `aad`: what tells the parts of a cluster apart. Every field has its length in front, so that no two
    /// contexts give the same bytes.
    pub(crate) fn aad(&self) -> Vec<u8> {
        let (kind, name) = self.item.parts();
        let mut bytes = kind.to_be_bytes().to_vec();
        field(&mut bytes, name.as_bytes());
        match &self.recipient {
            Recipient::Member(number) => {
                bytes.push(1);
                field(&mut bytes, &number.get().to_be_bytes());
            }
            Recipient::RecoveryKey(id) => {
                bytes.push(2);
                field(&mut bytes, id.as_bytes());
            }
        }
        bytes
    }
}

fn field(bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend_from_slice(&(value.len() as u64).to_be_bytes());
    bytes.extend_from_slice(value);
}
