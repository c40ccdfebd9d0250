//! Reading a snapshot.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use prost::Message;

use super::{FOOTER, FORMAT, FRAME_HEAD, HEADER, MAGIC, OBJECT_BYTES_LIMIT, StoredHeader};
use crate::hash::StateHash;
use crate::objects::{Object, Objects};
use crate::registry::{EntryParts, Loader};
use crate::state::State;
use crate::stored::{self, StoredError, kind};

/// Makes a state of the chunks of a snapshot, in whatever pieces they come.
pub struct SnapshotReader {
    /// What has come and is not a whole frame yet.
    pending: Vec<u8>,
    stage: Stage,
    digest: Context,
    state: State,
    /// Entries, until all of them are there.
    loader: Option<Loader>,
    /// How many the header promises.
    expected_entries: usize,
    objects: u64,
    last_kind: u8,
    last_creation_number: u64,
}

#[derive(Debug)]
enum Stage {
    Magic,
    Header,
    Objects(StoredHeader),
    Done(StoredHeader),
}

impl fmt::Debug for SnapshotReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SnapshotReader")
            .field("stage", &self.stage)
            .field("objects", &self.objects)
            .finish_non_exhaustive()
    }
}

impl Default for SnapshotReader {
    fn default() -> Self {
        Self::new()
    }
}

impl SnapshotReader {
    /// A reader that has read nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            pending: Vec::new(),
            stage: Stage::Magic,
            digest: Context::new(&SHA256),
            state: State::new(),
            loader: None,
            expected_entries: 0,
            objects: 0,
            last_kind: 0,
            last_creation_number: 0,
        }
    }

    /// Reads the next bytes, of any length.
    ///
    /// # Errors
    /// When they cannot be the next bytes of a snapshot. The reader is of no use then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let mut input = std::mem::take(&mut self.pending);
        input.extend_from_slice(bytes);
        let mut rest: &[u8] = &input;
        if matches!(self.stage, Stage::Magic) && rest.len() >= MAGIC.len() {
            let (magic, after) = rest.split_at_checked(MAGIC.len()).unwrap_or((rest, &[]));
            if magic != MAGIC {
                return Err(SnapshotError::NotASnapshot);
            }
            self.digest.update(magic);
            self.stage = Stage::Header;
            rest = after;
        }
        while !matches!(self.stage, Stage::Magic) {
            if matches!(self.stage, Stage::Done(_)) && !rest.is_empty() {
                return Err(SnapshotError::TrailingBytes);
            }
            let Some((frame, kind, body, after)) = split_frame(rest)? else {
                break;
            };
            self.read_frame(frame, kind, body)?;
            rest = after;
        }
        self.pending = rest.to_vec();
        Ok(())
    }

    /// Checks that the snapshot is complete and hands out the state.
    ///
    /// # Errors
    /// When something is missing, or the state is not what the writer said it was.
    pub fn finish(mut self) -> Result<State, SnapshotError> {
        let Stage::Done(header) = self.stage else {
            return Err(SnapshotError::Truncated);
        };
        if let Some(loader) = self.loader.take() {
            self.state.registry = loader.finish().ok_or(SnapshotError::Repeated { kind: kind::ENTRY })?;
        }
        if self.objects != header.objects || self.state.entry_count() as u64 != header.entries {
            return Err(SnapshotError::Count { expected: header.objects, found: self.objects });
        }
        self.state.check_program().map_err(|source| SnapshotError::Object { kind: kind::CLUSTER, source })?;
        self.state.bundle = Arc::new(self.state.bundle_content());
        self.state.rebuild_revocation_index();
        let hash = self.state.state_hash();
        if hash.to_bytes().as_slice() != header.state_hash.as_slice() {
            return Err(SnapshotError::StateHash { found: hash });
        }
        Ok(self.state)
    }

    fn read_frame(&mut self, frame: &[u8], kind: u8, body: &[u8]) -> Result<(), SnapshotError> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Header) {
            Stage::Magic | Stage::Done(_) => return Err(SnapshotError::TrailingBytes),
            Stage::Header if kind == HEADER => {
                self.digest.update(frame);
                let header = read_header(body)?;
                self.expected_entries = usize::try_from(header.entries).unwrap_or(usize::MAX);
                Stage::Objects(header)
            }
            Stage::Header => return Err(SnapshotError::NotASnapshot),
            Stage::Objects(header) if kind == FOOTER => {
                if self.digest.clone().finish().as_ref() != body {
                    return Err(SnapshotError::Digest);
                }
                Stage::Done(header)
            }
            Stage::Objects(header) => {
                self.digest.update(frame);
                self.read_object(kind, body)?;
                Stage::Objects(header)
            }
        };
        Ok(())
    }

    fn read_object(&mut self, kind: u8, body: &[u8]) -> Result<(), SnapshotError> {
        if kind < self.last_kind {
            return Err(SnapshotError::Order { kind });
        }
        self.last_kind = kind;
        self.objects = self.objects.saturating_add(1);
        if kind == kind::ENTRY {
            return self.read_entry(body);
        }
        let bytes = Bytes::copy_from_slice(body);
        let state = &mut self.state;
        match kind {
            kind::CLUSTER => {
                let cluster = read(kind, stored::cluster::decode_cluster(bytes), body)?;
                state.registry.found(&cluster.trust_domain);
                put(&mut state.cluster, (), cluster)
            }
            kind::POLICY => put(&mut state.policy, (), read(kind, stored::policy::decode(bytes), body)?),
            kind::COUNTERS => put(&mut state.counters, (), read(kind, stored::cluster::decode_counters(bytes), body)?),
            kind::MEMBER => {
                let member = read(kind, stored::member::decode(bytes), body)?;
                put(&mut state.members, member.number, member)
            }
            kind::X509_AUTHORITY => {
                let root = read(kind, stored::authority::decode_x509(bytes), body)?;
                put(&mut state.x509, root.id.clone(), root)
            }
            kind::JWT_AUTHORITY => {
                let key = read(kind, stored::authority::decode_jwt(bytes), body)?;
                put(&mut state.jwt, key.id.clone(), key)
            }
            kind::ISSUING_KEY => {
                let key = read(kind, stored::authority::decode_issuing_key(bytes), body)?;
                put(&mut state.issuing_keys, key.id.clone(), key)
            }
            kind::ISSUING_CERTIFICATE => {
                let issuing = read(kind, stored::authority::decode_issuing_certificate(bytes), body)?;
                put(&mut state.issuing, (issuing.key_id.clone(), issuing.serial), issuing)
            }
            kind::ORIGIN => {
                let record = read(kind, stored::origin::decode_record(bytes), body)?;
                state.origins.restore_record(record).then_some(()).ok_or(SnapshotError::Repeated { kind })
            }
            kind::OUTCOME => {
                let outcome = read(kind, stored::origin::decode_outcome(bytes), body)?;
                state.origins.restore_outcome(outcome).then_some(()).ok_or(SnapshotError::Repeated { kind })
            }
            kind::INVITATION => {
                let invitation = read(kind, stored::membership::decode_invitation(bytes), body)?;
                put(&mut state.invitations, invitation.invitation.name.clone(), invitation)
            }
            kind::PLAN => put(&mut state.plan, (), read(kind, stored::membership::decode_plan(bytes), body)?),
            kind::RECOVERY_KEY => {
                put(&mut state.recovery_key, (), read(kind, stored::membership::decode_recovery_key(bytes), body)?)
            }
            kind::REVOCATION => {
                let revocation = read(kind, stored::revocation::decode_revocation(bytes), body)?;
                put(&mut state.revocations, revocation.number, revocation)
            }
            kind::REVOKED_LEAF => {
                let record = read(kind, stored::revocation::decode_leaf(bytes), body)?;
                put(&mut state.revoked_leaves, (record.issuer.clone(), record.leaf.serial), record)
            }
            kind::AUDIT_ANCHOR => {
                let anchor = read(kind, stored::revocation::decode_anchor(bytes), body)?;
                put(&mut state.anchors, (anchor.member, anchor.index), anchor)
            }
            kind::RELATIONSHIP => {
                let relationship = read(kind, stored::federation::decode_relationship(bytes), body)?;
                put(&mut state.relationships, relationship.trust_domain.clone(), relationship)
            }
            kind::FOREIGN_BUNDLE => {
                let foreign = read(kind, stored::foreign::decode_foreign(bytes), body)?;
                put(&mut state.foreign, foreign.trust_domain.clone(), foreign)
            }
            kind::SECRET => {
                let secret = read(kind, stored::secret::decode_secret(bytes), body)?;
                put(&mut state.secrets, secret.name.clone(), secret)
            }
            kind::API_KEY => {
                let key = read(kind, stored::access::decode_api_key(bytes), body)?;
                put(&mut state.api_keys, key.id.clone(), key)
            }
            kind::ACCESS_RULE => {
                let record = read(kind, stored::access::decode_rule(bytes), body)?;
                put(&mut state.access_rules, record.peer.clone(), record)
            }
            kind::ACCESS_SETTINGS => {
                put(&mut state.access_settings, (), read(kind, stored::access::decode_settings(bytes), body)?)
            }
            kind::ACME => put(&mut state.acme, (), read(kind, stored::web::decode_acme(bytes), body)?),
            kind::WEB_DOMAIN => {
                let domain = read(kind, stored::web::decode_web_domain(bytes), body)?;
                put(&mut state.web_domains, domain.domain.clone(), domain)
            }
            kind::OIDC => put(&mut state.oidc, (), read(kind, stored::web::decode_oidc(bytes), body)?),
            _ => Err(SnapshotError::UnknownKind { kind }),
        }
    }

    /// Reads an entry where it lies if it is of the usual kind, and in the slower way if not, which says what is wrong.
    fn read_entry(&mut self, body: &[u8]) -> Result<(), SnapshotError> {
        let kind = kind::ENTRY;
        let trust_domain = self.state.cluster().map(|cluster| cluster.trust_domain.clone());
        let trust_domain = trust_domain.ok_or(SnapshotError::Order { kind })?;
        let expected = self.expected_entries;
        let loader = self.loader.get_or_insert_with(|| Loader::new(&trust_domain, expected));
        let hash = StateHash::of(kind, body);
        let creation_number = match stored::canonical::entry_parts(body) {
            Some(parts) if loader.add(&parts, hash).is_some() => parts.creation_number,
            Some(_) | None => {
                let entry = stored::entry::decode(Bytes::copy_from_slice(body), &trust_domain);
                let entry = read(kind, entry, body)?;
                loader.add(&EntryParts::of(&entry), hash).ok_or(SnapshotError::NotCanonical { kind })?;
                entry.creation_number
            }
        };
        if creation_number <= self.last_creation_number {
            return Err(SnapshotError::Order { kind });
        }
        self.last_creation_number = creation_number;
        Ok(())
    }
}

/// The first whole frame: its bytes, its kind, its body, and what follows; `None` while it is not whole.
#[expect(clippy::type_complexity, reason = "four slices of one input, named in the line above")]
fn split_frame(bytes: &[u8]) -> Result<Option<(&[u8], u8, &[u8], &[u8])>, SnapshotError> {
    let Some((&[kind, a, b, c, d], _)) = bytes.split_first_chunk::<FRAME_HEAD>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if length > OBJECT_BYTES_LIMIT {
        return Err(SnapshotError::ObjectTooLong { length });
    }
    let Some((frame, after)) = bytes.split_at_checked(FRAME_HEAD.saturating_add(length)) else {
        return Ok(None);
    };
    let body = frame.get(FRAME_HEAD..).unwrap_or_default();
    Ok(Some((frame, kind, body, after)))
}

fn read_header(body: &[u8]) -> Result<StoredHeader, SnapshotError> {
    let header =
        StoredHeader::decode(body).map_err(|error| SnapshotError::Object { kind: HEADER, source: error.into() })?;
    if header.format > FORMAT {
        let source = StoredError::NewerFormat { format: header.format, known: FORMAT };
        return Err(SnapshotError::Object { kind: HEADER, source });
    }
    Ok(header)
}

/// Takes a decoded object whose canonical bytes are those that it was decoded from.
fn read<V: Object>(kind: u8, object: Result<V, StoredError>, body: &[u8]) -> Result<V, SnapshotError> {
    let object = object.map_err(|source| SnapshotError::Object { kind, source })?;
    if object.stored() == body { Ok(object) } else { Err(SnapshotError::NotCanonical { kind }) }
}

fn put<K: Ord, V: Object>(objects: &mut Objects<K, V>, key: K, object: V) -> Result<(), SnapshotError> {
    if objects.get(&key).is_some() {
        return Err(SnapshotError::Repeated { kind: V::KIND });
    }
    objects.put(key, object);
    Ok(())
}

/// Why a snapshot is refused. Take another: from an earlier file, or from another member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It does not begin as snapshots do.
    #[error("these bytes are no snapshot of a state")]
    NotASnapshot,
    /// It ends too early.
    #[error("the snapshot is cut off")]
    Truncated,
    /// Something follows its end.
    #[error("bytes follow the end of the snapshot")]
    TrailingBytes,
    /// Its content is not what was written.
    #[error("the digest of the snapshot's content does not fit: it is damaged")]
    Digest,
    /// An object cannot be read.
    #[error("an object of kind {kind} in the snapshot cannot be read")]
    Object {
        /// Its kind.
        kind: u8,
        /// Why not.
        source: StoredError,
    },
    /// An object is not written as this version writes it.
    #[error("an object of kind {kind} in the snapshot is not in its canonical form")]
    NotCanonical {
        /// Its kind.
        kind: u8,
    },
    /// An object comes before one that it must follow.
    #[error("an object of kind {kind} in the snapshot is out of order")]
    Order {
        /// Its kind.
        kind: u8,
    },
    /// Two objects have the same key.
    #[error("an object of kind {kind} is in the snapshot twice")]
    Repeated {
        /// Their kind.
        kind: u8,
    },
    /// An object of a kind that this version does not know.
    #[error("an object of kind {kind} is in the snapshot, which this version does not know: upgrade this node")]
    UnknownKind {
        /// Its kind.
        kind: u8,
    },
    /// An object says that it is longer than any can be.
    #[error("an object of {length} bytes is in the snapshot, the most is {OBJECT_BYTES_LIMIT}")]
    ObjectTooLong {
        /// How long it says that it is.
        length: usize,
    },
    /// There are more or fewer objects than the writer said.
    #[error("the snapshot has {found} objects, its header says {expected}")]
    Count {
        /// What the header says.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The state that came out is not the one that went in.
    #[error("the state read from the snapshot has hash {found}, which is not what its header says")]
    StateHash {
        /// The hash of what came out.
        found: StateHash,
    },
}
