//! Revocations, as an operator asks for them, on any node: recorded by a command, carried out by every issuer, and waited
//! for here.
//!
//! ```text
//!   plan ──> who issues, who is cut off, whose is that serial number?         refused, before anything changed
//!     |
//!   Revoke ──> applied by every connected member: bans and token rules hold
//!     |
//!   COVERED ──> every issuer has put what it signed into a recorded CRL; keys that are gone are revoked whole
//!     |
//!   SENT ──> the streams of every connected member have been sent the CRLs     "handed to N streams" (CRL-13)
//! ```

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use quorate_proto_identity::{AuthorityId, MemberNumber, UnixSeconds};
use quorate_raft_consensus::{Handle, Proposal, ProposeError};
use quorate_raft_machine::{
    Caller, Done, KeyRevocationCause, NewRevocation, Operation, Refusal, RevocationDue, RevocationReason,
    RevocationTarget, RevokedLeaf, State, revocation::due,
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::questions::{Covered, Sent, ask_covered, ask_leaf, ask_revoke_keys, ask_sent};
use crate::{errors::with_causes, session::core::Core};

/// How long a member that is connected takes to answer a question that it need not wait for.
const CONTACT_WAIT: Duration = Duration::from_secs(1);

/// How long one question to a member waits before it is asked again: who leads, and who is connected, may have changed.
const QUESTION_WAIT: Duration = Duration::from_secs(2);

/// How much of the time that an operator gives goes to the command itself at most; the rest is for what follows from it.
const COMMAND_TIME_LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked whether keys that are gone have been revoked, beside every log entry that is applied.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Asks for revocations, on any node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Revocations {
    handle: Handle,
    core: Arc<Core>,
}

/// What becomes of issuers that are cut off, and may have signed what is to be revoked (CRL-06).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutOff {
    /// Nothing is done before the operator has been told who they are, and what their workloads lose.
    Refuse,
    /// Their keys are revoked whole: every SVID that they have signed is refused from then on.
    RevokeKeys,
}

/// A member that may be signing and does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutOffMember {
    /// Its number.
    pub number: MemberNumber,
    /// Its name.
    pub name: String,
    /// Until when it may go on.
    pub until: UnixSeconds,
}

/// What was found before anything is revoked. Made by [`Revocations::plan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationPlan {
    /// Issuers that do not answer; their keys are revoked whole.
    pub cut_off: Vec<CutOffMember>,
    /// Whether there are certificates to look for.
    of_certificates: bool,
    /// Who alone can have signed them; none when everybody can.
    issuers: Option<BTreeSet<MemberNumber>>,
    /// Keys that verify now.
    live_keys: BTreeSet<AuthorityId>,
}

/// Whether streams carry CRLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrlsHandedOut {
    /// They do, so many.
    Complete {
        /// How many CRLs there are.
        count: usize,
        /// How many bytes they have together.
        bytes: usize,
    },
    /// The policy says that none are handed out: only our own services refuse what is revoked.
    Off,
    /// They are more than a stream may carry, so none are until whole keys have been revoked (CRL-05).
    TooLarge {
        /// How many bytes they have together.
        bytes: usize,
    },
}

/// What came of a revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeOutcome {
    /// Its number.
    pub number: u64,
    /// Where in the log it stands.
    pub log_index: u64,
    /// The certificates that are in CRLs because of it.
    pub revoked: Vec<RevokedLeaf>,
    /// Issuing keys that were revoked whole while it was carried out, each with the name of its member.
    pub keys_revoked: Vec<(AuthorityId, String)>,
    /// How many open streams of connected members have been sent the CRLs. What their readers make of them, nobody knows.
    pub handed_to_streams: u64,
    /// How many open streams have not fetched them yet.
    pub lacking_streams: u64,
    /// Whether streams carry CRLs.
    pub crls: CrlsHandedOut,
    /// Issuers that did not answer, and whose keys were revoked for it.
    pub cut_off: Vec<CutOffMember>,
}

/// Why a revocation was not made, or is not finished.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// No connected issuer knows a certificate with this serial number. Nothing changed.
    #[error(
        "no connected node has signed a live certificate with serial number {serial}: it has ended, is revoked already, or was \
         signed by a process that is gone or cut off{}; revoke its SPIFFE ID, or what its node has signed",
        cut_off_in_words(cut_off)
    )]
    NoSuchSerial {
        /// Which.
        serial: quorate_proto_identity::SerialNumber,
        /// Issuers that could not be asked.
        cut_off: Vec<CutOffMember>,
    },
    /// Issuers that may have signed it do not answer, so they cannot put it into their CRLs. Nothing changed.
    #[error(
        "{} cut off, and may have signed what is to be revoked: with confirmation their keys are revoked whole, and every \
         workload on these nodes is refused until it gets another SVID there",
        names(.0)
    )]
    CutOff(Vec<CutOffMember>),
    /// The command was refused, and nothing changed: the message says what stands against it.
    #[error("{0}")]
    Refused(#[source] Refusal),
    /// The command was not applied, or is not known to be.
    #[error("the revocation could not be recorded")]
    Propose(#[from] ProposeError),
    /// The revocation is recorded and goes on by itself, whoever leads; the time given was too short for all of it.
    #[error("revocation {number} is recorded and goes on; it waits for {waits_for}")]
    Unfinished {
        /// Its number.
        number: u64,
        /// Where in the log it stands.
        log_index: u64,
        /// What is waited for.
        waits_for: String,
    },
    /// A command of one operation came back without a result; a fault of the program.
    #[error("the command came back without a result")]
    NoResult,
}

impl RevocationPlan {
    /// Whether a member may have signed what is to be revoked. Nobody waits for the others, who may be away for long.
    fn is_about(&self, member: MemberNumber) -> bool {
        self.issuers.as_ref().is_none_or(|issuers| issuers.contains(&member))
    }
}

fn names(members: &[CutOffMember]) -> String {
    let each = members.iter().map(|member| format!("{} (until {})", member.name, member.until));
    let verb = if members.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", each.collect::<Vec<_>>().join(", "))
}

fn cut_off_in_words(members: &[CutOffMember]) -> String {
    if members.is_empty() { String::new() } else { format!(" ({} cut off)", names(members)) }
}

impl Revocations {
    pub(crate) fn new(handle: Handle, core: Arc<Core>) -> Self {
        Self { handle, core }
    }

    /// Revokes, and returns when every connected member has applied it, everything that it is about is in recorded CRLs, and
    /// these were handed to the open streams of every connected member (CRL-13).
    ///
    /// # Errors
    /// [`RevokeError`]. Only [`RevokeError::Unfinished`] comes after something was revoked; [`RevokeError::Propose`] may.
    pub async fn revoke(
        &self,
        asker: &Caller,
        revocation: NewRevocation,
        cut_off: CutOff,
        deadline: Instant,
    ) -> Result<RevokeOutcome, RevokeError> {
        let plan = self.plan(&revocation.target, cut_off).await?;
        let (done, log_index) = self.propose(asker, Operation::Revoke(Box::new(revocation)), deadline).await?;
        let Done::Revoked { number } = done else { return Err(RevokeError::NoResult) };
        self.finish(asker, plan, number, log_index, deadline).await
    }

    /// Lifts the ban and the token rule of a revocation; what is in a CRL stays there. Gives the log index.
    ///
    /// # Errors
    /// [`RevokeError::Refused`], [`RevokeError::Propose`].
    pub async fn remove(&self, asker: &Caller, number: u64, deadline: Instant) -> Result<u64, RevokeError> {
        Ok(self.propose(asker, Operation::RemoveRevocation { number }, deadline).await?.1)
    }

    /// Finds who issues, who of them does not answer, and whether a serial number is anybody's: before anything is revoked,
    /// also by the deletion of an entry.
    ///
    /// # Errors
    /// [`RevokeError::NoSuchSerial`], [`RevokeError::CutOff`].
    pub async fn plan(&self, target: &RevocationTarget, cut_off: CutOff) -> Result<RevocationPlan, RevokeError> {
        let now = self.core.sources.now().seconds();
        let state = self.handle.state();
        let live_keys = state.read(|state| live_keys(state, now));
        let of_certificates = target.is_of_certificates();
        let mut plan = RevocationPlan { cut_off: Vec::new(), of_certificates, issuers: None, live_keys };
        if !of_certificates {
            return Ok(plan);
        }
        let members: Vec<MemberNumber> = match target {
            RevocationTarget::Node(member) => vec![*member],
            RevocationTarget::Serial { .. } | RevocationTarget::SpiffeId(_) | RevocationTarget::Entry(_) => {
                state.read(|state| state.live_members(now))
            }
            RevocationTarget::Jti { .. } => Vec::new(),
        };
        let (signed, silent) = self.ask_all(&members, target).await;
        let silent =
            state.read(|state| silent.into_iter().filter_map(|number| cut_off_member(state, number, now)).collect());
        if let RevocationTarget::Serial { serial } = target {
            if signed.is_empty() {
                return Err(RevokeError::NoSuchSerial { serial: *serial, cut_off: silent });
            }
            // Its issuer answered, so none of the others has signed it.
            plan.issuers = Some(signed);
            return Ok(plan);
        }
        if let RevocationTarget::Node(member) = target {
            plan.issuers = Some(BTreeSet::from([*member]));
        }
        plan.cut_off = silent;
        match cut_off {
            CutOff::Refuse if !plan.cut_off.is_empty() => Err(RevokeError::CutOff(plan.cut_off)),
            CutOff::Refuse | CutOff::RevokeKeys => Ok(plan),
        }
    }

    /// Waits until a revocation that is recorded has been carried out: what [`revoke`](Self::revoke) does after its command.
    ///
    /// # Errors
    /// [`RevokeError::Unfinished`].
    pub async fn finish(
        &self,
        asker: &Caller,
        plan: RevocationPlan,
        number: u64,
        log_index: u64,
        deadline: Instant,
    ) -> Result<RevokeOutcome, RevokeError> {
        let unfinished = |waits_for: String| RevokeError::Unfinished { number, log_index, waits_for };
        if !plan.of_certificates {
            return Ok(self.outcome(plan, number, log_index, (0, 0)));
        }
        if !plan.cut_off.is_empty() {
            // The leader revokes them in its own name; whose wish it was is told here.
            let named = plan.cut_off.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(" ");
            let detail = [("revocation", number.to_string()), ("members", named)];
            self.core.audit.acted(asker, "revocation.cut_off", &detail);
            self.revoke_cut_off(&plan, deadline).await.map_err(&unfinished)?;
        }
        let covered_at = self.until_covered(&plan, number, log_index, deadline).await.map_err(&unfinished)?;
        // What the issuers have recorded is looked for here, and its log index is the one that streams are asked about.
        let applied = self.handle.state().wait_applied(covered_at, deadline).await;
        applied.map_err(|_late| unfinished("this node, which has not applied the CRLs of others yet".to_owned()))?;
        self.until_gone_keys_are_revoked(&plan, deadline).await.map_err(&unfinished)?;
        let handed = self.until_sent(deadline).await.map_err(&unfinished)?;
        Ok(self.outcome(plan, number, log_index, handed))
    }

    async fn propose(
        &self,
        asker: &Caller,
        operation: Operation,
        deadline: Instant,
    ) -> Result<(Done, u64), RevokeError> {
        let mut proposal = Proposal::new(asker.clone(), vec![operation]).within(COMMAND_TIME_LIMIT);
        proposal.deadline = proposal.deadline.min(deadline);
        let applied = match self.handle.propose(proposal).await {
            // What is waited for afterwards is more than that every connected member has applied the command.
            Ok(applied) | Err(ProposeError::NotEverywhere { applied, .. }) => applied,
            Err(error) => return Err(error.into()),
        };
        let result = applied.outcome.results.into_iter().next().ok_or(RevokeError::NoResult)?;
        Ok((result.map_err(RevokeError::Refused)?, applied.log_index))
    }

    /// Asks members whether they are there, and whether they have signed a certificate. Gives who has, and who is silent.
    async fn ask_all(
        &self,
        members: &[MemberNumber],
        target: &RevocationTarget,
    ) -> (BTreeSet<MemberNumber>, Vec<MemberNumber>) {
        let serial = match target {
            RevocationTarget::Serial { serial } => Some(*serial),
            RevocationTarget::SpiffeId(_)
            | RevocationTarget::Entry(_)
            | RevocationTarget::Node(_)
            | RevocationTarget::Jti { .. } => None,
        };
        let deadline = Instant::now() + CONTACT_WAIT;
        let mut asked = JoinSet::new();
        for member in members.iter().copied() {
            let handle = self.handle.clone();
            asked.spawn(async move { (member, ask_leaf(&handle, member, serial, deadline).await) });
        }
        let (mut signed, mut answered) = (BTreeSet::new(), BTreeSet::new());
        while let Some(joined) = asked.join_next().await {
            if let Ok((member, Ok(leaf))) = joined {
                answered.insert(member);
                signed.extend(leaf.map(|_key| member));
            }
        }
        let silent = members.iter().copied().filter(|member| !answered.contains(member)).collect();
        (signed, silent)
    }

    /// Has the keys of members that do not answer revoked whole.
    async fn revoke_cut_off(&self, plan: &RevocationPlan, deadline: Instant) -> Result<(), String> {
        let of: BTreeSet<MemberNumber> = plan.cut_off.iter().map(|member| member.number).collect();
        let keys: Vec<AuthorityId> = self.handle.state().read(|state| {
            let keys = state.issuing_keys().filter(|key| of.contains(&key.member));
            keys.filter(|key| plan.live_keys.contains(&key.id)).map(|key| key.id.clone()).collect()
        });
        let reason = RevocationReason::CessationOfOperation;
        loop {
            match ask_revoke_keys(&self.handle, &keys, reason, deadline.min(Instant::now() + COMMAND_TIME_LIMIT)).await
            {
                Ok(log_index) => {
                    let applied = self.handle.state().wait_applied(log_index, deadline).await;
                    return applied.map_err(|_late| "this node, which has not applied the end of keys yet".to_owned());
                }
                Err(error) if Instant::now() + LOOK_EVERY >= deadline => {
                    return Err(format!(
                        "the leader to revoke keys of nodes that are cut off: {}",
                        with_causes(&error)
                    ));
                }
                Err(_for_now) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Waits until every issuer that is left has put into recorded CRLs what it signed of a revocation. Gives the log index
    /// up to which all of them are.
    async fn until_covered(
        &self,
        plan: &RevocationPlan,
        number: u64,
        log_index: u64,
        deadline: Instant,
    ) -> Result<u64, String> {
        let state = self.handle.state();
        loop {
            let now = self.core.sources.now().seconds();
            let members = state.read(|state| state.live_members(now));
            let until = deadline.min(Instant::now() + QUESTION_WAIT);
            let mut asked = JoinSet::new();
            for member in members.into_iter().filter(|member| plan.is_about(*member)) {
                let (handle, question) = (self.handle.clone(), Covered { number, log_index });
                asked.spawn(async move { (member, ask_covered(&handle, member, question, until).await) });
            }
            let (mut waits_for, mut covered_at) = (BTreeSet::new(), log_index);
            while let Some(joined) = asked.join_next().await {
                match joined {
                    Ok((_, Ok(Some(reached)))) => covered_at = covered_at.max(reached),
                    Ok((member, Ok(None) | Err(_))) => drop(waits_for.insert(member)),
                    Err(_lost) => {}
                }
            }
            // Whoever is gone, or has been fenced since, signs nothing more; its keys are looked at next.
            let waits_for = state.read(|state| {
                let left = waits_for.into_iter().filter_map(|number| cut_off_member(state, number, now));
                left.filter(|member| !all_keys_are_gone(state, member.number, now))
                    .map(|member| member.name)
                    .collect::<Vec<_>>()
            });
            if waits_for.is_empty() {
                return Ok(covered_at);
            }
            if Instant::now() + LOOK_EVERY >= deadline {
                return Err(format!("the CRLs of {}", waits_for.join(", ")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until whatever key is to be revoked whole has been, by whoever leads.
    async fn until_gone_keys_are_revoked(&self, plan: &RevocationPlan, deadline: Instant) -> Result<(), String> {
        let state = self.handle.state();
        let mut applied = state.watch_applied_index();
        loop {
            applied.borrow_and_update();
            let now = self.core.sources.now().seconds();
            let waits_for = state.read(|state| gone_keys(state, plan, now));
            if waits_for.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("the end of issuing keys of {}", waits_for.join(", ")));
            }
            let look = (Instant::now() + LOOK_EVERY).min(deadline);
            if let Ok(Err(_gone)) = timeout_at(look, applied.changed()).await {
                tokio::time::sleep_until(look).await;
            }
        }
    }

    /// Waits until the open streams of every member that answers have been sent the CRLs as they are here. Gives how many
    /// have been, and how many had not when no more was waited for.
    async fn until_sent(&self, deadline: Instant) -> Result<(u64, u64), String> {
        let state = self.handle.state();
        let log_index = state.applied_index();
        let now = self.core.sources.now().seconds();
        let members = state.read(|state| state.live_members(now));
        let until = deadline.min(Instant::now() + QUESTION_WAIT);
        let mut asked = JoinSet::new();
        for member in members {
            let handle = self.handle.clone();
            asked.spawn(async move { (member, ask_sent(&handle, member, log_index, &[], until).await) });
        }
        let (mut handed, mut lacking, mut behind) = (0_u64, 0_u64, Vec::new());
        while let Some(joined) = asked.join_next().await {
            match joined {
                Ok((_, Ok(Sent { applied: true, streams, lacking: lack }))) => {
                    handed = handed.saturating_add(streams.saturating_sub(lack));
                    lacking = lacking.saturating_add(lack);
                }
                Ok((member, Ok(Sent { applied: false, .. }))) => behind.push(member.to_string()),
                // It was cut off meanwhile: it is not connected, and property 5 does not wait for it.
                Ok((_, Err(_))) | Err(_) => {}
            }
        }
        if behind.is_empty() {
            Ok((handed, lacking))
        } else {
            Err(format!("members {} to apply it", behind.join(", ")))
        }
    }

    fn outcome(
        &self,
        plan: RevocationPlan,
        number: u64,
        log_index: u64,
        (handed_to_streams, lacking_streams): (u64, u64),
    ) -> RevokeOutcome {
        let now = self.core.sources.now().seconds();
        self.handle.state().read(|state| {
            let left = live_keys(state, now);
            let gone = plan.live_keys.difference(&left);
            let named = |key: &AuthorityId| {
                let member = state.issuing_key(key).and_then(|key| state.member(key.member));
                (key.clone(), member.map(|member| member.record.name.to_string()).unwrap_or_default())
            };
            let of_it = state.revoked_leaves().filter(|(_, leaf)| leaf.revocation == number);
            RevokeOutcome {
                number,
                log_index,
                revoked: of_it.map(|(_, leaf)| leaf.clone()).collect(),
                keys_revoked: gone.map(named).collect(),
                handed_to_streams,
                lacking_streams,
                crls: crls(state),
                cut_off: plan.cut_off,
            }
        })
    }
}

fn crls(state: &State) -> CrlsHandedOut {
    match state.crl_set() {
        Some(set) => CrlsHandedOut::Complete { count: set.len(), bytes: set.bytes() },
        None if state.crls_are_on() => CrlsHandedOut::TooLarge { bytes: state.all_crls().bytes() },
        None => CrlsHandedOut::Off,
    }
}

/// Keys of which a certificate verifies.
fn live_keys(state: &State, now: UnixSeconds) -> BTreeSet<AuthorityId> {
    state.issuing_certificates().filter(|issuing| issuing.is_live(now)).map(|issuing| issuing.key_id.clone()).collect()
}

fn cut_off_member(state: &State, number: MemberNumber, now: UnixSeconds) -> Option<CutOffMember> {
    let live = state.issuing_certificates().filter(|issuing| issuing.member == number && issuing.is_live(now));
    let until = live.map(|issuing| issuing.validity.not_after()).max()?;
    let name = state.member(number).map(|member| member.record.name.to_string()).unwrap_or_default();
    Some(CutOffMember { number, name, until })
}

/// Whether nothing of a member verifies but what is about to be revoked whole.
fn all_keys_are_gone(state: &State, member: MemberNumber, now: UnixSeconds) -> bool {
    let gone: BTreeSet<AuthorityId> = keys_to_go(state, now).map(|(key, _)| key).collect();
    let live = state.issuing_certificates().filter(|issuing| issuing.member == member && issuing.is_live(now));
    live.map(|issuing| &issuing.key_id).all(|key| gone.contains(key))
}

/// Keys that whoever leads is about to revoke whole.
fn keys_to_go(state: &State, now: UnixSeconds) -> impl Iterator<Item = (AuthorityId, KeyRevocationCause)> {
    due(state, now).into_iter().flat_map(|step| match step {
        RevocationDue::RevokeGoneKeys { keys } => keys,
        RevocationDue::SignRootCrl { .. } | RevocationDue::ActivateIssuingKey { .. } | RevocationDue::Prune => {
            Vec::new()
        }
    })
}

/// Members with keys that are to be revoked whole, by name. For want of room there is always a next key, which no
/// revocation waits for.
fn gone_keys(state: &State, plan: &RevocationPlan, now: UnixSeconds) -> Vec<String> {
    let waited_for = |cause: KeyRevocationCause| match cause {
        KeyRevocationCause::Restarted | KeyRevocationCause::MemberGone | KeyRevocationCause::NodeRevoked => true,
        KeyRevocationCause::NoRoom => false,
    };
    let members: BTreeSet<MemberNumber> = keys_to_go(state, now)
        .filter(|(_, cause)| waited_for(*cause))
        .filter_map(|(key, _)| state.issuing_key(&key).map(|key| key.member))
        .filter(|member| plan.is_about(*member))
        .collect();
    let name = |number: MemberNumber| state.member(number).map(|member| member.record.name.to_string());
    members.into_iter().filter_map(name).collect()
}
