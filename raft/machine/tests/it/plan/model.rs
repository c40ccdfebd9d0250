//! A cluster whose Raft group is two sets, and whose leader does what the plan says, or part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_proto_identity::{AuthorityId, MemberNumber, NodeName};
use quorate_raft_machine::{
    Admission, AuthorityState, MemberHealth, MemberRole, MembershipPlan, NewInvitation, NewJwtAuthority,
    NewX509Authority, Operation, PlanView, Recipient, Sealed, SealedFor, Step, next_steps,
};

use super::Act;
use crate::world::{World, jwt_key, number, sealed_to};

/// Most rounds until a cluster is at rest, for groups as small as these: each round does one step of each kind.
const ROUNDS: usize = 200;

const REGIONS: [&str; 4] = ["", "eu-west", "us", "ap"];

pub(super) struct Cluster {
    pub(super) world: World,
    pub(super) voters: Vec<BTreeSet<MemberNumber>>,
    pub(super) learners: BTreeSet<MemberNumber>,
    pub(super) leader: MemberNumber,
    /// Out of contact.
    pub(super) away: BTreeSet<MemberNumber>,
    /// Out of contact for longer than the plan waits.
    pub(super) dead: BTreeSet<MemberNumber>,
    invited: u8,
}

impl Cluster {
    /// One voter, which founded it, in region eu-west.
    pub(super) fn founded() -> Self {
        Self {
            world: World::founded(),
            voters: vec![BTreeSet::from([number(1)])],
            learners: BTreeSet::new(),
            leader: number(1),
            away: BTreeSet::new(),
            dead: BTreeSet::new(),
            invited: 0,
        }
    }

    /// As many voters as regions, at rest, and a plan for as many.
    pub(super) fn of_voters(regions: &[&str]) -> Self {
        let mut cluster = Self::founded();
        let mut founder = cluster.world.state.member(number(1)).unwrap().record.clone();
        founder.region = regions[0].to_owned();
        let operation = Operation::SetMember { number: Some(number(1)), member: Box::new(founder) };
        cluster.world.one(operation).unwrap();
        for (place, region) in regions.iter().enumerate().skip(1) {
            cluster.invite(&format!("node-{}", place + 1), None, region);
        }
        cluster.plan(u32::try_from(regions.len()).unwrap());
        cluster.settle();
        assert_eq!(cluster.voters_now().len(), regions.len());
        cluster
    }

    pub(super) fn invite(&mut self, name: &str, role: Option<MemberRole>, region: &str) {
        self.invited += 1;
        let invitation = NewInvitation {
            role,
            region: region.to_owned(),
            ..crate::admission::invitation(&self.world, self.invited, name)
        };
        let newcomer =
            Admission { name: NodeName::new(name).unwrap(), ..crate::admission::newcomer(self.invited, name) };
        self.world.one(Operation::CreateInvitation(Box::new(invitation))).unwrap();
        self.world.one(Operation::AdmitMember(Box::new(newcomer))).unwrap();
    }

    pub(super) fn role(&mut self, member: u64, role: MemberRole) {
        self.world.one(Operation::SetMemberRole { number: number(member), role, pinned: true }).unwrap();
    }

    pub(super) fn remove(&mut self, member: u64, compromised: bool) {
        self.world.one(Operation::RemoveMember { number: number(member), compromised }).unwrap();
    }

    pub(super) fn plan(&mut self, voters: u32) {
        self.world.one(Operation::SetPlan(MembershipPlan { voters, ..MembershipPlan::default() })).unwrap();
    }

    pub(super) fn set_recovery_key(&mut self) {
        let public_key = Some(Bytes::from(format!("recovery key {}", self.world.sequence)));
        self.world.one(Operation::SetRecoveryKey { public_key }).unwrap();
    }

    pub(super) fn prepare_root(&mut self, members: &[u64]) {
        let new = NewX509Authority { sealed: sealed_to(members), ..self.world.root(120).new };
        self.world.one(Operation::PrepareX509Authority(Box::new(new))).unwrap();
    }

    pub(super) fn heal(&mut self) {
        self.away.clear();
        self.dead.clear();
    }

    pub(super) fn voters_now(&self) -> BTreeSet<MemberNumber> {
        self.voters.last().unwrap().clone()
    }

    /// How many voters each region has.
    pub(super) fn regions(&self) -> Vec<(String, usize)> {
        let mut regions = BTreeMap::new();
        for voter in self.voters_now() {
            *regions.entry(self.world.state.member(voter).unwrap().record.region.clone()).or_insert(0) += 1;
        }
        regions.into_iter().collect()
    }

    pub(super) fn root_recipients(&self) -> BTreeSet<Recipient> {
        let sealed = self.world.state.x509_authorities().filter_map(|root| root.sealed.as_ref());
        sealed.flat_map(|sealed| sealed.parts.iter().map(|part| part.recipient.clone())).collect()
    }

    fn is_here(&self, member: MemberNumber) -> bool {
        !self.away.contains(&member)
    }

    pub(super) fn view(&self) -> PlanView<'_> {
        let health = |member: MemberNumber| MemberHealth {
            connected: self.is_here(member),
            silent_for: Duration::from_secs(if self.dead.contains(&member) { 100_000 } else { 0 }),
            caught_up: self.is_here(member),
        };
        PlanView {
            state: &self.world.state,
            leader: self.leader,
            voters: self.voters.clone(),
            learners: self.learners.clone(),
            health: self.world.state.members().map(|member| (member.number, health(member.number))).collect(),
        }
    }

    pub(super) fn next(&self) -> Vec<Step> {
        let steps = next_steps(&self.view());
        assert!(steps.iter().filter(|step| step.changes_voters()).count() <= 1, "{steps:?}");
        steps
    }

    /// Does the first so many of the next steps, and answers how many there were to do.
    pub(super) fn run(&mut self, count: usize) -> usize {
        let steps = self.next();
        for step in steps.iter().take(count) {
            self.carry_out(step, false);
        }
        steps.len().min(count)
    }

    /// Does what there is to do until there is nothing.
    pub(super) fn settle(&mut self) {
        for _ in 0..ROUNDS {
            if self.run(usize::MAX) == 0 {
                return;
            }
        }
        assert_eq!(self.next(), [], "after {ROUNDS} rounds: {:?} {:?}", self.voters, self.learners);
    }

    /// Does a step; `in_part` is for a leader that dies in the middle of it.
    fn carry_out(&mut self, step: &Step, in_part: bool) {
        match step {
            Step::SettleVoters { voters } => {
                assert_eq!(self.voters.last(), Some(voters));
                self.change_voters(voters.clone(), false);
            }
            Step::SealRecovery => {
                let id = self.world.state.recovery_key().unwrap().id.clone();
                self.seal(&Recipient::RecoveryKey(id), true, true, in_part);
            }
            Step::SealTokens { member } => self.seal(&Recipient::Member(*member), false, true, in_part),
            Step::SealRoots { member } => self.seal(&Recipient::Member(*member), true, false, in_part),
            Step::AddLearner { member } => assert!(self.learners.insert(*member)),
            Step::AddVoter { member } => {
                assert!(self.opens_what_signs(*member), "{member} would vote without the roots");
                assert!(self.learners.contains(member) && self.is_here(*member));
                let mut voters = self.voters_now();
                assert!(voters.insert(*member));
                self.change_voters(voters, in_part);
            }
            Step::DemoteVoter { member } => {
                assert_ne!(*member, self.leader);
                let mut voters = self.voters_now();
                assert!(voters.remove(member));
                self.learners.insert(*member);
                self.change_voters(voters, in_part);
            }
            Step::TransferLeadership { from, to } => {
                assert_eq!(*from, self.leader);
                assert!(self.is_here(*to) && self.voters.iter().all(|voters| voters.contains(to)));
                self.leader = *to;
            }
            Step::DropFromRaft { member } => {
                assert!(self.voters.iter().all(|voters| !voters.contains(member)));
                assert!(self.learners.remove(member));
            }
            Step::StripRootSeals { member } | Step::CompleteRemoval { member } => {
                assert!(self.voters.iter().all(|voters| !voters.contains(member)));
                self.world.one(step.operation().unwrap()).unwrap();
            }
            Step::SetRole { .. } => drop(self.world.one(step.operation().unwrap()).unwrap()),
        }
    }

    fn change_voters(&mut self, voters: BTreeSet<MemberNumber>, in_part: bool) {
        assert!(has_quorum(&voters, &self.away), "{voters:?} without {:?}", self.away);
        if in_part {
            self.voters.push(voters);
        } else {
            self.voters = vec![voters];
            let learners = self.learners.clone();
            self.learners = &learners - &self.voters_now();
        }
    }

    /// Seals what the leader can open, or the first of it.
    fn seal(&mut self, to: &Recipient, roots: bool, keys: bool, in_part: bool) {
        let own = Recipient::Member(self.leader);
        let lacks = |sealed: &Sealed| sealed.part_for(&own).is_some() && sealed.part_for(to).is_none();
        let part = SealedFor { recipient: to.clone(), ..sealed_to(&[1]).parts.remove(0) };
        let mut operations = Vec::new();
        for root in self.world.state.x509_authorities().filter(|_| roots) {
            if root.sealed.as_ref().is_some_and(lacks) {
                operations.push(Operation::SealX509Authority { id: root.id.clone(), parts: vec![part.clone()] });
            }
        }
        for key in self.world.state.jwt_authorities().filter(|_| keys) {
            if key.sealed.as_ref().is_some_and(lacks) {
                operations.push(Operation::SealJwtAuthority { id: key.id.clone(), parts: vec![part.clone()] });
            }
        }
        assert!(!operations.is_empty(), "nothing to seal to {to}");
        let count = if in_part { operations.len() / 2 } else { operations.len() };
        for operation in operations.into_iter().take(count) {
            self.world.one(operation).unwrap();
        }
    }

    /// Another voter that is there leads, if there is one; one that the roots are sealed to before others.
    fn lead_elsewhere(&mut self) {
        let root = self.world.state.active_x509_authority().unwrap().sealed.clone().unwrap();
        let others = self.voters_now().into_iter().filter(|voter| *voter != self.leader && self.is_here(*voter));
        let able = |voter: &MemberNumber| root.part_for(&Recipient::Member(*voter)).is_some();
        if let Some(next) = others.max_by_key(|voter| (able(voter), std::cmp::Reverse(*voter))) {
            self.leader = next;
        }
    }

    fn pick(&self, pick: u8) -> Option<MemberNumber> {
        let there: Vec<_> = self
            .world
            .state
            .members()
            .filter(|member| !member.record.status.has_gone())
            .map(|member| member.number)
            .collect();
        there.get(usize::from(pick) % there.len()).copied()
    }

    pub(super) fn act(&mut self, act: &Act) {
        match act {
            Act::Invite(role, region) => {
                if self.world.state.members().filter(|member| !member.record.status.has_gone()).count() >= 8 {
                    return;
                }
                let role = [None, None, Some(MemberRole::Voter), Some(MemberRole::Learner)][usize::from(*role)];
                let name = format!("node-{}", self.invited + 2);
                self.invite(&name, role, REGIONS[usize::from(*region)]);
            }
            Act::Role(member, voter) => {
                let role = if *voter { MemberRole::Voter } else { MemberRole::Learner };
                let number = self.pick(*member).unwrap();
                // Refused for the last voter, and for one that leaves.
                let _ = self.world.one(Operation::SetMemberRole { number, role, pinned: true });
            }
            Act::Remove(member, compromised) => {
                let number = self.pick(*member).unwrap();
                let _ = self.world.one(Operation::RemoveMember { number, compromised: *compromised });
            }
            Act::Plan(voters, automatic) => {
                let plan = MembershipPlan { voters: *voters, automatic: *automatic, ..MembershipPlan::default() };
                self.world.one(Operation::SetPlan(plan)).unwrap();
            }
            Act::Recovery => self.set_recovery_key(),
            Act::Root(to) => {
                let sealed = self.sealed_by(*to, true);
                let new = NewX509Authority { sealed, ..self.world.root(120).new };
                let _ = self.world.one(Operation::PrepareX509Authority(Box::new(new)));
            }
            Act::ActivateRoot => {
                // A leader signs issuing certificates under the root that it activates, so it can open it.
                let own = Recipient::Member(self.leader);
                let opens = |sealed: &Sealed| sealed.part_for(&own).is_some();
                let prepared = self
                    .world
                    .state
                    .x509_authorities()
                    .find(|root| root.state == AuthorityState::Prepared && root.sealed.as_ref().is_some_and(opens));
                if let Some(id) = prepared.map(|root| root.id.clone()) {
                    let _ = self.world.one(Operation::ActivateX509Authority { id, issuing_certificates: vec![] });
                }
            }
            Act::TokenKey(_) if !self.world.state.member(self.leader).is_some_and(|leader| leader.is_sealable()) => {}
            Act::TokenKey(to) => {
                let sealed = self.sealed_by(*to, false);
                let name = format!("jwt-{}", self.world.sequence + 2);
                let new = NewJwtAuthority { sealed, ..jwt_key(&name, self.world.now, 120) };
                let _ = self.world.one(Operation::PrepareJwtAuthority(Box::new(new)));
                let id = AuthorityId::new(&name).unwrap();
                let _ = self.world.one(Operation::ActivateJwtAuthority { id });
            }
            Act::Away(member, dead) => self.away_with(*member, *dead),
            Act::Heal => self.heal(),
            Act::Lead => self.lead_elsewhere(),
            Act::Steps(count, dies) => {
                let steps = self.next();
                let count = usize::from(*count);
                for (place, step) in steps.iter().take(count).enumerate() {
                    self.carry_out(step, *dies && place + 1 == count);
                }
                if *dies {
                    self.lead_elsewhere();
                }
            }
        }
    }

    /// Sealed by the leader to itself, and to some of those that may open it: the others were not there yet. A leader that
    /// is to go seals to all the others.
    fn sealed_by(&self, bits: u8, root: bool) -> Sealed {
        let may = |member: &&quorate_raft_machine::Member| member.is_sealable() && (!root || member.may_open_roots());
        let leaves = self.world.state.member(self.leader).is_none_or(|leader| !may(&leader));
        let picked = |member: &quorate_raft_machine::Member| {
            leaves || member.number == self.leader || bits >> (member.number.get() % 8) & 1 == 1
        };
        let members: Vec<u64> = self
            .world
            .state
            .members()
            .filter(may)
            .filter(|member| picked(member))
            .map(|member| member.number.get())
            .collect();
        sealed_to(&members)
    }

    /// A member goes out of contact, if a quorum stays, and somebody in it that can open what signs: without that no
    /// leader could do anything, and only an operator help.
    fn away_with(&mut self, member: u8, dead: bool) {
        let number = self.pick(member).unwrap();
        let mut away = self.away.clone();
        away.insert(number);
        let stays = self.voters.iter().all(|voters| has_quorum(voters, &away));
        let able = self.voters_now().iter().any(|voter| !away.contains(voter) && self.opens_what_signs(*voter));
        if number == self.leader || !stays || !able {
            return;
        }
        self.away = away;
        if dead {
            self.dead.insert(number);
        }
    }

    /// At rest while some are out of contact: what may be missing is on their side.
    pub(super) fn check_rest_with_absent(&self) {
        assert_eq!(self.voters.len(), 1);
        for recipient in self.root_recipients() {
            if let Recipient::Member(member) = recipient
                && !self.voters_now().contains(&member)
            {
                // A seal is not stripped while who else is to open the root is not there to get one.
                let record = &self.world.state.member(member).unwrap().record;
                let waits = record.role == MemberRole::Voter
                    || !record.status.is_admitted()
                    || self.world.state.members().any(|other| other.may_open_roots() && !self.is_here(other.number));
                assert!(waits && !self.away.is_empty(), "{member} {:?}", self.voters);
            }
        }
    }

    /// At rest while all are there: the group is what is wanted, and each key is sealed to just those that may open it,
    /// as far as whoever leads could.
    pub(super) fn check_rest(&self) {
        let state = &self.world.state;
        let plan = state.plan();
        let of = |wanted: fn(&quorate_raft_machine::Member) -> bool| -> BTreeSet<MemberNumber> {
            state.members().filter(|member| wanted(member)).map(|member| member.number).collect()
        };
        let wanted = of(|member| member.record.status.is_admitted() && member.record.role == MemberRole::Voter);
        let others = of(|member| member.record.status.is_admitted() && member.record.role == MemberRole::Learner);
        assert_eq!(self.voters, vec![wanted.clone()]);
        assert_eq!(self.learners, others);
        assert!(state.members().all(|member| !member.record.status.is_leaving()));
        for recipient in self.root_recipients() {
            if let Recipient::Member(member) = recipient {
                assert!(wanted.contains(&member), "a root is sealed to {member}, which does not vote");
            }
        }
        let pinned = wanted.iter().filter(|voter| state.member(**voter).unwrap().record.role_pinned).count();
        let target = usize::try_from(plan.voters).unwrap();
        if plan.automatic {
            assert!(wanted.len() <= target.max(pinned), "{wanted:?} {plan:?}");
            let free = of(|member| {
                member.record.status.is_admitted()
                    && member.record.role == MemberRole::Learner
                    && !member.record.role_pinned
            });
            let missing = target.saturating_sub(wanted.len());
            let needed = if wanted.len() % 2 == 0 { 1 } else { missing.min(2) };
            assert!(missing == 0 || free.len() < needed, "{wanted:?} {free:?} {plan:?}");
        }
    }

    fn opens_what_signs(&self, member: MemberNumber) -> bool {
        let own = Recipient::Member(member);
        let sealable = |part: &SealedFor| match &part.recipient {
            Recipient::Member(number) => self.world.state.member(*number).is_some_and(|member| member.is_sealable()),
            Recipient::RecoveryKey(_) => false,
        };
        let signs = |root: &&quorate_raft_machine::X509Authority| match root.state {
            AuthorityState::Active => true,
            // One that nobody can open never signs.
            AuthorityState::Prepared => root.sealed.as_ref().unwrap().parts.iter().any(sealable),
            AuthorityState::Old | AuthorityState::Tainted | AuthorityState::Revoked => false,
        };
        self.world
            .state
            .x509_authorities()
            .filter(signs)
            .all(|root| root.sealed.as_ref().unwrap().part_for(&own).is_some())
    }
}

fn has_quorum(voters: &BTreeSet<MemberNumber>, away: &BTreeSet<MemberNumber>) -> bool {
    voters.difference(away).count() > voters.len() / 2
}
