//! Revocations: record, lift, prune.

use quorate_proto_identity::UnixSeconds;

use crate::authority::gone_at;
use crate::entry::PRUNED_ENTRIES_PER_OPERATION;
use crate::event::Event;
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::revocation::{JTI_LIMIT, NewRevocation, REVOCATIONS_LIMIT, Revocation, RevocationTarget};
use crate::state::State;

impl State {
    /// Records a revocation. From this log index on its bans and token rules hold, and CRLs are handed out (CRL-08).
    pub(super) fn revoke(&mut self, new: &NewRevocation, now: UnixSeconds, events: &mut Vec<Event>) -> OperationResult {
        Ok(Done::Revoked { number: self.make_revocation(new, now, events)? })
    }

    /// Makes and keeps a revocation, and answers its number.
    pub(super) fn make_revocation(
        &mut self,
        new: &NewRevocation,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> Result<u64, Refusal> {
        let NewRevocation { target, reason, ban } = new;
        self.check_target(target, *ban, now)?;
        if self.revocations.len() >= REVOCATIONS_LIMIT {
            return Err(Refusal::new(
                RefusalCode::LimitReached,
                format!(
                    "there are {REVOCATIONS_LIMIT} revocations already: remove bans that are no longer needed, or replace \
                     the authority"
                ),
            ));
        }
        let subject = match target {
            RevocationTarget::Entry(id) => Some(
                self.registry
                    .get(id)
                    .ok_or_else(|| {
                        Refusal::not_found(format!(
                            "no entry has the ID {id}: what was issued for one that is deleted is revoked with its \
                             deletion, or by its SPIFFE ID"
                        ))
                    })?
                    .spiffe_id,
            ),
            RevocationTarget::Serial { .. }
            | RevocationTarget::SpiffeId(_)
            | RevocationTarget::Node(_)
            | RevocationTarget::Jti { .. } => None,
        };
        let mut counters = self.counters();
        let number = counters.next_revocation_number;
        counters.next_revocation_number = number.saturating_add(1);
        self.counters.put((), counters);
        let revocation = Revocation {
            number,
            target: target.clone(),
            subject,
            reason: *reason,
            ban: *ban,
            token_rule: target.is_of_tokens(),
            created_at: now,
            up_to: now,
            expires_at: self.ends_at(target, now),
            certificates_end: target.is_of_certificates().then(|| self.certificates_end(now)),
        };
        self.keep_revocation(revocation, events);
        Ok(number)
    }

    /// Checks what does not depend on how many revocations there are.
    fn check_target(&self, target: &RevocationTarget, ban: bool, now: UnixSeconds) -> Result<(), Refusal> {
        match target {
            RevocationTarget::Serial { .. } if ban => {
                Err(Refusal::invalid("one certificate cannot be banned: ban its SPIFFE ID or its entry"))
            }
            RevocationTarget::Jti { .. } if ban => {
                Err(Refusal::invalid("one token cannot be banned: ban its SPIFFE ID or its entry"))
            }
            RevocationTarget::Serial { .. } | RevocationTarget::Entry(_) => Ok(()),
            RevocationTarget::SpiffeId(id) => {
                let trust_domain = self.trust_domain()?;
                if id.trust_domain() == trust_domain {
                    return Ok(());
                }
                Err(Refusal::invalid(format!("{id} is not of trust domain {trust_domain}, so nothing of it is ours")))
            }
            RevocationTarget::Node(member) => self.known_member(*member).map(drop),
            RevocationTarget::Jti { jti, expires_at } => {
                if !(1..=JTI_LIMIT).contains(&jti.len()) {
                    return Err(Refusal::invalid(format!(
                        "the jti has {} bytes, it must have 1 to {JTI_LIMIT}",
                        jti.len()
                    )));
                }
                if *expires_at < now {
                    return Err(Refusal::wrong_state(format!("the token ended at {expires_at}, it is {now}")));
                }
                Ok(())
            }
        }
    }

    /// When the last certificate or token has ended that can be meant: no leaf outlives its issuing certificate, and no
    /// token its key and the leeway that validators give it.
    fn ends_at(&self, target: &RevocationTarget, now: UnixSeconds) -> UnixSeconds {
        let tokens = || self.jwt_authorities().map(|key| gone_at(&key.validity)).max();
        let certificates = || Some(self.certificates_end(now));
        let end = match target {
            RevocationTarget::Serial { .. } | RevocationTarget::Node(_) => certificates(),
            RevocationTarget::SpiffeId(_) | RevocationTarget::Entry(_) => certificates().max(tokens()),
            RevocationTarget::Jti { expires_at, .. } => tokens().map(|last| last.min(*expires_at)),
        };
        end.map_or(now, |end| end.max(now))
    }

    /// When the last leaf that was issued so far has ended, at the latest.
    fn certificates_end(&self, now: UnixSeconds) -> UnixSeconds {
        self.issuing_certificates().map(|issuing| issuing.validity.not_after()).fold(now, UnixSeconds::max)
    }

    /// Lifts what can be lifted of a revocation; its record stays until it ends.
    pub(super) fn remove_revocation(&mut self, number: u64, events: &mut Vec<Event>) -> OperationResult {
        let known = self
            .revocation(number)
            .ok_or_else(|| Refusal::not_found(format!("there is no revocation {number}")))?
            .clone();
        if !known.ban && !known.token_rule {
            return Err(Refusal::wrong_state(format!(
                "revocation {number} bans nobody and refuses no token: a certificate that is revoked stays revoked"
            )));
        }
        self.revocation_index.remove(&known);
        self.keep_revocation(Revocation { ban: false, token_rule: false, ..known }, events);
        Ok(Done::RevocationRemoved { number })
    }

    /// Removes revocations and revoked leaves whose time, and the hour after it, has passed (CRL-08).
    pub(super) fn prune_revocations(&mut self, now: UnixSeconds, events: &mut Vec<Event>) -> Done {
        let (mut revocations, mut leaves) = (0_u64, 0_u64);
        for _ in 0..PRUNED_ENTRIES_PER_OPERATION {
            if let Some((_, number)) = self.revocation_index.first_end()
                && self.revocation(number).is_some_and(|revocation| revocation.is_prunable(now))
                && let Some(pruned) = self.revocations.remove(&number)
            {
                self.revocation_index.remove(&pruned);
                events.push(Event::RevocationChanged { number });
                revocations = revocations.saturating_add(1);
            } else if let Some((until, issuer, serial)) = self.revocation_index.first_leaf().cloned()
                && now > until
                && let Some(pruned) = self.revoked_leaves.remove(&(issuer.clone(), serial))
            {
                self.revocation_index.remove_leaf(&issuer, &pruned.leaf);
                leaves = leaves.saturating_add(1);
            } else {
                break;
            }
        }
        Done::RevocationsPruned { revocations, leaves, more: self.has_prunable_revocations(now) }
    }

    fn keep_revocation(&mut self, revocation: Revocation, events: &mut Vec<Event>) {
        let number = revocation.number;
        self.revocation_index.add(&revocation);
        self.revocations.put(number, revocation);
        events.push(Event::RevocationChanged { number });
    }
}
