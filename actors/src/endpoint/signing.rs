//! The leader's side: endpoint certificates are signed for members that are admitted and live.

use bytes::Bytes;
use prost::Message;
use quorate_proto_api::peer::{EndpointAnswer, EndpointQuestion};
use quorate_proto_identity::{
    MemberNumber, SerialNumber, SpiffeId, UnixSeconds,
    key::PublicKeyKind,
    x509::{CsrError, LeafError, LeafIssuer, LeafTemplate, parse_csr},
};
use quorate_raft_consensus::{AnswerFuture, WorkLost};
use quorate_raft_machine::{AuditIssuance, X509Authority, node_id};

use super::{endpoint_id, signing_root};
use crate::{
    audit::{Issuance, Mark},
    authority::{AuthorityArguments, IssuingError, Snapshot, confirm_office, open_root, snapshot},
    errors::with_causes,
    issuer::renewal::{Granted, grant},
    ledger::{Issued, IssuedId, Ledger},
    metrics,
    refusal::Refusal,
    sources::is_slow,
};

/// Why a member got no endpoint certificate.
#[derive(Debug, thiserror::Error)]
enum SignError {
    /// This node does not lead, its clock is off, or the root does not open.
    #[error(transparent)]
    Issuing(#[from] IssuingError),
    /// Whoever asks has no issuing certificate that is in force: it was fenced, or has not begun.
    #[error("member {member} has no issuing certificate in force, and gets no endpoint certificate")]
    NotLive {
        /// Who asked.
        member: MemberNumber,
    },
    /// The request is malformed.
    #[error("the request is refused")]
    Csr(#[from] CsrError),
    /// The request is for a key that not every TLS client takes (FED-15).
    #[error("the request is not for an EC P-256 key")]
    KeyType,
    /// Nothing is left of the time of the root.
    #[error("nothing is left of the root's time")]
    NoTimeLeft,
    /// The certificate could not be made.
    #[error("the endpoint certificate could not be made")]
    Leaf(#[from] LeafError),
    /// The policy wants it in the audit trail first, and it did not get there.
    #[error(transparent)]
    NotRecorded(#[from] Refusal),
    /// The work was lost on its way to another thread.
    #[error(transparent)]
    Lost(#[from] WorkLost),
}

/// Signs for members, on the node that leads.
#[derive(Clone)]
pub(crate) struct EndpointSigner {
    pub(crate) authority: AuthorityArguments,
    pub(crate) ledger: Ledger,
}

/// What is read of the state for one certificate.
struct Read {
    snapshot: Snapshot,
    root: X509Authority,
    id: SpiffeId,
}

impl EndpointSigner {
    /// Answers the question of a member, which consensus has authenticated.
    pub(crate) fn answer(&self, from: MemberNumber, question: Bytes) -> AnswerFuture {
        let own = self.clone();
        Box::pin(async move { own.sign(from, question).await.map_err(|error| with_causes(&error)) })
    }

    async fn sign(&self, member: MemberNumber, question: Bytes) -> Result<Bytes, SignError> {
        confirm_office(&self.authority).await?;
        let question = EndpointQuestion::decode(question).unwrap_or_default();
        // Only the key is taken from the request: the ID is the same for all.
        let csr = parse_csr(&question.csr)?;
        if csr.public_key.kind() != PublicKeyKind::EcP256 {
            return Err(SignError::KeyType);
        }
        let sources = &self.authority.workshop.sources;
        let read = self.read(member, sources.now().seconds())?;
        let signer = open_root(&self.authority, &read.snapshot, &read.root).await?;
        let lifetime = read.snapshot.policy.x509_svid_lifetime;
        let granted = grant(sources.now(), lifetime, read.root.validity.not_after()).ok_or(SignError::NoTimeLeft)?;
        let serial = SerialNumber::from_random(sources.random());
        let (certificate, key, id) = (read.root.certificate.clone(), signer.key().clone(), read.id.clone());
        let slow = is_slow(key.key_type());
        let make = move || {
            LeafIssuer::new(&certificate, key)?.issue(&LeafTemplate {
                spiffe_id: &id,
                dns_names: &[],
                subject: None,
                public_key: &csr.public_key,
                serial,
                validity: granted.validity,
            })
        };
        let certificate = if slow { sources.run_blocking(make).await?? } else { make()? };
        self.record(member, &read, serial, &granted).await?;
        let root_id = read.root.id.to_string();
        Ok(EndpointAnswer { certificate: certificate.into(), root_id }.encode_to_vec().into())
    }

    /// Whether the member may have one, and what it is signed with.
    fn read(&self, member: MemberNumber, now: UnixSeconds) -> Result<Read, SignError> {
        self.authority.handle.state().read(|state| {
            let snapshot = snapshot(state).map_err(IssuingError::from)?;
            let trust_domain = &snapshot.cluster.trust_domain;
            let record = state.member(member).map(|member| &member.record);
            let record = record.filter(|record| record.status.is_admitted());
            let own_id = record.and_then(|record| node_id(trust_domain, record.name.as_str()).ok());
            let may = own_id.is_some_and(|id| state.is_banned(None, &id, member).is_none());
            if !may {
                return Err(IssuingError::NotAdmitted { member }.into());
            }
            if !state.live_members(now).contains(&member) {
                return Err(SignError::NotLive { member });
            }
            let root = signing_root(state, now, snapshot.policy.x509_svid_lifetime).ok_or(IssuingError::NoRoot)?;
            let id = endpoint_id(trust_domain).ok_or(IssuingError::NoRoot)?;
            Ok(Read { root: root.clone(), id, snapshot })
        })
    }

    /// Keeps in mind what was signed: in the audit trail and in the ledger of the node that signed it.
    async fn record(
        &self,
        member: MemberNumber,
        read: &Read,
        serial: SerialNumber,
        granted: &Granted,
    ) -> Result<(), SignError> {
        let expires_at = granted.validity.not_after();
        let issuance = Issuance {
            what: "x509.endpoint",
            caller: None,
            spiffe_id: &read.id,
            entry_id: None,
            mark: Mark::Serial(serial),
            key: &read.root.id,
            expires_at,
        };
        let demand = read.snapshot.policy.audit_issuance.max(AuditIssuance::Recorded);
        self.authority.audit.issued(demand, issuance).await?;
        self.ledger.record(Issued {
            id: IssuedId::Serial(serial),
            spiffe_id: read.id.clone(),
            entry: None,
            issued_at: granted.issued_at.seconds(),
            not_after: expires_at,
            issuing_key: read.root.id.clone(),
        });
        metrics::issued("x509", "endpoint");
        tracing::info!(
            target: "quorate::security", %member, %serial, root = %read.root.id, "an endpoint certificate was signed"
        );
        Ok(())
    }
}
