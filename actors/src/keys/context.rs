//! What a sealed key is bound to, beside the recipient's key: opened anywhere else, it does not open.

use quorate_proto_identity::ids::{AuthorityId, ClusterId};
use quorate_raft_machine::authority::{AuthorityKind, Recipient};

/// First bytes of everything sealed here, so that no other use of the same key pair can be confused with it. The number
/// counts changes of the form.
const DOMAIN: &[u8] = b"quorate sealed authority key 1";

/// Where a sealed key belongs: the cluster, the authority it is the key of, and who it is sealed to. A part copied to
/// another authority, cluster or recipient is refused when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealContext {
    /// The cluster.
    pub cluster: ClusterId,
    /// Root or token key.
    pub kind: AuthorityKind,
    /// Which authority.
    pub authority: AuthorityId,
    /// Who may open it.
    pub recipient: Recipient,
}

impl SealContext {
    /// HPKE's `info`: what is common to all parts of a cluster.
    pub(crate) fn info(&self) -> Vec<u8> {
        let mut bytes = DOMAIN.to_vec();
        bytes.extend_from_slice(self.cluster.as_bytes());
        bytes
    }

    /// HPKE's `aad`: what tells the parts of a cluster apart. Every field has its length in front, so that no two
    /// contexts give the same bytes.
    pub(crate) fn aad(&self) -> Vec<u8> {
        let mut bytes = (self.kind as u32).to_be_bytes().to_vec();
        field(&mut bytes, self.authority.as_str().as_bytes());
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
