//! The leader signs a node's issuing certificate and has it recorded.
//!
//! ```text
//!   asked by a member   CSR, first CRL ──> token keys sealed to it ──> signed with the active root ──> recorded
//!   an activation       key and CRL as recorded, of every live member ──> signed with the new root ──> recorded with it
//! ```
//!
//! The log has everything that a certificate under another root takes: the key, for which its member proved possession
//! when it asked, and the CRL. So a leader need not have heard of a member to carry it over to a new root.

use bytes::Bytes;
use quorate_proto_identity::{
    AuthorityId, MemberNumber, PrivateKey, PublicKey, SerialNumber, UnixSeconds, ValidityError,
    x509::{
        AuthorityError, AuthorityTemplate, Certificate, CrlError, CsrError, build_issuing_certificate, parse_crl,
        parse_csr,
    },
};
use quorate_raft_consensus::{ClockVerdict, LinearizeError, Proposal, ProposeError, WorkLost};
use quorate_raft_machine::{
    AuthorityKind, Caller, Done, IssuingCertificate, IssuingKey, IssuingKeyState, NewIssuingCertificate, Operation,
    Policy, Refusal, State, X509Authority,
};
use tokio::time::Instant;

use super::{
    AuthorityArguments, STEP_TIME_LIMIT,
    documents::{own_context, parse_root, validity},
    sealing::{SealTo, seal_lacking},
};
use crate::{
    keys::{CustodyError, open_key},
    own::NotAMember,
    sources::is_slow,
};

/// From how many certificates of one member that have not ended on it gets shorter ones. One that is well has two or three.
const MANY: u64 = 24;

/// What a node sends for an issuing certificate: a request that proves that it holds the key, and that key's first CRL
/// (CRL-03). Both are public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IssuingRequest {
    /// Whose key it is.
    pub(crate) member: MemberNumber,
    /// Which start of the member's process made it.
    pub(crate) boot: u64,
    /// The certificate signing request, DER.
    pub(crate) csr: Bytes,
    /// The first, empty CRL of its key, DER.
    pub(crate) crl: Bytes,
}

/// Why no issuing certificate was recorded. All of it may be tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssuingError {
    /// This node does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, as far as this node knows.
        leader: Option<MemberNumber>,
    },
    /// Leadership could not be confirmed.
    #[error("leadership could not be confirmed")]
    Linearize(#[from] LinearizeError),
    /// This node's clock is more than 5 s off, and a node whose clock is wrong signs nothing (design section 4).
    #[error("the leader's clock is too far off the others' to sign anything")]
    Clock,
    /// Whoever asks is no member, or is on its way out.
    #[error("member {member} is not admitted, or is to leave, and gets no issuing certificate")]
    NotAdmitted {
        /// Who asked.
        member: MemberNumber,
    },
    /// No authority has been founded, or the member is not one.
    #[error(transparent)]
    Member(#[from] NotAMember),
    /// There is no root that signs, or its key was erased.
    #[error("there is no active root whose key can be opened")]
    NoRoot,
    /// The state has a certificate and not its key; a fault of the program.
    #[error("the state does not have the key {key_id} of an issuing certificate")]
    NoKey {
        /// Which key.
        key_id: AuthorityId,
    },
    /// The request is malformed, or its key is not the sender's.
    #[error("the request is refused")]
    Csr(#[from] CsrError),
    /// The CRL is malformed.
    #[error("the key's first CRL is refused")]
    Crl(#[from] CrlError),
    /// The root's key does not open.
    #[error("the root's key could not be opened")]
    Custody(#[from] CustodyError),
    /// The certificate could not be made.
    #[error("the certificate could not be made")]
    Certificate(#[from] AuthorityError),
    /// Nothing is left of the root's or the CRL's time.
    #[error("nothing is left of the time that the certificate could have")]
    Validity(#[from] ValidityError),
    /// The work was lost on its way to another thread.
    #[error(transparent)]
    Lost(#[from] WorkLost),
    /// Consensus did not take the command.
    #[error("the certificate could not be recorded")]
    Propose(#[from] ProposeError),
    /// A command of one operation came back without a result; a fault of the program.
    #[error("the command came back without a result")]
    NoResult,
    /// The command was refused.
    #[error("the certificate was not recorded")]
    Refused(#[from] Refusal),
}

/// What certificates and CRLs of a root are made with.
pub(crate) struct RootSigner {
    certificate: Certificate,
    key: PrivateKey,
}

impl RootSigner {
    /// The root's key.
    pub(crate) fn key(&self) -> &PrivateKey {
        &self.key
    }
}

/// What is read of the state for a signature.
pub(crate) struct Snapshot {
    pub(crate) cluster: quorate_raft_machine::Cluster,
    pub(crate) policy: Policy,
}

/// Reads what every signature needs.
pub(crate) fn snapshot(state: &State) -> Result<Snapshot, NotAMember> {
    let found = state.cluster().cloned().zip(state.policy().copied());
    found.map(|(cluster, policy)| Snapshot { cluster, policy }).ok_or(NotAMember::NotFounded)
}

/// Signs what a member asks for and has it recorded. Gives the log index of the record: the member signs with the
/// certificate once it has applied that.
///
/// A request that was carried out before, and whose answer was lost, gets its certificate and no second one. Token keys
/// are sealed to the member first: a node that may sign X509-SVIDs signs tokens too (design section 3, admission).
pub(crate) async fn sign_and_record(
    arguments: &AuthorityArguments,
    request: IssuingRequest,
) -> Result<u64, IssuingError> {
    confirm_office(arguments).await?;
    let member = request.member;
    let csr = parse_csr(&request.csr)?;
    let key_id = AuthorityId::from_subject_key_id(&csr.public_key.subject_key_id());
    let state = arguments.handle.state();
    let now = arguments.workshop.sources.now().seconds();
    let (mut read, root, recorded_at, kept, known_crl_end) = state.read_at(|applied_index, state| {
        let admitted = state.member(member).is_some_and(|member| member.record.status.is_admitted());
        if !admitted {
            return Err(IssuingError::NotAdmitted { member });
        }
        let root = state.active_x509_authority().ok_or(IssuingError::NoRoot)?.clone();
        let recorded = state.issuing_certificates().any(|issuing| {
            issuing.member == member && issuing.key_id == key_id && issuing.issuer == root.id && issuing.is_live(now)
        });
        let ended = |issuing: &&IssuingCertificate| issuing.validity.not_after() < now;
        let kept = state.issuing_certificates().filter(|issuing| issuing.member == member && !ended(issuing)).count();
        let known_crl_end = state.issuing_key(&key_id).map(|key| key.crl_next_update);
        Ok((snapshot(state)?, root, recorded.then_some(applied_index), kept, known_crl_end))
    })?;
    if let Some(applied_index) = recorded_at {
        return Ok(applied_index);
    }
    seal_lacking(arguments, AuthorityKind::Jwt, SealTo::Member(member)).await?;
    let lifetime = lifetime_beside(read.policy.issuing_lifetime, kept);
    if lifetime < read.policy.issuing_lifetime {
        tracing::warn!(
            %member, kept, lifetime,
            "a member has many issuing certificates that have not ended, and gets a shorter one: does its process start again \
             and again?"
        );
        read.policy.issuing_lifetime = lifetime;
    }
    let signer = open_root(arguments, &read, &root).await?;
    // A further certificate of a key comes without a CRL: the state has the key's.
    let crl_end = match known_crl_end {
        Some(end) if request.crl.is_empty() => end,
        Some(_) | None => parse_crl(&request.crl)?.next_update,
    };
    let wanted = Wanted { member, public_key: csr.public_key, crl_end, crl: request.crl, boot: request.boot };
    let new = sign(arguments, &read, &signer, wanted).await?;
    let (_, log_index) = propose(arguments, Operation::RecordIssuingCertificate(Box::new(new))).await?;
    tracing::info!(
        target: "quorate::security",
        %member, authority_id = %root.id,
        "an issuing certificate was signed and recorded"
    );
    Ok(log_index)
}

/// The life of a certificate, in seconds, of a member that has so many which have not ended: the policy's, and less and less
/// once there are [`MANY`]. Each process makes a key of its own, and what a former one had stays until it ends, because what
/// it signed is still out; a process that starts again and again would otherwise come to the most certificates that a member
/// may have, and have to wait for their end. By the cube of their number it stays below, however often it starts.
fn lifetime_beside(lifetime: u32, kept: usize) -> u32 {
    let kept = u64::try_from(kept).unwrap_or(u64::MAX).max(MANY);
    let cut = u64::from(lifetime).saturating_mul(MANY.pow(3)).checked_div(kept.saturating_pow(3));
    u32::try_from(cut.unwrap_or(1).max(1)).unwrap_or(lifetime)
}

/// Makes sure that this node leads, has applied all that was committed, and may sign by its clock.
pub(crate) async fn confirm_office(arguments: &AuthorityArguments) -> Result<(), IssuingError> {
    arguments.handle.ensure_linearizable(Instant::now() + STEP_TIME_LIMIT).await?;
    if arguments.handle.clock().verdict == ClockVerdict::Refuse {
        return Err(IssuingError::Clock);
    }
    Ok(())
}

/// Opens a root's key. It is wiped when the signer is dropped.
pub(crate) async fn open_root(
    arguments: &AuthorityArguments,
    snapshot: &Snapshot,
    root: &X509Authority,
) -> Result<RootSigner, IssuingError> {
    let own = arguments.handle.state().read(|state| arguments.own.member(state))?;
    let sealed = root.sealed.as_ref().ok_or(IssuingError::NoRoot)?;
    let context = own_context(snapshot.cluster.id, AuthorityKind::X509, root.id.clone(), own.number);
    let key = open_key(arguments.workshop.custody.as_ref(), sealed, &context).await?;
    Ok(RootSigner { certificate: parse_root(&root.certificate)?, key })
}

/// What a certificate is made for.
pub(crate) struct Wanted {
    /// Whose key it is.
    member: MemberNumber,
    /// The key.
    public_key: PublicKey,
    /// The key's CRL, DER; empty where the state has it.
    crl: Bytes,
    /// Until when that CRL is current.
    crl_end: UnixSeconds,
    /// Which start of the member's process made the key.
    boot: u64,
}

/// What a certificate under a further root takes, for the newest key of each live member, and for the one that is to sign
/// next where its CRL is still on its way to everybody (CRL-07). Of a process that was started again the newest key is the
/// one that it has; one whose request is on its way asks again.
pub(crate) fn wanted_by_live_members(state: &State, now: UnixSeconds) -> Result<Vec<Wanted>, IssuingError> {
    let newest = |member: MemberNumber| {
        let of_state = |wanted: IssuingKeyState| {
            let own = state.issuing_certificates().filter(|issuing| issuing.member == member && issuing.is_live(now));
            let keys = own.filter_map(|issuing| Some((state.issuing_key(&issuing.key_id)?, issuing)));
            let keys = keys.filter(|(key, _)| key.state == wanted);
            keys.max_by_key(|(key, issuing)| (key.number, issuing.recorded_at, issuing.validity.not_after()))
        };
        let (signing, next) = (of_state(IssuingKeyState::Signing), of_state(IssuingKeyState::Prepared));
        let is_next = |(key, _): &(&IssuingKey, _)| signing.is_none_or(|(signing, _)| signing.number < key.number);
        [signing, next.filter(is_next)].into_iter().flatten().map(|(_, issuing)| issuing)
    };
    let wanted = |issuing: &IssuingCertificate| {
        let key = state.issuing_key(&issuing.key_id).ok_or(IssuingError::NoKey { key_id: issuing.key_id.clone() })?;
        let certificate = parse_root(&issuing.certificate)?;
        Ok(Wanted {
            member: issuing.member,
            public_key: certificate.public_key().clone(),
            crl: Bytes::new(),
            crl_end: key.crl_next_update,
            boot: key.boot,
        })
    };
    state.live_members(now).into_iter().flat_map(newest).map(wanted).collect()
}

/// Makes a certificate. It ends with the first of its life, its root and its key's CRL.
pub(crate) async fn sign(
    arguments: &AuthorityArguments,
    read: &Snapshot,
    signer: &RootSigner,
    wanted: Wanted,
) -> Result<NewIssuingCertificate, IssuingError> {
    let sources = &arguments.workshop.sources;
    let Wanted { member, public_key, crl, crl_end, boot } = wanted;
    let root_end = signer.certificate.validity().not_after();
    let validity = validity(sources.now(), read.policy.issuing_lifetime)?.ending_by(crl_end)?.ending_by(root_end)?;
    let serial = SerialNumber::from_random(sources.random());
    let trust_domain = read.cluster.trust_domain.clone();
    let (root, key) = (signer.certificate.clone(), signer.key.clone());
    let slow = is_slow(key.key_type());
    let work = move || certificate(&trust_domain, serial, validity, &public_key, &root, &key);
    let certificate = if slow { sources.run_blocking(work).await?? } else { work()? };
    Ok(NewIssuingCertificate { member, certificate: Bytes::copy_from_slice(certificate.der()), crl, boot })
}

fn certificate(
    trust_domain: &quorate_proto_identity::TrustDomain,
    serial: SerialNumber,
    validity: quorate_proto_identity::Validity,
    public_key: &PublicKey,
    root: &Certificate,
    key: &PrivateKey,
) -> Result<Certificate, AuthorityError> {
    build_issuing_certificate(&AuthorityTemplate { trust_domain, serial, validity }, public_key, root, key)
}

/// Proposes one operation in the node's own name. Gives what was done, and its log index.
pub(crate) async fn propose(arguments: &AuthorityArguments, operation: Operation) -> Result<(Done, u64), IssuingError> {
    propose_for(arguments, &Caller::node(), operation).await
}

/// Proposes one operation in the name of whoever wants it. Gives what was done, and its log index.
pub(crate) async fn propose_for(
    arguments: &AuthorityArguments,
    asker: &Caller,
    operation: Operation,
) -> Result<(Done, u64), IssuingError> {
    let proposal = Proposal::new(asker.clone(), vec![operation]).within(STEP_TIME_LIMIT);
    let applied = match arguments.handle.propose(proposal).await {
        // It is done. Whether every connected member has applied it is nothing that a step waits for.
        Ok(applied) | Err(ProposeError::NotEverywhere { applied, .. }) => applied,
        Err(error) => return Err(error.into()),
    };
    let result = applied.outcome.results.into_iter().next();
    Ok((result.ok_or(IssuingError::NoResult)??, applied.log_index))
}

#[cfg(test)]
mod tests {
    use std::{cmp::Reverse, collections::BinaryHeap};

    use proptest::prelude::*;
    use quorate_raft_machine::authority::{EXPIRY_GRACE, ISSUING_CERTIFICATES_PER_MEMBER};

    use super::*;

    #[test]
    fn a_member_that_is_well_gets_the_life_of_the_policy() {
        for kept in 0..=24 {
            assert_eq!(lifetime_beside(86_400, kept), 86_400);
        }
        assert_eq!(lifetime_beside(86_400, 48), 10_800);
        assert_eq!(lifetime_beside(6, usize::MAX), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// A crash loop bricks no member: it never comes to the limit at which it would get no certificate any more.
        #[test]
        fn however_often_a_process_starts_its_member_never_comes_to_the_limit(
            lifetime in 5_u32..7 * 86_400,
            pause in 1_i64..100,
        ) {
            let mut ends = BinaryHeap::new();
            for start in 0..4_000_i64 {
                let now = start * pause;
                let gone = now - EXPIRY_GRACE;
                while ends.peek().is_some_and(|Reverse(end)| *end < gone) {
                    ends.pop();
                }
                prop_assert!(ends.len() < ISSUING_CERTIFICATES_PER_MEMBER, "after {start} starts");
                let kept = ends.iter().filter(|Reverse(end)| *end >= now).count();
                ends.push(Reverse(now + i64::from(lifetime_beside(lifetime, kept))));
            }
        }
    }
}
