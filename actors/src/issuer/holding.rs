//! Which certificate this node signs with: the best that the state has for a key of this process.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use quorate_proto_identity::{AuthorityId, MemberNumber, PrivateKey, SerialNumber, UnixMillis};
use quorate_raft_machine::{AuthorityState, IssuingCertificate, State};

use super::{IssuerState, lease::Lease, request::Asking, telling::NEW_TENTHS};
use crate::own::NotAMember;

impl IssuerState {
    /// Publishes the best of the certificates that the state has for keys of this process, or takes the lease away.
    pub(super) fn take_up_certificate(&mut self, now: UnixMillis) -> Result<MemberNumber, NotAMember> {
        let core = &self.arguments.core;
        let keys = &self.keys;
        let found = core.state.read(|state| {
            let number = core.own.member(state)?.number;
            Ok((number, best_certificate(state, number, keys, now).cloned()))
        });
        let (number, best) = match found {
            Ok((number, best)) => (Ok(number), best),
            Err(error) => (Err(error), None),
        };
        let held = core.leases.held();
        match (&held, best) {
            (Some(held), Some(best)) if held.is(&best) => {}
            (_, Some(best)) => self.hold(&best),
            (Some(_), None) => {
                core.leases.set(None);
                let reason = number.as_ref().err().map(ToString::to_string);
                tracing::error!(target: "quorate::security", reason, "this node's issuing certificate has ended or was revoked");
            }
            (None, None) => {}
        }
        let current = self.arguments.core.leases.held();
        if let (Some(lease), Some(asked)) = (&current, &self.asked)
            && lease.key_id == asked.key_id
            && !self.asking.in_flight
        {
            // The log brought what no answer told of.
            self.asking = Asking::default();
            self.asked = None;
        }
        if number.is_err() {
            self.asked = None;
        }
        // Keys are kept while a certificate of theirs is held or on its way.
        let asked = &self.asked;
        self.keys.retain(|id, _| {
            current.as_ref().is_some_and(|lease| lease.key_id == *id)
                || asked.as_ref().is_some_and(|asked| asked.key_id == *id)
        });
        number
    }

    /// Has replaced at once, and not when its time has come, what this node signed with a certificate that was revoked
    /// since. Says whether there was one.
    pub(super) fn withdraw_revoked(&mut self, member: &Result<MemberNumber, NotAMember>) -> bool {
        let Ok(member) = member else { return false };
        let core = &self.arguments.core;
        let revoked: BTreeSet<(AuthorityId, SerialNumber)> = core.state.read(|state| {
            let own = state.issuing_certificates().filter(|issuing| issuing.member == *member);
            let revoked = own.filter(|issuing| issuing.revoked_at.is_some());
            revoked.map(|issuing| (issuing.key_id.clone(), issuing.serial)).collect()
        });
        let mut new = revoked.difference(&self.withdrawn).peekable();
        let any = new.peek().is_some();
        for (key_id, serial) in new {
            core.svids.withdraw(key_id, *serial);
        }
        self.withdrawn = revoked;
        any
    }

    /// Whether the root of a lease is the one that signs now.
    pub(super) fn is_under_active_root(&self, lease: &Lease) -> bool {
        let state = self.arguments.core.state.read(|state| state.x509_authority(&lease.root).map(|root| root.state));
        state == Some(AuthorityState::Active)
    }

    /// Whether a lease should have been renewed by now and could not be: it has failed, or there is nobody to ask.
    pub(super) fn is_overdue(&self, lease: &Lease, now: UnixMillis) -> bool {
        now >= lease.held().renew_at && (self.asking.failures > 0 || !self.has_leader())
    }

    pub(super) fn hold(&mut self, recorded: &IssuingCertificate) {
        let Some(key) = self.keys.get(&recorded.key_id) else { return };
        match Lease::new(recorded, key.clone(), self.arguments.core.sources.random_u64()) {
            Ok(lease) => {
                tracing::info!(
                    target: "quorate::security",
                    authority_id = %recorded.issuer, serial = %recorded.serial, until = %recorded.validity.not_after(),
                    "this node signs with a new issuing certificate"
                );
                self.trouble = None;
                self.tenths_told = NEW_TENTHS;
                self.arguments.core.leases.set(Some(Arc::new(lease)));
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a recorded issuing certificate is unusable");
                self.trouble = Some(error.to_string().into());
            }
        }
    }
}

/// The certificate to sign with: of those that are good and whose key this process has, one under the root that signs,
/// and of these the one that ends last.
fn best_certificate<'a>(
    state: &'a State,
    member: MemberNumber,
    keys: &HashMap<AuthorityId, PrivateKey>,
    now: UnixMillis,
) -> Option<&'a IssuingCertificate> {
    let under_active = |issuing: &IssuingCertificate| {
        state.x509_authority(&issuing.issuer).is_some_and(|root| root.state == AuthorityState::Active)
    };
    state
        .issuing_certificates()
        .filter(|issuing| {
            issuing.member == member && issuing.is_live(now.seconds()) && keys.contains_key(&issuing.key_id)
        })
        .max_by_key(|issuing| (under_active(issuing), issuing.validity.not_after(), issuing.recorded_at))
}
