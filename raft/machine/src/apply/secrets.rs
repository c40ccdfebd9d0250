//! Secrets that every member may open: put, seal further, delete.

use quorate_proto_identity::UnixSeconds;

use super::sealing::add_parts;
use crate::authority::{Recipient, Sealed, SealedFor, check_parts};
use crate::event::Event;
use crate::federation::{SECRETS_LIMIT, Secret, SecretName};
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::state::State;

impl State {
    /// Puts a secret under its name, in place of the one that is there.
    pub(super) fn put_secret(
        &mut self,
        name: &SecretName,
        sealed: &Sealed,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        sealed.check(|recipient| self.may_open_secret(name, recipient))?;
        if self.secret(name).is_none() && self.secrets.len() >= SECRETS_LIMIT {
            return Err(Refusal::new(
                RefusalCode::LimitReached,
                format!("there are {SECRETS_LIMIT} secrets already, which is the most"),
            ));
        }
        let revision = self.next_federation_revision();
        self.secrets.put(name.clone(), Secret { name: name.clone(), sealed: sealed.clone(), revision, put_at: now });
        events.push(Event::SecretChanged { name: name.clone() });
        Ok(Done::SecretPut { name: name.clone(), revision })
    }

    /// Erases a secret.
    pub(super) fn delete_secret(&mut self, name: &SecretName, events: &mut Vec<Event>) -> OperationResult {
        self.secrets.remove(name).ok_or_else(|| no_secret(name))?;
        events.push(Event::SecretChanged { name: name.clone() });
        Ok(Done::SecretDeleted { name: name.clone() })
    }

    /// Seals a secret to further recipients. Another can have been put since it was opened for that, and whoever got a
    /// part of the former one would keep it.
    pub(super) fn seal_secret(
        &mut self,
        name: &SecretName,
        revision: u64,
        parts: &[SealedFor],
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let mut secret = self.secret(name).ok_or_else(|| no_secret(name))?.clone();
        if secret.revision != revision {
            return Err(Refusal::new(
                RefusalCode::Conflict,
                format!(
                    "the secret {name} was put anew meanwhile: it has revision {}, not {revision}",
                    secret.revision
                ),
            ));
        }
        check_parts(parts, |recipient| self.may_open_secret(name, recipient))?;
        let added = add_parts(&format!("secret {name}"), Some(&mut secret.sealed), parts)?;
        if added > 0 {
            self.secrets.put(name.clone(), secret);
            events.push(Event::SecretChanged { name: name.clone() });
        }
        Ok(Done::SecretSealed { name: name.clone(), added })
    }

    /// A secret may be sealed to whom token keys are: every member that is there, and the recovery key (INV-11).
    pub(super) fn may_open_secret(&self, name: &SecretName, recipient: &Recipient) -> Result<(), Refusal> {
        let may = match recipient {
            Recipient::Member(number) => self.member(*number).is_some_and(crate::members::Member::is_sealable),
            Recipient::RecoveryKey(id) => self.recovery_key().is_some_and(|known| known.id == *id),
        };
        if may {
            return Ok(());
        }
        Err(Refusal::invalid(format!("the secret {name} is sealed to {recipient}, which may not open it")))
    }
}

fn no_secret(name: &SecretName) -> Refusal {
    Refusal::not_found(format!("there is no secret {name}"))
}
