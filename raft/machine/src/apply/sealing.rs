//! Seals: who may open an authority's key, and recipients that come and go (design section 3, sealing).

use bytes::Bytes;
use quorate_proto_identity::{AuthorityId, MemberNumber, UnixSeconds};

use super::authorities::unknown;
use crate::authority::{
    AuthorityKind, Recipient, SEALED_RECIPIENTS_LIMIT, SEALED_TOTAL_LIMIT, Sealed, SealedFor, check_parts,
};
use crate::event::Event;
use crate::members::{MEMBER_KEY_LIMIT, Member};
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::recovery::RecoveryKey;
use crate::state::State;

impl State {
    /// Whether a key of this kind may be sealed to this recipient: root keys to members that are to be voters, token
    /// keys to every member, both to the recovery key. One that leaves or has gone gets nothing (INV-11).
    pub(super) fn may_open(&self, kind: AuthorityKind, recipient: &Recipient) -> Result<(), Refusal> {
        let refused = |why: &str| {
            Err(Refusal::invalid(format!("the private key of a {} is sealed to {recipient}, {why}", kind.name())))
        };
        match recipient {
            Recipient::Member(number) => match (self.member(*number), kind) {
                (Some(member), AuthorityKind::X509) if member.is_sealable() && !member.may_open_roots() => {
                    refused("which is not to be a voter")
                }
                (Some(member), _) if member.is_sealable() => Ok(()),
                (Some(member), _) if member.record.status.is_admitted() => refused("which has not joined yet"),
                (Some(member), _) => refused(&format!("which is {}", member.record.status.name())),
                (None, _) => refused("which is no member"),
            },
            Recipient::RecoveryKey(id) => match self.recovery_key() {
                Some(known) if known.id == *id => Ok(()),
                Some(known) => refused(&format!("but the recovery key is {}", known.id)),
                None => refused("but no recovery key is set"),
            },
        }
    }

    /// Whether a member that is admitted can open a key.
    pub(crate) fn is_openable(&self, sealed: Option<&Sealed>) -> bool {
        let opens = |recipient: &Recipient| match recipient {
            Recipient::Member(number) => self.member(*number).is_some_and(Member::is_sealable),
            Recipient::RecoveryKey(_) => false,
        };
        sealed.is_some_and(|sealed| sealed.parts.iter().any(|part| opens(&part.recipient)))
    }

    /// Refuses to let an authority sign that no member can open.
    pub(super) fn check_openable(
        &self,
        kind: AuthorityKind,
        id: &AuthorityId,
        sealed: Option<&Sealed>,
    ) -> Result<(), Refusal> {
        if self.is_openable(sealed) {
            return Ok(());
        }
        Err(Refusal::wrong_state(format!(
            "no member can open the private key of {} {id}: prepare another",
            kind.name()
        )))
    }

    /// Seals a root to further recipients.
    pub(super) fn seal_x509(
        &mut self,
        id: &AuthorityId,
        parts: &[SealedFor],
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let kind = AuthorityKind::X509;
        let mut root = self.x509_authority(id).ok_or_else(|| unknown(kind, id))?.clone();
        check_parts(parts, |recipient| self.may_open(kind, recipient))?;
        let added = add_parts(&named(kind, id), root.sealed.as_mut(), parts)?;
        if added > 0 {
            self.x509.put(id.clone(), root);
            events.push(Event::X509AuthorityChanged { id: id.clone() });
        }
        Ok(Done::AuthoritySealed { kind, id: id.clone(), added })
    }

    /// Seals a token key to further recipients.
    pub(super) fn seal_jwt(
        &mut self,
        id: &AuthorityId,
        parts: &[SealedFor],
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let kind = AuthorityKind::Jwt;
        let mut key = self.jwt_authority(id).ok_or_else(|| unknown(kind, id))?.clone();
        check_parts(parts, |recipient| self.may_open(kind, recipient))?;
        let added = add_parts(&named(kind, id), key.sealed.as_mut(), parts)?;
        if added > 0 {
            self.jwt.put(id.clone(), key);
            events.push(Event::JwtAuthorityChanged { id: id.clone() });
        }
        Ok(Done::AuthoritySealed { kind, id: id.clone(), added })
    }

    /// Takes away what a member may not open by its record.
    pub(super) fn strip_seals(&mut self, number: MemberNumber, events: &mut Vec<Event>) -> OperationResult {
        let known = self.known_member(number)?;
        let roots = !known.may_open_roots();
        let keys = known.record.status.has_gone();
        if roots {
            self.check_root_strippable(number)?;
        }
        let count = self.strip(number, roots, keys, events);
        Ok(Done::SealsStripped { number, count })
    }

    /// Refuses to make the keys that sign unopenable by taking this member's seals.
    pub(crate) fn check_strippable(&self, number: MemberNumber) -> Result<(), Refusal> {
        self.check_root_strippable(number)?;
        let key = self.active_jwt_authority().map(|key| (&key.id, key.sealed.as_ref()));
        self.check_another_opens(AuthorityKind::Jwt, number, key)
    }

    /// Refuses to make the root that signs unopenable by taking this member's seals.
    pub(crate) fn check_root_strippable(&self, number: MemberNumber) -> Result<(), Refusal> {
        let root = self.active_x509_authority().map(|root| (&root.id, root.sealed.as_ref()));
        self.check_another_opens(AuthorityKind::X509, number, root)
    }

    fn check_another_opens(
        &self,
        kind: AuthorityKind,
        number: MemberNumber,
        active: Option<(&AuthorityId, Option<&Sealed>)>,
    ) -> Result<(), Refusal> {
        let Some((id, Some(sealed))) = active else {
            return Ok(());
        };
        let own = Recipient::Member(number);
        let others = Sealed {
            suite: sealed.suite,
            parts: sealed.parts.iter().filter(|part| part.recipient != own).cloned().collect(),
        };
        if sealed.part_for(&own).is_none() || self.is_openable(Some(&others)) {
            return Ok(());
        }
        Err(Refusal::wrong_state(format!(
            "{} {id} signs, and nobody but member {number} could open it: seal it to another member, or replace it, first",
            kind.name()
        )))
    }

    /// Erases a member's parts of every root, of every token key and secret, or of both; answers how many there were.
    pub(super) fn strip(&mut self, number: MemberNumber, roots: bool, keys: bool, events: &mut Vec<Event>) -> u64 {
        let own = Recipient::Member(number);
        let is_root = |kind| matches!(kind, AuthorityKind::X509);
        self.erase_parts(|kind, recipient| *recipient == own && if is_root(kind) { roots } else { keys }, events)
    }

    /// Sets the recovery key or takes it away, and erases what was sealed to another one. Existing keys are sealed to it
    /// by the leader.
    pub(super) fn set_recovery_key(
        &mut self,
        public_key: Option<&Bytes>,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        if let Some(key) = public_key
            && !(1..=MEMBER_KEY_LIMIT).contains(&key.len())
        {
            return Err(Refusal::invalid(format!(
                "the recovery key has {} bytes, it must have 1 to {MEMBER_KEY_LIMIT}",
                key.len()
            )));
        }
        let new = public_key.map(|key| RecoveryKey::new(key.clone(), now));
        let id = new.as_ref().map(|key| key.id.clone());
        if self.recovery_key().map(|known| &known.public_key) == public_key {
            return Ok(Done::RecoveryKeySet { id });
        }
        let kept = id.clone();
        self.erase_parts(
            |_kind, recipient| match recipient {
                Recipient::RecoveryKey(of) => Some(of) != kept.as_ref(),
                Recipient::Member(_) => false,
            },
            events,
        );
        match new {
            Some(key) => self.recovery_key.put((), key),
            None => drop(self.recovery_key.remove(&())),
        }
        events.push(Event::RecoveryKeyChanged);
        Ok(Done::RecoveryKeySet { id })
    }

    /// Erases the parts that the condition picks, and answers how many.
    fn erase_parts(&mut self, picks: impl Fn(AuthorityKind, &Recipient) -> bool, events: &mut Vec<Event>) -> u64 {
        let mut erased = 0_u64;
        let mut erase = |kind, sealed: Option<&mut Sealed>| {
            let Some(sealed) = sealed else {
                return false;
            };
            let before = sealed.parts.len();
            sealed.parts.retain(|part| !picks(kind, &part.recipient));
            let gone = before.saturating_sub(sealed.parts.len());
            erased = erased.saturating_add(u64::try_from(gone).unwrap_or(u64::MAX));
            gone > 0
        };
        let mut roots = self.x509_authorities().cloned().collect::<Vec<_>>();
        roots.retain_mut(|root| erase(AuthorityKind::X509, root.sealed.as_mut()));
        let mut keys = self.jwt_authorities().cloned().collect::<Vec<_>>();
        keys.retain_mut(|key| erase(AuthorityKind::Jwt, key.sealed.as_mut()));
        // Secrets are sealed to whom token keys are.
        let mut secrets = self.secrets().cloned().collect::<Vec<_>>();
        secrets.retain_mut(|secret| erase(AuthorityKind::Jwt, Some(&mut secret.sealed)));
        for root in roots {
            events.push(Event::X509AuthorityChanged { id: root.id.clone() });
            self.x509.put(root.id.clone(), root);
        }
        for key in keys {
            events.push(Event::JwtAuthorityChanged { id: key.id.clone() });
            self.jwt.put(key.id.clone(), key);
        }
        for secret in secrets {
            events.push(Event::SecretChanged { name: secret.name.clone() });
            self.secrets.put(secret.name.clone(), secret);
        }
        erased
    }
}

fn named(kind: AuthorityKind, id: &AuthorityId) -> String {
    format!("{} {id}", kind.name())
}

/// Adds the parts whose recipients have none, and answers how many. `what` is the key or secret, for refusals.
pub(super) fn add_parts(what: &str, sealed: Option<&mut Sealed>, parts: &[SealedFor]) -> Result<u64, Refusal> {
    let Some(sealed) = sealed else {
        return Err(Refusal::wrong_state(format!("the private key of {what} is erased: it is out of use")));
    };
    let mut added = 0_u64;
    let mut bytes = sealed.parts.iter().map(SealedFor::bytes).fold(0, usize::saturating_add);
    for part in parts {
        if sealed.part_for(&part.recipient).is_some() {
            continue;
        }
        bytes = bytes.saturating_add(part.bytes());
        if bytes > SEALED_TOTAL_LIMIT {
            return Err(Refusal::new(
                RefusalCode::LimitReached,
                format!("the seals of {what} would have more than {SEALED_TOTAL_LIMIT} bytes"),
            ));
        }
        if sealed.parts.len() >= SEALED_RECIPIENTS_LIMIT {
            return Err(Refusal::new(
                RefusalCode::LimitReached,
                format!("{what} is sealed to {SEALED_RECIPIENTS_LIMIT} recipients, which is the most"),
            ));
        }
        sealed.parts.push(part.clone());
        added = added.saturating_add(1);
    }
    Ok(added)
}
