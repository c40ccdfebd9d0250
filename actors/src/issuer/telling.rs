//! What the issuer tells: how things stand, how much is left of the lease, and what failed.

use std::sync::Arc;

use quorate_proto_identity::{MemberNumber, UnixMillis};

use super::{
    IssuerState,
    lease::{IssuanceStatus, Lease},
};
use crate::{errors::with_causes, metrics, own::NotAMember};

/// Tenths that are left of a certificate at its beginning.
pub(super) const NEW_TENTHS: i64 = 10;

/// From how many tenths on the end of a lease is told: at five of them half is gone, and a renewal was due.
const TENTHS_TOLD_FROM: i64 = 6;

impl IssuerState {
    /// Publishes whether this node may sign. `again` has everybody look once more though it is as it was.
    pub(super) fn say_status(
        &self,
        member: &Result<MemberNumber, NotAMember>,
        now: UnixMillis,
        overdue: bool,
        again: bool,
    ) {
        let core = &self.arguments.core;
        let held = core.leases.held().filter(|lease| now.seconds() <= lease.validity.not_after());
        let halt = core.leases.halted();
        let status = match (member, held) {
            (Err(error), _) => IssuanceStatus::Waiting { reason: error.to_string().into() },
            (Ok(_), _) if halt.is_some() => IssuanceStatus::Waiting { reason: halt.unwrap_or_default() },
            (Ok(_), Some(lease)) if core.tokens.can_sign(now.seconds()) => {
                let warning = if overdue {
                    Some(self.reason("there is no leader to renew this node's issuing certificate"))
                } else {
                    self.surroundings.warning.clone()
                };
                IssuanceStatus::Ready { until: lease.validity.not_after(), warning }
            }
            (Ok(_), Some(_)) => {
                IssuanceStatus::Waiting { reason: self.reason("the token key is not open yet, or has expired") }
            }
            (Ok(_), None) if self.settling_key(now.seconds()).is_some() => IssuanceStatus::Waiting {
                reason: "the CRL of its new issuing key is on its way to everybody who gets CRLs, and until then the key signs \
                         nothing (CRL-07)"
                    .into(),
            },
            (Ok(_), None) if !self.has_leader() => {
                IssuanceStatus::Waiting { reason: "no leader is known to ask for an issuing certificate".into() }
            }
            (Ok(_), None) => {
                IssuanceStatus::Waiting { reason: self.reason("an issuing certificate is being asked for") }
            }
        };
        core.leases.say(status, again);
    }

    /// Tells how much of the lease is left: always in the metrics, and in the log as soon as it is overdue, again with
    /// every tenth that goes.
    pub(super) fn count_down(&mut self, lease: Option<&Lease>, now: UnixMillis, overdue: bool) {
        let Some(lease) = lease else {
            metrics::lease_left(0.0);
            return;
        };
        let held = lease.held();
        metrics::lease_left(held.part_left(now));
        let tenths_left = held.tenths_left(now);
        if !overdue || tenths_left >= self.tenths_told.min(TENTHS_TOLD_FROM) {
            return;
        }
        self.tenths_told = tenths_left;
        let until = lease.validity.not_after();
        let reason = self.reason("no leader is known to ask for another one");
        tracing::warn!(
            target: "quorate::security",
            tenths_left, %until, reason = %reason,
            "this node's issuing certificate is not renewed, and at its end the node signs nothing more"
        );
    }

    pub(super) fn reason(&self, otherwise: &str) -> Arc<str> {
        self.trouble.clone().unwrap_or_else(|| otherwise.into())
    }

    pub(super) fn failed(&mut self, error: &(dyn std::error::Error + 'static), want_of_leader: bool) {
        self.asking.in_flight = false;
        self.asking.failures = self.asking.failures.saturating_add(1);
        self.asking.failed_at = Some(self.arguments.core.sources.now());
        let failures = self.asking.failures;
        if want_of_leader && failures == 1 {
            tracing::debug!(error, failures, "no issuing certificate was given, asking again soon");
        } else {
            tracing::warn!(error, failures, "no issuing certificate was given, asking again soon");
        }
        self.trouble = Some(format!("no issuing certificate was given: {}", with_causes(error)).into());
    }
}
