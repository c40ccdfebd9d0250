//! The cluster's secrets at hand: credentials for other trust domains, keys of web certificates and accounts. They lie in
//! the state, sealed to every member as token keys are, and are opened when they are used.
//!
//! ```text
//!   put: bytes ── sealed to every member and the recovery key ──► Operation::PutSecret ──► state, log, snapshots, backups
//!   open: this member's part ── custody ──► bytes in memory, wiped with their last user
//!   admission, recovery key: the leader seals to whom a part is missing (`authority::sealing`); removal: parts erased
//! ```

use std::sync::Arc;

use quorate_proto_identity::MemberNumber;
use quorate_raft_consensus::{Handle, Proposal, ProposeError};
use quorate_raft_machine::{Caller, Done, Operation, Recipient, Refusal, SecretName};
use zeroize::Zeroizing;

use crate::{
    authority::secret_recipients,
    keys::{CustodyError, KeyCustody, SealContext, open_secret, seal_secret},
};

/// Most bytes of a secret: an RSA-4096 key in PKCS#8 has about 2,400, and what is sealed may have 8 KiB.
pub const SECRET_BYTES_LIMIT: usize = 4 * 1024;

/// Why a secret is not to be had, or was not put.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// This node belongs to no cluster.
    #[error("this node belongs to no cluster")]
    NotAMember,
    /// There is no secret of this name. Whoever uses it says how it is put.
    #[error("there is no secret {name}")]
    NotFound {
        /// The name.
        name: SecretName,
    },
    /// It does not open, or cannot be sealed.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// It is empty or too long.
    #[error("a secret of {length} bytes cannot be kept: it must have 1 to {SECRET_BYTES_LIMIT}")]
    Length {
        /// How many bytes it has.
        length: usize,
    },
    /// The state refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The change could not be proposed.
    #[error("the secret could not be put into the cluster's state")]
    Propose(#[from] ProposeError),
}

/// The cluster's secrets, as this node can open and put them. A cheap handle.
#[derive(Clone)]
pub struct Secrets {
    handle: Handle,
    custody: Arc<dyn KeyCustody>,
}

impl Secrets {
    pub(crate) const fn new(handle: Handle, custody: Arc<dyn KeyCustody>) -> Self {
        Self { handle, custody }
    }

    /// Opens a secret.
    ///
    /// # Errors
    /// When there is none of that name, or nothing of it is sealed to this node (yet).
    pub async fn open(&self, name: &SecretName) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let own = self.own()?;
        let found = self.handle.state().read(|state| {
            let cluster = state.cluster().map(|cluster| cluster.id);
            (cluster, state.secret(name).map(|secret| secret.sealed.clone()))
        });
        let (Some(cluster), sealed) = found else { return Err(SecretError::NotAMember) };
        let sealed = sealed.ok_or_else(|| SecretError::NotFound { name: name.clone() })?;
        let context = SealContext::of_secret(cluster, name.clone(), Recipient::Member(own));
        Ok(open_secret(self.custody.as_ref(), &sealed, &context).await?)
    }

    /// Which form of a secret is in the state: another number, and what was opened is not it any more.
    #[must_use]
    pub fn revision(&self, name: &SecretName) -> Option<u64> {
        self.handle.state().read(|state| state.secret(name).map(|secret| secret.revision))
    }

    /// Seals a secret to every member and the recovery key: the operation that puts it into the state, to be proposed
    /// alone or with what needs it.
    ///
    /// # Errors
    /// When it is too long, or somebody's key cannot be sealed to.
    pub fn seal(&self, name: &SecretName, secret: &[u8]) -> Result<Operation, SecretError> {
        if !(1..=SECRET_BYTES_LIMIT).contains(&secret.len()) {
            return Err(SecretError::Length { length: secret.len() });
        }
        let found = self.handle.state().read(|state| Some((state.cluster()?.id, secret_recipients(state))));
        let (cluster, recipients) = found.ok_or(SecretError::NotAMember)?;
        let recipients: Vec<_> = recipients
            .into_iter()
            .map(|to| (SealContext::of_secret(cluster, name.clone(), to.recipient), to.key))
            .collect();
        let sealed = seal_secret(self.custody.as_ref(), secret, &recipients)?;
        Ok(Operation::PutSecret { name: name.clone(), sealed })
    }

    /// Puts a secret under its name, in place of the one that is there, and answers its revision.
    ///
    /// # Errors
    /// When it cannot be sealed or proposed.
    pub async fn put(&self, name: &SecretName, secret: &[u8], caller: Caller) -> Result<u64, SecretError> {
        let done = self.propose(self.seal(name, secret)?, caller).await?;
        Ok(if let Done::SecretPut { name: _, revision } = done { revision } else { 0 })
    }

    /// Erases a secret.
    ///
    /// # Errors
    /// When there is none, or the change cannot be proposed.
    pub async fn delete(&self, name: &SecretName, caller: Caller) -> Result<(), SecretError> {
        self.propose(Operation::DeleteSecret { name: name.clone() }, caller).await.map(drop)
    }

    async fn propose(&self, operation: Operation, caller: Caller) -> Result<Done, SecretError> {
        let proposed = self.handle.propose(Proposal::new(caller, vec![operation])).await?;
        let result = proposed.outcome.results.into_iter().next();
        Ok(result.ok_or(SecretError::NotAMember)??)
    }

    fn own(&self) -> Result<MemberNumber, SecretError> {
        self.handle.member().ok_or(SecretError::NotAMember)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}
