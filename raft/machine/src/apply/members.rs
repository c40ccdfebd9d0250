//! Members: what is known of them, and changes of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_proto_identity::{MemberNumber, PublicKey};

use crate::event::Event;
use crate::members::{
    ADDRESS_LIMIT, ADDRESSES_PER_MEMBER, LABELS_PER_MEMBER, MEMBER_KEY_LIMIT, MEMBER_TEXT_LIMIT, MEMBERS_LIMIT, Member,
    MemberDraft, MemberRole, MemberServices, MemberStatus, SERVICE_URL_LIMIT,
};
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::state::State;

impl State {
    /// Admits a member of the founding list or changes a member's record.
    pub(super) fn set_member(
        &mut self,
        number: Option<MemberNumber>,
        draft: &MemberDraft,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        check_record(draft)?;
        if draft.incarnation.is_some() {
            self.check_announced(&format!("member {}", draft.name), draft.version)?;
        }
        let number = match number {
            Some(number) => self.change_member(number, draft, events)?,
            None => {
                let member = self.new_member(draft)?;
                let number = member.number;
                self.members.put(number, member);
                events.push(Event::MemberChanged { number });
                number
            }
        };
        Ok(Done::MemberSet { number })
    }

    /// Changes a member's record. Its keys are what peers pinned, so they never change; and whether it belongs to the
    /// cluster, and with which directory, is for other operations to say.
    fn change_member(
        &mut self,
        number: MemberNumber,
        draft: &MemberDraft,
        events: &mut Vec<Event>,
    ) -> Result<MemberNumber, Refusal> {
        let known = self.known_member(number)?.clone();
        let keys = |draft: &MemberDraft| (draft.identity_key.clone(), draft.sealing_key.clone(), draft.incarnation);
        if keys(&known.record) != keys(draft) {
            return Err(Refusal::invalid(format!(
                "the keys and the data directory of member {number} cannot change: admit it as a new one"
            )));
        }
        if known.record.status != draft.status || draft.status.has_gone() {
            return Err(Refusal::wrong_state(format!(
                "member {number} is {}: a change of its record removes nobody and brings nobody back",
                known.record.status.name()
            )));
        }
        if draft.role == MemberRole::Learner {
            self.check_voter_left(&known)?;
        }
        self.check_unique(draft, Some(number))?;
        self.put_record(&known, draft.clone(), events);
        Ok(number)
    }

    /// Notes how a member is reached and what it can do.
    pub(super) fn announce_member(
        &mut self,
        number: MemberNumber,
        addresses: &[String],
        version: u32,
        build: &str,
        serves: &MemberServices,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let known = self.known_member(number)?.clone();
        if known.record.status.has_gone() {
            return Err(gone(&known));
        }
        self.check_announced(&format!("member {number} ({})", known.record.name), version)?;
        let mut record = known.record.clone();
        record.addresses = addresses.to_vec();
        record.version = version;
        build.clone_into(&mut record.build);
        record.serves = serves.clone();
        check_record(&record)?;
        if record != known.record {
            self.put_record(&known, record, events);
        }
        Ok(Done::MemberSet { number })
    }

    /// Notes which role a member is to have.
    pub(super) fn set_member_role(
        &mut self,
        number: MemberNumber,
        role: MemberRole,
        pinned: bool,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let known = self.known_member(number)?.clone();
        if !known.record.status.is_admitted() {
            return Err(gone(&known));
        }
        if role == MemberRole::Learner {
            self.check_voter_left(&known)?;
        }
        let record = MemberDraft { role, role_pinned: pinned, ..known.record.clone() };
        if record != known.record {
            self.put_record(&known, record, events);
        }
        Ok(Done::MemberSet { number })
    }

    /// Puts a changed record in place of a member's, and counts its revision up.
    pub(super) fn put_record(&mut self, member: &Member, record: MemberDraft, events: &mut Vec<Event>) {
        let number = member.number;
        let changed = Member { revision: member.revision.saturating_add(1), record, ..member.clone() };
        self.members.put(number, changed);
        events.push(Event::MemberChanged { number });
    }

    pub(super) fn known_member(&self, number: MemberNumber) -> Result<&Member, Refusal> {
        self.member(number).ok_or_else(|| Refusal::not_found(format!("there is no member {number}")))
    }

    /// Checks that somebody else is to be a voter, and has joined, when this member is not to be one any longer: a
    /// cluster without any would be stuck for good.
    pub(crate) fn check_voter_left(&self, leaving: &Member) -> Result<(), Refusal> {
        let is_voter = |member: &Member| member.record.status.is_admitted() && member.record.role == MemberRole::Voter;
        let other = |member: &&Member| member.number != leaving.number && is_voter(member) && member.is_sealable();
        if !is_voter(leaving) || self.members().any(|member| other(&member)) {
            return Ok(());
        }
        Err(Refusal::wrong_state(format!(
            "member {} ({}) is the last voter: promote another member first",
            leaving.number, leaving.record.name
        )))
    }

    /// A new member, its number taken from the counter.
    pub(super) fn new_member(&mut self, draft: &MemberDraft) -> Result<Member, Refusal> {
        if draft.status != MemberStatus::Admitted {
            return Err(Refusal::invalid("a new member must be admitted, not removed"));
        }
        if self.members().filter(|member| !member.record.status.has_gone()).count() >= MEMBERS_LIMIT {
            return Err(Refusal::new(RefusalCode::LimitReached, format!("there are {MEMBERS_LIMIT} members already")));
        }
        self.check_unique(draft, None)?;
        let mut counters = self.counters();
        let number = MemberNumber::new(counters.next_member_number)
            .ok_or_else(|| Refusal::new(RefusalCode::LimitReached, "member numbers are used up"))?;
        counters.next_member_number = counters.next_member_number.saturating_add(1);
        self.counters.put((), counters);
        Ok(Member { number, revision: 0, record: draft.clone(), invitation: None })
    }

    /// A name belongs to one member at a time, an identity key to one member for as long as it is remembered.
    fn check_unique(&self, draft: &MemberDraft, except: Option<MemberNumber>) -> Result<(), Refusal> {
        for other in self.members().filter(|other| Some(other.number) != except) {
            if other.record.identity_key == draft.identity_key {
                return Err(Refusal::new(
                    RefusalCode::AlreadyExists,
                    format!("the identity key is that of member {}", other.number),
                ));
            }
            if !other.record.status.has_gone() && other.record.name == draft.name {
                return Err(Refusal::new(
                    RefusalCode::AlreadyExists,
                    format!("the name {} is that of member {}: remove that one first", draft.name, other.number),
                ));
            }
        }
        Ok(())
    }
}

/// The refusal of a change of a member that is on its way out or has gone.
pub(super) fn gone(member: &Member) -> Refusal {
    Refusal::wrong_state(format!(
        "member {} ({}) is {}",
        member.number,
        member.record.name,
        member.record.status.name()
    ))
}

/// Checks the keys of a member that has joined.
pub(super) fn check_keys(identity_key: &Bytes, sealing_key: &Bytes) -> Result<(), Refusal> {
    check_identity_key(identity_key)?;
    if sealing_key.is_empty() || sealing_key.len() > MEMBER_KEY_LIMIT {
        return Err(Refusal::invalid(format!(
            "sealing_key has {} bytes, it must have 1 to {MEMBER_KEY_LIMIT}",
            sealing_key.len()
        )));
    }
    Ok(())
}

fn check_identity_key(identity_key: &Bytes) -> Result<(), Refusal> {
    if identity_key.len() > MEMBER_KEY_LIMIT || PublicKey::from_spki_der(identity_key).is_err() {
        return Err(Refusal::invalid("identity_key is not a public key that peers can verify"));
    }
    Ok(())
}

/// Checks a record by itself: keys that can be keys, texts within their limits.
pub(super) fn check_record(draft: &MemberDraft) -> Result<(), Refusal> {
    if draft.sealing_key.is_empty() && draft.incarnation.is_none() {
        // Of the founding list: the node tells its sealing key when it joins.
        check_identity_key(&draft.identity_key)?;
    } else {
        check_keys(&draft.identity_key, &draft.sealing_key)?;
    }
    check_text("build", &draft.build)?;
    check_place(&draft.region, &draft.zone, &draft.labels)?;
    check_services(&draft.serves)?;
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

/// Checks what a member says that it serves.
fn check_services(serves: &MemberServices) -> Result<(), Refusal> {
    let MemberServices { bundle_endpoint, federation_api, oidc } = serves;
    for (field, url) in [("bundle_endpoint", bundle_endpoint), ("federation_api", federation_api), ("oidc", oidc)] {
        let fits = |url: &String| (1..=SERVICE_URL_LIMIT).contains(&url.len()) && is_plain(url);
        if url.as_ref().is_some_and(|url| !fits(url)) {
            return Err(Refusal::invalid(format!(
                "serves.{field} must have 1 to {SERVICE_URL_LIMIT} bytes; {PLAIN_RULE}"
            )));
        }
    }
    Ok(())
}

/// Checks what says where a member stands.
pub(super) fn check_place(region: &str, zone: &str, labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
    check_text("region", region)?;
    check_text("zone", zone)?;
    if labels.len() > LABELS_PER_MEMBER {
        return Err(Refusal::invalid(format!(
            "the member has {} labels, the most is {LABELS_PER_MEMBER}",
            labels.len()
        )));
    }
    for (key, value) in labels {
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
    Ok(())
}

fn check_text(field: &str, text: &str) -> Result<(), Refusal> {
    if text.len() > MEMBER_TEXT_LIMIT {
        return Err(Refusal::invalid(format!("{field} has more than {MEMBER_TEXT_LIMIT} bytes")));
    }
    if !is_plain(text) {
        return Err(Refusal::invalid(format!("{field} {text:?}: {PLAIN_RULE}")));
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
