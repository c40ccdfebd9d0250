//! Invitations and admission: each invitation lets one member in, and a newcomer that asks again gets the same answer.

use quorate_proto_identity::{NodeName, UnixSeconds};

use super::members::{check_keys, check_place};
use crate::event::Event;
use crate::invitation::{
    Admission, INVITATION_LIFETIME_LIMIT, INVITATIONS_LIMIT, Invitation, NewInvitation, SecretHash,
};
use crate::members::{Incarnation, Member, MemberDraft, MemberRole, MemberServices, MemberStatus};
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::state::State;

impl State {
    /// Makes an invitation. The same one again, from whoever repeats the command, is there already.
    pub(super) fn create_invitation(
        &mut self,
        new: &NewInvitation,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let name = &new.name;
        check_place(&new.region, &new.zone, &new.labels)?;
        let life = new.expires_at.since(now);
        if !(1..=INVITATION_LIFETIME_LIMIT).contains(&life) {
            return Err(Refusal::invalid(format!(
                "the invitation would live for {life} s, it must be 1 to {INVITATION_LIFETIME_LIMIT} s"
            )));
        }
        if let Some(known) = self.invitation(name).filter(|known| !known.has_expired(now)) {
            if known.invitation == *new {
                return Ok(Done::InvitationCreated { name: name.clone() });
            }
            return Err(Refusal::new(
                RefusalCode::AlreadyExists,
                format!("there is an invitation for {name} until {}: delete it first", known.invitation.expires_at),
            ));
        }
        if let Some(member) = self.member_by_name(name) {
            return Err(Refusal::new(
                RefusalCode::AlreadyExists,
                format!(
                    "the name {name} is that of member {}: remove that one first, or choose another name",
                    member.number
                ),
            ));
        }
        if self.invited_with(&new.secret_hash).is_some() || self.admitted_with(&new.secret_hash).is_some() {
            return Err(Refusal::invalid("the secret of the invitation was used for another one"));
        }
        let waiting = self.invitations().filter(|known| !known.has_expired(now)).count();
        if waiting >= INVITATIONS_LIMIT {
            return Err(Refusal::new(
                RefusalCode::LimitReached,
                format!("there are {waiting} invitations already, the most is {INVITATIONS_LIMIT}"),
            ));
        }
        self.prune_invitations(now, events);
        self.invitations.put(name.clone(), Invitation { invitation: new.clone(), created_at: now });
        events.push(Event::InvitationChanged { name: name.clone() });
        Ok(Done::InvitationCreated { name: name.clone() })
    }

    /// Takes an invitation back.
    pub(super) fn delete_invitation(&mut self, name: &NodeName, events: &mut Vec<Event>) -> OperationResult {
        if self.invitations.remove(name).is_none() {
            return Err(Refusal::not_found(format!("there is no invitation for {name}")));
        }
        events.push(Event::InvitationChanged { name: name.clone() });
        Ok(Done::InvitationDeleted { name: name.clone() })
    }

    /// Removes invitations that can be used no more.
    pub(super) fn prune_invitations(&mut self, now: UnixSeconds, events: &mut Vec<Event>) {
        let expired: Vec<NodeName> = self
            .invitations()
            .filter(|invitation| invitation.has_expired(now))
            .map(|invitation| invitation.invitation.name.clone())
            .collect();
        for name in expired {
            self.invitations.remove(&name);
            events.push(Event::InvitationChanged { name });
        }
    }

    /// Whether a newcomer shows anything that this state knows: the key of a member, or the secret of an invitation, used
    /// or not. Asked before its admission is proposed, so that strangers put nothing into the log (ATK-26).
    ///
    /// # Errors
    /// With what [`Operation::AdmitMember`](crate::Operation::AdmitMember) would be refused with, when it shows nothing.
    pub fn check_newcomer(&self, admission: &Admission) -> Result<(), Refusal> {
        if self.member_by_key(&admission.identity_key).is_some() {
            return Ok(());
        }
        let secret_hash = admission.secret_hash.ok_or_else(|| no_invitation(admission))?;
        if self.invited_with(&secret_hash).is_some() || self.admitted_with(&secret_hash).is_some() {
            return Ok(());
        }
        Err(unknown_invitation())
    }

    /// Lets a newcomer in, or tells it again that it is in.
    pub(super) fn admit_member(
        &mut self,
        admission: &Admission,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        self.check_announced(&format!("node {}", admission.name), admission.version)?;
        check_keys(&admission.identity_key, &admission.sealing_key)?;
        if let Some(member) = self.member_by_key(&admission.identity_key) {
            return self.admit_known(member.clone(), admission, events);
        }
        let Some(secret_hash) = admission.secret_hash else {
            return Err(no_invitation(admission));
        };
        if let Some(member) = self.admitted_with(&secret_hash) {
            return Err(Refusal::wrong_state(format!(
                "the invitation was used: it admitted member {} ({}). If that node lost its data directory, remove the \
                 member, then invite it anew; if it was not that node, an invitation got into wrong hands",
                member.number, member.record.name
            )));
        }
        let invitation = self.usable_invitation(&secret_hash, admission, now)?.clone();
        let draft = admitted(&invitation, admission);
        super::members::check_record(&draft)?;
        let member = Member { invitation: Some(secret_hash), ..self.new_member(&draft)? };
        let (number, name) = (member.number, invitation.name);
        self.members.put(number, member);
        self.invitations.remove(&name);
        self.prune_invitations(now, events);
        events.extend([Event::InvitationChanged { name }, Event::MemberChanged { number }]);
        Ok(Done::MemberAdmitted { number })
    }

    /// A newcomer whose key is a member's: it asks again, it is of the founding list, or its disk was lost.
    fn admit_known(&mut self, member: Member, admission: &Admission, events: &mut Vec<Event>) -> OperationResult {
        let number = member.number;
        let record = &member.record;
        if !record.status.is_admitted() {
            return Err(Refusal::wrong_state(format!(
                "this key is that of member {number} ({}), which is {} and cannot come back: give the node an empty data \
                 directory and invite it anew",
                record.name,
                record.status.name()
            )));
        }
        if record.name != admission.name {
            return Err(Refusal::invalid(format!(
                "this key is that of member {number}, whose name is {}, not {}",
                record.name, admission.name
            )));
        }
        if let Some(known) = &record.incarnation {
            check_same_directory(&member, known, admission)?;
            return Ok(Done::MemberAdmitted { number });
        }
        if admission.secret_hash.is_some() {
            return Err(Refusal::invalid(format!(
                "member {number} ({}) comes by the founding list: start its node without an invitation",
                record.name
            )));
        }
        if !record.sealing_key.is_empty() && record.sealing_key != admission.sealing_key {
            return Err(Refusal::invalid(format!(
                "the sealing key of member {number} ({}) is another one than the founding list says",
                record.name
            )));
        }
        let mut joined = record.clone();
        joined.incarnation = Some(admission.incarnation);
        joined.sealing_key = admission.sealing_key.clone();
        joined.version = admission.version;
        joined.build.clone_from(&admission.build);
        if !admission.addresses.is_empty() {
            joined.addresses.clone_from(&admission.addresses);
        }
        super::members::check_record(&joined)?;
        self.put_record(&member, joined, events);
        Ok(Done::MemberAdmitted { number })
    }

    /// The invitation with this secret, if it is for this newcomer and can be used now.
    fn usable_invitation(
        &self,
        secret_hash: &SecretHash,
        admission: &Admission,
        now: UnixSeconds,
    ) -> Result<&NewInvitation, Refusal> {
        let known = self.invited_with(secret_hash).ok_or_else(unknown_invitation)?;
        let invitation = &known.invitation;
        if invitation.name != admission.name {
            return Err(Refusal::invalid(format!(
                "the invitation is for the name {}, this node is {}",
                invitation.name, admission.name
            )));
        }
        if known.has_expired(now) {
            return Err(Refusal::wrong_state(format!(
                "the invitation for {} expired at {}, it is {now}: make a new one with `quorate cluster invite`",
                invitation.name, invitation.expires_at
            )));
        }
        Ok(invitation)
    }

    fn invited_with(&self, secret_hash: &SecretHash) -> Option<&Invitation> {
        self.invitations().find(|invitation| invitation.invitation.secret_hash == *secret_hash)
    }

    fn admitted_with(&self, secret_hash: &SecretHash) -> Option<&Member> {
        self.members().find(|member| member.invitation.as_ref() == Some(secret_hash))
    }
}

/// The refusal of a newcomer that nobody knows and that brings nothing.
fn no_invitation(admission: &Admission) -> Refusal {
    Refusal::not_found(format!(
        "no member has the key of this node, and {} brings no invitation: make one with `quorate cluster invite`",
        admission.name
    ))
}

/// The refusal of a newcomer whose secret is nobody's.
fn unknown_invitation() -> Refusal {
    Refusal::not_found(
        "no such invitation is known: it was deleted, it expired, it was used by a member that has gone, or it is \
         another cluster's. Make a new one with `quorate cluster invite`",
    )
}

/// A member's own node asks again, and not one that has its key and another directory (FLT-18), or another secret than
/// the one that let it in.
fn check_same_directory(member: &Member, known: &Incarnation, admission: &Admission) -> Result<(), Refusal> {
    let number = member.number;
    let name = &member.record.name;
    if *known != admission.incarnation {
        return Err(Refusal::wrong_state(format!(
            "this key is that of member {number} ({name}), which has another data directory: its disk was lost or \
             restored from a copy, and what it promised to the others is gone with it. Remove the member \
             (`quorate cluster remove {name}`), empty the data directory, and invite the node anew"
        )));
    }
    if member.record.sealing_key != admission.sealing_key {
        return Err(Refusal::invalid(format!("the sealing key of member {number} ({name}) is another one")));
    }
    if admission.secret_hash.is_some() && admission.secret_hash != member.invitation {
        return Err(Refusal::wrong_state(format!(
            "this node is member {number} ({name}) already, and by another invitation than this one: start it without"
        )));
    }
    Ok(())
}

/// What is known of a member from the beginning: where it stands from the operator, the rest from itself. A role that
/// the operator did not choose is the plan's to change.
fn admitted(invitation: &NewInvitation, admission: &Admission) -> MemberDraft {
    MemberDraft {
        name: invitation.name.clone(),
        identity_key: admission.identity_key.clone(),
        sealing_key: admission.sealing_key.clone(),
        incarnation: Some(admission.incarnation),
        region: invitation.region.clone(),
        zone: invitation.zone.clone(),
        labels: invitation.labels.clone(),
        addresses: admission.addresses.clone(),
        version: admission.version,
        build: admission.build.clone(),
        role: invitation.role.unwrap_or(MemberRole::Learner),
        role_pinned: invitation.role.is_some(),
        status: MemberStatus::Admitted,
        // Announced with the first look at its own record.
        serves: MemberServices::default(),
    }
}
