//! The leader signs a node's issuing certificate and has it recorded.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_proto_identity::{
    MemberNumber, PrivateKey, PublicKey, SerialNumber, UnixSeconds, ValidityError,
    x509::{
        AuthorityError, AuthorityTemplate, Certificate, CrlError, CsrError, build_issuing_certificate, parse_crl,
        parse_csr,
    },
};
use quorate_raft_consensus::{LinearizeError, Proposal, ProposeError, WorkLost};
use quorate_raft_machine::{
    AuthorityKind, Caller, Done, NewIssuingCertificate, Operation, Policy, Refusal, State, X509Authority,
};
use tokio::time::Instant;

use super::{
    AuthorityArguments, STEP_TIME_LIMIT,
    documents::{own_context, parse_root, validity},
};
use crate::{
    keys::{CustodyError, open_key},
    own::NotAMember,
    sources::is_slow,
};

/// What a node sends for an issuing certificate: a request that proves that it holds the key, and that key's first CRL
/// (CRL-03). Both are public. Later it travels between nodes in this form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IssuingRequest {
    /// Whose key it is.
    pub(crate) member: MemberNumber,
    /// The certificate signing request, DER.
    pub(crate) csr: Bytes,
    /// The first, empty CRL of its key, DER.
    pub(crate) crl: Bytes,
}

/// The newest request of each member whose certificate was recorded: what a new root's certificates are made from.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    newest: Mutex<BTreeMap<MemberNumber, IssuingRequest>>,
}

impl Requests {
    pub(crate) fn of(&self, member: MemberNumber) -> Option<IssuingRequest> {
        self.newest.lock().get(&member).cloned()
    }

    fn keep(&self, request: IssuingRequest) {
        self.newest.lock().insert(request.member, request);
    }
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
    /// No authority has been founded, or the member is not one.
    #[error(transparent)]
    Member(#[from] NotAMember),
    /// There is no root that signs, or its key was erased.
    #[error("there is no active root whose key can be opened")]
    NoRoot,
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

/// What certificates under a root are made with.
pub(crate) struct RootSigner {
    certificate: Certificate,
    key: PrivateKey,
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
pub(crate) async fn sign_and_record(
    arguments: &AuthorityArguments,
    request: IssuingRequest,
) -> Result<u64, IssuingError> {
    confirm_office(arguments).await?;
    let state = arguments.handle.state();
    let (snapshot, root) =
        state.read(|state| Ok::<_, IssuingError>((snapshot(state)?, state.active_x509_authority().cloned())))?;
    let root = root.ok_or(IssuingError::NoRoot)?;
    let signer = open_root(arguments, &snapshot, &root).await?;
    let new = sign(arguments, &snapshot, &signer, &request).await?;
    let (_, log_index) = propose(arguments, Operation::RecordIssuingCertificate(Box::new(new))).await?;
    tracing::info!(
        target: "quorate::security",
        member = %request.member, authority_id = %root.id,
        "an issuing certificate was signed and recorded"
    );
    arguments.requests.keep(request);
    Ok(log_index)
}

/// Makes sure that this node leads, and has applied all that was committed.
pub(crate) async fn confirm_office(arguments: &AuthorityArguments) -> Result<(), LinearizeError> {
    arguments.handle.ensure_linearizable(Instant::now() + STEP_TIME_LIMIT).await.map(|_index| ())
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

/// Makes the certificate that a request asks for. It ends with the first of its life, its root and its key's CRL.
pub(crate) async fn sign(
    arguments: &AuthorityArguments,
    snapshot: &Snapshot,
    signer: &RootSigner,
    request: &IssuingRequest,
) -> Result<NewIssuingCertificate, IssuingError> {
    let csr = parse_csr(&request.csr)?;
    let crl_end: UnixSeconds = parse_crl(&request.crl)?.next_update;
    let sources = &arguments.workshop.sources;
    let validity = validity(sources.now(), snapshot.policy.issuing_lifetime)?.ending_by(crl_end)?;
    let serial = SerialNumber::from_random(sources.random());
    let trust_domain = snapshot.cluster.trust_domain.clone();
    let (root, key) = (signer.certificate.clone(), signer.key.clone());
    let slow = is_slow(key.key_type());
    let work = move || certificate(&trust_domain, serial, validity, &csr.public_key, &root, &key);
    let certificate = if slow { sources.run_blocking(work).await?? } else { work()? };
    Ok(NewIssuingCertificate {
        member: request.member,
        certificate: Bytes::copy_from_slice(certificate.der()),
        crl: request.crl.clone(),
    })
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
    let proposal = Proposal::new(Caller::node(), vec![operation]).within(STEP_TIME_LIMIT);
    let applied = arguments.handle.propose(proposal).await?;
    let result = applied.outcome.results.into_iter().next();
    Ok((result.ok_or(IssuingError::NoResult)??, applied.log_index))
}
