//! How many proposals a second a single voter takes, beside what its disk allows: 1, 16 and 256 writers, and a plain file
//! with fdatasync before and after them, all in one run, so that the ratios mean something on a busy machine.
//!
//! ```text
//! cargo run --release -p quorate-raft-consensus --example propose_rate -- [DIRECTORY] [SECONDS]
//! ```

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate_proto_identity::{
    AuthorityId, ClusterId, EntryId, KeyType, MemberNumber, NodeName, PrivateKey, Selector, SelectorSet, SerialNumber,
    SpiffeId, TrustDomain, UnixMillis, UnixSeconds, Validity,
    x509::{AuthorityTemplate, CrlTemplate, build_crl, build_root},
};
use quorate_raft_consensus::{
    Blocking, Config, Consensus, Entropy, Handle, MemberNode, Proposal, Sources, WallClock, Work, WorkDone,
};
use quorate_raft_machine::{
    Caller, EntryDraft, Found, MemberDraft, MemberRole, MemberStatus, NewJwtAuthority, NewX509Authority, Operation,
    Policy, Recipient, Sealed, SealedFor,
};
use quorate_raft_store::disk::RealDisk;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

struct Fixed;

impl WallClock for Fixed {
    fn now(&self) -> UnixMillis {
        NOW.millis()
    }
}

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

impl Blocking for Fixed {
    fn run(&self, work: Work) -> WorkDone {
        let (done, wait) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            work();
            // Nobody waits any more: that is all right.
            done.send(()).ok();
        });
        Box::pin(async move { drop(wait.await) })
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example that reports to who runs it")]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let directory = parent.join(format!("propose-rate-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let outcome = measure(&directory, Duration::from_secs(seconds)).await;
    std::fs::remove_dir_all(&directory)?;
    let rates = outcome?;
    let floor = f64::midpoint(rates.floor_before, rates.floor_after);
    println!("fdatasync of 256 B  {:>9.0}/s before, {:.0}/s after", rates.floor_before, rates.floor_after);
    for (writers, rate) in &rates.by_writers {
        println!("{writers:>4} writers         {rate:>9.0}/s  {:>6.2} x fdatasync", rate / floor);
    }
    if let (Some((_, one)), Some((_, many))) = (rates.by_writers.first(), rates.by_writers.last()) {
        println!("256 writers over 1  {:>9.1} x", many / one);
    }
    Ok(())
}

struct Rates {
    floor_before: f64,
    floor_after: f64,
    by_writers: Vec<(usize, f64)>,
}

async fn measure(directory: &Path, time: Duration) -> Result<Rates, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let config = Config::new(directory.join("node"), runtime.handle().clone());
    let handle = Consensus::start(
        config,
        Sources::new(Fixed, Fixed, Fixed),
        Arc::new(RealDisk),
        Arc::new(quorate_raft_consensus::transport::NoTransport),
    )
    .await?;
    let member = MemberNode { name: NodeName::new("node-1")?, addresses: Vec::new() };
    let founded = handle.found(&member).await?;
    let found = Proposal::new(Caller::node(), vec![found_operation(founded.cluster)?]);
    handle.propose(found).await?.outcome.results.into_iter().collect::<Result<Vec<_>, _>>()?;
    let floor_before = floor(directory, time)?;
    let mut by_writers = Vec::new();
    for writers in [1, 16, 256] {
        by_writers.push((writers, propose(&handle, writers, time).await?));
    }
    let floor_after = floor(directory, time)?;
    handle.shutdown().await;
    runtime.shutdown_background();
    Ok(Rates { floor_before, floor_after, by_writers })
}

/// What a plain file does: one write of 256 bytes and one fdatasync after the other.
fn floor(directory: &Path, time: Duration) -> Result<f64, Failure> {
    let mut file = std::fs::File::create(directory.join("floor"))?;
    let started = Instant::now();
    let mut count = 0.0;
    while started.elapsed() < time {
        file.write_all(&[7; 256])?;
        file.sync_data()?;
        count += 1.0;
    }
    Ok(count / started.elapsed().as_secs_f64())
}

async fn propose(handle: &Handle, writers: usize, time: Duration) -> Result<f64, Failure> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..writers {
        let handle = handle.clone();
        tasks.spawn(async move {
            let mut count = 0_u32;
            while started.elapsed() < time {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let proposal = Proposal::new(Caller::node(), vec![create(number)?]);
                handle.propose(proposal).await?;
                count += 1;
            }
            Ok::<u32, Failure>(count)
        });
    }
    let mut total = 0.0;
    while let Some(count) = tasks.join_next().await {
        total += f64::from(count??);
    }
    Ok(total / started.elapsed().as_secs_f64())
}

fn create(number: u64) -> Result<Operation, Failure> {
    let domain = TrustDomain::new("example.org")?;
    Ok(Operation::CreateEntry(Box::new(EntryDraft {
        id: EntryId::new(&format!("entry-{number}"))?,
        spiffe_id: SpiffeId::from_path(&domain, &format!("/region/eu/service-{number}"))?,
        parent_id: SpiffeId::from_path(&domain, "/spire/nodes")?,
        selectors: SelectorSet::new([
            Selector::parse("unix:uid:1000")?,
            Selector::parse(&format!("unix:path:/usr/bin/service-{number}"))?,
        ]),
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Default::default(),
        admin: false,
        downstream: false,
        expires_at: None,
        crl_per_domain: false,
        dns_names: Vec::new(),
        store_svid: false,
        hint: String::new(),
        additional_attributes: None,
    })))
}

fn found_operation(cluster_id: ClusterId) -> Result<Operation, Failure> {
    let trust_domain = TrustDomain::new("example.org")?;
    let policy = Policy::default();
    let validity = |seconds: u32| Validity::new(NOW, NOW.plus(i64::from(seconds)));
    let root_key = PrivateKey::generate(KeyType::EcP256)?;
    let root_validity = validity(policy.root_lifetime)?;
    let template =
        AuthorityTemplate { trust_domain: &trust_domain, serial: SerialNumber::new([1; 16])?, validity: root_validity };
    let certificate = build_root(&template, &root_key)?;
    let crl = CrlTemplate { this_update: NOW, next_update: root_validity.not_after(), number: 1, revoked: &[] };
    let sealed = Sealed {
        suite: 1,
        parts: vec![SealedFor {
            recipient: Recipient::Member(MemberNumber::FIRST),
            encapsulated_key: Bytes::from_static(b"encapsulated"),
            ciphertext: Bytes::from_static(b"sealed"),
        }],
    };
    let jwt_key = PrivateKey::generate(KeyType::EcP256)?;
    Ok(Operation::Found(Box::new(Found {
        cluster_id,
        trust_domain,
        policy,
        member: MemberDraft {
            name: NodeName::new("node-1")?,
            identity_key: Bytes::copy_from_slice(PrivateKey::generate(KeyType::Ed25519)?.public_key().spki_der()),
            sealing_key: Bytes::from_static(b"sealing"),
            region: String::new(),
            zone: String::new(),
            labels: Default::default(),
            addresses: Vec::new(),
            version: 1,
            build: String::new(),
            role: MemberRole::Voter,
            status: MemberStatus::Admitted,
            serves: quorate_raft_machine::MemberServices::default(),
            incarnation: None,
            role_pinned: false,
        },
        x509_authority: NewX509Authority {
            certificate: Bytes::copy_from_slice(certificate.der()),
            crl: build_crl(&crl, &root_key)?.into(),
            sealed: sealed.clone(),
            succeeds: None,
        },
        jwt_authority: NewJwtAuthority {
            id: AuthorityId::new("token-key-1")?,
            public_key: Bytes::copy_from_slice(jwt_key.public_key().spki_der()),
            validity: validity(policy.jwt_key_lifetime)?,
            sealed,
            succeeds: None,
        },
    })))
}
