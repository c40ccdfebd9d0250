//! Steps of the life cycle of X.509 and JWT authorities (design section 3).

use quorate_proto_identity::{AuthorityId, UnixSeconds};

use super::certificates;
use crate::authority::{AUTHORITIES_LIMIT, AuthorityKind, AuthorityState, AuthorityTimes, JwtAuthority, X509Authority};
use crate::command::{NewIssuingCertificate, NewJwtAuthority, NewX509Authority};
use crate::event::Event;
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::policy::{Policy, Publication};
use crate::state::State;

impl State {
    /// Adds a root that does not sign yet.
    pub(super) fn prepare_x509(
        &mut self,
        new: &NewX509Authority,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        new.sealed.check(|recipient| self.may_open(AuthorityKind::X509, recipient))?;
        let root = certificates::check_root(new, &self.checked_policy()?, &self.trust_domain()?)?;
        let usable = |root: &X509Authority| now <= root.validity.not_after() && self.is_openable(root.sealed.as_ref());
        let known = self.x509_authorities().map(|root| (&root.id, root.state, usable(root)));
        let expired = check_prepare(AuthorityKind::X509, &root.id, known)?;
        self.check_succeeds(AuthorityKind::X509, new.succeeds.as_ref())?;
        if let Some(expired) = expired {
            self.x509.remove(&expired);
            events.push(Event::X509AuthorityChanged { id: expired });
        }
        self.x509.put(
            root.id.clone(),
            X509Authority {
                id: root.id.clone(),
                certificate: new.certificate.clone(),
                crl: new.crl.clone(),
                crl_keeps_until: None,
                validity: root.validity,
                state: AuthorityState::Prepared,
                times: AuthorityTimes { prepared_at: now, ..AuthorityTimes::default() },
                sealed: Some(new.sealed.clone()),
            },
        );
        events.push(Event::X509AuthorityChanged { id: root.id.clone() });
        Ok(Done::AuthorityMoved { kind: AuthorityKind::X509, id: root.id, state: AuthorityState::Prepared })
    }

    /// Adds a token key that does not sign yet.
    pub(super) fn prepare_jwt(
        &mut self,
        new: &NewJwtAuthority,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        new.sealed.check(|recipient| self.may_open(AuthorityKind::Jwt, recipient))?;
        certificates::check_jwt_key(new, &self.checked_policy()?)?;
        let usable = |key: &JwtAuthority| now <= key.validity.not_after() && self.is_openable(key.sealed.as_ref());
        let known = self.jwt_authorities().map(|key| (&key.id, key.state, usable(key)));
        let expired = check_prepare(AuthorityKind::Jwt, &new.id, known)?;
        self.check_succeeds(AuthorityKind::Jwt, new.succeeds.as_ref())?;
        if let Some(expired) = expired {
            self.jwt.remove(&expired);
            events.push(Event::JwtAuthorityChanged { id: expired });
        }
        self.jwt.put(
            new.id.clone(),
            JwtAuthority {
                id: new.id.clone(),
                public_key: new.public_key.clone(),
                validity: new.validity,
                state: AuthorityState::Prepared,
                times: AuthorityTimes { prepared_at: now, ..AuthorityTimes::default() },
                sealed: Some(new.sealed.clone()),
            },
        );
        events.push(Event::JwtAuthorityChanged { id: new.id.clone() });
        Ok(Done::AuthorityMoved { kind: AuthorityKind::Jwt, id: new.id.clone(), state: AuthorityState::Prepared })
    }

    /// Checks that the authority which a new one is to succeed is still the active one.
    fn check_succeeds(&self, kind: AuthorityKind, succeeds: Option<&AuthorityId>) -> Result<(), Refusal> {
        let Some(succeeds) = succeeds else { return Ok(()) };
        let active = self.active_authority(kind).map(|active| active.id);
        if active.as_ref() == Some(succeeds) {
            return Ok(());
        }
        let name = kind.name();
        let now_active = active.map_or_else(|| "none is".to_owned(), |active| format!("{active} is"));
        Err(Refusal::wrong_state(format!(
            "this {name} was made to succeed {succeeds}, which is not active any more ({now_active}): see whether another \
             one is wanted"
        )))
    }

    /// Lets a prepared root sign, and records an issuing certificate under it for each live member in the same step.
    /// One that is not in order refuses the whole step: a member left behind would have to stop.
    pub(super) fn activate_x509(
        &mut self,
        id: &AuthorityId,
        issuing: &[NewIssuingCertificate],
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let mut root = self.x509_authority(id).ok_or_else(|| unknown(AuthorityKind::X509, id))?.clone();
        check_step(AuthorityKind::X509, id, root.state, AuthorityState::Active)?;
        check_unexpired(AuthorityKind::X509, id, root.validity.not_after(), now)?;
        self.check_openable(AuthorityKind::X509, id, root.sealed.as_ref())?;
        let mut checked = Vec::with_capacity(issuing.len());
        for new in issuing {
            checked.push(self.check_issuing_certificate(new, &root, now)?);
        }
        certificates::check_distinct(&checked)?;
        self.check_issuing_room(&checked, now)?;
        if let Some(former) = self.active_x509_authority().map(|active| active.id.clone()) {
            self.step_x509(&former, AuthorityState::Old, now, events)?;
        }
        root.state = AuthorityState::Active;
        root.times.note(AuthorityState::Active, now);
        self.x509.put(id.clone(), root);
        events.push(Event::X509AuthorityChanged { id: id.clone() });
        for issuing in checked {
            self.record_checked(issuing, now, events);
        }
        Ok(Done::AuthorityMoved { kind: AuthorityKind::X509, id: id.clone(), state: AuthorityState::Active })
    }

    /// Lets a prepared token key sign.
    pub(super) fn activate_jwt(
        &mut self,
        id: &AuthorityId,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let key = self.jwt_authority(id).ok_or_else(|| unknown(AuthorityKind::Jwt, id))?;
        check_step(AuthorityKind::Jwt, id, key.state, AuthorityState::Active)?;
        check_unexpired(AuthorityKind::Jwt, id, key.validity.not_after(), now)?;
        self.check_openable(AuthorityKind::Jwt, id, key.sealed.as_ref())?;
        if let Some(former) = self.active_jwt_authority().map(|active| active.id.clone()) {
            self.step_jwt(&former, AuthorityState::Old, now, events)?;
        }
        self.step_jwt(id, AuthorityState::Active, now, events)
    }

    /// One step of a root, with what it erases.
    pub(super) fn step_x509(
        &mut self,
        id: &AuthorityId,
        next: AuthorityState,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let mut root = self.x509_authority(id).ok_or_else(|| unknown(AuthorityKind::X509, id))?.clone();
        check_step(AuthorityKind::X509, id, root.state, next)?;
        root.state = next;
        root.times.note(next, now);
        if !next.keeps_x509_key() {
            root.sealed = None;
        }
        self.x509.put(id.clone(), root);
        events.push(Event::X509AuthorityChanged { id: id.clone() });
        Ok(Done::AuthorityMoved { kind: AuthorityKind::X509, id: id.clone(), state: next })
    }

    /// One step of a token key, with what it erases.
    pub(super) fn step_jwt(
        &mut self,
        id: &AuthorityId,
        next: AuthorityState,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let mut key = self.jwt_authority(id).ok_or_else(|| unknown(AuthorityKind::Jwt, id))?.clone();
        check_step(AuthorityKind::Jwt, id, key.state, next)?;
        key.state = next;
        key.times.note(next, now);
        if !next.keeps_jwt_key() {
            key.sealed = None;
        }
        self.jwt.put(id.clone(), key);
        events.push(Event::JwtAuthorityChanged { id: id.clone() });
        Ok(Done::AuthorityMoved { kind: AuthorityKind::Jwt, id: id.clone(), state: next })
    }

    /// Takes a tainted root out of the bundle. What it signed verifies nowhere any more, so its issuing certificates
    /// are revoked in the same step, and no member counts as live because of one.
    pub(super) fn revoke_x509(
        &mut self,
        id: &AuthorityId,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let done = self.step_x509(id, AuthorityState::Revoked, now, events)?;
        self.revoke_where(now, events, |issuing| issuing.issuer == *id);
        Ok(done)
    }

    /// Removes what has ended. An active authority stays until another takes its place, expired or not:
    /// there is always one to rotate from.
    pub(super) fn prune_authorities(&mut self, now: UnixSeconds, events: &mut Vec<Event>) -> Done {
        let stale_roots: Vec<AuthorityId> =
            self.x509_authorities().filter(|root| root.is_prunable(now)).map(|root| root.id.clone()).collect();
        let stale_keys: Vec<AuthorityId> =
            self.jwt_authorities().filter(|key| key.is_prunable(now)).map(|key| key.id.clone()).collect();
        let (x509, jwt) = (count(&stale_roots), count(&stale_keys));
        for id in stale_roots {
            self.x509.remove(&id);
            events.push(Event::X509AuthorityChanged { id });
        }
        for id in stale_keys {
            self.jwt.remove(&id);
            events.push(Event::JwtAuthorityChanged { id });
        }
        self.prune_invitations(now, events);
        let issuing = self.prune_issuing_certificates(now, events);
        Done::AuthoritiesPruned { x509, jwt, issuing }
    }

    /// Notes that an authority that signs, or is about to, is to be replaced. Said twice it changes nothing; what was to be
    /// replaced may turn out to be compromised.
    pub(super) fn mark_authority(
        &mut self,
        kind: AuthorityKind,
        id: &AuthorityId,
        compromised: bool,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let mark = |state: AuthorityState, times: &mut AuthorityTimes| {
            if !matches!(state, AuthorityState::Prepared | AuthorityState::Active) {
                return Err(Refusal::wrong_state(format!(
                    "{} {id} is {}: only one that signs, or is about to, is replaced",
                    kind.name(),
                    state.name()
                )));
            }
            let at = if compromised { &mut times.suspected_at } else { &mut times.replace_at };
            Ok(at.is_none() && at.replace(now).is_none())
        };
        match kind {
            AuthorityKind::X509 => {
                let mut root = self.x509_authority(id).ok_or_else(|| unknown(kind, id))?.clone();
                if mark(root.state, &mut root.times)? {
                    self.x509.put(id.clone(), root);
                    events.push(Event::X509AuthorityChanged { id: id.clone() });
                }
            }
            AuthorityKind::Jwt => {
                let mut key = self.jwt_authority(id).ok_or_else(|| unknown(kind, id))?.clone();
                if mark(key.state, &mut key.times)? {
                    self.jwt.put(id.clone(), key);
                    events.push(Event::JwtAuthorityChanged { id: id.clone() });
                }
            }
        }
        Ok(Done::AuthorityMarked { kind, id: id.clone() })
    }

    /// Notes that every live member serves an authority that is prepared, or that every known peer has it in force. The
    /// first time counts, so that a leader that says it again takes no time from readers and gives them none.
    pub(super) fn mark_published(
        &mut self,
        kind: AuthorityKind,
        id: &AuthorityId,
        confirmed: bool,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        if confirmed && self.checked_policy()?.publication != Publication::ConfirmedByPeers {
            return Err(Refusal::wrong_state(
                "the policy has readers of the bundle keep their time, whatever peers confirm (publication)",
            ));
        }
        let mark = |state: AuthorityState, times: &mut AuthorityTimes| {
            if state != AuthorityState::Prepared {
                return Err(Refusal::wrong_state(format!(
                    "{} {id} is {}, and not prepared",
                    kind.name(),
                    state.name()
                )));
            }
            if confirmed && times.published_at.is_none() {
                return Err(Refusal::wrong_state(format!("{} {id} is not published yet", kind.name())));
            }
            let at = if confirmed { &mut times.confirmed_at } else { &mut times.published_at };
            Ok(at.is_none() && at.replace(now).is_none())
        };
        match kind {
            AuthorityKind::X509 => {
                let mut root = self.x509_authority(id).ok_or_else(|| unknown(kind, id))?.clone();
                if mark(root.state, &mut root.times)? {
                    self.x509.put(id.clone(), root);
                    events.push(Event::X509AuthorityChanged { id: id.clone() });
                }
            }
            AuthorityKind::Jwt => {
                let mut key = self.jwt_authority(id).ok_or_else(|| unknown(kind, id))?.clone();
                if mark(key.state, &mut key.times)? {
                    self.jwt.put(id.clone(), key);
                    events.push(Event::JwtAuthorityChanged { id: id.clone() });
                }
            }
        }
        Ok(Done::AuthorityPublished { kind, id: id.clone(), confirmed })
    }

    pub(super) fn checked_policy(&self) -> Result<Policy, Refusal> {
        self.policy()
            .copied()
            .ok_or_else(|| Refusal::new(RefusalCode::NotFounded, "the authority has not been founded yet"))
    }

    pub(super) fn is_admitted(&self, number: quorate_proto_identity::MemberNumber) -> bool {
        self.member(number).is_some_and(|member| member.record.status.is_admitted())
    }
}

/// Checks that another authority may be prepared, and answers the prepared one that can never be activated, if any: it
/// expired unused, or no member can open it, and makes way. A usable one refuses the step, so that a change of leader
/// never prepares two.
fn check_prepare<'a>(
    kind: AuthorityKind,
    id: &AuthorityId,
    known: impl Iterator<Item = (&'a AuthorityId, AuthorityState, bool)>,
) -> Result<Option<AuthorityId>, Refusal> {
    let mut expired = None;
    let mut count = 0_usize;
    for (known, state, is_usable) in known {
        count = count.saturating_add(1);
        if known == id {
            return Err(Refusal::new(
                RefusalCode::AlreadyExists,
                format!("{} {id} is known already, and {}", kind.name(), state.name()),
            ));
        }
        if state == AuthorityState::Prepared && is_usable {
            return Err(Refusal::wrong_state(format!("{} {known} is prepared already: activate it", kind.name())));
        }
        if state == AuthorityState::Prepared {
            expired = Some(known.clone());
        }
    }
    if count >= AUTHORITIES_LIMIT {
        return Err(Refusal::new(
            RefusalCode::LimitReached,
            format!("there are {count} authorities of this kind already, the most is {AUTHORITIES_LIMIT}"),
        ));
    }
    Ok(expired)
}

fn check_step(
    kind: AuthorityKind,
    id: &AuthorityId,
    state: AuthorityState,
    next: AuthorityState,
) -> Result<(), Refusal> {
    if state.may_become(next) {
        return Ok(());
    }
    let rule = match next {
        AuthorityState::Prepared => "only a new authority can be prepared",
        AuthorityState::Active => "only a prepared authority can be activated",
        AuthorityState::Old => "only the active authority becomes old",
        AuthorityState::Tainted => "only an old authority can be tainted",
        AuthorityState::Revoked => "only a tainted authority can be revoked",
    };
    Err(Refusal::wrong_state(format!("{} {id} is {}: {rule}", kind.name(), state.name())))
}

fn check_unexpired(
    kind: AuthorityKind,
    id: &AuthorityId,
    not_after: UnixSeconds,
    now: UnixSeconds,
) -> Result<(), Refusal> {
    if now <= not_after {
        return Ok(());
    }
    Err(Refusal::wrong_state(format!("{} {id} ended at {not_after} and can no longer be activated", kind.name())))
}

pub(super) fn unknown(kind: AuthorityKind, id: &AuthorityId) -> Refusal {
    Refusal::not_found(format!("there is no {} {id}", kind.name()))
}

fn count<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}
