//! A connection's caller: the process that opened it, and what it was attested as.
//!
//! Made once a connection. Attestation happens when the caller first asks for something; afterwards a handful of system
//! calls tell whether the process is still what it was (ATK-16).

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{allowance::Allowance, group::Group, keeper::Keepers};
use crate::{
    attestation::{Attested, Attestor, PeerProcess, SecondLook, look_again},
    metrics,
    refusal::Refusal,
};

/// How long one look at a caller serves the calls that follow it on the same connection. A look costs as much as all the
/// rest of a call that finds its answer ready, and within this time it could tell of nothing that matters: what the
/// process may have now it could have asked for at the time of the look, and have left to whatever it is now. An update
/// that is pushed into a stream is always preceded by a look of its own (ATK-16).
const LOOK_SERVES: Duration = Duration::from_millis(10);

/// Lines about callers that were refused.
static REFUSALS: Allowance = Allowance::new();

/// Lines about callers that could not be attested: one that is gone before its turn, or asks too often, is one.
static FAILURES: Allowance = Allowance::new();

/// The caller behind one connection.
#[derive(Debug)]
pub struct Caller {
    process: PeerProcess,
    standing: Mutex<Option<Standing>>,
    /// Held while the caller is attested, so that many calls at once on a new connection attest it once.
    attesting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Standing {
    attested: Arc<Attested>,
    group: Arc<Group>,
    /// When the caller was last looked at; none when that look found it changed or gone.
    looked_at: Option<Instant>,
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
        Arc::new(Self { process, standing: Mutex::new(None), attesting: tokio::sync::Mutex::new(()) })
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &PeerProcess {
        &self.process
    }

    /// Looks at the caller without waiting.
    pub(crate) fn glance(&self) -> Glance {
        let Some(standing) = self.standing.lock().clone() else { return Glance::Unknown };
        let now = Instant::now();
        let look = look_again(&self.process, &standing.attested);
        if let Some(current) = self.standing.lock().as_mut()
            && Arc::ptr_eq(&current.attested, &standing.attested)
        {
            current.looked_at = matches!(look, SecondLook::Same).then_some(now);
        }
        match look {
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
        if let Some(group) = self.just_looked() {
            return Ok(group);
        }
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
        let looked_at = Instant::now();
        let before = self.standing.lock().as_ref().map(|standing| Arc::clone(&standing.attested));
        let known = before.as_ref().filter(|before| matches!(look_again(&self.process, before), SecondLook::Same));
        let attested = match known {
            // Only the group is gone, with its keeper.
            Some(known) => Arc::clone(known),
            None => self.attest(attestor, before).await?,
        };
        let group = keepers.group(attested.selectors())?;
        *self.standing.lock() = Some(Standing { attested, group: Arc::clone(&group), looked_at: Some(looked_at) });
        Ok(group)
    }

    /// The group of the caller, if it was looked at just now.
    fn just_looked(&self) -> Option<Arc<Group>> {
        let standing = self.standing.lock();
        let standing = standing.as_ref()?;
        let recent = standing.looked_at.is_some_and(|looked_at| looked_at.elapsed() < LOOK_SERVES);
        (recent && !standing.group.is_closed()).then(|| Arc::clone(&standing.group))
    }

    /// Counts a refusal, and records one that says that this caller may not have what it asked for.
    pub(crate) fn refused(&self, refusal: Refusal) -> Refusal {
        if let Refusal::PermissionDenied(reason) = &refusal {
            let first = self.standing.lock().as_ref().is_none_or(|standing| standing.group.first_refusal());
            if first && let Some(left_out) = REFUSALS.ask(Instant::now()) {
                let credentials = self.process.credentials();
                tracing::info!(
                    target: "quorate::security",
                    pid = credentials.pid, uid = credentials.uid, gid = credentials.gid, reason = %reason, left_out,
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
                // What anybody can bring about at will is told at debug: a loop of connections must not fill the log.
                tracing::debug!(
                    target: "quorate::security",
                    pid = credentials.pid, uid = credentials.uid, gid = credentials.gid, again,
                    selectors = attested.selectors().len(),
                    "a workload was attested"
                );
                Ok(Arc::new(attested))
            }
            Err(error) => {
                metrics::attestation("failed");
                if let Some(left_out) = FAILURES.ask(Instant::now()) {
                    tracing::warn!(
                        target: "quorate::security",
                        pid = self.process.pid(), error = &error as &dyn std::error::Error, left_out,
                        "a workload could not be attested"
                    );
                }
                // Not "no identity": that is not known.
                Err(Refusal::unavailable(format!("the caller could not be attested: {error}")))
            }
        }
    }
}
