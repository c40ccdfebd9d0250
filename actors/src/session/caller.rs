//! A connection's caller: the process that opened it, and what it was attested as.
//!
//! Made once a connection. Attestation happens when the caller first asks for something; afterwards a handful of system
//! calls tell whether the process is still what it was (ATK-16).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use super::{group::Group, keeper::Keepers};
use crate::{
    attestation::{Attested, Attestor, PeerProcess, SecondLook, look_again},
    metrics,
    refusal::Refusal,
};

/// The caller behind one connection.
#[derive(Debug)]
pub struct Caller {
    process: PeerProcess,
    standing: Mutex<Option<Standing>>,
    /// Held while the caller is attested, so that many calls at once on a new connection attest it once.
    attesting: tokio::sync::Mutex<()>,
    /// Whether the log has a refusal of this caller.
    told: AtomicBool,
}

#[derive(Debug, Clone)]
struct Standing {
    attested: Arc<Attested>,
    group: Arc<Group>,
}

/// What a look at a caller found, without waiting for anything.
pub(crate) enum Glance {
    /// It stands, in this group.
    Stands(Arc<Group>),
    /// It must be attested first, or afresh.
    Unknown,
    /// Its process is gone.
    Gone(Refusal),
}

impl Caller {
    /// The caller behind a connection that this process opened.
    #[must_use]
    pub fn new(process: PeerProcess) -> Arc<Self> {
        Arc::new(Self {
            process,
            standing: Mutex::new(None),
            attesting: tokio::sync::Mutex::new(()),
            told: AtomicBool::new(false),
        })
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &PeerProcess {
        &self.process
    }

    /// Looks at the caller without waiting.
    pub(crate) fn glance(&self) -> Glance {
        let Some(standing) = self.standing.lock().clone() else { return Glance::Unknown };
        match look_again(&self.process, &standing.attested) {
            SecondLook::Same if !standing.group.is_closed() => Glance::Stands(standing.group),
            SecondLook::Same | SecondLook::Changed => Glance::Unknown,
            SecondLook::Gone(gone) => {
                metrics::attestation("gone");
                Glance::Gone(Refusal::unavailable(gone.to_string()))
            }
        }
    }

    /// The group of the caller; attests it if that was not done yet, or if its process has changed.
    pub(crate) async fn group(&self, attestor: &Attestor, keepers: &Keepers) -> Result<Arc<Group>, Refusal> {
        match self.glance() {
            Glance::Stands(group) => return Ok(group),
            Glance::Gone(refusal) => return Err(refusal),
            Glance::Unknown => {}
        }
        let _turn = self.attesting.lock().await;
        // Somebody else may have done it while this call waited for its turn.
        match self.glance() {
            Glance::Stands(group) => return Ok(group),
            Glance::Gone(refusal) => return Err(refusal),
            Glance::Unknown => {}
        }
        let before = self.standing.lock().as_ref().map(|standing| Arc::clone(&standing.attested));
        let known = before.as_ref().filter(|before| matches!(look_again(&self.process, before), SecondLook::Same));
        let attested = match known {
            // Only the group is gone, with its keeper.
            Some(known) => Arc::clone(known),
            None => self.attest(attestor, before).await?,
        };
        let group = keepers.group(attested.selectors())?;
        *self.standing.lock() = Some(Standing { attested, group: Arc::clone(&group) });
        Ok(group)
    }

    /// Counts a refusal, and records one that says that this caller may not have what it asked for.
    pub(crate) fn refused(&self, refusal: Refusal) -> Refusal {
        if let Refusal::PermissionDenied(reason) = &refusal {
            // Once a connection: a client that asks again and again must not fill the log (ATK-20).
            if !self.told.swap(true, Ordering::Relaxed) {
                let credentials = self.process.credentials();
                tracing::info!(
                    target: "quorate::security",
                    pid = credentials.pid, uid = credentials.uid, gid = credentials.gid, reason = %reason,
                    "a workload was refused"
                );
            }
        }
        refusal.counted()
    }

    async fn attest(&self, attestor: &Attestor, before: Option<Arc<Attested>>) -> Result<Arc<Attested>, Refusal> {
        let again = before.is_some();
        match attestor.attest(self.process.clone(), before).await {
            Ok(attested) => {
                metrics::attestation("attested");
                let credentials = self.process.credentials();
                tracing::info!(
                    target: "quorate::security",
                    pid = credentials.pid, uid = credentials.uid, gid = credentials.gid, again,
                    selectors = attested.selectors().len(),
                    "a workload was attested"
                );
                Ok(Arc::new(attested))
            }
            Err(error) => {
                metrics::attestation("failed");
                tracing::warn!(
                    target: "quorate::security",
                    pid = self.process.pid(), error = &error as &dyn std::error::Error,
                    "a workload could not be attested"
                );
                // Not "no identity": that is not known.
                Err(Refusal::unavailable(format!("the caller could not be attested: {error}")))
            }
        }
    }
}
