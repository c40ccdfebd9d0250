//! SVIDs minted for an administrator (SVID service, spire-api.md section 8): no entry decides here, the caller does.

use std::sync::Arc;

use bytes::Bytes;
use quorate_proto_identity::{
    SerialNumber, SpiffeId, TrustDomain, UnixSeconds,
    dns_name::{check_dns_name, wildcard_overlap},
    x509::{LeafTemplate, ParsedCsr, parse_csr},
};
use quorate_raft_machine::{AuditIssuance, Caller, Policy};

use super::{
    lease::Lease,
    renewal::{Granted, grant},
    serials::LiveSerial,
};
use crate::{
    audit::{Issuance, Mark},
    ledger::{Issued, IssuedId, Ledger},
    metrics,
    refusal::Refusal,
    session::core::Core,
    sources::is_slow,
};

/// IDs under this path name parts of the system and are nobody's workload (spire-api.md section 4, ID classes).
const RESERVED_PATH: &str = "/spire";

/// Most audiences of a token. More would make it longer than most header limits, whoever asks.
pub(crate) const AUDIENCES_LIMIT: usize = 64;

/// Longest audience, in bytes: as long as the longest SPIFFE ID, which audiences often are.
pub(crate) const AUDIENCE_BYTES_LIMIT: usize = 2048;

/// Most DNS names of a minted certificate, as of an entry.
const DNS_NAMES_LIMIT: usize = 128;

/// An X509-SVID whose key the caller has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MintedX509 {
    /// Leaf and issuing certificate, DER.
    pub chain: Vec<Bytes>,
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// When it ends.
    pub expires_at: UnixSeconds,
}

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct MintedJwt {
    /// The token. Whoever reads it can use it.
    pub token: String,
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// When it was signed.
    pub issued_at: UnixSeconds,
    /// When it ends.
    pub expires_at: UnixSeconds,
}

impl std::fmt::Debug for MintedJwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MintedJwt")
            .field("spiffe_id", &self.spiffe_id)
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Mints SVIDs. Whoever holds it has checked that the caller may. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Minter {
    core: Arc<Core>,
    ledger: Ledger,
}

impl Minter {
    pub(crate) fn new(core: Arc<Core>, ledger: Ledger) -> Self {
        Self { core, ledger }
    }

    /// Signs an X509-SVID for the key of a request; `caller` is who asks, for the audit record. ID, DNS names and subject come from the request; `ttl` is in seconds,
    /// 0 for the policy's, and is cut at the issuing certificate's end.
    ///
    /// # Errors
    /// `InvalidArgument` for a request that is not in order, `Unavailable` while this node may not sign.
    pub async fn mint_x509(&self, caller: &Caller, csr: &[u8], ttl: u32) -> Result<MintedX509, Refusal> {
        self.x509(caller, csr, ttl).await.map_err(Refusal::counted)
    }

    /// Signs a token for an ID; `caller` is who asks, for the audit record; `ttl` is in seconds, 0 for the policy's, and is cut at the token key's end.
    ///
    /// # Errors
    /// `InvalidArgument` for an ID or audiences that are not in order, `Unavailable` while this node may not sign.
    pub async fn mint_jwt(
        &self,
        caller: &Caller,
        id: &SpiffeId,
        audiences: Vec<String>,
        ttl: u32,
    ) -> Result<MintedJwt, Refusal> {
        self.jwt(caller, id, audiences, ttl).await.map_err(Refusal::counted)
    }

    async fn x509(&self, caller: &Caller, csr: &[u8], ttl: u32) -> Result<MintedX509, Refusal> {
        let (trust_domain, policy) = self.founded()?;
        let demand = self.demand(&policy)?;
        let lease = self.core.lease().await?;
        // The signature over the request is checked here, before anything else is looked at (ATK-05).
        let csr = parse_csr(csr).map_err(|error| Refusal::invalid(format!("malformed CSR: {error}")))?;
        let spiffe_id = requested_id(&csr, &trust_domain)?;
        check_dns_names(&csr.dns_names)?;
        self.check_not_banned(&spiffe_id)?;
        let ttl = if ttl == 0 { policy.x509_svid_lifetime } else { ttl };
        let granted = grant(self.core.sources.now(), ttl, lease.validity.not_after());
        let granted = granted.ok_or_else(|| Refusal::unavailable("the issuing certificate is about to end"))?;
        let serial = SerialNumber::from_random(self.core.sources.random());
        let slow = is_slow(lease.issuer().key().key_type());
        let (id, signing) = (spiffe_id.clone(), Arc::clone(&lease));
        let not_after = granted.validity.not_after();
        lease.held_key.will_sign(LiveSerial { serial, spiffe_id: spiffe_id.clone(), entry: None, not_after });
        let work = move || sign(&signing, &csr, &id, serial, &granted);
        let leaf = if slow {
            let lost = |error: quorate_raft_consensus::WorkLost| Refusal::unavailable(error.to_string());
            self.core.sources.run_blocking(work).await.map_err(lost)??
        } else {
            work()?
        };
        self.check_stands(&lease, serial, &spiffe_id)?;
        let expires_at = granted.validity.not_after();
        let issuance = Issuance {
            what: "x509.mint",
            caller: Some(caller),
            spiffe_id: &spiffe_id,
            entry_id: None,
            mark: Mark::Serial(serial),
            key: &lease.key_id,
            expires_at,
        };
        self.core.audit.issued(demand, issuance).await?;
        // The record takes its time, too.
        self.check_stands(&lease, serial, &spiffe_id)?;
        metrics::issued("x509", "mint");
        self.ledger.record(Issued {
            id: IssuedId::Serial(serial),
            spiffe_id: spiffe_id.clone(),
            entry: None,
            issued_at: granted.issued_at.seconds(),
            not_after: expires_at,
            issuing_key: lease.key_id.clone(),
        });
        tracing::info!(target: "quorate::security", spiffe_id = %spiffe_id, serial = %serial, "an X509-SVID was minted");
        let chain = vec![leaf.into(), Bytes::copy_from_slice(lease.certificate())];
        Ok(MintedX509 { chain, spiffe_id, expires_at })
    }

    async fn jwt(
        &self,
        caller: &Caller,
        id: &SpiffeId,
        audiences: Vec<String>,
        ttl: u32,
    ) -> Result<MintedJwt, Refusal> {
        let (trust_domain, policy) = self.founded()?;
        check_workload_id(id, &trust_domain)?;
        check_audiences(&audiences)?;
        self.core.leases.current(self.core.sources.now())?;
        self.check_not_banned(id)?;
        let ttl = if ttl == 0 { policy.jwt_svid_lifetime } else { ttl };
        self.demand(&policy)?;
        let signed = self.core.token(id, None, &audiences.into(), ttl, Some(caller)).await;
        let token = signed.map_err(|error| error.refusal())?;
        self.check_not_banned(id)?;
        metrics::issued("jwt", "mint");
        tracing::info!(target: "quorate::security", spiffe_id = %id, "a JWT-SVID was minted");
        Ok(MintedJwt {
            token: token.text,
            spiffe_id: id.clone(),
            issued_at: token.issued_at,
            expires_at: token.expires_at,
        })
    }

    /// How the record of a minted SVID is wanted: it is an administrator's act, so it is one whatever the policy says of
    /// issuance, and there is none while it could have no record.
    fn demand(&self, policy: &Policy) -> Result<AuditIssuance, Refusal> {
        self.core.audit.may_administer().map_err(|blocked| Refusal::unavailable(blocked.to_string()))?;
        self.core.audit.may_issue(policy.audit_issuance)?;
        Ok(policy.audit_issuance.max(AuditIssuance::Recorded))
    }

    /// Checks that what was signed may still be handed out (design section 2, property 5; INV-06).
    fn check_stands(&self, lease: &Lease, serial: SerialNumber, id: &SpiffeId) -> Result<(), Refusal> {
        let bundle = self.core.bundles.current(&self.core.state)?;
        if bundle.replaces(&lease.root) || !bundle.may_issue(&lease.key_id) {
            return Err(Refusal::unavailable(
                "the root was tainted, or the issuing key revoked, while the SVID was signed; ask again",
            ));
        }
        self.core.withdrawals();
        if lease.held_key.is_revoked(serial) {
            return Err(Refusal::unavailable(format!("{id} was revoked while its SVID was signed; ask again")));
        }
        self.check_not_banned(id)
    }

    /// Whoever is banned gets nothing from an administrator either, before the ban is lifted. It is looked at again once
    /// the document is signed (design section 2, property 5).
    fn check_not_banned(&self, id: &SpiffeId) -> Result<(), Refusal> {
        let banned = self.core.state.read(|state| {
            let number = self.core.own.member(state).map(|member| member.number);
            let number = number.map_err(|error| Refusal::unavailable(error.to_string()))?;
            Ok::<_, Refusal>(state.is_banned(None, id, number).map(|revocation| revocation.number))
        })?;
        match banned {
            Some(number) => Err(Refusal::denied(format!("{id} is banned by revocation {number}"))),
            None => Ok(()),
        }
    }

    fn founded(&self) -> Result<(TrustDomain, Policy), Refusal> {
        let found = self
            .core
            .state
            .read(|state| state.cluster().map(|cluster| cluster.trust_domain.clone()).zip(state.policy().copied()));
        found.ok_or_else(|| Refusal::unavailable("no authority has been founded on this node yet"))
    }
}

fn sign(
    lease: &Lease,
    csr: &ParsedCsr,
    spiffe_id: &SpiffeId,
    serial: SerialNumber,
    granted: &Granted,
) -> Result<Vec<u8>, Refusal> {
    let leaf = lease.issuer().issue(&LeafTemplate {
        spiffe_id,
        dns_names: &csr.dns_names,
        subject: Some(&csr.subject),
        public_key: &csr.public_key,
        serial,
        validity: granted.validity,
    });
    leaf.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "an X509-SVID could not be signed");
        Refusal::unavailable("the SVID could not be signed")
    })
}

/// The one ID that a request names (ATK-04).
fn requested_id(csr: &ParsedCsr, trust_domain: &TrustDomain) -> Result<SpiffeId, Refusal> {
    let [id] = csr.uri_names.as_slice() else {
        return Err(Refusal::invalid(format!(
            "malformed CSR: exactly one URI SAN is required, there are {}",
            csr.uri_names.len()
        )));
    };
    let id = SpiffeId::parse(id).map_err(|error| Refusal::invalid(format!("CSR URI SAN is invalid: {error}")))?;
    check_workload_id(&id, trust_domain)?;
    Ok(id)
}

/// A workload's ID: of our trust domain, with a path, outside what is the system's own (SB-36).
fn check_workload_id(id: &SpiffeId, trust_domain: &TrustDomain) -> Result<(), Refusal> {
    if !id.is_member_of(trust_domain) {
        return Err(Refusal::invalid(format!("{id} is not in the trust domain {trust_domain}")));
    }
    if id.is_trust_domain_id() {
        return Err(Refusal::invalid(format!("{id} has no path, so it is no workload's")));
    }
    let rest = id.path().strip_prefix(RESERVED_PATH);
    if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Err(Refusal::invalid(format!("{id} is reserved: workloads are not under {RESERVED_PATH}")));
    }
    Ok(())
}

fn check_dns_names(names: &[String]) -> Result<(), Refusal> {
    if names.len() > DNS_NAMES_LIMIT {
        return Err(Refusal::invalid(format!("{} DNS names, the most is {DNS_NAMES_LIMIT}", names.len())));
    }
    for name in names {
        check_dns_name(name).map_err(|error| Refusal::invalid(format!("CSR DNS SAN is invalid: {error}")))?;
    }
    match wildcard_overlap(names) {
        Some((wildcard, name)) => {
            Err(Refusal::invalid(format!("CSR contains invalid DNS names: {wildcard} covers {name}")))
        }
        None => Ok(()),
    }
}

/// Audiences as a caller gives them: at least one, none empty (WAPI-14, WAPI-29), not more or longer than the limits.
pub(crate) fn check_audiences(audiences: &[String]) -> Result<(), Refusal> {
    if audiences.is_empty() {
        return Err(Refusal::invalid("audience must be specified"));
    }
    if audiences.len() > AUDIENCES_LIMIT {
        return Err(Refusal::invalid(format!("{} audiences, the most is {AUDIENCES_LIMIT}", audiences.len())));
    }
    for audience in audiences {
        if audience.is_empty() {
            return Err(Refusal::invalid("an audience is empty"));
        }
        if audience.len() > AUDIENCE_BYTES_LIMIT {
            return Err(Refusal::invalid(format!(
                "an audience has {} bytes, the most is {AUDIENCE_BYTES_LIMIT}",
                audience.len()
            )));
        }
    }
    Ok(())
}
