//! Which certificate this node signs with: the best that the state has for a key of this process.

use std::{collections::BTreeSet, sync::Arc};

use quorate_proto_identity::{AuthorityId, MemberNumber, SerialNumber, UnixMillis, UnixSeconds};
use quorate_raft_machine::{AuthorityState, IssuingCertificate, IssuingKeyState, State};

use super::{IssuerState, keyring::Keyring, lease::Lease, request::Asking, telling::NEW_TENTHS};
use crate::own::NotAMember;

impl IssuerState {
    /// Publishes the best of the certificates that the state has for keys of this process, or takes the lease away.
    pub(super) fn take_up_certificate(&mut self, now: UnixMillis) -> Result<MemberNumber, NotAMember> {
        let core = &self.arguments.core;
        let found = core.state.read(|state| {
            let number = core.own.member(state)?.number;
            Ok((number, best_certificate(state, number, &core.keyring, now).cloned()))
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
        let core = &self.arguments.core;
        let current = core.leases.held();
        let is_recorded =
            |key_id: &AuthorityId| core.state.read(|state| state.certificates_of(key_id).next().is_some());
        if let Some(asked) = &self.asked
            && asked.is_new
            && is_recorded(&asked.key_id)
            && !self.asking.in_flight
        {
            // The log brought what no answer told of.
            self.asking = Asking::default();
            self.asked = None;
        }
        if number.is_err() {
            self.asked = None;
        }
        // Keys are kept while a certificate of theirs is held or on its way, and until the last one has ended: a CRL may
        // have to be signed (CRL-06).
        let asked = self.asked.as_ref().map(|asked| &asked.key_id);
        core.state.read(|state| {
            core.keyring.retain(|held| {
                current.as_ref().is_some_and(|lease| lease.key_id == held.id)
                    || asked == Some(&held.id)
                    || state.certificates_of(&held.id).any(|issuing| now.seconds() <= issuing.validity.not_after())
            });
        });
        number
    }

    /// The key of this process that is recorded and may not sign yet: its CRL is on its way to everybody who gets CRLs
    /// (CRL-07).
    pub(super) fn settling_key(&self, now: UnixSeconds) -> Option<AuthorityId> {
        let core = &self.arguments.core;
        let settles = |id: &AuthorityId, state: &State| {
            state.issuing_key(id).is_some_and(|key| key.state == IssuingKeyState::Prepared)
                && state.certificates_of(id).any(|issuing| issuing.is_live(now))
        };
        let held = core.keyring.all().into_iter().filter(|held| !held.is_doomed());
        core.state.read(|state| held.map(|held| held.id.clone()).find(|id| settles(id, state)))
    }

    /// Whether what this node signs with is to be revoked whole, so that another key is wanted at once.
    pub(super) fn is_doomed(&self, lease: &Lease) -> bool {
        lease.held_key.is_doomed()
    }

    /// Has replaced at once, and not when its time has come, what this node signed with a certificate that was revoked
    /// since. Says whether there was one. What stands under a root that was revoked has been replaced when that was tainted,
    /// and is told apart by its root: withdrawn once more, every stream would be sent the same again.
    pub(super) fn withdraw_revoked(&mut self, member: &Result<MemberNumber, NotAMember>) -> bool {
        let Ok(member) = member else { return false };
        let core = &self.arguments.core;
        let revoked: BTreeSet<(AuthorityId, SerialNumber)> = core.state.read(|state| {
            let own = state.issuing_certificates().filter(|issuing| issuing.member == *member);
            let stands = |root: &AuthorityId| state.x509_authority(root).is_some_and(|root| root.state.in_bundle());
            let revoked = own.filter(|issuing| issuing.revoked_at.is_some() && stands(&issuing.issuer));
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
        let Some(key) = self.arguments.core.keyring.get(&recorded.key_id) else { return };
        match Lease::new(recorded, key, self.arguments.core.sources.random_u64()) {
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

/// The certificate to sign with: of those that are good and whose key this process has and may use, one under the root that
/// signs, whose key is not to be revoked, and of these the one that ends last.
fn best_certificate<'a>(
    state: &'a State,
    member: MemberNumber,
    keyring: &Keyring,
    now: UnixMillis,
) -> Option<&'a IssuingCertificate> {
    let under_active = |issuing: &IssuingCertificate| {
        state.x509_authority(&issuing.issuer).is_some_and(|root| root.state == AuthorityState::Active)
    };
    let may_sign = |issuing: &IssuingCertificate| {
        keyring.has(&issuing.key_id)
            && state.issuing_key(&issuing.key_id).is_some_and(|key| key.state == IssuingKeyState::Signing)
    };
    let worth = |issuing: &IssuingCertificate| {
        let is_kept = !keyring.is_doomed(&issuing.key_id);
        (under_active(issuing), is_kept, issuing.validity.not_after(), issuing.recorded_at)
    };
    state
        .issuing_certificates()
        .filter(|issuing| issuing.member == member && issuing.is_live(now.seconds()) && may_sign(issuing))
        .max_by_key(|issuing| worth(issuing))
}
