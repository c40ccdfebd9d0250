//! What an operator is told of a change of the membership: what has come about, and what is still waited for. Read from
//! the state and the Raft group of any node, because the steps are taken by whoever leads, one leader after the other.

use quorate_proto_identity::MemberNumber;
use quorate_raft_consensus::RaftMembers;
use quorate_raft_machine::{AuthorityKind, AuthorityState, AuthorityView, Member, MemberRole, Recipient, State};

/// What is to become of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// It votes.
    Voter,
    /// It follows the log, and can open no root.
    Learner,
    /// It is gone.
    Gone,
    /// It is gone, and nothing that it could open signs, or is in the bundle.
    GoneCompromised,
}

/// How far the way to an aim has come: sentences that are true by now, in their order, and what is missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// What has come about.
    pub done: Vec<String>,
    /// What is waited for; none when the aim is reached.
    pub waits_for: Option<String>,
}

impl Progress {
    /// Adds a part of the way: what is said of it once it is done, and until then.
    fn part(&mut self, is_done: bool, done: impl FnOnce() -> String, until_then: impl FnOnce() -> String) {
        if is_done {
            self.done.push(done());
        } else if self.waits_for.is_none() {
            self.waits_for = Some(until_then());
        }
    }
}

/// How far a member has come towards an aim.
pub(crate) fn progress(
    aim: Aim,
    number: MemberNumber,
    state: &State,
    group: &RaftMembers,
    absent: &[MemberNumber],
) -> Progress {
    let name = named(state, number);
    let mut progress = Progress::default();
    match aim {
        Aim::Voter => {
            progress.part(
                can_lead(state, number),
                || format!("The root keys are sealed to {name}."),
                || format!("the root keys to be sealed to {name}, once it follows the log closely"),
            );
            progress.part(
                votes_now(group, number) && group.voters.len() == 1,
                || format!("{name} votes: the voters are {}.", voters(state, group)),
                || format!("the Raft group to count {name} among its voters"),
            );
        }
        Aim::Learner => {
            progress.part(
                !group.is_voter(number.get()),
                || format!("{name} has no vote: the voters are {}.", voters(state, group)),
                || format!("the Raft group to go on without the vote of {name}"),
            );
            progress.part(
                has_no_roots(state, number),
                || format!("No root key is sealed to {name} any more."),
                || format!("the root keys to be taken away from {name}"),
            );
        }
        Aim::Gone | Aim::GoneCompromised => {
            progress.part(
                !group.contains(number.get()),
                || format!("{name} is out of the Raft group: the voters are {}.", voters(state, group)),
                || format!("the Raft group to let {name} go"),
            );
            progress.part(
                state.member(number).is_none_or(|member| member.record.status.has_gone()),
                || format!("The record of {name} is closed, and no key is sealed to it."),
                || format!("the record of {name} to be closed"),
            );
            if aim == Aim::GoneCompromised {
                replaced(&mut progress, state, absent);
            }
        }
    }
    progress
}

/// The new authorities after a removal as compromised, and the end of those that the member could open.
fn replaced(progress: &mut Progress, state: &State, absent: &[MemberNumber]) {
    for kind in AuthorityKind::ALL {
        let authorities = state.authorities(kind);
        let what = what(kind);
        let signs =
            |authority: &AuthorityView| matches!(authority.state, AuthorityState::Active | AuthorityState::Prepared);
        let in_state = |wanted| authorities.iter().find(move |authority| authority.state == wanted);
        progress.part(
            !authorities.iter().any(|authority| signs(authority) && authority.is_suspect()),
            || {
                let id = in_state(AuthorityState::Active).map(|active| active.id.to_string()).unwrap_or_default();
                format!("A new {what} signs: {id}, sealed to those that remain.")
            },
            || match in_state(AuthorityState::Prepared) {
                Some(prepared) => format!(
                    "the new {what} {} to sign, once every live member has applied it{}",
                    prepared.id,
                    cut_off(state, absent)
                ),
                None => format!("a new {what} to be made"),
            },
        );
    }
    for kind in AuthorityKind::ALL {
        let authorities = state.authorities(kind);
        let what = what(kind);
        let suspect = |wanted| {
            let suspects = authorities.iter().filter(|authority| authority.is_suspect());
            suspects.filter(move |authority| authority.state == wanted).map(|authority| authority.id.to_string()).next()
        };
        let (old, tainted) = (suspect(AuthorityState::Old), suspect(AuthorityState::Tainted));
        progress.part(
            old.is_none() && tainted.is_none(),
            || format!("No {what} that it could open is in the bundle any more."),
            || match (old, tainted) {
                (Some(id), _) => format!("the {what} {id} to be tainted"),
                (None, id) => {
                    format!("the {what} {} to be revoked, once no stream has an SVID under it", id.unwrap_or_default())
                }
            },
        );
    }
}

fn what(kind: AuthorityKind) -> &'static str {
    match kind {
        AuthorityKind::X509 => "root",
        AuthorityKind::Jwt => "token key",
    }
}

/// Who the gate waits for that is cut off, as far as this node knows; only the leader does.
fn cut_off(state: &State, absent: &[MemberNumber]) -> String {
    if absent.is_empty() {
        return "; one that is cut off is waited for until its certificate ends, or `quorate cluster fence` names it"
            .into();
    }
    let words = |number: &MemberNumber| {
        let own = state.issuing_certificates().filter(|issuing| issuing.member == *number);
        let end = own.filter(|issuing| issuing.revoked_at.is_none()).map(|issuing| issuing.validity.not_after()).max();
        let end = end.map_or_else(String::new, |end| format!(" until {end}"));
        format!("{} is cut off and may be signing{end}", named(state, *number))
    };
    let words: Vec<String> = absent.iter().map(words).collect();
    format!("; {}, unless `quorate cluster fence` names it", words.join(", "))
}

/// What the machine of a member that is removed, and not said to be compromised, could still sign, and until when.
pub(crate) fn could_still_sign(state: &State, number: MemberNumber) -> Vec<String> {
    let own = Recipient::Member(number);
    let name = named(state, number);
    let now = state.counters().time.seconds();
    let issuing = state.issuing_certificates().filter(|issuing| issuing.member == number && issuing.is_live(now));
    let issuing = issuing.map(|issuing| issuing.validity.not_after()).max().map(|end| {
        format!(
            "With its issuing certificates, revoked as they are then, {name} could make X509-SVIDs that verify until {end}."
        )
    });
    let roots =
        state.x509_authorities().filter(|root| root.sealed.as_ref().is_some_and(|s| s.part_for(&own).is_some()));
    let roots = roots.map(|root| {
        format!("It can open the root {}, which is in the bundle until {}.", root.id, root.validity.not_after())
    });
    let keys = state.jwt_authorities().filter(|key| key.sealed.as_ref().is_some_and(|s| s.part_for(&own).is_some()));
    let keys = keys.map(|key| {
        format!("It can open the token key {}, whose tokens are good until {}.", key.id, key.validity.not_after())
    });
    let mut sentences: Vec<String> = issuing.into_iter().chain(roots).chain(keys).collect();
    if !sentences.is_empty() {
        sentences.push("If that machine may be in wrong hands, remove it with --compromised.".into());
    }
    sentences
}

/// Whether each root key that signs, or is about to, is sealed to a member.
fn can_lead(state: &State, number: MemberNumber) -> bool {
    let in_use = |state| matches!(state, AuthorityState::Prepared | AuthorityState::Active);
    let mut roots = state.x509_authorities().filter(|root| in_use(root.state));
    roots.all(|root| root.sealed.as_ref().is_some_and(|sealed| sealed.part_for(&Recipient::Member(number)).is_some()))
}

/// Whether no root key is sealed to a member.
fn has_no_roots(state: &State, number: MemberNumber) -> bool {
    let mut sealed = state.x509_authorities().filter_map(|root| root.sealed.as_ref());
    sealed.all(|sealed| sealed.part_for(&Recipient::Member(number)).is_none())
}

/// Whether a member votes in the newest configuration.
fn votes_now(group: &RaftMembers, number: MemberNumber) -> bool {
    group.voters.last().is_some_and(|voters| voters.contains(&number.get()))
}

fn voters(state: &State, group: &RaftMembers) -> String {
    let numbers = group.voters.last().into_iter().flatten().filter_map(|number| MemberNumber::new(*number));
    numbers.map(|number| named(state, number)).collect::<Vec<_>>().join(", ")
}

/// A member's name with its number, as people are told of it.
pub(crate) fn named(state: &State, number: MemberNumber) -> String {
    state.member(number).map_or_else(|| format!("member {number}"), name_of)
}

fn name_of(member: &Member) -> String {
    format!("{} (member {})", member.record.name, member.number)
}

/// The aim that a role stands for.
impl From<MemberRole> for Aim {
    fn from(role: MemberRole) -> Self {
        match role {
            MemberRole::Voter => Self::Voter,
            MemberRole::Learner => Self::Learner,
        }
    }
}
