//! State and command in; outcome and events out.
//!
//! `apply` is a pure function: it asks no clock, draws no random number and reads nothing but its arguments, so that
//! every member that applies the same commands holds the same state (design section 2, property 8).

mod access;
mod admission;
mod audit;
mod authorities;
mod certificates;
mod cluster;
mod crls;
mod entries;
pub(crate) mod federation;
mod found;
mod issuing;
mod members;
mod policy;
mod removal;
mod restore;
mod revocations;
mod sealing;
mod secrets;
mod web;

use std::sync::Arc;

use quorate_proto_identity::UnixSeconds;

use crate::audit::AuditAnchor;
use crate::authority::AuthorityState;
use crate::bundle::{BundleContent, BundleJwtAuthority, BundleX509Authority};
use crate::command::{Command, Operation};
use crate::event::Event;
use crate::hash::StateHash;
use crate::origins::Seen;
use crate::outcome::{Done, OperationResult, Outcome, Refusal, RefusalCode};
use crate::state::State;

impl State {
    /// Applies one command: carries out each of its operations, or refuses it, and keeps the outcome for a repeat.
    ///
    /// A refusal is a result that every member comes to. Events go to the end of `events`, in the order of what
    /// happened; a repeat of a command makes none. `log_index` is that of the log entry that carried the command.
    pub fn apply(&mut self, log_index: u64, command: &Command, events: &mut Vec<Event>) -> Outcome {
        if let Some(outcome) = self.earlier_outcome(command) {
            return outcome;
        }
        let mut counters = self.counters();
        counters.time = counters.time.max(command.time);
        self.counters.put((), counters);
        let now = counters.time.seconds();
        let scopes = self.registry.topology();
        let published = self.published();
        let first_event = events.len();
        let results = command.operations.iter().map(|operation| self.apply_operation(operation, now, events)).collect();
        if !Arc::ptr_eq(&scopes, &self.registry.topology()) {
            events.push(Event::ScopesChanged);
        }
        if self.published() != published {
            self.renew_bundle(events);
        }
        self.renew_crl_set(first_event, events);
        let outcome = Outcome { results };
        self.origins.keep(&command.origin, log_index, &outcome);
        outcome
    }

    /// Whether a command was, or may have been, carried out before: [`apply`](Self::apply) does nothing then but answer as
    /// it did the first time.
    #[must_use]
    pub fn is_repeat(&self, command: &Command) -> bool {
        self.earlier_outcome(command).is_some()
    }

    /// What a command gets that was, or may have been, carried out before.
    #[cfg(not(feature = "planted-no-idempotence"))]
    fn earlier_outcome(&self, command: &Command) -> Option<Outcome> {
        match self.origins.look_up(&command.origin) {
            Seen::Before(outcome) => Some(outcome),
            Seen::Forgotten => Some(forgotten(command)),
            Seen::Never => None,
        }
    }

    /// Planted bug: a command that is sent again is carried out again.
    #[cfg(feature = "planted-no-idempotence")]
    fn earlier_outcome(&self, command: &Command) -> Option<Outcome> {
        match self.origins.look_up(&command.origin) {
            Seen::Forgotten => Some(forgotten(command)),
            Seen::Before(_) | Seen::Never => None,
        }
    }

    fn apply_operation(&mut self, operation: &Operation, now: UnixSeconds, events: &mut Vec<Event>) -> OperationResult {
        if let Operation::Found(found) = operation {
            return self.found(found, now, events);
        }
        if self.cluster().is_none() {
            return Err(Refusal::new(RefusalCode::NotFounded, "the authority has not been founded yet"));
        }
        match operation {
            // Handled above; a second founding is refused there.
            Operation::Found(found) => self.found(found, now, events),
            Operation::CreateEntry(draft) => self.create_entry(draft, now, events),
            Operation::UpdateEntry { id, change } => self.update_entry(id, change, events),
            Operation::DeleteEntry { id, revoke } => self.delete_entry(id, *revoke, now, events),
            Operation::PruneExpiredEntries => Ok(self.prune_expired_entries(now, events)),
            Operation::SetPolicy { policy, expected_revision } => self.set_policy(*policy, *expected_revision, events),
            Operation::PrepareX509Authority(new) => self.prepare_x509(new, now, events),
            Operation::ActivateX509Authority { id, issuing_certificates } => {
                self.activate_x509(id, issuing_certificates, now, events)
            }
            Operation::PrepareJwtAuthority(new) => self.prepare_jwt(new, now, events),
            Operation::ActivateJwtAuthority { id } => self.activate_jwt(id, now, events),
            Operation::TaintX509Authority { id } => self.step_x509(id, AuthorityState::Tainted, now, events),
            Operation::TaintJwtAuthority { id } => self.step_jwt(id, AuthorityState::Tainted, now, events),
            Operation::RevokeX509Authority { id } => self.revoke_x509(id, now, events),
            Operation::RevokeJwtAuthority { id } => self.step_jwt(id, AuthorityState::Revoked, now, events),
            Operation::PruneAuthorities => Ok(self.prune_authorities(now, events)),
            Operation::RecordIssuingCertificate(new) => self.record_issuing_certificate(new, now, events),
            Operation::RevokeIssuingCertificate { member, serial } => {
                self.revoke_issuing_certificates(*member, *serial, now, events)
            }
            Operation::SetMember { number, member } => self.set_member(*number, member, events),
            Operation::CreateInvitation(new) => self.create_invitation(new, now, events),
            Operation::DeleteInvitation { name } => self.delete_invitation(name, events),
            Operation::AdmitMember(admission) => self.admit_member(admission, now, events),
            Operation::AnnounceMember { number, addresses, version, build, serves } => {
                self.announce_member(*number, addresses, *version, build, serves, events)
            }
            Operation::SetMemberRole { number, role, pinned } => self.set_member_role(*number, *role, *pinned, events),
            Operation::RemoveMember { number, compromised } => self.remove_member(*number, *compromised, now, events),
            Operation::CompleteRemoval { number } => self.complete_removal(*number, events),
            Operation::SealX509Authority { id, parts } => self.seal_x509(id, parts, events),
            Operation::SealJwtAuthority { id, parts } => self.seal_jwt(id, parts, events),
            Operation::StripSeals { number } => self.strip_seals(*number, events),
            Operation::SetRecoveryKey { public_key } => self.set_recovery_key(public_key.as_ref(), now, events),
            Operation::SetPlan(plan) => self.set_plan(*plan, events),
            Operation::RaiseEpoch => self.raise_epoch(events),
            Operation::RaiseVersion { version } => self.raise_version(*version, events),
            Operation::ResetTime { time } => self.reset_time(*time, events),
            Operation::Revoke(new) => self.revoke(new, now, events),
            Operation::RemoveRevocation { number } => self.remove_revocation(*number, events),
            Operation::RecordCrl(new) => self.record_crl(new, now, events),
            Operation::ActivateIssuingKey { key } => self.activate_issuing_key(key, now, events),
            Operation::RevokeIssuingKeys { keys, reason: _, root_crls } => {
                self.revoke_issuing_keys(keys, root_crls, now, events)
            }
            Operation::PruneRevocations => Ok(self.prune_revocations(now, events)),
            Operation::MarkAuthority { kind, id, compromised } => {
                self.mark_authority(*kind, id, *compromised, now, events)
            }
            Operation::MarkPublished { kind, id, confirmed } => self.mark_published(*kind, id, *confirmed, now, events),
            Operation::AnchorAudit { member, records, index, hash } => self.anchor_audit(AuditAnchor {
                member: *member,
                records: *records,
                index: *index,
                hash: *hash,
                recorded_at: now,
            }),
            Operation::Restore(restore) => self.restore(restore, now, events),
            Operation::CreateRelationship(new) => self.create_relationship(new, now, events),
            Operation::UpdateRelationship { trust_domain, change, expected_revision } => {
                self.update_relationship(trust_domain, change, *expected_revision, now, events)
            }
            Operation::DeleteRelationship { trust_domain } => self.delete_relationship(trust_domain, events),
            Operation::SetForeignBundle(new) => self.set_foreign_bundle(new, now, events),
            Operation::DeleteForeignBundle { trust_domain, mode } => {
                self.delete_foreign_bundle(trust_domain, *mode, now, events)
            }
            Operation::PutSecret { name, sealed } => self.put_secret(name, sealed, now, events),
            Operation::DeleteSecret { name } => self.delete_secret(name, events),
            Operation::SealSecret { name, revision, parts } => self.seal_secret(name, *revision, parts, events),
            Operation::SetAcme { settings, expected_revision } => {
                self.set_acme(settings.as_deref(), *expected_revision, now, events)
            }
            Operation::RequestWebCertificate { domain } => self.request_web_certificate(domain, now, events),
            Operation::BeginWebOrder { domain, url, directory, key } => {
                self.begin_web_order(domain, url, directory, key, now, events)
            }
            Operation::SetWebChallenge { domain, order, challenge } => {
                self.set_web_challenge(domain, order, challenge, events)
            }
            Operation::RecordWebCertificate(new) => self.record_web_certificate(new, now, events),
            Operation::FailWebOrder { domain, order, reason } => {
                self.fail_web_order(domain, order.as_deref(), reason, now, events)
            }
            Operation::SetOidc { settings, expected_revision } => {
                self.set_oidc(settings.as_deref(), *expected_revision, now, events)
            }
            Operation::CreateApiKey(new) => self.create_api_key(new, now, events),
            Operation::RotateApiKey(rotation) => self.rotate_api_key(rotation, now, events),
            Operation::DeleteApiKey { id } => self.delete_api_key(id, events),
            Operation::SetAccessRule { peer, rule, expected_revision } => {
                self.set_access_rule(peer.as_ref(), rule.as_deref(), *expected_revision, now, events)
            }
            Operation::SetAccessSettings { anonymous_endpoint } => {
                self.set_access_settings(*anonymous_endpoint, events)
            }
        }
    }

    /// A value that changes whenever anything that the bundle follows from does.
    fn published(&self) -> [StateHash; 3] {
        [self.x509.hash(), self.jwt.hash(), self.policy.hash()]
    }

    /// Makes the bundle anew and, if it says something else now, counts `spiffe_sequence` up by one.
    fn renew_bundle(&mut self, events: &mut Vec<Event>) {
        let mut content = self.bundle_content();
        if content.same_content(&self.bundle) {
            return;
        }
        let mut counters = self.counters();
        counters.spiffe_sequence = counters.spiffe_sequence.saturating_add(1);
        content.sequence = counters.spiffe_sequence;
        self.counters.put((), counters);
        self.bundle = Arc::new(content);
        events.push(Event::BundleChanged { sequence: counters.spiffe_sequence });
    }

    /// The bundle that follows from authorities and policy, under the sequence number of the state.
    pub(crate) fn bundle_content(&self) -> BundleContent {
        BundleContent {
            x509_authorities: self
                .x509_authorities()
                .filter(|root| root.state.in_bundle())
                .map(|root| BundleX509Authority {
                    id: root.id.clone(),
                    certificate: root.certificate.clone(),
                    tainted: root.state == AuthorityState::Tainted,
                })
                .collect(),
            jwt_authorities: self
                .jwt_authorities()
                .filter(|key| key.state.in_bundle())
                .map(|key| BundleJwtAuthority {
                    id: key.id.clone(),
                    public_key: key.public_key.clone(),
                    expires_at: key.validity.not_after(),
                    tainted: key.state == AuthorityState::Tainted,
                })
                .collect(),
            refresh_hint: self.policy().map_or(0, |policy| policy.refresh_hint),
            sequence: self.counters().spiffe_sequence,
        }
    }
}

/// What a command gets whose outcome is not known any more.
fn forgotten(command: &Command) -> Outcome {
    let refusal = Refusal::new(
        RefusalCode::OutcomeForgotten,
        "the outcome of this command is no longer kept: read the state to see whether it was carried out before",
    );
    Outcome { results: command.operations.iter().map(|_| Err::<Done, _>(refusal.clone())).collect() }
}
