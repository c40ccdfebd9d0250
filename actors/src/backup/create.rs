//! Making a backup at a member: the state at one applied index, streamed while writes go on.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use quorate_proto_identity::{ClusterId, MemberNumber, NodeName, TrustDomain};
use quorate_raft_consensus::{Handle, LinearizeError, Sources, WorkLost};
use quorate_raft_machine::{Recipient, RecoveryKey, Sealed, State, StateView};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::content::{CONTENT_KEY_BYTES, ContentKey, info};
use super::format::{BackupHeader, StoredHeader, beginning, end, end_message, header_message, sha256};
use crate::keys::{CustodyError, KeyCustody, SUITE_X25519_SHA256_AES256, seal_to_recovery_key};

/// How long one part of a backup may wait for a reader that is slow. What is read from keeps the state as it was in
/// memory beside what is written meanwhile, so a reader that has stopped may not keep it for ever.
pub const PART_TIME_LIMIT: Duration = Duration::from_secs(30);

/// Why no backup is made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupRefusal {
    /// This node belongs to no cluster.
    #[error("no authority is founded on this node: there is nothing to back up")]
    NotFounded,
    /// There is nothing that could open it.
    #[error(
        "no recovery key is set, so nothing could open a backup once every node is lost: the authority's keys are sealed \
         to the nodes alone. Make one with `quorate recovery-key new --write DIR` on a machine that is no node, and set \
         it with `quorate recovery-key set --public-key KEY`"
    )]
    NoRecoveryKey,
    /// The recovery key was set a moment ago, and not every authority's key is sealed to it yet.
    #[error(
        "{count} authority keys are not sealed to the recovery key yet: the leader does that now, so try again in a moment"
    )]
    NotYetSealed {
        /// How many.
        count: usize,
    },
    /// What is set as recovery key is no key.
    #[error("nothing can be sealed to the recovery key {id}: set another")]
    RecoveryKey {
        /// Its ID.
        id: String,
    },
    /// It is not known whether this node has all that was acknowledged.
    #[error(
        "this node cannot tell whether it is up to date. If the quorum is lost, `--without-quorum` takes what this node \
         has applied; compare the applied index of the nodes that are left (`quorate cluster status`)"
    )]
    NotCurrent(#[from] LinearizeError),
    /// The header could not be signed.
    #[error("the backup could not be signed")]
    Sign(#[from] CustodyError),
    /// The process is stopping.
    #[error(transparent)]
    Lost(#[from] WorkLost),
}

/// How new the state in a backup has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Everything that was answered before the call is in it; a quorum confirms that.
    UpToDate,
    /// As this member has applied it, for a cluster that has lost its quorum and cannot confirm anything any more.
    AsApplied,
}

/// A backup that has begun: the state at one applied index, to be streamed.
pub struct Backup {
    header: BackupHeader,
    beginning: Bytes,
    view: StateView,
    key: ContentKey,
    custody: Arc<dyn KeyCustody>,
}

/// What is read from the state in one look.
struct Look {
    view: StateView,
    log_index: u64,
    trust_domain: TrustDomain,
    cluster: ClusterId,
    node: NodeName,
    recovery_key: RecoveryKey,
}

impl Backup {
    /// Takes the state, as new as `freshness` says, and signs a header for it.
    ///
    /// # Errors
    /// [`BackupRefusal`].
    pub async fn begin(
        consensus: &Handle,
        freshness: Freshness,
        custody: Arc<dyn KeyCustody>,
        sources: &Sources,
        build: &str,
        deadline: Instant,
    ) -> Result<Self, BackupRefusal> {
        if freshness == Freshness::UpToDate {
            consensus.read_index(deadline).await?;
        }
        let member = consensus.member().ok_or(BackupRefusal::NotFounded)?;
        let Look { view, log_index, trust_domain, cluster, node, recovery_key } =
            consensus.state().read_at(|index, state| look(index, state, member))?;
        // How long it becomes is part of the header, so that a file that is cut off shows: the bytes are made twice.
        let measured = view.clone();
        let content_bytes = sources.run_blocking(move || content_bytes(&measured)).await?;
        let header = BackupHeader {
            trust_domain,
            cluster,
            created_at: sources.now(),
            log_index,
            state_hash: view.state_hash().to_bytes(),
            member,
            node,
            identity_key: Bytes::copy_from_slice(custody.identity_public_key().spki_der()),
            entries: u64::try_from(view.entry_count()).unwrap_or(u64::MAX),
            content_bytes,
            build: build.to_owned(),
            recovery_key: recovery_key.id.clone(),
        };
        let mut secret = Zeroizing::new([0; CONTENT_KEY_BYTES]);
        sources.fill(secret.as_mut_slice());
        let unusable = || BackupRefusal::RecoveryKey { id: recovery_key.id.clone() };
        let facts = header.facts();
        let sealed = seal_to_recovery_key(&recovery_key, &info(cluster), &facts, secret.as_slice());
        let part = sealed.ok_or_else(unusable)?;
        let stored = StoredHeader {
            facts,
            suite: SUITE_X25519_SHA256_AES256,
            encapsulated_key: part.encapsulated_key,
            sealed_key: part.ciphertext,
        };
        let stored = Bytes::from(prost::Message::encode_to_vec(&stored));
        let key = ContentKey::new(secret.as_slice(), sha256(&stored), header.chunks()).ok_or_else(unusable)?;
        let signature = custody.sign(&header_message(&stored)).await?;
        let beginning = Bytes::from(beginning(stored, signature));
        Ok(Self { header, beginning, view, key, custody })
    }

    /// What it says of itself.
    pub fn header(&self) -> &BackupHeader {
        &self.header
    }

    /// Sends the file, part by part, each as it is made: everything in front of the content first, each chunk, and the
    /// end. Answers `false` when the reader has gone away or has stopped for [`PART_TIME_LIMIT`].
    ///
    /// # Errors
    /// When the end could not be signed.
    pub async fn send(self, parts: &mpsc::Sender<Bytes>) -> Result<bool, CustodyError> {
        let Self { header: _, beginning, view, key, custody } = self;
        let mut digest = Context::new(&SHA256);
        digest.update(&beginning);
        if !handed_over(parts, beginning).await {
            return Ok(false);
        }
        for (position, mut chunk) in (0..).zip(view.chunks()) {
            if !key.seal(position, &mut chunk) {
                return Err(CustodyError::Sign);
            }
            digest.update(&chunk);
            if !handed_over(parts, chunk.into()).await {
                return Ok(false);
            }
            // A chunk takes some milliseconds to make: others come in between.
            tokio::task::yield_now().await;
        }
        let digest = digest.finish();
        let signature = custody.sign(&end_message(digest.as_ref())).await?;
        Ok(handed_over(parts, end(digest.as_ref(), signature).into()).await)
    }
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup").field("header", &self.header).finish_non_exhaustive()
    }
}

async fn handed_over(parts: &mpsc::Sender<Bytes>, part: Bytes) -> bool {
    matches!(timeout(PART_TIME_LIMIT, parts.send(part)).await, Ok(Ok(())))
}

fn look(log_index: u64, state: &State, member: MemberNumber) -> Result<Look, BackupRefusal> {
    let cluster = state.cluster().ok_or(BackupRefusal::NotFounded)?;
    let node = state.member(member).ok_or(BackupRefusal::NotFounded)?.record.name.clone();
    let recovery_key = state.recovery_key().ok_or(BackupRefusal::NoRecoveryKey)?.clone();
    let count = unsealed(state, &recovery_key);
    if count > 0 {
        return Err(BackupRefusal::NotYetSealed { count });
    }
    let (trust_domain, cluster) = (cluster.trust_domain.clone(), cluster.id);
    Ok(Look { view: state.view(), log_index, trust_domain, cluster, node, recovery_key })
}

/// How many keys that a member can open are not sealed to the recovery key. What no member opens is lost already.
fn unsealed(state: &State, recovery_key: &RecoveryKey) -> usize {
    let recipient = Recipient::RecoveryKey(recovery_key.id.clone());
    let opens = |sealed: &Sealed| {
        sealed.parts.iter().any(|part| match &part.recipient {
            Recipient::Member(number) => state.member(*number).is_some_and(|member| member.is_sealable()),
            Recipient::RecoveryKey(_) => false,
        })
    };
    let roots = state.x509_authorities().filter_map(|root| root.sealed.as_ref());
    let keys = state.jwt_authorities().filter_map(|key| key.sealed.as_ref());
    roots.chain(keys).filter(|sealed| opens(sealed) && sealed.part_for(&recipient).is_none()).count()
}

fn content_bytes(view: &StateView) -> u64 {
    view.chunks().map(|chunk| u64::try_from(chunk.len()).unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
}
