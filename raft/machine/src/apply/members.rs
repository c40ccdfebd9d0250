//! Members: admission and changes.

use quorate_proto_identity::{MemberNumber, PublicKey};

use crate::event::Event;
use crate::members::{
    ADDRESS_LIMIT, ADDRESSES_PER_MEMBER, LABELS_PER_MEMBER, MEMBER_KEY_LIMIT, MEMBER_TEXT_LIMIT, MEMBERS_LIMIT, Member,
    MemberDraft, MemberStatus,
};
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::state::State;

impl State {
    /// Admits a member or changes its record.
    pub(super) fn set_member(
        &mut self,
        number: Option<MemberNumber>,
        draft: &MemberDraft,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        check_record(draft)?;
        let member = match number {
            Some(number) => self.changed_member(number, draft)?,
            None => self.new_member(draft)?,
        };
        let number = member.number;
        self.members.put(number, member);
        events.push(Event::MemberChanged { number });
        Ok(Done::MemberSet { number })
    }

    /// A member as it will be after a change. Its keys are what peers pinned, so they never change; and who was
    /// removed does not come back under the same number.
    fn changed_member(&self, number: MemberNumber, draft: &MemberDraft) -> Result<Member, Refusal> {
        let known = self.member(number).ok_or_else(|| Refusal::not_found(format!("there is no member {number}")))?;
        if known.record.identity_key != draft.identity_key || known.record.sealing_key != draft.sealing_key {
            return Err(Refusal::invalid(format!("the keys of member {number} cannot change: admit it as a new one")));
        }
        if known.record.status != MemberStatus::Admitted && draft.status == MemberStatus::Admitted {
            return Err(Refusal::wrong_state(format!("member {number} was removed and cannot come back")));
        }
        self.check_unique(draft, Some(number))?;
        Ok(Member { number, revision: known.revision.saturating_add(1), record: draft.clone() })
    }

    /// A new member, its number taken from the counter.
    pub(super) fn new_member(&mut self, draft: &MemberDraft) -> Result<Member, Refusal> {
        if draft.status != MemberStatus::Admitted {
            return Err(Refusal::invalid("a new member must be admitted, not removed"));
        }
        if self.members().filter(|member| member.record.status == MemberStatus::Admitted).count() >= MEMBERS_LIMIT {
            return Err(Refusal::new(RefusalCode::LimitReached, format!("there are {MEMBERS_LIMIT} members already")));
        }
        self.check_unique(draft, None)?;
        let mut counters = self.counters();
        let number = MemberNumber::new(counters.next_member_number)
            .ok_or_else(|| Refusal::new(RefusalCode::LimitReached, "member numbers are used up"))?;
        counters.next_member_number = counters.next_member_number.saturating_add(1);
        self.counters.put((), counters);
        Ok(Member { number, revision: 0, record: draft.clone() })
    }

    /// A name belongs to one admitted member at a time, an identity key to one member for ever.
    fn check_unique(&self, draft: &MemberDraft, except: Option<MemberNumber>) -> Result<(), Refusal> {
        for other in self.members().filter(|other| Some(other.number) != except) {
            if other.record.identity_key == draft.identity_key {
                return Err(Refusal::new(
                    RefusalCode::AlreadyExists,
                    format!("the identity key is that of member {}", other.number),
                ));
            }
            let both_admitted = other.record.status == MemberStatus::Admitted && draft.status == MemberStatus::Admitted;
            if both_admitted && other.record.name == draft.name {
                return Err(Refusal::new(
                    RefusalCode::AlreadyExists,
                    format!("the name {} is that of member {}", draft.name, other.number),
                ));
            }
        }
        Ok(())
    }
}

/// Checks a record by itself: keys that can be keys, texts within their limits.
pub(super) fn check_record(draft: &MemberDraft) -> Result<(), Refusal> {
    if draft.identity_key.len() > MEMBER_KEY_LIMIT || PublicKey::from_spki_der(&draft.identity_key).is_err() {
        return Err(Refusal::invalid("identity_key is not a public key that peers can verify"));
    }
    if draft.sealing_key.is_empty() || draft.sealing_key.len() > MEMBER_KEY_LIMIT {
        return Err(Refusal::invalid(format!(
            "sealing_key has {} bytes, it must have 1 to {MEMBER_KEY_LIMIT}",
            draft.sealing_key.len()
        )));
    }
    for (field, text) in [("region", &draft.region), ("zone", &draft.zone), ("build", &draft.build)] {
        if text.len() > MEMBER_TEXT_LIMIT {
            return Err(Refusal::invalid(format!("{field} has more than {MEMBER_TEXT_LIMIT} bytes")));
        }
        if !is_plain(text) {
            return Err(Refusal::invalid(format!("{field} {text:?}: {PLAIN_RULE}")));
        }
    }
    if draft.labels.len() > LABELS_PER_MEMBER {
        return Err(Refusal::invalid(format!(
            "the member has {} labels, the most is {LABELS_PER_MEMBER}",
            draft.labels.len()
        )));
    }
    for (key, value) in &draft.labels {
        let fits = |text: &str| (1..=MEMBER_TEXT_LIMIT).contains(&text.len());
        if !fits(key) || !fits(value) || key.contains(':') {
            return Err(Refusal::invalid(format!(
                "label {key:?} = {value:?}: both need 1 to {MEMBER_TEXT_LIMIT} bytes, the key without ':'"
            )));
        }
        if !is_plain(key) || !is_plain(value) {
            return Err(Refusal::invalid(format!("label {key:?} = {value:?}: {PLAIN_RULE}")));
        }
    }
    if draft.addresses.len() > ADDRESSES_PER_MEMBER {
        return Err(Refusal::invalid(format!(
            "the member has {} addresses, the most is {ADDRESSES_PER_MEMBER}",
            draft.addresses.len()
        )));
    }
    for address in &draft.addresses {
        if address.is_empty() || address.len() > ADDRESS_LIMIT {
            return Err(Refusal::invalid(format!("address {address:?} must have 1 to {ADDRESS_LIMIT} bytes")));
        }
        if !is_plain(address) {
            return Err(Refusal::invalid(format!("address {address:?}: {PLAIN_RULE}")));
        }
    }
    Ok(())
}

/// What [`is_plain`] asks for.
const PLAIN_RULE: &str = "it must hold no control character, and neither begin nor end with white space";

/// Whether a text about a member is one that people can tell from another when they see it: these texts become node
/// selectors, are compared byte for byte, and are printed to terminals.
fn is_plain(text: &str) -> bool {
    text.trim() == text && !text.chars().any(char::is_control)
}
