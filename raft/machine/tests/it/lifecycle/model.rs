//! The cluster around the pure rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use quorate_proto_identity::{AuthorityId, MemberNumber, PrivateKey, SerialNumber, UnixMillis, UnixSeconds};
use quorate_raft_machine::authority::gate::{
    Knowledge, MemberReport, activation_waits_for, live_until, not_applied, revocation_waits_for,
};
use quorate_raft_machine::{
    AuthorityKind, AuthorityState, AuthorityView, COMMAND_VERSION, Command, Due, IssuingCertificate, MemberDraft,
    MemberServices, NewIssuingCertificate, NewJwtAuthority, NewX509Authority, Operation, OperationResult, State, due,
};

use crate::world::{World, jwt_key, key, member, number};

/// How many members the modelled cluster has.
pub(super) const MEMBERS: u8 = 3;

/// How long a leaf or a token lives, in seconds; as the policy of [`World::founded`] has it.
const LEAF_LIFE: i64 = 10;

/// How long an issuing certificate lives, in seconds.
const ISSUING_LIFE: i64 = 20;

/// How long a reader may have been away and still know what signs: three refresh hints of the policy, less what two clocks
/// of leaders may be apart, each way.
const READERS_TIME: i64 = 3 * 10 - 2 * 2 - 1;

/// Root or token key.
pub(super) fn kind(x509: bool) -> AuthorityKind {
    if x509 { AuthorityKind::X509 } else { AuthorityKind::Jwt }
}

/// A fault in what surrounds the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// The leader activates without asking the gate.
    NoGate,
    /// The leader marks an authority as published before every live member has applied it.
    EarlyMark,
    /// The leader removes authorities before their time, by a clock that is far ahead.
    EarlyPruning,
    /// A leader that was replaced carries out what it had decided.
    RepeatedStep,
    /// What a leader proposes to prepare does not say what it is to succeed.
    NoPrecondition,
    /// Members sign on with the certificate they have, whatever becomes of its root.
    RootIgnored,
}

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation(String);

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A member with its own copy of the state.
struct Node {
    number: MemberNumber,
    state: State,
    applied: usize,
    connected: bool,
    /// How far its clock is ahead.
    off: i64,
    /// The issuing key of its process.
    key: Rc<PrivateKey>,
    /// What its streams have been sent: the bundle's sequence, and what was last sent under which root, to its end.
    sent_sequence: u64,
    sent_under: Option<(AuthorityId, i64)>,
    /// The highest sequence of the bundle that it has had.
    sequence: u64,
}

/// Something that a workload holds.
struct Held {
    kind: AuthorityKind,
    authority: AuthorityId,
    member: MemberNumber,
    ends: i64,
}

/// Somebody elsewhere who comes by at a bundle endpoint now and then.
#[derive(Default)]
struct Reader {
    /// When it last came by, in true time; none before the first time.
    read_at: Option<i64>,
    /// The authorities that it found.
    known: BTreeSet<AuthorityId>,
}

/// What a leader has decided and not carried out yet.
struct Decision {
    /// Who decided it, and in which term.
    term: u64,
    step: Due,
    /// Of something to be prepared: what it is to succeed.
    succeeds: Option<AuthorityId>,
}

/// An authority that a leader proposed to prepare just before it was replaced: it is on its way through the log.
struct Late {
    kind: AuthorityKind,
    operation: Operation,
    succeeds: Option<AuthorityId>,
}

/// The cluster.
pub(super) struct Model {
    bug: Option<Bug>,
    /// The state at the head of the log, true time, and what makes keys and certificates.
    world: World,
    nodes: Vec<Node>,
    leader: usize,
    term: u64,
    decisions: Vec<Decision>,
    late: Vec<Late>,
    held: Vec<Held>,
    /// Where in the log the leader of this term saw each prepared authority first.
    prepared_at: BTreeMap<AuthorityId, usize>,
    /// Every authority that was ever tainted.
    tainted: BTreeSet<AuthorityId>,
    /// A reader of the bundle, where bundle endpoints are served.
    reader: Option<Reader>,
    /// Authorities that began to sign when none signed any more: nobody waits for readers then.
    unread: BTreeSet<AuthorityId>,
    serials: BTreeSet<(AuthorityId, SerialNumber)>,
    authorities: BTreeSet<AuthorityId>,
    moves: usize,
    names: u64,
}

impl Model {
    /// A founded cluster whose members all sign, and all serve a bundle endpoint or none does.
    pub(super) fn new(bug: Option<Bug>, serves: bool) -> Self {
        let mut world = World::founded();
        for number in 2..=u64::from(MEMBERS) {
            let member = MemberDraft { ..member(&format!("node-{number}")) };
            world.one(Operation::SetMember { number: None, member: Box::new(member) }).unwrap();
        }
        if serves {
            for of in 1..=u64::from(MEMBERS) {
                let serves = MemberServices { bundle_endpoint: Some("https://a/".to_owned()), ..Default::default() };
                let (addresses, version, build) = (vec![], COMMAND_VERSION, String::new());
                world.one(Operation::AnnounceMember { number: number(of), addresses, version, build, serves }).unwrap();
            }
        }
        let node = |at: u8| Node {
            number: number(u64::from(at) + 1),
            state: State::new(),
            applied: 0,
            connected: true,
            off: 0,
            key: key(),
            sent_sequence: 0,
            sent_under: None,
            sequence: 0,
        };
        let mut model = Self {
            bug,
            world,
            nodes: (0..MEMBERS).map(node).collect(),
            leader: 0,
            term: 1,
            decisions: Vec::new(),
            late: Vec::new(),
            held: Vec::new(),
            prepared_at: BTreeMap::new(),
            tainted: BTreeSet::new(),
            reader: serves.then(Reader::default),
            unread: BTreeSet::new(),
            serials: BTreeSet::new(),
            authorities: BTreeSet::new(),
            moves: 0,
            names: 0,
        };
        model.settle();
        model
    }

    // What happens around the members.

    pub(super) fn pass(&mut self, seconds: i64) {
        self.world.now += seconds;
    }

    pub(super) fn clock(&mut self, at: u8, off: i64) {
        self.nodes[usize::from(at)].off = off;
    }

    /// Cuts a member off; a leader that is cut off is replaced, as long as others are there.
    pub(super) fn cut(&mut self, at: u8) {
        let others = self.nodes.iter().enumerate().filter(|(index, node)| *index != usize::from(at) && node.connected);
        // A quorum stays: without one there is nothing to check.
        if others.count() * 2 <= usize::from(MEMBERS) {
            return;
        }
        self.nodes[usize::from(at)].connected = false;
        if self.leader == usize::from(at) {
            self.lead_next();
        }
    }

    pub(super) fn heal(&mut self, at: u8) {
        self.nodes[usize::from(at)].connected = true;
    }

    /// A new process: its key and its streams are gone; what it handed out is still held.
    pub(super) fn restart(&mut self, at: u8) {
        let node = &mut self.nodes[usize::from(at)];
        node.key = key();
        node.sent_sequence = node.state.bundle().sequence;
        node.sent_under = None;
        if self.leader == usize::from(at) {
            self.lead_next();
        }
    }

    /// Another member takes the lead: it has applied the whole log when it acts (ELE-07), and knows of the members what they
    /// report to it.
    pub(super) fn lead(&mut self, at: u8) {
        if self.nodes[usize::from(at)].connected && usize::from(at) != self.leader {
            self.send_late();
            self.leader = usize::from(at);
            self.term += 1;
            self.prepared_at.clear();
            self.catch_up(self.leader);
            self.look();
        }
    }

    /// A leader that is about to be replaced proposes to prepare what it has decided on.
    fn send_late(&mut self) {
        let decided = self.decisions.iter().filter(|decision| decision.term == self.term);
        let prepares =
            decided.filter_map(
                |Decision { step, succeeds, .. }| {
                    if let Due::Prepare { kind } = step { Some((*kind, succeeds.clone())) } else { None }
                },
            );
        for (kind, succeeds) in prepares.collect::<Vec<_>>() {
            let operation = self.made(kind, succeeds.clone());
            self.late.push(Late { kind, operation, succeeds });
        }
    }

    /// Such a proposal is applied, whatever has happened since.
    pub(super) fn land(&mut self, pick: u8) -> Result<(), Violation> {
        if self.late.is_empty() {
            return Ok(());
        }
        let Late { kind, operation, succeeds } = self.late.remove(usize::from(pick) % self.late.len());
        let active = self.world.state.active_authority(kind).map(|active| active.id);
        let landed = self.propose(operation).is_ok();
        self.look();
        if landed && active != succeeds {
            return Err(Violation(format!(
                "a step of the life cycle was taken twice: a late {} authority was prepared",
                kind.word()
            )));
        }
        Ok(())
    }

    fn lead_next(&mut self) {
        let next = (0..MEMBERS).find(|at| self.nodes[usize::from(*at)].connected && usize::from(*at) != self.leader);
        if let Some(next) = next {
            self.lead(next);
        }
    }

    // What members do.

    /// Applies what has been committed.
    pub(super) fn apply(&mut self, at: u8) {
        if self.nodes[usize::from(at)].connected {
            self.catch_up(usize::from(at));
        }
    }

    fn catch_up(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        for stored in &self.world.applied[node.applied..] {
            node.applied += 1;
            let command = Command::decode(stored.clone()).unwrap();
            node.state.apply(u64::try_from(node.applied).unwrap(), &command, &mut Vec::new());
        }
    }

    /// Sends streams what there is: the bundle, and what is signed now.
    pub(super) fn push(&mut self, at: u8) {
        let now = self.world.now;
        let signs = self.lease(usize::from(at)).map(|lease| (lease.issuer.clone(), lease.validity.not_after().0));
        let node = &mut self.nodes[usize::from(at)];
        node.sent_sequence = node.state.bundle().sequence;
        if let Some((root, end)) = signs {
            node.sent_under = Some((root, end.min(now + LEAF_LIFE)));
        }
    }

    /// A reader comes by at a member's bundle endpoint, which is served by members that may sign. One that was fenced
    /// while it was cut off does not know; that is the operator's risk, who is told of it.
    pub(super) fn read(&mut self, at: u8) {
        let at = usize::from(at);
        let live = live_until(&self.world.state, UnixSeconds(self.world.now));
        let serves = self.lease(at).is_some() && live.contains_key(&self.nodes[at].number);
        let Some(reader) = self.reader.as_mut().filter(|_| serves) else { return };
        let bundle = self.nodes[at].state.bundle();
        let roots = bundle.x509_authorities.iter().map(|root| root.id.clone());
        let keys = bundle.jwt_authorities.iter().map(|key| key.id.clone());
        *reader = Reader { read_at: Some(self.world.now), known: roots.chain(keys).collect() };
    }

    /// FED-03, FED-04: whoever came by within three refresh hints knows what a document stands under that it is shown.
    fn is_known_elsewhere(&self, held: &Held) -> Result<(), Violation> {
        let Some(Reader { read_at: Some(read_at), known }) = &self.reader else { return Ok(()) };
        let is_late = self.world.now - read_at > READERS_TIME;
        if is_late || known.contains(&held.authority) || self.unread.contains(&held.authority) {
            return Ok(());
        }
        Err(Violation(format!(
            "FED-03: a {} document under {} is not known to a reader who came by {} s ago",
            held.kind.word(),
            held.authority,
            self.world.now - read_at
        )))
    }

    /// Has an issuing certificate made for a member, if it can be asked for.
    pub(super) fn renew(&mut self, at: u8) {
        let at = usize::from(at);
        if !self.nodes[at].connected {
            return;
        }
        let root = self.world.active_root();
        let room = root.certificate.validity().not_after().0 - self.world.now;
        let life = ISSUING_LIFE.min(room);
        if life < 2 {
            return;
        }
        let (own, key) = (self.nodes[at].number.get(), Rc::clone(&self.nodes[at].key));
        let new = self.world.issuing_for(&root, &key, own, life, 2 * ISSUING_LIFE);
        drop(self.propose(Operation::RecordIssuingCertificate(Box::new(new))));
        self.catch_up(at);
    }

    /// The certificate that a member signs with: the best that it has applied for the key of its process (INV-06).
    fn lease(&self, at: usize) -> Option<&IssuingCertificate> {
        let node = &self.nodes[at];
        let now = UnixSeconds(self.world.now + node.off);
        let key_id = AuthorityId::from_subject_key_id(&node.key.public_key().subject_key_id());
        let root_state = |id: &AuthorityId| node.state.x509_authority(id).map(|root| root.state);
        let signs = |id: &AuthorityId| match root_state(id) {
            Some(AuthorityState::Active | AuthorityState::Old) => true,
            Some(AuthorityState::Tainted) => self.bug == Some(Bug::RootIgnored),
            Some(AuthorityState::Prepared | AuthorityState::Revoked) | None => false,
        };
        let own = node.state.issuing_certificates().filter(|issuing| {
            issuing.member == node.number && issuing.key_id == key_id && issuing.is_live(now) && signs(&issuing.issuer)
        });
        if self.bug == Some(Bug::RootIgnored) {
            return own.min_by_key(|issuing| issuing.recorded_at);
        }
        own.max_by_key(|issuing| {
            (root_state(&issuing.issuer) == Some(AuthorityState::Active), issuing.validity.not_after())
        })
    }

    /// A workload is handed an SVID and a token, and both are checked at that instant.
    pub(super) fn fetch(&mut self, at: u8) -> Result<(), Violation> {
        let at = usize::from(at);
        let member = self.nodes[at].number;
        let now = self.world.now + self.nodes[at].off;
        let Some(lease) = self.lease(at).cloned() else { return Ok(()) };
        let ends = (now + LEAF_LIFE).min(lease.validity.not_after().0);
        let state = self.nodes[at].state.x509_authority(&lease.issuer).map(|root| root.state);
        let active_one = self.nodes[at].state.issuing_certificates().any(|issuing| {
            issuing.key_id == lease.key_id
                && issuing.is_live(UnixSeconds(now))
                && self.nodes[at].state.active_x509_authority().is_some_and(|root| root.id == issuing.issuer)
        });
        let may_sign = state == Some(AuthorityState::Active) || (state == Some(AuthorityState::Old) && !active_one);
        if !may_sign {
            return Err(Violation(format!("INV-06: member {member} signs under a root that is {state:?}")));
        }
        if self.world.state.x509_authority(&lease.issuer).is_none() && self.nodes[at].connected && ends > self.world.now
        {
            return Err(Violation(format!("INV-05: member {member} signs under a root that has left the bundle")));
        }
        self.hold(Held { kind: AuthorityKind::X509, authority: lease.issuer, member, ends })?;
        let node = &mut self.nodes[at];
        let bundle = node.state.bundle();
        node.sent_sequence = bundle.sequence;
        if let Some(key) = node.state.active_jwt_authority()
            && now < key.validity.not_after().0
        {
            let (authority, end) = (key.id.clone(), key.validity.not_after().0);
            let ends = (now + LEAF_LIFE).min(end);
            self.hold(Held { kind: AuthorityKind::Jwt, authority, member, ends })?;
        }
        Ok(())
    }

    fn hold(&mut self, held: Held) -> Result<(), Violation> {
        if held.kind == AuthorityKind::X509 {
            let at = usize::try_from(held.member.get()).unwrap() - 1;
            self.nodes[at].sent_under = Some((held.authority.clone(), held.ends));
        }
        self.is_known_elsewhere(&held)?;
        self.held.push(held);
        self.held_verify()
    }

    // What the leader does.

    /// Decides on one of the steps that are due.
    pub(super) fn decide(&mut self, pick: u8) {
        self.catch_up(self.leader);
        self.look();
        let steps = due(&self.nodes[self.leader].state, self.leader_now());
        if let Some(step) = steps.get(usize::from(pick) % steps.len().max(1)) {
            let succeeds = if let Due::Prepare { kind } = step {
                self.nodes[self.leader].state.active_authority(*kind).map(|active| active.id)
            } else {
                None
            };
            self.decisions.push(Decision { term: self.term, step: step.clone(), succeeds });
        }
        if self.bug == Some(Bug::EarlyPruning) && pick.is_multiple_of(8) {
            self.decisions.push(Decision { term: self.term, step: Due::PruneAuthorities, succeeds: None });
        }
    }

    /// Goes on with something that was decided. A leader makes sure of its office first, and that the step is still due.
    pub(super) fn carry(&mut self, pick: u8) -> Result<(), Violation> {
        if self.decisions.is_empty() {
            return Ok(());
        }
        let Decision { term, step, .. } = self.decisions.remove(usize::from(pick) % self.decisions.len());
        self.catch_up(self.leader);
        self.look();
        let is_due = due(&self.world.state, self.leader_now()).contains(&step);
        let early = self.bug == Some(Bug::EarlyPruning) && step == Due::PruneAuthorities;
        if self.bug != Some(Bug::RepeatedStep) && !early && (term != self.term || !is_due) {
            return Ok(());
        }
        let taken = self.take(step.clone());
        if taken && !is_due && !early {
            return Err(Violation(format!("a step of the life cycle was taken twice: {step:?}")));
        }
        Ok(())
    }

    /// Takes a step, if its gate is open. Says whether it was taken.
    fn take(&mut self, step: Due) -> bool {
        let operation = match step {
            Due::Prepare { kind } => return self.prepared(kind),
            Due::Publish { kind, id } => return self.published(kind, id),
            Due::Confirm { kind, id } => Operation::MarkPublished { kind, id, confirmed: true },
            Due::Activate { kind, id } => return self.activated(kind, &id),
            Due::Taint { kind: AuthorityKind::X509, id } => Operation::TaintX509Authority { id },
            Due::Taint { kind: AuthorityKind::Jwt, id } => Operation::TaintJwtAuthority { id },
            Due::Revoke { kind, id } => return self.revoked(kind, &id),
            Due::PruneAuthorities => {
                let ahead = if self.bug == Some(Bug::EarlyPruning) { 115 } else { 0 };
                let mut command = self.world.command(vec![Operation::PruneAuthorities]);
                command.time = UnixMillis((self.leader_now().0 + ahead) * 1000);
                let pruned = self.world.apply(&command).results.remove(0);
                return pruned.is_ok();
            }
            Due::PruneExpiredEntries => Operation::PruneExpiredEntries,
        };
        self.propose(operation).is_ok()
    }

    /// A new authority, and what is proposed for it.
    fn made(&mut self, kind: AuthorityKind, succeeds: Option<AuthorityId>) -> Operation {
        let succeeds = succeeds.filter(|_| self.bug != Some(Bug::NoPrecondition));
        match kind {
            AuthorityKind::X509 => {
                let made = self.world.root(120).new;
                Operation::PrepareX509Authority(Box::new(NewX509Authority { succeeds, ..made }))
            }
            AuthorityKind::Jwt => {
                self.names += 1;
                let made = jwt_key(&format!("key-{}", self.names), self.world.now, 120);
                Operation::PrepareJwtAuthority(Box::new(NewJwtAuthority { succeeds, ..made }))
            }
        }
    }

    fn prepared(&mut self, kind: AuthorityKind) -> bool {
        let active = self.world.state.active_authority(kind).map(|active| active.id);
        let operation = self.made(kind, active);
        let prepared = self.propose(operation).is_ok();
        self.look();
        prepared
    }

    /// Marks an authority as published, if every live member has applied it.
    fn published(&mut self, kind: AuthorityKind, id: AuthorityId) -> bool {
        let Some(index) = self.prepared_at.get(&id).copied() else { return false };
        let reports = self.reports();
        let state = &self.nodes[self.leader].state;
        let waits = not_applied(state, u64::try_from(index).unwrap(), &self.knowledge(&reports));
        if self.bug != Some(Bug::EarlyMark) && !waits.is_empty() {
            return false;
        }
        self.propose(Operation::MarkPublished { kind, id, confirmed: false }).is_ok()
    }

    fn activated(&mut self, kind: AuthorityKind, id: &AuthorityId) -> bool {
        let has_ended = |active: &AuthorityView| self.leader_now() > active.validity.not_after();
        if self.world.state.active_authority(kind).is_none_or(|active| has_ended(&active)) {
            self.unread.insert(id.clone());
        }
        if self.bug != Some(Bug::NoGate) && !self.activation_is_open(kind, id) {
            return false;
        }
        let operation = match kind {
            AuthorityKind::X509 => {
                let certificates = self.certificates_under(id);
                Operation::ActivateX509Authority { id: id.clone(), issuing_certificates: certificates }
            }
            AuthorityKind::Jwt => Operation::ActivateJwtAuthority { id: id.clone() },
        };
        self.propose(operation).is_ok()
    }

    /// A certificate under a root for the newest key of each live member, as the log has it.
    fn certificates_under(&mut self, id: &AuthorityId) -> Vec<NewIssuingCertificate> {
        let Some(root) = self.world.roots.iter().find(|root| root.id() == *id).cloned() else { return Vec::new() };
        let room = root.certificate.validity().not_after().0 - self.world.now;
        let live = self.world.state.live_members(self.leader_now());
        let mut certificates = Vec::new();
        for member in live {
            let node = &self.nodes[usize::try_from(member.get()).unwrap() - 1];
            let key_id = AuthorityId::from_subject_key_id(&node.key.public_key().subject_key_id());
            // The key that the log knows; a process that started again meanwhile asks for itself.
            if self.world.state.issuing_key(&key_id).is_some() && room >= 2 {
                let key = Rc::clone(&node.key);
                let life = ISSUING_LIFE.min(room);
                let made = self.world.issuing_for(&root, &key, member.get(), life, 2 * ISSUING_LIFE);
                certificates.push(made);
            }
        }
        certificates
    }

    fn activation_is_open(&self, kind: AuthorityKind, id: &AuthorityId) -> bool {
        let state = &self.nodes[self.leader].state;
        let Some(index) = self.prepared_at.get(id) else { return false };
        let lacking = self.streams(|node| u64::from(node.sent_sequence < node.state.bundle().sequence));
        let reports = self.reports();
        let waits = activation_waits_for(
            state,
            (kind, id),
            u64::try_from(*index).unwrap(),
            &lacking,
            &self.knowledge(&reports),
        );
        waits.is_empty()
    }

    fn revoked(&mut self, kind: AuthorityKind, id: &AuthorityId) -> bool {
        let now = self.world.now;
        let depends = |node: &Node| node.sent_under.as_ref().is_some_and(|(root, end)| root == id && now <= *end);
        let depending = self.streams(|node| u64::from(depends(node)));
        let reports = self.reports();
        let state = &self.nodes[self.leader].state;
        if !revocation_waits_for(state, (kind, id), &depending, &self.knowledge(&reports)).is_empty() {
            return false;
        }
        let id = id.clone();
        self.propose(match kind {
            AuthorityKind::X509 => Operation::RevokeX509Authority { id },
            AuthorityKind::Jwt => Operation::RevokeJwtAuthority { id },
        })
        .is_ok()
    }

    /// What connected members answer when they are asked after their streams.
    fn streams(&self, count: impl Fn(&Node) -> u64) -> BTreeMap<MemberNumber, u64> {
        self.nodes.iter().filter(|node| node.connected).map(|node| (node.number, count(node))).collect()
    }

    fn reports(&self) -> Vec<MemberReport> {
        let report = |node: &Node| MemberReport {
            member: node.number,
            applied_index: u64::try_from(node.applied).unwrap(),
            connected: node.connected,
        };
        self.nodes.iter().map(report).collect()
    }

    fn knowledge<'a>(&self, reports: &'a [MemberReport]) -> Knowledge<'a> {
        Knowledge { now: self.leader_now(), own: Some(self.nodes[self.leader].number), reports }
    }

    /// Takes note of what is prepared.
    fn look(&mut self) {
        let head = self.world.applied.len();
        for kind in AuthorityKind::ALL {
            for authority in self.world.state.authorities(kind) {
                if authority.state == AuthorityState::Prepared {
                    self.prepared_at.entry(authority.id).or_insert(head);
                }
            }
        }
    }

    fn leader_now(&self) -> UnixSeconds {
        UnixSeconds(self.world.now + self.nodes[self.leader].off)
    }

    fn propose(&mut self, operation: Operation) -> OperationResult {
        let mut command = self.world.command(vec![operation]);
        command.time = UnixMillis(self.leader_now().0 * 1000);
        let result = self.world.apply(&command).results.remove(0);
        self.moves += usize::from(result.is_ok());
        self.catch_up(self.leader);
        result
    }

    // What operators do.

    pub(super) fn prepare(&mut self, kind: AuthorityKind) {
        self.prepared(kind);
    }

    pub(super) fn activate(&mut self, kind: AuthorityKind) {
        self.look();
        let prepared = self.in_state(kind, AuthorityState::Prepared);
        if let Some(id) = prepared.first() {
            self.activated(kind, id);
        }
    }

    pub(super) fn taint(&mut self, kind: AuthorityKind, pick: u8) {
        let old = self.in_state(kind, AuthorityState::Old);
        if let Some(id) = old.get(usize::from(pick) % old.len().max(1)) {
            self.take(Due::Taint { kind, id: id.clone() });
        }
    }

    pub(super) fn revoke(&mut self, kind: AuthorityKind, pick: u8) {
        let tainted = self.in_state(kind, AuthorityState::Tainted);
        if let Some(id) = tainted.get(usize::from(pick) % tainted.len().max(1)) {
            self.revoked(kind, &id.clone());
        }
    }

    pub(super) fn replace(&mut self, kind: AuthorityKind, compromised: bool) {
        let id = self.active(kind);
        drop(self.propose(Operation::MarkAuthority { kind, id, compromised }));
    }

    /// Fences a member. What it handed out stays good to its end; what it hands out meanwhile counts as its own.
    pub(super) fn fence(&mut self, at: u8) {
        let member = self.nodes[usize::from(at)].number;
        drop(self.propose(Operation::RevokeIssuingCertificate { member, serial: None }));
    }

    /// All that are connected catch up, have certificates, and have sent them.
    pub(super) fn settle(&mut self) {
        self.catch_up(self.leader);
        for at in 0..MEMBERS {
            self.apply(at);
            if self.nodes[usize::from(at)].connected && self.needs_certificate(usize::from(at)) {
                self.renew(at);
            }
        }
        for at in 0..MEMBERS {
            self.apply(at);
            self.push(at);
        }
        self.look();
    }

    fn needs_certificate(&self, at: usize) -> bool {
        let half = self.world.now + ISSUING_LIFE / 2;
        let active = self.nodes[at].state.active_x509_authority().map(|root| root.id.clone());
        self.lease(at)
            .is_none_or(|lease| lease.validity.not_after().0 <= half || Some(&lease.issuer) != active.as_ref())
    }

    /// Everybody does what is to be done until nothing is due.
    pub(super) fn run_for_a_while(&mut self) -> Result<(), Violation> {
        for _ in 0..8 {
            self.settle();
            self.decide(0);
            self.carry(0)?;
            for at in 0..MEMBERS {
                self.read(at);
                self.fetch(at)?;
            }
            self.check()?;
        }
        Ok(())
    }

    // What is asked of the model.

    pub(super) fn active(&self, kind: AuthorityKind) -> AuthorityId {
        self.world.state.active_authority(kind).unwrap().id
    }

    pub(super) fn is_revoked(&self, kind: AuthorityKind, id: &AuthorityId) -> bool {
        let found = self.world.state.authority(kind, id);
        found.is_none_or(|authority| authority.state == AuthorityState::Revoked)
    }

    pub(super) fn moves(&self) -> usize {
        self.moves
    }

    fn in_state(&self, kind: AuthorityKind, wanted: AuthorityState) -> Vec<AuthorityId> {
        let authorities = self.world.state.authorities(kind).into_iter();
        authorities.filter(|authority| authority.state == wanted).map(|authority| authority.id).collect()
    }

    // The invariants.

    /// What must hold after each step.
    pub(super) fn check(&mut self) -> Result<(), Violation> {
        self.held_verify()?;
        self.numbers_are_unique()?;
        self.sequences_only_grow()
    }

    /// INV-05: what was handed out, and has not ended, verifies with the bundle of every live member. What stands under an
    /// authority that was tainted is being replaced, and is no longer promised anything.
    fn held_verify(&mut self) -> Result<(), Violation> {
        let now = self.world.now;
        self.held.retain(|held| now <= held.ends);
        for kind in AuthorityKind::ALL {
            self.tainted.extend(self.in_state(kind, AuthorityState::Tainted));
        }
        let live = live_until(&self.world.state, UnixSeconds(now));
        let kept = |held: &&Held| {
            // One that was tainted may have been removed since.
            !self.tainted.contains(&held.authority)
        };
        for held in self.held.iter().filter(kept) {
            for node in self.nodes.iter().filter(|node| live.contains_key(&node.number)) {
                let known = node.state.authority(held.kind, &held.authority);
                if !known.is_some_and(|authority| authority.state.in_bundle()) {
                    return Err(Violation(format!(
                        "INV-05: a {} document under {}, from member {}, good for {} s yet, does not verify at member {}",
                        held.kind.word(),
                        held.authority,
                        held.member,
                        held.ends - now,
                        node.number
                    )));
                }
            }
        }
        Ok(())
    }

    /// INV-09: serial numbers and key IDs.
    fn numbers_are_unique(&mut self) -> Result<(), Violation> {
        for kind in AuthorityKind::ALL {
            self.authorities.extend(self.world.state.authorities(kind).into_iter().map(|authority| authority.id));
        }
        let issued: BTreeSet<_> =
            self.world.state.issuing_certificates().map(|issuing| (issuing.issuer.clone(), issuing.serial)).collect();
        if issued.len() != self.world.state.issuing_certificates().count() {
            return Err(Violation("INV-09: two issuing certificates of one root have one serial number".into()));
        }
        self.serials.extend(issued);
        let ids = |kind| self.world.state.authorities(kind).into_iter().map(|authority| authority.id);
        let all: Vec<AuthorityId> = AuthorityKind::ALL.into_iter().flat_map(ids).collect();
        if all.iter().collect::<BTreeSet<_>>().len() != all.len() {
            return Err(Violation("INV-09: two authorities have one ID".into()));
        }
        Ok(())
    }

    /// INV-09: the bundle's sequence number only grows, on every member.
    fn sequences_only_grow(&mut self) -> Result<(), Violation> {
        for node in &mut self.nodes {
            let sequence = node.state.bundle().sequence;
            if sequence < node.sequence {
                return Err(Violation(format!(
                    "INV-09: member {} goes back from bundle {} to {sequence}",
                    node.number, node.sequence
                )));
            }
            node.sequence = sequence;
        }
        Ok(())
    }
}
