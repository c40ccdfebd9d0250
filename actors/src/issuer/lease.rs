//! The issuing certificate that this node signs with: its lease (design section 2, property 4).

use std::{fmt, sync::Arc};

use parking_lot::RwLock;
use quorate_proto_identity::{
    AuthorityId, SerialNumber, UnixMillis, UnixSeconds, Validity,
    x509::{LeafError, LeafIssuer},
};
use quorate_raft_machine::authority::IssuingCertificate;
use tokio::sync::watch;

use super::{keyring::HeldKey, request::Held};
use crate::{metrics, refusal::Refusal};

/// Whether this node may sign, for health and readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuanceStatus {
    /// The process has started and has not asked for a certificate yet.
    Starting,
    /// It holds none: the authority is not founded, no leader answers, or its certificate has ended.
    Waiting {
        /// What it waits for, or why the last try failed.
        reason: Arc<str>,
    },
    /// It signs, and holds the token key.
    Ready {
        /// The end of its certificate.
        until: UnixSeconds,
        /// What will keep it from signing beyond that end unless it is mended: the node is cut off, or the renewal that
        /// was due has failed.
        warning: Option<Arc<str>>,
    },
    /// It signs no more until the process is started again.
    Ended {
        /// Why.
        reason: Arc<str>,
    },
}

/// An issuing certificate with its key, recorded in the log and applied by this node.
pub(crate) struct Lease {
    issuer: LeafIssuer,
    /// Until when it may be used.
    pub(crate) validity: Validity,
    renew_at: UnixMillis,
    /// The key, with the list of what it signed.
    pub(crate) held_key: Arc<HeldKey>,
    /// Subject key ID of its key.
    pub(crate) key_id: AuthorityId,
    /// Its own serial number.
    pub(crate) serial: SerialNumber,
    /// The root that signed it.
    pub(crate) root: AuthorityId,
}

impl Lease {
    /// Joins a recorded certificate with the key that this process made for it; `random` moves its renewal.
    pub(crate) fn new(recorded: &IssuingCertificate, held_key: Arc<HeldKey>, random: u64) -> Result<Self, LeafError> {
        Ok(Self {
            issuer: LeafIssuer::new(&recorded.certificate, held_key.key().clone())?,
            validity: recorded.validity,
            renew_at: Held::new(recorded.validity, random).renew_at,
            held_key,
            key_id: recorded.key_id.clone(),
            serial: recorded.serial,
            root: recorded.issuer.clone(),
        })
    }

    /// What signs leaves.
    pub(crate) fn issuer(&self) -> &LeafIssuer {
        &self.issuer
    }

    /// The certificate, DER.
    pub(crate) fn certificate(&self) -> &[u8] {
        self.issuer.certificate().der()
    }

    /// Its time, for deciding when another one is asked for.
    pub(crate) fn held(&self) -> Held {
        Held { validity: self.validity, renew_at: self.renew_at }
    }

    /// Whether it is the same certificate.
    pub(crate) fn is(&self, other: &IssuingCertificate) -> bool {
        self.serial == other.serial && self.key_id == other.key_id
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key_id", &self.key_id).field("validity", &self.validity).finish_non_exhaustive()
    }
}

/// The lease as all others see it: one actor publishes it, everybody else only reads.
#[derive(Debug)]
pub(crate) struct Leases {
    current: RwLock<Current>,
    /// How often the lease was put in place or taken away.
    changes: watch::Sender<u64>,
    status: watch::Sender<IssuanceStatus>,
}

/// What is held, and what forbids its use.
#[derive(Debug, Default)]
struct Current {
    lease: Option<Arc<Lease>>,
    /// Why nothing may be signed although a lease is held.
    halt: Option<Arc<str>>,
}

impl Leases {
    /// Without a lease.
    pub(crate) fn new() -> Self {
        Self {
            current: RwLock::default(),
            changes: watch::Sender::new(0),
            status: watch::Sender::new(IssuanceStatus::Starting),
        }
    }

    /// The lease, if it is good at `now`. This is the gate in front of every signature and every answer.
    pub(crate) fn current(&self, now: UnixMillis) -> Result<Arc<Lease>, Refusal> {
        let current = self.current.read();
        if let Some(reason) = &current.halt {
            return Err(Refusal::unavailable(format!("this node signs nothing at present: {reason}")));
        }
        if let Some(lease) = &current.lease
            && now.seconds() <= lease.validity.not_after()
        {
            return Ok(Arc::clone(lease));
        }
        drop(current);
        Err(Refusal::unavailable(match &*self.status.borrow() {
            IssuanceStatus::Waiting { reason } | IssuanceStatus::Ended { reason } => {
                format!("this node cannot issue SVIDs now: {reason}")
            }
            IssuanceStatus::Starting => "this node is starting and cannot issue SVIDs yet".to_owned(),
            IssuanceStatus::Ready { .. } => "this node's issuing certificate has expired".to_owned(),
        }))
    }

    /// The lease whatever its time, for the actor that renews it.
    pub(crate) fn held(&self) -> Option<Arc<Lease>> {
        self.current.read().lease.clone()
    }

    /// Puts a lease in place, or takes it away.
    pub(crate) fn set(&self, lease: Option<Arc<Lease>>) {
        metrics::lease_until(lease.as_ref().map_or(0, |lease| lease.validity.not_after().0));
        self.current.write().lease = lease;
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Tells when another lease was put in place, or the one that was there taken away.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Forbids every signature for a reason, or allows them again. The lease stays, and its time runs.
    pub(crate) fn halt(&self, reason: Option<Arc<str>>) {
        self.current.write().halt = reason;
    }

    /// Why nothing may be signed whatever is held, if that is so.
    pub(crate) fn halted(&self) -> Option<Arc<str>> {
        self.current.read().halt.clone()
    }

    /// Says how things stand; listeners hear of changes only, unless they are to look again in any case.
    pub(crate) fn say(&self, status: IssuanceStatus, again: bool) {
        self.status.send_if_modified(|said| {
            let changed = *said != status;
            *said = status;
            changed || again
        });
    }

    /// How things stand, and how they change.
    pub(crate) fn status(&self) -> watch::Receiver<IssuanceStatus> {
        self.status.subscribe()
    }
}
