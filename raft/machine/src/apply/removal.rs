//! Removal of members: begun in the record, carried out in the Raft group, ended in the record (design section 3).

use quorate_proto_identity::{MemberNumber, UnixSeconds};

use super::members::gone;
use crate::authority::AuthorityState;
use crate::event::Event;
use crate::members::{GONE_MEMBERS_LIMIT, Member, MemberDraft, MemberServices, MemberStatus};
use crate::outcome::{Done, OperationResult, Refusal};
use crate::state::State;

impl State {
    /// Begins a removal: the member's issuing certificates are revoked at once, so that it signs no more when it applies
    /// this, and the Raft group is to let it go. Said again it changes nothing, but that a member may turn out to be
    /// compromised while it leaves, or after.
    pub(super) fn remove_member(
        &mut self,
        number: MemberNumber,
        compromised: bool,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let known = self.known_member(number)?.clone();
        let status = match known.record.status {
            MemberStatus::Admitted if compromised => MemberStatus::LeavingCompromised,
            MemberStatus::Admitted => MemberStatus::Leaving,
            MemberStatus::Leaving if compromised => MemberStatus::LeavingCompromised,
            MemberStatus::Removed if compromised => MemberStatus::Compromised,
            status @ (MemberStatus::Leaving
            | MemberStatus::LeavingCompromised
            | MemberStatus::Removed
            | MemberStatus::Compromised) => status,
        };
        self.check_voter_left(&known)?;
        if status != known.record.status {
            self.put_record(&known, MemberDraft { status, ..known.record.clone() }, events);
            if status.is_compromised() {
                self.suspect_authorities(now, events);
            }
        }
        let revoked = self.revoke_where(now, events, |issuing| issuing.member == number);
        Ok(Done::MemberLeaving { number, revoked })
    }

    /// Marks every authority in the bundle: the keys of a member that is compromised open them, or opened them when it was a
    /// voter, and a machine remembers what it has opened. Those that sign fall due for replacement at once, all of them
    /// for taint and revocation then ([`due`](crate::due)), by whichever leader.
    fn suspect_authorities(&mut self, now: UnixSeconds, events: &mut Vec<Event>) {
        let in_use = |state: AuthorityState| state.in_bundle();
        let roots: Vec<_> = self.x509_authorities().filter(|root| in_use(root.state)).cloned().collect();
        for mut root in roots {
            root.times.suspected_at = Some(now);
            events.push(Event::X509AuthorityChanged { id: root.id.clone() });
            self.x509.put(root.id.clone(), root);
        }
        let keys: Vec<_> = self.jwt_authorities().filter(|key| in_use(key.state)).cloned().collect();
        for mut key in keys {
            key.times.suspected_at = Some(now);
            events.push(Event::JwtAuthorityChanged { id: key.id.clone() });
            self.jwt.put(key.id.clone(), key);
        }
    }

    /// Ends a removal: nothing stays sealed to the member, and of its record what keeps its name and its key from being
    /// taken for somebody else's.
    pub(super) fn complete_removal(&mut self, number: MemberNumber, events: &mut Vec<Event>) -> OperationResult {
        let known = self.known_member(number)?.clone();
        match known.record.status {
            MemberStatus::Admitted => {
                return Err(Refusal::wrong_state(format!("{}: its removal has not begun", gone(&known).message)));
            }
            MemberStatus::Removed | MemberStatus::Compromised => return Ok(Done::MemberGone { number }),
            MemberStatus::Leaving | MemberStatus::LeavingCompromised => {}
        }
        self.check_strippable(number)?;
        self.strip(number, true, true, events);
        let stripped = Member { invitation: None, ..known };
        self.put_record(&stripped, remembered(&stripped.record), events);
        self.forget_gone_members(events);
        Ok(Done::MemberGone { number })
    }

    /// Forgets the members that went first, when too many are remembered.
    fn forget_gone_members(&mut self, events: &mut Vec<Event>) {
        let gone: Vec<MemberNumber> =
            self.members().filter(|member| member.record.status.has_gone()).map(|member| member.number).collect();
        let surplus = gone.len().saturating_sub(GONE_MEMBERS_LIMIT);
        for number in gone.into_iter().take(surplus) {
            self.members.remove(&number);
            self.forget_anchors(number);
            events.push(Event::MemberChanged { number });
        }
    }
}

/// What is kept of a member that has gone.
pub(super) fn remembered(record: &MemberDraft) -> MemberDraft {
    MemberDraft {
        name: record.name.clone(),
        identity_key: record.identity_key.clone(),
        sealing_key: bytes::Bytes::new(),
        incarnation: None,
        region: String::new(),
        zone: String::new(),
        labels: std::collections::BTreeMap::new(),
        addresses: Vec::new(),
        version: 0,
        build: String::new(),
        role: record.role,
        role_pinned: false,
        status: record.status.gone(),
        serves: MemberServices::default(),
    }
}
