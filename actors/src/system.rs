//! The actors of one node, started and held together.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_proto_identity::NodeName;
use quorate_raft_consensus::{Answerer, Handle, Sources};
use ractor::{Actor, ActorRef, SpawnErr};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    acme::{ACME_MAILBOX_LIMIT, AcmeActor, AcmeArguments, AcmeClient, WebCertificates},
    attestation::{
        ATTESTATIONS_LIMIT, Attestor, AttestorActor, AttestorArguments, EXECUTABLE_BYTES_LIMIT, UnixAttestor,
    },
    audit::{AUDIT_MAILBOX_LIMIT, AuditActor, Auditor, WriterArguments},
    authority::{AUTHORITY_MAILBOX_LIMIT, Authorities, AuthorityActor, AuthorityArguments, Workshop},
    bundles::Bundles,
    endpoint::{
        ENDPOINT_MAILBOX_LIMIT, EndpointActor, EndpointArguments, EndpointIdentity, EndpointShared, EndpointSigner,
    },
    federation::{
        BundleSource, FEDERATION_MAILBOX_LIMIT, FETCHES_LIMIT, Federation, FederationActor, FederationArguments,
    },
    issuer::{
        ISSUER_MAILBOX_LIMIT, IssuerActor, IssuerArguments,
        keyring::Keyring,
        lease::{IssuanceStatus, Leases},
        minter::Minter,
        serials::LIVE_SERIALS_LIMIT,
        svids::Svids,
        tokens::TokenKeys,
    },
    keys::KeyCustody,
    ledger::{LEDGER_MAILBOX_LIMIT, Ledger, LedgerActor, LedgerArguments},
    mailbox::{Address, Envelope},
    membership::{MEMBERSHIP_MAILBOX_LIMIT, Membership, MembershipActor, MembershipArguments},
    own::Own,
    peers::PeerAnswers,
    revocation::{
        REVOCATION_MAILBOX_LIMIT, RevocationActor, RevocationArguments, Revocations, withdrawal::Withdrawals,
    },
    secrets::Secrets,
    session::{
        IDENTITIES_PER_CALLER_LIMIT, WorkloadApi,
        core::Core,
        keeper::{KEEPER_MAILBOX_LIMIT, Keeper, KeeperArguments, Keepers, OpenStreams, Shard},
    },
    sources::KeySource,
    supervisor::{ChildSpec, Supervisor, SupervisorArguments, SupervisorMessage, SystemStatus},
    watchers::Watchers,
};

/// How long stopping waits for the ledger's last records.
const LEDGER_FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Names of the session keepers; as many run as settings say, at most these.
const KEEPER_NAMES: [&str; 8] =
    ["keeper-1", "keeper-2", "keeper-3", "keeper-4", "keeper-5", "keeper-6", "keeper-7", "keeper-8"];

/// Session keepers, unless configured otherwise. They only route, so a few serve any machine; several, so that the
/// fault of one interrupts a part of the streams only.
const KEEPERS: usize = 4;

/// What a node hands to its actors.
pub struct Dependencies {
    /// Consensus on this node.
    pub handle: Handle,
    /// Clock, randomness, and work that blocks.
    pub sources: Sources,
    /// Where key pairs come from.
    pub keys: Arc<dyn KeySource>,
    /// The node's own keys.
    pub custody: Arc<dyn KeyCustody>,
    /// The node's name, by which it finds its own record among the members.
    pub name: NodeName,
    /// The directory of the ledger, made if it is not there; none where no ledger is kept.
    pub ledger_dir: Option<PathBuf>,
    /// The audit trail, whose tap consensus was started with.
    pub audit: Auditor,
    /// Answers what other members ask and is not for the actors.
    pub answerer: Option<Arc<dyn Answerer>>,
    /// Fetches the bundles of foreign trust domains; none where that is not wanted.
    pub bundle_source: Option<Arc<dyn BundleSource>>,
    /// Speaks with ACME authorities; none where no web certificates are ordered.
    pub acme_client: Option<Arc<dyn AcmeClient>>,
    /// What is configurable.
    pub settings: Settings,
}

/// What is configurable of the actors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The largest executable that is hashed for a `unix:sha256` selector, in bytes.
    pub executable_bytes_limit: u64,
    /// The most identities that a caller gets.
    pub identities_per_caller: usize,
    /// How many session keepers share the sessions; 1 to 8.
    pub keepers: usize,
    /// How many live certificates are kept in mind for each issuing key; with more, the key is replaced and revoked.
    pub live_serials_per_key: usize,
    /// Claims of a foreign trust domain's tokens that ValidateJWTSVID tells beside `sub`, `exp` and `aud`.
    pub foreign_claims: BTreeSet<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            executable_bytes_limit: EXECUTABLE_BYTES_LIMIT,
            identities_per_caller: IDENTITIES_PER_CALLER_LIMIT,
            keepers: KEEPERS,
            live_serials_per_key: LIVE_SERIALS_LIMIT,
            foreign_claims: BTreeSet::new(),
        }
    }
}

/// The actors could not be started. Nothing of them runs then.
#[derive(Debug, thiserror::Error)]
#[error("the actors could not be started: {reason}")]
pub struct StartError {
    reason: String,
}

impl From<SpawnErr> for StartError {
    fn from(error: SpawnErr) -> Self {
        Self { reason: error.to_string() }
    }
}

/// The actors of one node, running. Dropping it stops nothing; [`System::stop`] does.
pub struct System {
    supervisor: ActorRef<SupervisorMessage>,
    status: watch::Receiver<SystemStatus>,
    core: Arc<Core>,
    ledger: Ledger,
    audit: Auditor,
    workload_api: WorkloadApi,
    minter: Minter,
    membership: Membership,
    revocations: Revocations,
    authorities: Authorities,
    secrets: Secrets,
    endpoint: EndpointShared,
    federation: Federation,
    web_certificates: WebCertificates,
    watchers: Watchers,
}

impl System {
    /// Starts the tree of actors. They do their work when they can: a node that belongs to no cluster yet answers
    /// `Unavailable` until it does.
    ///
    /// # Errors
    /// When an actor does not start.
    pub async fn start(dependencies: Dependencies) -> Result<Self, StartError> {
        crate::metrics::describe();
        let Dependencies {
            handle,
            sources,
            keys,
            custody,
            name,
            ledger_dir,
            audit,
            answerer,
            bundle_source,
            acme_client,
            settings,
        } = dependencies;
        let (ledger, kept) = match ledger_dir {
            Some(directory) => {
                let (ledger, queue) = Ledger::new();
                (ledger, Some(LedgerArguments { directory, sources: sources.clone(), queue }))
            }
            None => (Ledger::none(), None),
        };
        let identity_key = Bytes::copy_from_slice(custody.identity_public_key().spki_der());
        let writer = audit.shared().map(|shared| WriterArguments {
            shared: Arc::clone(shared),
            handle: handle.clone(),
            node: name.to_string(),
        });
        let own = Arc::new(Own::new(name, identity_key));
        let core = Arc::new(Core {
            state: handle.state(),
            own: Arc::clone(&own),
            sources: sources.clone(),
            leases: Arc::new(Leases::new()),
            svids: Svids::new(sources.clone(), Arc::clone(&keys), ledger.clone(), audit.clone()),
            keyring: Keyring::new(sources.random_u64(), settings.live_serials_per_key),
            withdrawals: Withdrawals::default(),
            ledger: ledger.clone(),
            audit: audit.clone(),
            tokens: TokenKeys::new(sources.clone()),
            bundles: Bundles::default(),
            identities_limit: settings.identities_per_caller,
            foreign_claims: settings.foreign_claims.clone(),
        });
        let secrets = Secrets::new(handle.clone(), Arc::clone(&custody));
        let workshop = Workshop { sources: sources.clone(), keys, custody };
        let attestations = Address::new("attestor", ATTESTATIONS_LIMIT);
        let shards: Vec<Arc<Shard>> = KEEPER_NAMES
            .iter()
            .take(settings.keepers.max(1))
            .map(|name| Shard::new(Address::new(name, KEEPER_MAILBOX_LIMIT)))
            .collect();
        let watchers = Watchers::default();
        let authority = AuthorityArguments {
            handle: handle.clone(),
            own: Arc::clone(&own),
            workshop: workshop.clone(),
            gate: Arc::default(),
            streams: OpenStreams::new(shards.clone(), Arc::clone(&core)),
            audit: audit.clone(),
            watchers: watchers.clone(),
            address: Address::new("authority", AUTHORITY_MAILBOX_LIMIT),
        };
        let membership = MembershipArguments {
            authority: authority.clone(),
            address: Address::new("membership", MEMBERSHIP_MAILBOX_LIMIT),
        };
        let issuer = IssuerArguments {
            handle: handle.clone(),
            core: Arc::clone(&core),
            workshop,
            address: Address::new("issuer", ISSUER_MAILBOX_LIMIT),
        };
        let endpoint = EndpointArguments {
            handle: handle.clone(),
            core: Arc::clone(&core),
            workshop: authority.workshop.clone(),
            shared: EndpointShared::default(),
            address: Address::new("endpoint", ENDPOINT_MAILBOX_LIMIT),
        };
        let endpoint_shared = endpoint.shared.clone();
        let revocation = RevocationArguments {
            core: Arc::clone(&core),
            authority: authority.clone(),
            roots: Arc::default(),
            address: Address::new("revocation", REVOCATION_MAILBOX_LIMIT),
        };
        let federation = FederationArguments {
            handle: handle.clone(),
            core: Arc::clone(&core),
            source: bundle_source,
            secrets: secrets.clone(),
            endpoint: endpoint_shared.clone(),
            board: Arc::default(),
            fetches: Arc::new(Semaphore::new(FETCHES_LIMIT)),
            address: Address::new("federation", FEDERATION_MAILBOX_LIMIT),
        };
        let web_certificates = WebCertificates::default();
        let acme = AcmeArguments {
            handle: handle.clone(),
            sources: sources.clone(),
            keys: Arc::clone(&authority.workshop.keys),
            secrets: secrets.clone(),
            client: acme_client,
            account: Arc::default(),
            published: web_certificates.clone(),
            address: Address::new("acme", ACME_MAILBOX_LIMIT),
        };
        let federation_handle = Federation::new(handle.clone(), Arc::clone(&federation.board));
        handle.answer_with(Arc::new(PeerAnswers {
            authority: authority.address.clone(),
            streams: authority.streams.clone(),
            revocation: revocation.clone(),
            endpoint: EndpointSigner { authority: authority.clone(), ledger: ledger.clone() },
            federation: federation.clone(),
            watchers: watchers.clone(),
            others: answerer,
        }));
        let attestor =
            AttestorArguments { attestor: Arc::new(UnixAttestor::new(settings.executable_bytes_limit)), sources };
        // In this order they start, and in the other one they stop: each uses those above it.
        let mut children = Vec::new();
        if let Some(arguments) = writer {
            children.push(child("audit", || AuditActor, arguments, Address::new("audit", AUDIT_MAILBOX_LIMIT)));
        }
        if let Some(arguments) = kept {
            children.push(child("ledger", || LedgerActor, arguments, Address::new("ledger", LEDGER_MAILBOX_LIMIT)));
        }
        children.extend([
            child("authority", || AuthorityActor, authority.clone(), authority.address),
            child("membership", || MembershipActor, membership.clone(), membership.address),
            child("issuer", || IssuerActor, issuer.clone(), issuer.address),
            child("revocation", || RevocationActor, revocation.clone(), revocation.address),
            child("endpoint", || EndpointActor, endpoint.clone(), endpoint.address),
            child("federation", || FederationActor, federation.clone(), federation.address),
            child("acme", || AcmeActor, acme.clone(), acme.address),
            child("attestor", || AttestorActor, attestor, attestations.clone()),
        ]);
        for (name, shard) in KEEPER_NAMES.into_iter().zip(&shards) {
            let arguments =
                KeeperArguments { shard: Arc::clone(shard), core: Arc::clone(&core), handle: handle.clone() };
            children.push(child(name, || Keeper, arguments, shard.address.clone()));
        }
        let (said, status) = watch::channel(SystemStatus::Running);
        let (supervisor, _) = Actor::spawn(None, Supervisor, SupervisorArguments { children, status: said }).await?;
        let keepers = Keepers::new(shards, Arc::clone(&core));
        let workload_api = WorkloadApi::new(Arc::clone(&core), Attestor::new(attestations), keepers);
        let revocations = Revocations::new(handle.clone(), Arc::clone(&core));
        let authorities = Authorities::new(handle.clone(), core.sources.clone(), audit.clone());
        let membership = Membership::new(handle, own);
        let minter = Minter::new(Arc::clone(&core), ledger.clone());
        Ok(Self {
            supervisor,
            status,
            core,
            ledger,
            audit,
            workload_api,
            minter,
            membership,
            revocations,
            authorities,
            secrets,
            endpoint: endpoint_shared,
            federation: federation_handle,
            web_certificates,
            watchers,
        })
    }

    /// The web certificates that this node serves, which the cluster has by ACME.
    #[must_use]
    pub fn web_certificates(&self) -> &WebCertificates {
        &self.web_certificates
    }

    /// Answers workloads.
    #[must_use]
    pub fn workload_api(&self) -> &WorkloadApi {
        &self.workload_api
    }

    /// Mints SVIDs for administrators.
    #[must_use]
    pub fn minter(&self) -> &Minter {
        &self.minter
    }

    /// Moves authorities through their life for operators.
    #[must_use]
    pub fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    /// Revokes for operators.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// The cluster's secrets: credentials for other trust domains, keys of web certificates.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Changes the membership for operators.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Who watches our bundle at this node, by the Federation API.
    #[must_use]
    pub fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// Relationships with foreign trust domains: how they are, and a retrieval on demand.
    #[must_use]
    pub fn federation(&self) -> &Federation {
        &self.federation
    }

    /// What this node proves itself with to other trust domains, as server and as client, and the changes of that; none while
    /// it has nothing. It is made once somebody asks for it here.
    #[must_use]
    pub fn endpoint_identity(&self) -> watch::Receiver<Option<Arc<EndpointIdentity>>> {
        self.endpoint.identity()
    }

    /// Whether this node may sign, and the changes of that.
    #[must_use]
    pub fn issuance(&self) -> watch::Receiver<IssuanceStatus> {
        self.core.leases.status()
    }

    /// Whether the actors run. When one has failed for good, the process should end with an error.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<SystemStatus> {
        self.status.clone()
    }

    /// The audit trail.
    #[must_use]
    pub fn audit(&self) -> &Auditor {
        &self.audit
    }

    /// What was issued lately.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Stops all actors, in order: streams end with `Unavailable`, ledger and audit trail are flushed. Called again, it does nothing.
    pub async fn stop(&self) {
        self.core.leases.say(IssuanceStatus::Ended { reason: "the node is stopping".into() }, false);
        self.core.leases.set(None);
        if tokio::time::timeout(LEDGER_FLUSH_LIMIT, self.ledger.flush()).await.is_err() {
            tracing::warn!("the ledger could not be flushed in time");
        }
        let is_running = *self.status.borrow() == SystemStatus::Running;
        if is_running && !self.audit.flush().await {
            // What derives from the log is written at the next start.
            tracing::warn!("the audit trail could not be flushed in time");
        }
        let (reply, stopped) = oneshot::channel();
        if self.supervisor.send_message(SupervisorMessage::Stop(reply)).is_ok() {
            // An error means that it has ended meanwhile, which is what is wanted.
            drop(stopped.await);
        }
        // The issuer may have found another certificate while it was being stopped.
        self.core.leases.set(None);
    }

    /// Which actor a child is at present, for tests that end it.
    #[cfg(test)]
    pub(crate) async fn child(&self, name: &'static str) -> Option<ractor::ActorCell> {
        let (reply, child) = oneshot::channel();
        self.supervisor.send_message(SupervisorMessage::Child(name, reply)).ok()?;
        child.await.ok().flatten()
    }
}

impl std::fmt::Debug for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("System").field("status", &*self.status.borrow()).finish_non_exhaustive()
    }
}

/// A child of one kind: each start gets its own copy of the arguments, and the address leads to the newest one.
fn child<A, M>(name: &'static str, actor: fn() -> A, arguments: A::Arguments, address: Address<M>) -> ChildSpec
where
    A: Actor<Msg = Envelope<M>>,
    A::Arguments: Clone + Sync,
    M: Send + 'static,
{
    ChildSpec::new(name, move |supervisor| {
        let (arguments, address) = (arguments.clone(), address.clone());
        Box::pin(async move {
            let (started, _) = Actor::spawn_linked(None, actor(), arguments, supervisor).await?;
            address.connect(started.clone());
            Ok(started.get_cell())
        })
    })
}

#[cfg(test)]
pub(crate) mod tests;
