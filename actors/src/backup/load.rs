//! Opening a backup whole: the state in it, checked against everything that is known of it.

use std::io::Read;

use quorate_proto_identity::key::PublicKey;
use quorate_proto_identity::x509::Certificate;
use quorate_proto_identity::{AuthorityId, ClusterId};
use quorate_raft_machine::{AuthorityKind, Recipient, Sealed, SnapshotReader, State, invariants};

use super::error::BackupError;
use super::format::BackupHeader;
use super::read::BackupReader;
use crate::keys::{RecoveryPrivateKey, SealContext};

/// What was found out about a backup that was opened whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What it says of itself: all of it is true.
    pub header: BackupHeader,
    /// How many roots the recovery key opens.
    pub roots: usize,
    /// How many token keys the recovery key opens.
    pub token_keys: usize,
    /// Authorities whose keys nobody can open any more. They sign nothing, so a restored cluster does without.
    pub unopened: Vec<AuthorityId>,
}

/// Opens a backup and loads the state in it: signatures, every chunk, the digest, the state hash, that header and content
/// agree, every invariant, and that the recovery key opens the keys of the authorities that sign. `progress` is told how
/// many bytes of the content are read.
///
/// # Errors
/// [`BackupError`].
pub fn load<R: Read>(
    backup: BackupReader<R>,
    key: &RecoveryPrivateKey,
    mut progress: impl FnMut(u64),
) -> Result<(State, Checked), BackupError> {
    let mut reader = SnapshotReader::new();
    let mut read = 0_u64;
    let header = backup.open_content(key, |piece| {
        reader.push(piece)?;
        read = read.saturating_add(piece.len() as u64);
        progress(read);
        Ok(())
    })?;
    let state = reader.finish()?;
    let cluster = check_header(&header, &state)?;
    if let Some(violation) = invariants::violations(&state).into_iter().next() {
        return Err(BackupError::Violation(violation));
    }
    let mut checked = Checked { header, roots: 0, token_keys: 0, unopened: Vec::new() };
    for root in state.x509_authorities() {
        let Some(sealed) = &root.sealed else { continue };
        let forged = || BackupError::OtherKey { authority: root.id.to_string() };
        let certificate = Certificate::parse(&root.certificate).map_err(|_malformed| forged())?;
        let signs = root.state.signs_or_will();
        let authority = Authority { cluster, kind: AuthorityKind::X509, id: &root.id, sealed, signs };
        match check_key(&authority, certificate.public_key(), key)? {
            true => checked.roots = checked.roots.saturating_add(1),
            false => checked.unopened.push(root.id.clone()),
        }
    }
    for token_key in state.jwt_authorities() {
        let Some(sealed) = &token_key.sealed else { continue };
        let forged = || BackupError::OtherKey { authority: token_key.id.to_string() };
        let public = PublicKey::from_spki_der(&token_key.public_key).map_err(|_malformed| forged())?;
        let signs = token_key.state.signs_or_will();
        let authority = Authority { cluster, kind: AuthorityKind::Jwt, id: &token_key.id, sealed, signs };
        match check_key(&authority, &public, key)? {
            true => checked.token_keys = checked.token_keys.saturating_add(1),
            false => checked.unopened.push(token_key.id.clone()),
        }
    }
    Ok((state, checked))
}

/// An authority whose key is in the backup.
struct Authority<'a> {
    cluster: ClusterId,
    kind: AuthorityKind,
    id: &'a AuthorityId,
    sealed: &'a Sealed,
    signs: bool,
}

/// Whether the recovery key opens this authority's key. One that signs must be among them.
///
/// A forger knows the public recovery key and could seal a state of its own making to it, but has no authority's private
/// key to put in: that public and private halves belong together is what ties a backup to the trust domain's bundle.
fn check_key(authority: &Authority<'_>, public: &PublicKey, key: &RecoveryPrivateKey) -> Result<bool, BackupError> {
    let Authority { cluster, kind, id, sealed, signs } = authority;
    let recipient = Recipient::RecoveryKey(key.id().to_owned());
    if sealed.part_for(&recipient).is_none() && !signs {
        return Ok(false);
    }
    let context = SealContext::of_authority(*cluster, *kind, (*id).clone(), recipient);
    let opened = key.open_key(sealed, &context);
    let opened = opened.map_err(|source| BackupError::AuthorityKey { authority: id.to_string(), source })?;
    if opened.public_key().spki_der() != public.spki_der() {
        return Err(BackupError::OtherKey { authority: id.to_string() });
    }
    Ok(true)
}

/// Checks that the state is the one that the header tells of, and answers its cluster.
fn check_header(header: &BackupHeader, state: &State) -> Result<ClusterId, BackupError> {
    let other = |what| BackupError::OtherState { what };
    let cluster = state.cluster().ok_or_else(|| other("cluster"))?;
    let signer = state.member(header.member).ok_or_else(|| other("member"))?;
    let agreed = [
        ("state hash", state.state_hash().to_bytes() == header.state_hash),
        ("cluster", cluster.id == header.cluster),
        ("trust domain", cluster.trust_domain == header.trust_domain),
        ("number of entries", u64::try_from(state.entry_count()).is_ok_and(|entries| entries == header.entries)),
        ("member", signer.record.identity_key == header.identity_key && signer.record.name == header.node),
        ("recovery key", state.recovery_key().is_some_and(|known| known.id == header.recovery_key)),
    ];
    match agreed.iter().find(|(_, agrees)| !agrees) {
        Some((what, _)) => Err(other(what)),
        None => Ok(cluster.id),
    }
}
