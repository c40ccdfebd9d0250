//! Workloads of a node, and those who register and remove them: what is handed out, held against what everybody knows.
//!
//! ```text
//!   registrar   one entry after the other: create, leave it a while, delete ── acknowledged? ──► gone for ever
//!   workload    X509-SVIDs and tokens, again and again
//!                 each verifies with the bundle of every live member, at that instant           (INV-05)
//!                 what is minted stands under a root that is active and not tainted here, and on a connected
//!                 node under nothing whose taint was acknowledged; serial numbers are given once  (INV-06, INV-09)
//!                 none for an entry that was gone before the request began                      (INV-07)
//!                 none fails on a node that may sign, whatever happens to the others            (INV-08, INV-14)
//! ```

use super::{
    chance, clients,
    world::{Phase, World},
};
use crate::history::Op;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use quorate_actors::{Caller, IssuanceStatus, Refusal, System, attestation::PeerProcess};
use quorate_proto_identity::{
    AuthorityId, Bundle, EntryId, JwtAuthority, MemberNumber, PublicKey, Selector, SelectorSet, SpiffeId, TrustDomain,
    UnixSeconds, verify_jwt_svid,
    x509::{Certificate, Purpose, verify_x509_svid},
};
use quorate_raft_consensus::{Handle, Proposal};
use quorate_raft_machine::{AuthorityState, Caller as Asker, Done, EntryDraft, Operation, State};
use rand::{Rng, rngs::SmallRng};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;

/// The selector of the workload that every node has.
const SELECTOR: (&str, &str) = ("unix", "uid:7");

/// The entry of it that nobody removes.
pub(crate) const LASTING: &str = "lasting";

/// The audience of all tokens.
const AUDIENCE: &str = "simulation";

/// The pause of a workload between two rounds of requests, in milliseconds: least and most.
const PAUSE_MILLIS: (u64, u64) = (60, 240);

/// How long an entry is left before it is removed.
const LEFT_MILLIS: (u64, u64) = (20, 300);

/// How long a call on a healthy node may take: attestation, a key and a signature, each with its wait.
const CALL_LIMIT: Duration = Duration::from_millis(500);

/// How long a write may take.
const WRITE_LIMIT: Duration = Duration::from_millis(1_500);

/// Lets the workload and the registrar of a boot of a node loose.
pub(crate) fn start(world: &Arc<World>, node: usize, boot: u64, handle: &Handle, system: &Arc<System>) {
    let random = |purpose| chance::stream(world.seed(), purpose, node as u64, boot);
    let Some(caller) = selectors().map(|selectors| Caller::new(PeerProcess::simulated(selectors))) else { return };
    let workload = Workload {
        world: Arc::clone(world),
        node,
        handle: handle.clone(),
        system: Arc::clone(system),
        caller,
        random: random("workload"),
    };
    tokio::spawn(workload.ask_on());
    tokio::spawn(register(Arc::clone(world), node, boot, handle.clone(), random("registrar")));
}

/// The entry of this name for the workload of every node.
pub(crate) fn entry(name: &str) -> Option<Operation> {
    let domain = TrustDomain::new("example.org").ok()?;
    let parent_id = SpiffeId::from_path(&domain, "/spire/nodes").ok()?;
    let draft = EntryDraft::new(EntryId::new(name).ok()?, spiffe_id(name)?, parent_id, selectors()?);
    Some(Operation::CreateEntry(Box::new(draft)))
}

fn selectors() -> Option<SelectorSet> {
    Some(SelectorSet::new([Selector::new(SELECTOR.0, SELECTOR.1).ok()?]))
}

fn spiffe_id(name: &str) -> Option<SpiffeId> {
    SpiffeId::from_path(&TrustDomain::new("example.org").ok()?, &format!("/{name}")).ok()
}

/// Registers entries, and removes them.
async fn register(world: Arc<World>, node: usize, boot: u64, handle: Handle, mut random: SmallRng) {
    let mut made = 0_u64;
    while world.phase() != Phase::Ending {
        let (least, most) = LEFT_MILLIS;
        sleep(chance::millis(&mut random, least, most)).await;
        if world.phase() == Phase::Beginning || world.lock().writers_pause {
            continue;
        }
        made += 1;
        let name = format!("passing-{node}-{boot}-{made}");
        let Some(create) = entry(&name) else { return };
        if !matches!(handle.propose(proposal(create)).await, Ok(applied) if applied.outcome.results.iter().all(Result::is_ok))
        {
            continue;
        }
        sleep(chance::millis(&mut random, least, most)).await;
        let Ok(id) = EntryId::new(&name) else { return };
        let Ok(applied) = handle.propose(proposal(Operation::DeleteEntry { id, revoke: None })).await else { continue };
        if matches!(applied.outcome.results.first(), Some(Ok(Done::EntryDeleted { .. }))) {
            clients::withdrawn(&world, &name, applied.log_index, Op::Delete);
            world.is_gone(format!("spiffe://example.org/{name}"));
        }
    }
}

fn proposal(operation: Operation) -> Proposal {
    Proposal::new(Asker::node(), vec![operation]).within(WRITE_LIMIT)
}

/// The workload of a node.
struct Workload {
    world: Arc<World>,
    node: usize,
    handle: Handle,
    system: Arc<System>,
    caller: Arc<Caller>,
    random: SmallRng,
}

/// What was so when a request began.
struct Begun {
    /// SPIFFE IDs whose entries were gone for ever.
    gone: BTreeSet<String>,
    /// Whether the node was connected to the cluster.
    connected: bool,
    /// Whether it may sign and nothing is wrong with it.
    healthy: bool,
    /// How much time had passed for everybody at once.
    passed_millis: i64,
    /// Roots that were good here: active, or old.
    usable: BTreeSet<AuthorityId>,
    /// Authorities that were tainted, by acknowledgement.
    tainted: BTreeSet<String>,
}

impl Workload {
    async fn ask_on(mut self) {
        while self.world.phase() != Phase::Ending {
            let (least, most) = PAUSE_MILLIS;
            sleep(chance::millis(&mut self.random, least, most)).await;
            if self.world.phase() == Phase::Beginning {
                continue;
            }
            self.ask_x509().await;
            self.ask_tokens().await;
        }
    }

    async fn ask_x509(&self) {
        let begun = self.begin();
        let fetch = async {
            let mut stream = self.system.workload_api().x509_svids(&self.caller).await?;
            stream.next().await.unwrap_or_else(|| Err(Refusal::Unavailable("the stream ended".into())))
        };
        let answer = timeout(CALL_LIMIT, fetch).await;
        match self.settled(&begun, "FetchX509SVID", answer) {
            None => {}
            Some(response) => {
                for svid in response.svids {
                    let is_gone = begun.gone.contains(&svid.spiffe_id);
                    self.handed_out(&begun, "an X509-SVID", &svid.spiffe_id, is_gone);
                    let Ok(chain) = Certificate::parse_concatenated(&svid.x509_svid) else {
                        self.world.broken(format!("the X509-SVID of {} cannot be read", svid.spiffe_id));
                        continue;
                    };
                    let root = chain.get(1).and_then(issuer_of);
                    self.stands_under_a_good_root(&begun, &svid.spiffe_id, root.as_deref());
                    self.no_taint_was_acknowledged(&begun, "an X509-SVID", &svid.spiffe_id, root.as_deref());
                    chain.iter().for_each(|certificate| self.world.has_serial(certificate.serial(), certificate.der()));
                    let chain: Vec<&[u8]> = chain.iter().map(Certificate::der).collect();
                    self.verifies_everywhere(&begun, "X509-SVID", &svid.spiffe_id, root.as_deref(), |bundle, now| {
                        verify_x509_svid(&chain, bundle, now, Purpose::Any).map(drop).map_err(|error| error.to_string())
                    });
                }
            }
        }
    }

    async fn ask_tokens(&mut self) {
        let begun = self.begin();
        // For all identities now and then: each costs a signature.
        let lasting = spiffe_id(LASTING).filter(|_| self.random.gen_ratio(3, 4));
        let audiences = vec![AUDIENCE.to_owned()];
        let fetch = self.system.workload_api().fetch_jwt_svids(&self.caller, audiences, lasting.as_ref(), None);
        let answer = timeout(CALL_LIMIT, fetch).await;
        let Some(response) = self.settled(&begun, "FetchJWTSVID", answer) else { return };
        for svid in response.svids {
            let is_gone = begun.gone.contains(&svid.spiffe_id);
            self.handed_out(&begun, "a JWT-SVID", &svid.spiffe_id, is_gone);
            let key = key_of(&svid.svid);
            self.no_taint_was_acknowledged(&begun, "a JWT-SVID", &svid.spiffe_id, key.as_deref());
            self.verifies_everywhere(&begun, "JWT-SVID", &svid.spiffe_id, key.as_deref(), |bundle, now| {
                verify_jwt_svid(&svid.svid, AUDIENCE, bundle, now).map(drop).map_err(|error| error.to_string())
            });
        }
    }

    fn begin(&self) -> Begun {
        let gone = self.world.all_gone();
        Begun {
            gone,
            connected: self.world.is_connected(self.node, &self.handle),
            healthy: self.is_healthy(),
            passed_millis: self.world.passed_millis(),
            usable: self.handle.state().read(usable_roots),
            tainted: self.world.all_tainted(),
        }
    }

    fn is_healthy(&self) -> bool {
        matches!(&*self.system.issuance().borrow(), IssuanceStatus::Ready { .. })
            && self.world.is_undisturbed(self.node)
    }

    /// An answer, if there was one. On a healthy node there has to be (INV-08, INV-14).
    fn settled<T>(
        &self,
        begun: &Begun,
        call: &str,
        answer: Result<Result<T, Refusal>, tokio::time::error::Elapsed>,
    ) -> Option<T> {
        let failure = match answer {
            Ok(Ok(answer)) => {
                self.world.lock().counts.calls += 1;
                return Some(answer);
            }
            Ok(Err(refusal)) => format!("{}: {refusal}", refusal.code()),
            Err(_late) => "no answer".to_owned(),
        };
        self.world.trace(Some(self.node), &format!("{call} failed: {failure}"));
        if begun.healthy && self.is_healthy() {
            self.world.broken(format!("INV-14: {call} failed on node {}, which may sign: {failure}", self.node));
        }
        None
    }

    /// An SVID was handed out: not for an entry that was gone when the request began, unless the node was cut off (INV-07).
    fn handed_out(&self, begun: &Begun, what: &str, spiffe_id: &str, is_gone: bool) {
        self.world.lock().counts.svids += 1;
        if is_gone && begun.connected && self.world.is_connected(self.node, &self.handle) {
            self.world.broken(format!(
                "INV-07: node {} handed out {what} for {spiffe_id}, whose removal was acknowledged before the request",
                self.node
            ));
        }
    }

    /// Verifies with the bundle of every live member that serves (INV-05).
    fn verifies_everywhere(
        &self,
        begun: &Begun,
        what: &str,
        spiffe_id: &str,
        authority: Option<&str>,
        verify: impl Fn(&Bundle, UnixSeconds) -> Result<(), String>,
    ) {
        let now = self.world.true_time().seconds();
        if self.world.passed_millis() != begun.passed_millis {
            // Time passed while it was made: it may have ended before it was handed out.
            return;
        }
        // Nobody waits for a member that is cut off: it may go on for a while under what the others have taken out.
        let is_cut_off = !begun.connected || !self.world.is_connected(self.node, &self.handle);
        if is_cut_off && authority.is_some_and(|authority| self.world.was_condemned(authority)) {
            return;
        }
        let live: Vec<MemberNumber> = self.handle.state().read(|state| state.live_members(now));
        for (node, handle) in self.world.serving() {
            if !handle.member().is_some_and(|member| live.contains(&member)) {
                continue;
            }
            let bundle = handle.state().read(bundle);
            let verified =
                bundle.ok_or_else(|| "its bundle cannot be read".to_owned()).and_then(|bundle| verify(&bundle, now));
            if let Err(error) = verified {
                self.world.broken(format!(
                    "INV-05: node {} handed out a {what} for {spiffe_id} that does not verify on node {node}: {error}",
                    self.node
                ));
            }
        }
    }

    /// A taint that was acknowledged before the request began holds on every connected node (INV-06).
    fn no_taint_was_acknowledged(&self, begun: &Begun, what: &str, spiffe_id: &str, authority: Option<&str>) {
        let is_tainted = authority.is_some_and(|authority| begun.tainted.contains(authority));
        if is_tainted && begun.connected && self.world.is_connected(self.node, &self.handle) {
            self.world.broken(format!(
                "INV-06: node {} handed out {what} for {spiffe_id} under {authority:?}, whose taint was acknowledged before the \
                 request",
                self.node
            ));
        }
    }

    /// The issuing certificate was signed by a root that was good here when the request began, or is now (INV-06).
    fn stands_under_a_good_root(&self, begun: &Begun, spiffe_id: &str, root: Option<&str>) {
        let known: BTreeSet<AuthorityId> = self.handle.state().read(usable_roots);
        let good = root.is_some_and(|root| begun.usable.iter().chain(&known).any(|id| id.as_str() == root));
        if !good {
            self.world.broken(format!(
                "INV-06: node {} handed out an X509-SVID for {spiffe_id} under a root that is not good here",
                self.node
            ));
        }
    }
}

/// The root that an issuing certificate names as its issuer.
fn issuer_of(issuing: &Certificate) -> Option<String> {
    issuing.extensions().authority_key_id.as_deref().map(hexadecimal)
}

/// The key that a token names.
fn key_of(token: &str) -> Option<String> {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
    Some(header.get("kid")?.as_str()?.to_owned())
}

/// Roots under which something that was signed before may still be handed out.
fn usable_roots(state: &State) -> BTreeSet<AuthorityId> {
    let usable =
        state.x509_authorities().filter(|root| matches!(root.state, AuthorityState::Active | AuthorityState::Old));
    usable.map(|root| root.id.clone()).collect()
}

/// The bundle of a state, as a verifier on that node has it.
fn bundle(state: &State) -> Option<Bundle> {
    let content = state.bundle();
    let mut bundle = Bundle::new(state.cluster()?.trust_domain.clone());
    for root in &content.x509_authorities {
        bundle.add_x509_authority(Certificate::parse(&root.certificate).ok()?);
    }
    for key in &content.jwt_authorities {
        let public_key = PublicKey::from_spki_der(&key.public_key).ok()?;
        bundle.add_jwt_authority(JwtAuthority { key_id: key.id.to_string(), public_key });
    }
    Some(bundle)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
