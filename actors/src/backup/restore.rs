//! Planning a restore: every key is opened with the recovery key and sealed to the member that the new cluster begins with.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_proto_identity::x509::{
    CrlError, CrlTemplate, ParsedCrl, RevocationReason, RevokedCertificate, ThisUpdate, build_crl, parse_crl,
    this_update,
};
use quorate_proto_identity::{
    AuthorityId, ClusterId, MemberNumber, NodeName, PrivateKey, TrustDomain, UnixMillis, UnixSeconds,
};
use quorate_raft_consensus::Sources;
use quorate_raft_machine::restore::{Restore, RestoredRoot, RestoredSecret, RestoredTokenKey, restore_floor};
use quorate_raft_machine::{
    AuthorityKind, COMMAND_VERSION, MemberDraft, MemberRole, MemberServices, MemberStatus, Operation, Recipient,
    Sealed, State, X509Authority,
};

use zeroize::Zeroizing;

use crate::keys::{CustodyError, KeyCustody, RecoveryPrivateKey, SealContext, SealedItem, seal_secret};

/// What was sealed, and its new seals.
type Resealed = (Zeroizing<Vec<u8>>, Sealed);

/// The node that the restored cluster begins with, as its configuration has it.
#[derive(Debug, Clone)]
pub struct RestoredMember {
    /// The trust domain of its configuration.
    pub trust_domain: TrustDomain,
    /// Its name.
    pub name: NodeName,
    /// Where it stands, coarsely; empty when not told.
    pub region: String,
    /// Where it stands, finely; empty when not told.
    pub zone: String,
    /// What else tells it apart.
    pub labels: BTreeMap<String, String>,
    /// Names and ports at which peers will reach it.
    pub addresses: Vec<String>,
    /// The version of its program, for people.
    pub build: String,
}

/// Why a backup cannot be restored by this node. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RestorePlanError {
    /// The backup holds no authority.
    #[error("the backup holds no authority")]
    NotFounded,
    /// The configuration is another trust domain's.
    #[error(
        "the backup is of trust domain {backup}, and the configuration says {configured}: give the configuration of a node \
         of {backup}"
    )]
    OtherTrustDomain {
        /// That of the backup.
        backup: TrustDomain,
        /// That of the configuration.
        configured: TrustDomain,
    },
    /// The clock is centuries ahead, or the numbers in the backup are.
    #[error("the sequence number of the bundle would pass 2^53: set the clock right")]
    Clock,
    /// The state has given every number there is.
    #[error("the backup has no number left for another member")]
    Numbers,
    /// A key or secret cannot be opened or sealed.
    #[error("the private key of {item} cannot be restored")]
    Key {
        /// Of what.
        item: String,
        /// Why not.
        source: CustodyError,
    },
    /// The CRL of a root cannot be read or made.
    #[error("the CRL of root {root} cannot be made")]
    Crl {
        /// Which root.
        root: AuthorityId,
        /// Why not.
        source: CrlError,
    },
}

/// A restore that is ready to be applied.
#[derive(Debug, Clone)]
pub struct PlannedRestore {
    /// What makes the state of the backup the first state of the new cluster.
    pub operation: Operation,
    /// The new cluster.
    pub cluster: ClusterId,
    /// The number of its one member.
    pub member: MemberNumber,
    /// The time of the command: not before that of the state, nor of its CRLs.
    pub time: UnixMillis,
}

/// What holds of every key of one restore.
struct Sealing<'a> {
    state: &'a State,
    from: ClusterId,
    to: ClusterId,
    member: MemberNumber,
    recovery: &'a RecoveryPrivateKey,
    custody: &'a dyn KeyCustody,
}

/// Opens every key that the recovery key opens, seals each to the new member and to the recovery key again, and signs the
/// next CRL of each root, in which every issuing certificate that it gave out is revoked (CRL-06).
///
/// # Errors
/// [`RestorePlanError`].
pub fn plan_restore(
    state: &State,
    recovery: &RecoveryPrivateKey,
    custody: &dyn KeyCustody,
    member: RestoredMember,
    sources: &Sources,
) -> Result<PlannedRestore, RestorePlanError> {
    let cluster = state.cluster().ok_or(RestorePlanError::NotFounded)?;
    if cluster.trust_domain != member.trust_domain {
        let (backup, configured) = (cluster.trust_domain.clone(), member.trust_domain);
        return Err(RestorePlanError::OtherTrustDomain { backup, configured });
    }
    let counters = state.counters();
    let number = MemberNumber::new(counters.next_member_number).ok_or(RestorePlanError::Numbers)?;
    let (time, lists) = time_of_lists(state, sources.now().max(counters.time))?;
    let floor = restore_floor(state, time).ok_or(RestorePlanError::Clock)?;
    let sealing =
        Sealing { state, from: cluster.id, to: ClusterId::new(sources.random()), member: number, recovery, custody };
    let mut roots = Vec::new();
    for root in state.x509_authorities().filter(|root| root.state.in_bundle()) {
        let Some((key, sealed)) = sealing.reseal_key(AuthorityKind::X509, &root.id, root.sealed.as_ref())? else {
            continue;
        };
        let Some((last, this_update)) = lists.get(&root.id) else { continue };
        let crl = next_crl(state, root, &key, last, *this_update, time, floor)
            .map_err(|source| RestorePlanError::Crl { root: root.id.clone(), source })?;
        roots.push(RestoredRoot { id: root.id.clone(), crl, sealed });
    }
    let mut token_keys = Vec::new();
    for key in state.jwt_authorities() {
        let resealed = sealing.reseal_key(AuthorityKind::Jwt, &key.id, key.sealed.as_ref())?;
        token_keys.extend(resealed.map(|(_, sealed)| RestoredTokenKey { id: key.id.clone(), sealed }));
    }
    let mut secrets = Vec::new();
    for secret in state.secrets() {
        let resealed = sealing.reseal(&SealedItem::Secret(secret.name.clone()), Some(&secret.sealed))?;
        secrets.extend(resealed.map(|(_, sealed)| RestoredSecret { name: secret.name.clone(), sealed }));
    }
    let cluster = sealing.to;
    let member = draft(member, custody, sources);
    let restore = Restore { cluster_id: cluster, number, member, floor, roots, token_keys, secrets };
    Ok(PlannedRestore { operation: Operation::Restore(Box::new(restore)), cluster, member: number, time })
}

fn draft(member: RestoredMember, custody: &dyn KeyCustody, sources: &Sources) -> MemberDraft {
    let RestoredMember { trust_domain: _, name, region, zone, labels, addresses, build } = member;
    MemberDraft {
        name,
        identity_key: Bytes::copy_from_slice(custody.identity_public_key().spki_der()),
        sealing_key: Bytes::copy_from_slice(custody.sealing_public_key()),
        // As at a founding: whoever comes with this key and an empty directory has lost this disk (FLT-18).
        incarnation: Some(sources.random()),
        region,
        zone,
        labels,
        addresses,
        version: COMMAND_VERSION,
        build,
        role: MemberRole::Voter,
        role_pinned: false,
        status: MemberStatus::Admitted,
        serves: MemberServices::default(),
    }
}

impl Sealing<'_> {
    /// An authority's key and its new seals; none when it is not sealed to the recovery key, or out of use.
    fn reseal_key(
        &self,
        kind: AuthorityKind,
        id: &AuthorityId,
        sealed: Option<&Sealed>,
    ) -> Result<Option<(PrivateKey, Sealed)>, RestorePlanError> {
        let item = SealedItem::Authority { kind, id: id.clone() };
        let Some((opened, sealed)) = self.reseal(&item, sealed)? else { return Ok(None) };
        let key = PrivateKey::from_pkcs8(&opened).map_err(|_malformed| {
            let item = item.to_string();
            RestorePlanError::Key { item: item.clone(), source: CustodyError::NotAKey { item } }
        })?;
        Ok(Some((key, sealed)))
    }

    /// What was sealed and its new seals; none when it is not sealed to the recovery key.
    fn reseal(&self, item: &SealedItem, sealed: Option<&Sealed>) -> Result<Option<Resealed>, RestorePlanError> {
        let failed = |source| RestorePlanError::Key { item: item.to_string(), source };
        let recipient = Recipient::RecoveryKey(self.recovery.id().to_owned());
        let Some(sealed) = sealed.filter(|sealed| sealed.part_for(&recipient).is_some()) else { return Ok(None) };
        let context = |cluster, recipient| SealContext { cluster, item: item.clone(), recipient };
        let opened = self.recovery.open_secret(sealed, &context(self.from, recipient.clone())).map_err(failed)?;
        let own = Bytes::copy_from_slice(self.custody.sealing_public_key());
        let mut recipients = vec![(context(self.to, Recipient::Member(self.member)), own)];
        let kept = self.state.recovery_key().map(|kept| (context(self.to, recipient), kept.public_key.clone()));
        recipients.extend(kept);
        let sealed = seal_secret(self.custody, &opened, &recipients).map_err(failed)?;
        Ok(Some((opened, sealed)))
    }
}

/// The last CRL of each root in the bundle with the thisUpdate of the next, and the time of the command: a list may not lie
/// ahead of it, nor at or before the one it follows (CRL-04).
type Lists = BTreeMap<AuthorityId, (ParsedCrl, UnixSeconds)>;

fn time_of_lists(state: &State, now: UnixMillis) -> Result<(UnixMillis, Lists), RestorePlanError> {
    let mut time = now;
    let mut lists = BTreeMap::new();
    for root in state.x509_authorities().filter(|root| root.state.in_bundle()) {
        let last = parse_crl(&root.crl).map_err(|source| RestorePlanError::Crl { root: root.id.clone(), source })?;
        let at = match this_update(Some(last.this_update), now) {
            ThisUpdate::At(at) => at,
            ThisUpdate::From(from) => {
                time = time.max(from);
                from.seconds()
            }
        };
        lists.insert(root.id.clone(), (last, at));
    }
    Ok((time, lists))
}

/// The next CRL of a root: what is in its last one, and every issuing certificate of it that has not ended.
fn next_crl(
    state: &State,
    root: &X509Authority,
    key: &PrivateKey,
    last: &ParsedCrl,
    this_update: UnixSeconds,
    now: UnixMillis,
    floor: u64,
) -> Result<Bytes, CrlError> {
    let mut revoked: BTreeMap<_, _> = last.revoked.iter().map(|revoked| (revoked.serial, *revoked)).collect();
    let now = now.seconds();
    let live =
        state.issuing_certificates().filter(|issuing| issuing.issuer == root.id && now <= issuing.validity.not_after());
    for issuing in live {
        revoked.entry(issuing.serial).or_insert(RevokedCertificate {
            serial: issuing.serial,
            revoked_at: issuing.revoked_at.unwrap_or(now),
            // Its key was in the memory of a node that the restored cluster knows nothing of.
            reason: RevocationReason::CessationOfOperation,
        });
    }
    let revoked: Vec<RevokedCertificate> = revoked.into_values().collect();
    let template = CrlTemplate { this_update, next_update: last.next_update, number: floor, revoked: &revoked };
    Ok(build_crl(&template, key)?.into())
}
