//! Several nodes in one process.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use quorate_proto_api::workload::X509svidResponse;
use quorate_proto_identity::{
    AuthorityId, Bundle, MemberNumber, NodeName,
    x509::{Certificate, Purpose, verify_x509_svid},
};
use quorate_raft_consensus::{
    JoinRequest, Proposal,
    transport::{Destination, Protocol},
};
use quorate_raft_machine::{
    AuthorityKind, COMMAND_VERSION, Caller as Asker, MemberRole, NewInvitation, Operation, Policy, Recipient, Sealed,
    State,
};
use tokio::time::Instant;

use super::{
    network::Network,
    world::{LIMIT, World, caller, next, settings, trust_domain, within},
};
use crate::Refusal;

/// Nodes of one authority, `node-1` first.
pub(super) struct Cluster {
    pub(super) network: Network,
    pub(super) nodes: Vec<World>,
}

impl Cluster {
    /// So many nodes that may sign, all voters as far as the plan wants so many.
    pub(super) async fn of(count: usize, policy: Policy) -> Self {
        Self::on(Network::default(), count, policy).await
    }

    /// The same, on this network.
    pub(super) async fn on(network: Network, count: usize, policy: Policy) -> Self {
        let first = World::on(&network, "node-1", settings()).await;
        first.found(policy).await;
        first.until_ready().await;
        first.register("a", "/a").await;
        let mut cluster = Self { network, nodes: vec![first] };
        for number in 2..=count {
            cluster.join(&format!("node-{number}"), None).await;
        }
        for node in &cluster.nodes {
            node.until_ready().await;
        }
        cluster.until_voters(count.min(3)).await;
        cluster
    }

    /// Lets another node in.
    pub(super) async fn join(&mut self, name: &str, role: Option<MemberRole>) {
        let newcomer = World::on(&self.network, name, settings()).await;
        let secret = format!("the secret of {name}");
        let invitation = NewInvitation {
            secret_hash: digest(&SHA256, secret.as_bytes()).as_ref().try_into().unwrap(),
            name: NodeName::new(name).unwrap(),
            role,
            region: String::new(),
            zone: String::new(),
            labels: std::collections::BTreeMap::new(),
            expires_at: newcomer.sources.now().seconds().plus(600),
        };
        self.nodes[0].propose(Operation::CreateInvitation(Box::new(invitation))).await;
        let incarnation = newcomer.handle.begin_joining().await.unwrap();
        let targets: Vec<Destination> = self.nodes.iter().map(door).collect();
        let request = JoinRequest {
            trust_domain: trust_domain().to_string(),
            name: name.to_owned(),
            sealing_key: Bytes::copy_from_slice(newcomer.custody.sealing_public_key()),
            addresses: vec![name.to_owned()],
            version: COMMAND_VERSION,
            build: "test".into(),
            secret: secret.into(),
            incarnation,
        };
        let admitted = newcomer.handle.admit_at(&targets, &request, Instant::now() + LIMIT).await.unwrap();
        newcomer.handle.join(admitted).await.unwrap();
        self.nodes.push(newcomer);
    }

    /// Waits until the Raft group has so many voters, and no change is half way.
    pub(super) async fn until_voters(&self, count: usize) {
        until(|| {
            let group = self.nodes[0].handle.raft_members();
            group.voters.len() == 1 && group.voters[0].len() == count
        })
        .await;
    }

    /// The place of the node that leads, once one does; not one that is left out.
    pub(super) async fn leader(&self, but: Option<usize>) -> usize {
        let mut found = None;
        until(|| {
            let leads = |(index, node): (usize, &World)| {
                (Some(index) != but && node.handle.role().borrow().is_leader()).then_some(index)
            };
            found = self.nodes.iter().enumerate().find_map(leads);
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Sets all clocks on.
    pub(super) fn advance(&self, by: Duration) {
        for node in &self.nodes {
            node.clock.advance(by);
        }
    }

    pub(super) fn number(&self, index: usize) -> MemberNumber {
        self.nodes[index].handle.member().unwrap()
    }
}

/// How a newcomer reaches a node.
fn door(node: &World) -> Destination {
    Destination {
        addresses: vec![node.name.to_string()],
        keys: vec![Bytes::copy_from_slice(node.custody.identity_public_key().spki_der())],
        protocol: Protocol::Join,
    }
}

/// Waits for a condition, within bounds.
pub(super) async fn until(mut holds: impl FnMut() -> bool) {
    within(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The SVIDs that this process gets at a node now.
pub(super) async fn fetch(node: &World) -> Result<X509svidResponse, Refusal> {
    let mut stream = node.system.workload_api().x509_svids(&caller()).await?;
    next(&mut stream).await
}

/// The same, as soon as there are some.
pub(super) async fn fetched(node: &World) -> X509svidResponse {
    within(async {
        loop {
            if let Ok(answer) = fetch(node).await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// A token of this process at a node.
pub(super) async fn token(node: &World) -> Result<String, Refusal> {
    let api = node.system.workload_api();
    Ok(api.fetch_jwt_svids(&caller(), vec!["x".into()], None, None).await?.svids.remove(0).svid)
}

/// The chain of an answer's first SVID: leaf and issuing certificate.
pub(super) fn chain(answer: &X509svidResponse) -> Vec<Certificate> {
    Certificate::parse_concatenated(&answer.svids[0].x509_svid).unwrap()
}

/// Who asks for changes in these tests.
pub(super) fn asker() -> Asker {
    Asker::node()
}

/// Has an operation carried out on any node, whoever leads.
pub(super) async fn propose(node: &World, operation: Operation) {
    let proposal = Proposal::new(asker(), vec![operation]).within(LIMIT);
    node.handle.propose(proposal).await.unwrap().outcome.results.remove(0).unwrap();
}

/// What a node says that may not sign, and never that a caller has no identity (property 4).
pub(super) fn unavailable<T: std::fmt::Debug>(result: Result<T, Refusal>) {
    assert!(matches!(result, Err(Refusal::Unavailable(_))), "{result:?}");
}

/// Verifies what one node gave out with the bundle that another has (property 3, INV-05).
pub(super) fn verify(answer: &X509svidResponse, at: &World) {
    let chain = chain(answer);
    let mut bundle = Bundle::new(trust_domain());
    for root in at.handle.state().read(State::bundle).x509_authorities.iter() {
        bundle.add_x509_authority(Certificate::parse(&root.certificate).unwrap());
    }
    let ders: Vec<&[u8]> = chain.iter().map(Certificate::der).collect();
    verify_x509_svid(&ders, &bundle, at.sources.now().seconds(), Purpose::Client).unwrap();
}

/// Whether any key of a kind is sealed to a member.
pub(super) fn is_sealed_to(state: &State, kind: AuthorityKind, member: MemberNumber) -> bool {
    let own = Recipient::Member(member);
    sealed(state).into_iter().any(|(of, _, sealed)| of == kind && sealed.part_for(&own).is_some())
}

/// Every sealed key in a state.
pub(super) fn sealed(state: &State) -> Vec<(AuthorityKind, AuthorityId, Sealed)> {
    let roots =
        state.x509_authorities().filter_map(|root| Some((AuthorityKind::X509, root.id.clone(), root.sealed.clone()?)));
    let keys =
        state.jwt_authorities().filter_map(|key| Some((AuthorityKind::Jwt, key.id.clone(), key.sealed.clone()?)));
    roots.chain(keys).collect()
}

/// Until when these tests wait.
pub(super) fn deadline() -> Instant {
    Instant::now() + LIMIT
}
