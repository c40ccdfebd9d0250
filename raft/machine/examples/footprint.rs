//! What a million entries cost: memory for each, time of a lookup, of a view, of a snapshot.
//!
//! `cargo run --release -p quorate-raft-machine --example footprint [ENTRIES]`
//!
//! Entries have the usual shape of a large Kubernetes domain: SPIFFE IDs of about 60 bytes, 10,000 nodes as parents, two
//! or three selectors each out of 2,000 namespaces, 50,000 service accounts and 100,000 pod labels. One node has a tenth
//! of all entries. Memory is resident memory, all of it: records, texts, indexes, and what the allocator adds.

#![expect(clippy::disallowed_methods, reason = "a measurement asks the clock; the crate itself does not")]
#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on ends")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_proto_identity::x509::{AuthorityTemplate, CrlTemplate, build_crl, build_root};
use quorate_proto_identity::{
    AuthorityId, ClusterId, EntryId, KeyType, MemberNumber, NodeName, PrivateKey, Selector, SelectorSet, SerialNumber,
    SpiffeId, TrustDomain, UnixMillis, UnixSeconds, Validity,
};
use quorate_raft_machine::{
    COMMAND_VERSION, Caller, Command, EntryChange, EntryDraft, EntryFilter, Found, MatchMode, MemberDraft, MemberRole,
    MemberStatus, NewJwtAuthority, NewX509Authority, NodeScope, Operation, Origin, Policy, Recipient, Sealed,
    SealedFor, SnapshotReader, State,
};

const START: i64 = 1_700_000_000;
const NODES: u64 = 10_000;
const NAMESPACES: u64 = 2_000;
const ACCOUNTS: u64 = 50_000;
const LABELS: u64 = 100_000;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

struct Shape {
    domain: TrustDomain,
    dice: Dice,
}

impl Shape {
    fn selectors(&mut self) -> Vec<String> {
        let account = self.dice.below(ACCOUNTS);
        let mut texts = vec![
            format!("k8s:ns:namespace-{:04}", account % NAMESPACES),
            format!("k8s:sa:service-account-{account:05}"),
        ];
        if self.dice.below(2) == 0 {
            texts.push(format!("k8s:pod-label:app:label-{:06}", self.dice.below(LABELS)));
        }
        texts
    }

    /// The n-th entry; every tenth is on node 0.
    fn draft(&mut self, n: u64) -> EntryDraft {
        let node = if n.is_multiple_of(10) { 0 } else { self.dice.below(NODES) };
        let path = format!("/ns/namespace-{:04}/sa/service-{n:07}", n % NAMESPACES);
        let mut random = [0; 16];
        for byte in &mut random {
            *byte = u8::try_from(self.dice.below(256)).unwrap();
        }
        EntryDraft::new(
            EntryId::from_random(random),
            SpiffeId::from_path(&self.domain, &path).unwrap(),
            SpiffeId::from_path(&self.domain, &format!("/spire/agent/quorate/{}", node_name(node))).unwrap(),
            set(&self.selectors()),
        )
    }
}

fn node_name(node: u64) -> String {
    format!("node-{node:05}.cluster.example.internal")
}

fn set(texts: &[String]) -> SelectorSet {
    texts.iter().map(|text| Selector::parse(text).unwrap()).collect()
}

fn member(name: &str) -> MemberDraft {
    MemberDraft {
        name: NodeName::new(name).unwrap(),
        identity_key: PrivateKey::generate(KeyType::EcP256).unwrap().public_key().spki_der().to_vec().into(),
        sealing_key: Bytes::from_static(b"sealing key"),
        incarnation: None,
        region: String::new(),
        zone: String::new(),
        labels: [].into(),
        addresses: vec![],
        version: COMMAND_VERSION,
        build: String::new(),
        role: MemberRole::Voter,
        role_pinned: false,
        status: MemberStatus::Admitted,
        serves: quorate_raft_machine::MemberServices::default(),
    }
}

fn found(domain: &TrustDomain) -> Operation {
    let policy = Policy::default();
    let sealed = || Sealed {
        suite: 1,
        parts: vec![SealedFor {
            recipient: Recipient::Member(MemberNumber::new(1).unwrap()),
            encapsulated_key: Bytes::new(),
            ciphertext: Bytes::from_static(b"sealed"),
        }],
    };
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let life = |seconds: u32| Validity::new(UnixSeconds(START), UnixSeconds(START + i64::from(seconds))).unwrap();
    let template = AuthorityTemplate {
        trust_domain: domain,
        serial: SerialNumber::from_random([1; 16]),
        validity: life(policy.root_lifetime),
    };
    let crl = CrlTemplate {
        this_update: UnixSeconds(START),
        next_update: life(policy.root_lifetime).not_after(),
        number: 1,
        revoked: &[],
    };
    Operation::Found(Box::new(Found {
        cluster_id: ClusterId::new([1; 16]),
        trust_domain: domain.clone(),
        policy,
        member: member("founder"),
        x509_authority: NewX509Authority {
            certificate: build_root(&template, &key).unwrap().der().to_vec().into(),
            crl: build_crl(&crl, &key).unwrap().into(),
            sealed: sealed(),
            succeeds: None,
        },
        jwt_authority: NewJwtAuthority {
            id: AuthorityId::new("key").unwrap(),
            public_key: key.public_key().spki_der().to_vec().into(),
            validity: life(policy.jwt_key_lifetime),
            sealed: sealed(),
            succeeds: None,
        },
    }))
}

struct Log {
    state: State,
    index: u64,
}

impl Log {
    fn apply(&mut self, operation: Operation) -> Duration {
        self.index += 1;
        let command = Command {
            origin: Origin { node: 1, boot: 1, sequence: self.index, acknowledged: self.index - 1 },
            caller: Caller::node(),
            time: UnixMillis(START * 1_000),
            operations: vec![operation],
        };
        let mut events = Vec::new();
        let begin = Instant::now();
        let outcome = self.state.apply(self.index, &command, &mut events);
        let took = begin.elapsed();
        assert!(outcome.results.iter().all(Result::is_ok), "{outcome:?}");
        took
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// Processor time that this process has taken, in seconds: what counts on a machine that others use too.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: u32 = stat.split(' ').skip(13).take(2).map(|field| field.parse::<u32>().unwrap()).sum();
    f64::from(ticks) / 100.0
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times.get(times.len().saturating_sub(1) * part / 1_000).copied().unwrap_or_default();
    println!("{what:<58} p50 {:>9.2?}  p99 {:>9.2?}  max {:>9.2?}", at(500), at(990), at(1_000));
}

fn lookups(log: &Log, shape: &mut Shape, what: &str, node: impl Fn(&mut Dice) -> u64) {
    let mut times = Vec::new();
    let mut hits = 0;
    for _ in 0..5_000 {
        let node = node(&mut shape.dice);
        let scope = NodeScope::of_member(&shape.domain, &member_named(&node_name(node))).unwrap();
        // A pod has one namespace and one service account, and many labels; all of them are other entries' too.
        let mut texts: Vec<String> = shape.selectors().into_iter().take(2).collect();
        texts.extend((2..20).map(|_| format!("k8s:pod-label:app:label-{:06}", shape.dice.below(LABELS))));
        let held = set(&texts);
        let begin = Instant::now();
        let entitled = log.state.entitled(&scope, &held, UnixSeconds(START), 1_000);
        times.push(begin.elapsed());
        hits += entitled.entitlements.len();
    }
    report(&format!("lookup, 20 selectors, {what} ({hits} hits of 5,000)"), times);
}

fn member_named(name: &str) -> MemberDraft {
    MemberDraft { identity_key: Bytes::new(), name: NodeName::new(name).unwrap(), ..TEMPLATE.with(Clone::clone) }
}

thread_local! {
    static TEMPLATE: MemberDraft = member("template");
}

fn main() {
    let count: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let domain = TrustDomain::new("prod.example.org").unwrap();
    let mut shape = Shape { domain: domain.clone(), dice: Dice(7) };
    let mut log = Log { state: State::new(), index: 0 };
    log.apply(found(&domain));

    let before = resident();
    let mut ids = Vec::new();
    let mut times = Vec::with_capacity(usize::try_from(count).unwrap());
    for n in 0..count {
        let draft = shape.draft(n);
        if n.is_multiple_of(100) {
            ids.push(draft.id.clone());
        }
        times.push(log.apply(Operation::CreateEntry(Box::new(draft))));
    }
    let extra = u64::try_from(times.len() * size_of::<Duration>()).unwrap();
    let used = resident().saturating_sub(before).saturating_sub(extra);
    println!("{count} entries: {} bytes of resident memory each, {} MB in all", used / count, used / 1_000_000);
    report("create, applied", times);

    lookups(&log, &mut shape, "any node", |dice| 1 + dice.below(NODES - 1));
    lookups(&log, &mut shape, "the node with a tenth of all", |_| 0);

    let update = |id: &EntryId| Operation::UpdateEntry {
        id: id.clone(),
        change: Box::new(EntryChange { x509_svid_ttl: Some(600), ..EntryChange::default() }),
    };
    report("update, applied", ids.iter().take(5_000).map(|id| log.apply(update(id))).collect());
    let mut views = Vec::new();
    let mut taken = Vec::new();
    for _ in 0..50 {
        let begin = Instant::now();
        let view = log.state.view();
        taken.push(begin.elapsed());
        views.clear();
        views.push(view);
    }
    report("view", taken);
    report(
        "update, applied while a view is held",
        ids.iter().rev().take(5_000).map(|id| log.apply(update(id))).collect(),
    );
    drop(views);

    let page = |after| {
        let begin = Instant::now();
        assert!(!log.state.list(&EntryFilter::default(), after, 500).is_empty());
        begin.elapsed()
    };
    let count_of = |what: &str, filter: &EntryFilter| {
        let times = (0..10).map(|_| {
            let begin = Instant::now();
            std::hint::black_box(log.state.count(filter));
            begin.elapsed()
        });
        report(&format!("count by {what}, all entries looked at"), times.collect());
    };
    count_of("hint", &EntryFilter { hint: Some("none".to_owned()), ..EntryFilter::default() });
    let any = (set(&["k8s:ns:namespace-0001".to_owned()]), MatchMode::Any);
    count_of("any of some selectors", &EntryFilter { selectors: Some(any), ..EntryFilter::default() });
    report("page of 500 entries", (0..100).map(|page_number| page(page_number * count / 101)).collect());

    let (begin, processor) = (Instant::now(), processor_seconds());
    let view = log.state.view();
    let chunks: Vec<Vec<u8>> = view.chunks().collect();
    let bytes: usize = chunks.iter().map(Vec::len).sum();
    let took = processor_seconds() - processor;
    println!("snapshot written in {:.2?}, {took:.2} s of a processor, {} MB", begin.elapsed(), bytes / 1_000_000);
    let (begin, processor) = (Instant::now(), processor_seconds());
    let mut reader = SnapshotReader::new();
    for chunk in &chunks {
        reader.push(chunk).unwrap();
    }
    let restored = reader.finish().unwrap();
    let took = processor_seconds() - processor;
    println!("snapshot read in {:.2?}, {took:.2} s of a processor", begin.elapsed());
    assert_eq!(restored.state_hash(), log.state.state_hash());
    report(
        "delete, applied",
        ids.into_iter().map(|id| log.apply(Operation::DeleteEntry { id, revoke: None })).collect(),
    );
}
