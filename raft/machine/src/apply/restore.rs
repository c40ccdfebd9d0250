//! Restore: the state of a backup becomes the first state of another cluster.

use std::collections::BTreeSet;

use quorate_proto_identity::x509::parse_crl;
use quorate_proto_identity::{AuthorityId, MemberNumber, SerialNumber, UnixSeconds};

use super::authorities::unknown;
use super::members;
use super::removal::remembered;
use crate::authority::{AuthorityKind, AuthorityState, AuthorityTimes, JwtAuthority, Recipient, Sealed, X509Authority};
use crate::event::Event;
use crate::federation::{Secret, SecretName};
use crate::members::{Member, MemberRole, MemberStatus};
use crate::origins::Origins;
use crate::outcome::{Done, OperationResult, Refusal};
use crate::restore::{Restore, RestoredRoot, RestoredSecret, RestoredTokenKey, SEQUENCE_LIMIT, least_restore_floor};
use crate::revocation::NewCrl;
use crate::state::State;

impl State {
    /// Makes another cluster of this state: everything is checked before anything is changed.
    pub(super) fn restore(&mut self, restore: &Restore, now: UnixSeconds, events: &mut Vec<Event>) -> OperationResult {
        let cluster = self.founded()?.clone();
        if restore.cluster_id == cluster.id {
            return Err(Refusal::invalid("a restored cluster has an ID of its own: the old one may still be running"));
        }
        self.check_floor(restore.floor, now)?;
        let member = self.check_restored_member(restore)?;
        let roots = self.check_restored_roots(restore, now)?;
        let keys = self.check_restored_keys(restore)?;
        let secrets = self.check_restored_secrets(restore)?;

        let mut counters = self.counters();
        counters.next_member_number = counters.next_member_number.saturating_add(1);
        counters.spiffe_sequence = restore.floor;
        self.counters.put((), counters);
        self.leave_members_behind(events);
        self.members.put(restore.number, member);
        events.push(Event::MemberChanged { number: restore.number });
        let epoch = cluster.epoch.saturating_add(1);
        self.cluster.put((), crate::state::Cluster { id: restore.cluster_id, epoch, ..cluster });
        events.push(Event::EpochRaised { epoch });
        for root in roots {
            events.push(Event::X509AuthorityChanged { id: root.id.clone() });
            self.x509.put(root.id.clone(), root);
        }
        for key in keys {
            events.push(Event::JwtAuthorityChanged { id: key.id.clone() });
            self.jwt.put(key.id.clone(), key);
        }
        self.restore_secrets(secrets, events);
        let revoked = self.revoke_where(now, events, |_| true);
        self.void_invitations(events);
        self.origins = Origins::default();
        let mut bundle = self.bundle_content();
        bundle.sequence = restore.floor;
        self.bundle = std::sync::Arc::new(bundle);
        events.push(Event::BundleChanged { sequence: restore.floor });
        Ok(Done::Restored { member: restore.number, sequence: restore.floor, revoked })
    }

    fn check_floor(&self, floor: u64, now: UnixSeconds) -> Result<(), Refusal> {
        let least = least_restore_floor(now).max(self.counters().spiffe_sequence.saturating_add(1));
        if (least..SEQUENCE_LIMIT).contains(&floor) {
            return Ok(());
        }
        Err(Refusal::invalid(format!(
            "the bundle would have sequence number {floor} after the restore: it must be at least {least} and below \
             {SEQUENCE_LIMIT}"
        )))
    }

    /// Checks the member that the restored cluster begins with. Names of members that are left behind are free.
    fn check_restored_member(&self, restore: &Restore) -> Result<Member, Refusal> {
        let Restore { number, member, .. } = restore;
        members::check_record(member)?;
        let next = self.counters().next_member_number;
        if number.get() != next {
            return Err(Refusal::invalid(format!("the restored member has number {number}, the next is {next}")));
        }
        let is_voter = member.role == MemberRole::Voter && member.status == MemberStatus::Admitted;
        if !is_voter || member.sealing_key.is_empty() || member.incarnation.is_none() {
            return Err(Refusal::invalid("the restored member must be an admitted voter that has joined"));
        }
        let gone = self.members().filter(|known| !known.record.status.is_admitted());
        if let Some(known) = gone.into_iter().find(|known| known.record.identity_key == member.identity_key) {
            return Err(Refusal::invalid(format!(
                "the identity key is that of member {}, which is {}: give the node other keys",
                known.number,
                known.record.status.name()
            )));
        }
        Ok(Member { number: *number, revision: 0, record: member.clone(), invitation: None })
    }

    /// Checks CRLs and seals of the roots, and answers every root in the bundle as it is after the restore. One that could
    /// not be opened keeps no seal: nobody can sign for it any more.
    fn check_restored_roots(&self, restore: &Restore, now: UnixSeconds) -> Result<Vec<X509Authority>, Refusal> {
        let kind = AuthorityKind::X509;
        check_named_once(kind, restore.roots.iter().map(|root| &root.id))?;
        let active = self.active_x509_authority().map(|root| &root.id);
        if !restore.roots.iter().any(|root| Some(&root.id) == active) {
            return Err(Refusal::invalid("the active root is not among those that are restored: nothing could sign"));
        }
        let mut restored = Vec::new();
        for RestoredRoot { id, crl, sealed } in &restore.roots {
            self.check_restored_seal(kind, sealed, restore.number)?;
            let signed: BTreeSet<SerialNumber> = self
                .issuing_certificates()
                .filter(|issuing| issuing.issuer == *id && now <= issuing.validity.not_after())
                .map(|issuing| issuing.serial)
                .collect();
            let new = NewCrl { issuer: id.clone(), crl: crl.clone(), covers: 0, revoked: Vec::new() };
            let mut root = self.check_root_crl(&new, &signed, now)?;
            let number = parse_crl(crl).map_err(|error| Refusal::invalid(error.to_string()))?.number;
            if number < restore.floor {
                return Err(Refusal::invalid(format!(
                    "the CRL of root {id} has number {number}, it must be at least {}",
                    restore.floor
                )));
            }
            root.sealed = Some(sealed.clone());
            root.times.replace_at = replace_at(root.state, now).or(root.times.replace_at);
            forget_marks(&mut root.times);
            restored.push(root);
        }
        let opened: BTreeSet<&AuthorityId> = restore.roots.iter().map(|root| &root.id).collect();
        let unopened = self.x509_authorities().filter(|root| !opened.contains(&root.id));
        restored.extend(unopened.map(|root| X509Authority { sealed: to_nobody(root.sealed.as_ref()), ..root.clone() }));
        Ok(restored)
    }

    /// The same for token keys.
    fn check_restored_keys(&self, restore: &Restore) -> Result<Vec<JwtAuthority>, Refusal> {
        let kind = AuthorityKind::Jwt;
        check_named_once(kind, restore.token_keys.iter().map(|key| &key.id))?;
        let active = self.active_jwt_authority().map(|key| &key.id);
        if !restore.token_keys.iter().any(|key| Some(&key.id) == active) {
            return Err(Refusal::invalid("the active token key is not among those that are restored"));
        }
        let now = self.counters().time.seconds();
        let mut restored = Vec::new();
        for RestoredTokenKey { id, sealed } in &restore.token_keys {
            self.check_restored_seal(kind, sealed, restore.number)?;
            let mut key = self.jwt_authority(id).ok_or_else(|| unknown(kind, id))?.clone();
            if key.sealed.is_none() {
                return Err(Refusal::wrong_state(format!("{} {id} is {}", kind.name(), key.state.name())));
            }
            key.sealed = Some(sealed.clone());
            key.times.replace_at = replace_at(key.state, now).or(key.times.replace_at);
            forget_marks(&mut key.times);
            restored.push(key);
        }
        let opened: BTreeSet<&AuthorityId> = restore.token_keys.iter().map(|key| &key.id).collect();
        let unopened = self.jwt_authorities().filter(|key| !opened.contains(&key.id));
        restored.extend(unopened.map(|key| JwtAuthority { sealed: to_nobody(key.sealed.as_ref()), ..key.clone() }));
        Ok(restored)
    }

    /// The secrets that could be opened, as they are after the restore.
    fn check_restored_secrets(&self, restore: &Restore) -> Result<Vec<Secret>, Refusal> {
        let mut restored = std::collections::BTreeMap::new();
        for RestoredSecret { name, sealed } in &restore.secrets {
            self.check_restored_seal(AuthorityKind::Jwt, sealed, restore.number)?;
            let known = self.secret(name).ok_or_else(|| Refusal::not_found(format!("there is no secret {name}")))?;
            if restored.insert(name, Secret { sealed: sealed.clone(), ..known.clone() }).is_some() {
                return Err(Refusal::invalid(format!("secret {name} is here twice")));
            }
        }
        Ok(restored.into_values().collect())
    }

    /// Puts the restored secrets in place of all others, which nobody could open any more.
    fn restore_secrets(&mut self, restored: Vec<Secret>, events: &mut Vec<Event>) {
        let names: Vec<SecretName> = self.secrets().map(|secret| secret.name.clone()).collect();
        for name in names {
            self.secrets.remove(&name);
            events.push(Event::SecretChanged { name });
        }
        for secret in restored {
            self.secrets.put(secret.name.clone(), secret);
        }
    }

    /// A restored key is sealed to the restored member, maybe to the recovery key, and to nobody else (INV-11).
    fn check_restored_seal(&self, kind: AuthorityKind, sealed: &Sealed, own: MemberNumber) -> Result<(), Refusal> {
        sealed.check(|recipient| match recipient {
            Recipient::Member(number) if *number == own => Ok(()),
            Recipient::Member(_) => Err(Refusal::invalid(format!(
                "the private key of a {} is sealed to {recipient}, which is not the restored member",
                kind.name()
            ))),
            Recipient::RecoveryKey(_) => self.may_open(kind, recipient),
        })?;
        if sealed.part_for(&Recipient::Member(own)).is_some() {
            return Ok(());
        }
        Err(Refusal::invalid(format!("the private key of a {} is not sealed to the restored member", kind.name())))
    }

    /// Members that were admitted are forgotten: the old cluster's ID keeps them out, and their machines may join again
    /// with the keys that they were given. Those that were to go have gone; those that had gone stay remembered.
    fn leave_members_behind(&mut self, events: &mut Vec<Event>) {
        let known: Vec<Member> = self.members().cloned().collect();
        for member in known {
            let (number, status) = (member.number, member.record.status);
            if status.is_admitted() {
                self.members.remove(&number);
            } else if status.is_leaving() {
                let stripped = Member { invitation: None, ..member };
                let record = remembered(&stripped.record);
                self.members.put(number, Member { record, ..stripped });
            } else {
                continue;
            }
            events.push(Event::MemberChanged { number });
        }
    }

    fn void_invitations(&mut self, events: &mut Vec<Event>) {
        let names: Vec<_> = self.invitations().map(|invitation| invitation.invitation.name.clone()).collect();
        for name in names {
            self.invitations.remove(&name);
            events.push(Event::InvitationChanged { name });
        }
    }
}

/// Every key that signs, or is about to, was in the hands of members that are left behind: another takes its place, by the
/// steps that every replacement takes, so that the old trust domain's workloads learn of it first (INV-05).
const fn replace_at(state: AuthorityState, now: UnixSeconds) -> Option<UnixSeconds> {
    match state {
        AuthorityState::Prepared | AuthorityState::Active => Some(now),
        AuthorityState::Old | AuthorityState::Tainted | AuthorityState::Revoked => None,
    }
}

/// What the members of the lost cluster had published says nothing of what the restored one serves.
const fn forget_marks(times: &mut AuthorityTimes) {
    times.published_at = None;
    times.confirmed_at = None;
}

/// A key that nobody can open.
fn to_nobody(sealed: Option<&Sealed>) -> Option<Sealed> {
    sealed.map(|sealed| Sealed { suite: sealed.suite, parts: Vec::new() })
}

fn check_named_once<'a>(kind: AuthorityKind, ids: impl Iterator<Item = &'a AuthorityId>) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(Refusal::invalid(format!("{} {id} is here twice", kind.name())));
        }
    }
    Ok(())
}
