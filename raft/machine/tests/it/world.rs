//! A state under test, and what makes commands for it: keys, certificates, drafts.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use quorate_proto_identity::x509::{
    AuthorityTemplate, Certificate, CrlTemplate, RevokedCertificate, build_crl, build_issuing_certificate, build_root,
    parse_crl,
};
use quorate_proto_identity::{
    AuthorityId, ClusterId, EntryId, KeyType, MemberNumber, NodeName, PrivateKey, Selector, SelectorSet, SerialNumber,
    SpiffeId, TrustDomain, UnixMillis, UnixSeconds, Validity,
};
use quorate_raft_machine::authority::BACKDATE;
use quorate_raft_machine::{
    COMMAND_VERSION, Caller, Command, EntryDraft, Event, Found, MemberDraft, MemberRole, MemberStatus, NewCrl,
    NewIssuingCertificate, NewJwtAuthority, NewX509Authority, NodeScope, Operation, OperationResult, Origin, Outcome,
    Policy, Recipient, Refusal, RefusalCode, RevocationReason, RevokedLeaf, Sealed, SealedFor, State, invariants,
};

/// When every history begins.
pub(crate) const START: i64 = 1_700_000_000;

/// What makes a value wrong in one way.
pub(crate) type Change<T> = fn(&mut T);

/// A policy whose lives are seconds, as tests of rotation use them.
pub(crate) fn short_policy() -> Policy {
    Policy {
        root_lifetime: 120,
        issuing_lifetime: 20,
        x509_svid_lifetime: 10,
        jwt_key_lifetime: 120,
        jwt_svid_lifetime: 10,
        refresh_hint: 10,
        ..Policy::default()
    }
}

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

pub(crate) fn id(path: &str) -> SpiffeId {
    SpiffeId::from_path(&domain(), path).unwrap()
}

pub(crate) fn selectors(texts: &[&str]) -> SelectorSet {
    texts.iter().map(|text| Selector::parse(text).unwrap()).collect()
}

pub(crate) fn entry_id(text: &str) -> EntryId {
    EntryId::new(text).unwrap()
}

pub(crate) fn number(number: u64) -> MemberNumber {
    MemberNumber::new(number).unwrap()
}

/// A draft under the parent of all nodes.
pub(crate) fn draft(entry: &str, path: &str, texts: &[&str]) -> EntryDraft {
    draft_under("/spire/nodes", entry, path, texts)
}

pub(crate) fn draft_under(parent: &str, entry: &str, path: &str, texts: &[&str]) -> EntryDraft {
    EntryDraft::new(entry_id(entry), id(path), id(parent), selectors(texts))
}

pub(crate) fn create(draft: EntryDraft) -> Operation {
    Operation::CreateEntry(Box::new(draft))
}

pub(crate) fn sealed_to(members: &[u64]) -> Sealed {
    let part = |member: &u64| SealedFor {
        recipient: Recipient::Member(number(*member)),
        encapsulated_key: Bytes::from_static(b"encapsulated"),
        ciphertext: Bytes::from_static(b"sealed"),
    };
    Sealed { suite: 1, parts: members.iter().map(part).collect() }
}

pub(crate) fn key() -> Rc<PrivateKey> {
    Rc::new(PrivateKey::generate(KeyType::EcP256).unwrap())
}

pub(crate) fn member(name: &str) -> MemberDraft {
    MemberDraft {
        name: NodeName::new(name).unwrap(),
        identity_key: Bytes::copy_from_slice(key().public_key().spki_der()),
        sealing_key: Bytes::from_static(b"sealing key of thirty-two bytes."),
        incarnation: None,
        region: "eu-west".to_owned(),
        zone: "a".to_owned(),
        labels: BTreeMap::from([("rack".to_owned(), "7".to_owned())]),
        addresses: vec!["node-1.example.org:8082".to_owned()],
        version: COMMAND_VERSION,
        build: "0.1.0".to_owned(),
        role: MemberRole::Voter,
        role_pinned: false,
        status: MemberStatus::Admitted,
        serves: quorate_raft_machine::MemberServices::default(),
    }
}

/// A root that a leader made, with its key in the clear.
#[derive(Clone)]
pub(crate) struct TestRoot {
    pub(crate) key: Rc<PrivateKey>,
    pub(crate) certificate: Certificate,
    pub(crate) new: NewX509Authority,
}

impl TestRoot {
    pub(crate) fn id(&self) -> AuthorityId {
        self.certificate.authority_id()
    }
}

pub(crate) fn serial(from: u64) -> SerialNumber {
    let mut random = [0x40; 16];
    random[8..].copy_from_slice(&from.to_be_bytes());
    SerialNumber::from_random(random)
}

pub(crate) fn life(from: i64, seconds: i64) -> Validity {
    Validity::new(UnixSeconds(from), UnixSeconds(from + seconds)).unwrap()
}

/// The validity of an authority that is made at `from`, as leaders make them.
pub(crate) fn backdated(from: i64, seconds: i64) -> Validity {
    life(from - BACKDATE, BACKDATE + seconds)
}

pub(crate) fn crl(key: &PrivateKey, from: i64, seconds: i64) -> Bytes {
    let template = CrlTemplate {
        this_update: UnixSeconds(from - 30),
        next_update: UnixSeconds(from + seconds),
        number: u64::try_from(from).unwrap(),
        revoked: &[],
    };
    build_crl(&template, key).unwrap().into()
}

pub(crate) fn root(from: i64, seconds: i64, serial_from: u64) -> TestRoot {
    let key = key();
    let trust_domain = domain();
    let template = AuthorityTemplate {
        trust_domain: &trust_domain,
        serial: serial(serial_from),
        validity: backdated(from, seconds),
    };
    let certificate = build_root(&template, &key).unwrap();
    let new = NewX509Authority {
        certificate: Bytes::copy_from_slice(certificate.der()),
        crl: crl(&key, from, 2 * seconds),
        sealed: sealed_to(&[1]),
        succeeds: None,
    };
    TestRoot { key, certificate, new }
}

pub(crate) fn jwt_key(name: &str, from: i64, seconds: i64) -> NewJwtAuthority {
    NewJwtAuthority {
        id: AuthorityId::new(name).unwrap(),
        public_key: Bytes::copy_from_slice(key().public_key().spki_der()),
        validity: backdated(from, seconds),
        sealed: sealed_to(&[1]),
        succeeds: None,
    }
}

/// A state, the clock of its leader, and the roots whose keys the test has.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) now: i64,
    pub(crate) log_index: u64,
    pub(crate) sequence: u64,
    pub(crate) serial: u64,
    pub(crate) roots: Vec<TestRoot>,
    /// Issuing keys in the clear, by their IDs.
    pub(crate) keys: BTreeMap<AuthorityId, Rc<PrivateKey>>,
    pub(crate) events: Vec<Event>,
    /// Every command that was applied, in its stored form.
    pub(crate) applied: Vec<Bytes>,
}

impl World {
    /// A state with nothing in it.
    pub(crate) fn empty() -> Self {
        Self {
            state: State::new(),
            now: START,
            log_index: 0,
            sequence: 0,
            serial: 0,
            roots: Vec::new(),
            keys: BTreeMap::new(),
            events: Vec::new(),
            applied: Vec::new(),
        }
    }

    /// A founded state, with the policy of seconds.
    pub(crate) fn founded() -> Self {
        Self::founded_with(short_policy())
    }

    pub(crate) fn founded_with(policy: Policy) -> Self {
        let mut world = Self::empty();
        let found = world.found(policy);
        let result = world.one(found);
        assert!(result.is_ok(), "{result:?}");
        world
    }

    /// What founds this world.
    pub(crate) fn found(&mut self, policy: Policy) -> Operation {
        let x509 = self.root(policy.root_lifetime);
        Operation::Found(Box::new(Found {
            cluster_id: ClusterId::new([7; 16]),
            trust_domain: domain(),
            policy,
            member: member("node-1"),
            x509_authority: x509.new,
            jwt_authority: jwt_key("jwt-1", self.now, i64::from(policy.jwt_key_lifetime)),
        }))
    }

    /// A root that begins now.
    pub(crate) fn root(&mut self, seconds: u32) -> TestRoot {
        self.serial += 1;
        let root = root(self.now, i64::from(seconds), self.serial);
        self.roots.push(root.clone());
        root
    }

    pub(crate) fn root_with(&self, id: &AuthorityId) -> TestRoot {
        self.roots.iter().find(|root| root.id() == *id).unwrap().clone()
    }

    pub(crate) fn active_root(&self) -> TestRoot {
        self.root_with(&self.state.active_x509_authority().unwrap().id)
    }

    /// An issuing certificate of a new key, with that key's first CRL, beginning now.
    pub(crate) fn issuing(&mut self, root: &TestRoot, member: u64, seconds: i64) -> NewIssuingCertificate {
        let key = key();
        let id = AuthorityId::from_subject_key_id(&key.public_key().subject_key_id());
        self.keys.insert(id, Rc::clone(&key));
        self.issuing_for(root, &key, member, seconds, 2 * seconds)
    }

    pub(crate) fn issuing_for(
        &mut self,
        root: &TestRoot,
        key: &PrivateKey,
        member: u64,
        seconds: i64,
        crl_seconds: i64,
    ) -> NewIssuingCertificate {
        self.serial += 1;
        let trust_domain = domain();
        let template = AuthorityTemplate {
            trust_domain: &trust_domain,
            serial: serial(self.serial),
            validity: life(self.now, seconds),
        };
        let certificate = build_issuing_certificate(&template, key.public_key(), &root.certificate, &root.key).unwrap();
        NewIssuingCertificate {
            member: number(member),
            certificate: Bytes::copy_from_slice(certificate.der()),
            crl: crl(key, self.now, crl_seconds),
            boot: 1,
        }
    }

    /// The next CRL of one of the issuing keys whose private halves the test has, with so many further leaves.
    pub(crate) fn next_issuer_crl(&mut self, pick: usize, count: u64) -> Option<Operation> {
        let known: Vec<AuthorityId> =
            self.keys.keys().filter(|id| self.state.issuing_key(id).is_some()).cloned().collect();
        let id = known.get(pick.checked_rem(known.len())?)?.clone();
        let last = parse_crl(&self.state.issuing_key(&id)?.crl).unwrap();
        let revocation = self.state.last_revocation_number();
        let mut revoked: Vec<RevokedCertificate> = last.revoked.clone();
        let mut added = Vec::new();
        for _ in 0..count {
            self.serial += 1;
            let serial = serial(self.serial);
            revoked.push(RevokedCertificate {
                serial,
                revoked_at: self.seconds(),
                reason: RevocationReason::default(),
            });
            added.push(RevokedLeaf { serial, spiffe_id: id_of_leaf(), not_after: self.seconds().plus(4), revocation });
        }
        let template = CrlTemplate {
            this_update: last.this_update.plus(1),
            next_update: last.next_update,
            number: last.number + 1,
            revoked: &revoked,
        };
        let crl = build_crl(&template, &self.keys[&id]).unwrap().into();
        Some(Operation::RecordCrl(Box::new(NewCrl { issuer: id, crl, covers: revocation, revoked: added })))
    }

    /// The next CRL of a root: with what it has, what is revoked under it, and these.
    pub(crate) fn next_root_crl(&self, root: &TestRoot, more: &[SerialNumber]) -> NewCrl {
        let last = parse_crl(&self.state.x509_authority(&root.id()).unwrap().crl).unwrap();
        let under = self.state.issuing_certificates().filter(|issuing| issuing.issuer == root.id());
        let serials: BTreeSet<SerialNumber> = under
            .filter(|issuing| issuing.revoked_at.is_some() || more.contains(&issuing.serial))
            .map(|issuing| issuing.serial)
            .chain(last.revoked.iter().map(|listed| listed.serial))
            .collect();
        let entry =
            |serial| RevokedCertificate { serial, revoked_at: self.seconds(), reason: RevocationReason::default() };
        let template = CrlTemplate {
            this_update: last.this_update.plus(1),
            next_update: last.next_update,
            number: last.number + 1,
            revoked: &serials.into_iter().map(entry).collect::<Vec<_>>(),
        };
        let crl = build_crl(&template, &root.key).unwrap().into();
        NewCrl { issuer: root.id(), crl, covers: 0, revoked: Vec::new() }
    }

    /// The next command of node 1.
    pub(crate) fn command(&mut self, operations: Vec<Operation>) -> Command {
        self.sequence += 1;
        Command {
            origin: Origin { node: 1, boot: 1, sequence: self.sequence, acknowledged: self.sequence - 1 },
            caller: Caller::node(),
            time: UnixMillis(self.now * 1_000 + 250),
            operations,
        }
    }

    /// Applies a command in its stored form, and checks that no invariant is broken.
    pub(crate) fn apply(&mut self, command: &Command) -> Outcome {
        let stored = command.encode();
        let command = Command::decode(stored.clone()).unwrap();
        self.applied.push(stored);
        self.log_index += 1;
        let mut events = Vec::new();
        let outcome = self.state.apply(self.log_index, &command, &mut events);
        self.events.extend(events);
        let violations = invariants::violations(&self.state);
        assert_eq!(violations, [], "after {command:?}");
        outcome
    }

    pub(crate) fn all(&mut self, operations: Vec<Operation>) -> Vec<OperationResult> {
        let command = self.command(operations);
        self.apply(&command).results
    }

    pub(crate) fn one(&mut self, operation: Operation) -> OperationResult {
        self.all(vec![operation]).remove(0)
    }

    /// Applies an operation that is to be refused, and checks that it changed nothing but the record of the command.
    pub(crate) fn refused(&mut self, operation: Operation) -> Refusal {
        let before = self.content();
        let sequence = self.state.bundle().sequence;
        let refusal = self.one(operation).unwrap_err();
        assert_eq!(self.content(), before, "{refusal}");
        assert_eq!(self.state.bundle().sequence, sequence);
        refusal
    }

    pub(crate) fn refused_with(&mut self, operation: Operation, code: RefusalCode) -> String {
        let refusal = self.refused(operation);
        assert_eq!(refusal.code, code, "{refusal}");
        refusal.message
    }

    /// All that commands can change, but for time and origins.
    pub(crate) fn content(&self) -> String {
        let state = &self.state;
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            state.invitations().collect::<Vec<_>>(),
            state.plan(),
            state.recovery_key(),
            state.cluster(),
            state.policy(),
            state.members().collect::<Vec<_>>(),
            state.x509_authorities().collect::<Vec<_>>(),
            state.jwt_authorities().collect::<Vec<_>>(),
            state.issuing_certificates().collect::<Vec<_>>(),
            state.issuing_keys().collect::<Vec<_>>(),
            state.revocations().collect::<Vec<_>>(),
            state.revoked_leaves().collect::<Vec<_>>(),
            (state.crls_are_on(), state.all_crls(), state.last_revocation_number()),
            state.bundle(),
            state.list(&quorate_raft_machine::EntryFilter::default(), 0, usize::MAX),
        )
    }

    pub(crate) fn scope(&self, member: u64) -> NodeScope {
        NodeScope::of_member(&domain(), &self.state.member(number(member)).unwrap().record).unwrap()
    }

    pub(crate) fn seconds(&self) -> UnixSeconds {
        UnixSeconds(self.now)
    }

    /// IDs of the entries that entitle a workload with these selectors on node 1.
    pub(crate) fn entitled(&self, texts: &[&str]) -> Vec<String> {
        let entitled = self.state.entitled(&self.scope(1), &selectors(texts), self.seconds(), usize::MAX);
        assert_eq!(entitled.left_out, 0);
        entitled.entitlements.into_iter().map(|entitlement| entitlement.entry_id.as_str().to_owned()).collect()
    }

    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

fn id_of_leaf() -> SpiffeId {
    id("/a")
}

/// What a workload is entitled to, found by reading every entry: the rules of design section 5, word for word.
pub(crate) fn entitled_by_reading(
    state: &State,
    scope: &NodeScope,
    held: &SelectorSet,
    now: UnixSeconds,
) -> Vec<EntryId> {
    let entries = state.list(&quorate_raft_machine::EntryFilter::default(), 0, usize::MAX);
    let unexpired: Vec<_> = entries.iter().filter(|entry| entry.expires_at.is_none_or(|end| end >= now)).collect();
    let mut parents: BTreeSet<SpiffeId> = BTreeSet::from([scope.id().clone(), id("/spire/nodes")]);
    for entry in &unexpired {
        if entry.parent_id == id("/spire/server") && entry.selectors.is_subset_of(scope.selectors()) {
            parents.insert(entry.spiffe_id.clone());
        }
    }
    loop {
        let known = parents.len();
        for entry in &unexpired {
            if parents.contains(&entry.parent_id) {
                parents.insert(entry.spiffe_id.clone());
            }
        }
        if parents.len() == known {
            break;
        }
    }
    unexpired
        .into_iter()
        .filter(|entry| parents.contains(&entry.parent_id) && entry.selectors.is_subset_of(held))
        .map(|entry| entry.id.clone())
        .collect()
}
