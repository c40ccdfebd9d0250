//! The peer port of real nodes: who is let in, who is not, and what a flood does (ATK-25 to ATK-27).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use quorate_actors::keys::{FileCustody, KeyCustody, WhenMissing};
use quorate_node::invitation::Invitation;
use quorate_node::peer::tls::PeerTls;
use quorate_node::peer::transport::PeerTransport;
use quorate_proto_api::channel::channel_over;
use quorate_proto_api::peer::join_client::JoinClient;
use quorate_proto_api::peer::peer_client::PeerClient;
use quorate_proto_api::peer::{AdmitRequest, PreVoteRequest, Sender};
use quorate_raft_consensus::transport::{Destination, Protocol, Transport as _};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;
use tonic::transport::Channel;

use crate::cluster::TestCluster;
use crate::node::{TestNode, entry};

/// Somebody with a key of its own, or of a node whose files it has.
struct Stranger {
    transport: PeerTransport,
    custody: Arc<FileCustody>,
    _directory: tempfile::TempDir,
}

impl Stranger {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::with_keys_in(directory)
    }

    /// With copies of a node's key files.
    fn as_node(node: &TestNode) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["identity.key", "sealing.key"] {
            fs::copy(node.path("data").join(name), directory.path().join(name)).unwrap();
        }
        Self::with_keys_in(directory)
    }

    fn with_keys_in(directory: tempfile::TempDir) -> Self {
        let custody = Arc::new(FileCustody::open(directory.path(), None, WhenMissing::Make).unwrap());
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let transport = PeerTransport::new(nowhere, tokio::runtime::Handle::current());
        transport.identify(PeerTls::new(custody.clone()).unwrap());
        Self { transport, custody, _directory: directory }
    }

    /// A channel to a node, whose key is read from its files.
    fn channel_to(&self, node: &TestNode, protocol: Protocol) -> Channel {
        let keys = FileCustody::open(&node.path("data"), None, WhenMissing::Refuse).unwrap();
        let destination = Arc::new(Destination {
            addresses: vec![node.peer.to_string()],
            keys: vec![Bytes::copy_from_slice(keys.identity_public_key().spki_der())],
            protocol,
        });
        let transport = self.transport.clone();
        channel_over(move || {
            let (transport, destination) = (transport.clone(), Arc::clone(&destination));
            async move { transport.dial(&destination).await }
        })
    }

    /// What becomes of a pre-vote in the name of a member.
    async fn pre_vote(&self, node: &TestNode, sender: Sender) -> Code {
        let mut client = PeerClient::new(self.channel_to(node, Protocol::Peer));
        match client.pre_vote(PreVoteRequest { sender: Some(sender), last: None }).await {
            Ok(_) => Code::Ok,
            Err(status) => status.code(),
        }
    }
}

async fn sender(node: &TestNode, member: u64) -> Sender {
    let status = node.status().await.unwrap();
    let digits: Vec<u8> = status.cluster_id.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
    Sender { cluster: pairs.collect::<Vec<u8>>().into(), epoch: status.epoch, member }
}

/// ATK-25: neither a key of one's own, nor a member's name with another key, nor another cluster or epoch.
#[tokio::test]
async fn only_a_members_key_in_its_own_name_is_listened_to_atk_25_atk_27() {
    let cluster = TestCluster::of(2).await;
    let (first, second) = (&cluster.nodes[0], &cluster.nodes[1]);
    let right = sender(first, 2).await;

    let stranger = Stranger::new();
    assert_ne!(stranger.pre_vote(first, right.clone()).await, Code::Ok, "a key that no member has");

    let member = Stranger::as_node(second);
    assert_eq!(member.pre_vote(first, right.clone()).await, Code::Ok, "the test itself would be let in");
    let others_name = Sender { member: 1, ..right.clone() };
    assert_eq!(member.pre_vote(first, others_name).await, Code::PermissionDenied);
    let other_cluster = Sender { cluster: vec![7; 16].into(), ..right.clone() };
    assert_eq!(member.pre_vote(first, other_cluster).await, Code::PermissionDenied);
    let other_epoch = Sender { epoch: right.epoch + 1, ..right };
    assert_eq!(member.pre_vote(first, other_epoch).await, Code::PermissionDenied);

    // A newcomer's protocol answers nothing but Join.
    let mut client = PeerClient::new(member.channel_to(first, Protocol::Join));
    let refused = client.pre_vote(PreVoteRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &rustls::pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// ATK-25: an X509-SVID of this very trust domain, whoever's it is, opens nothing.
#[tokio::test]
async fn a_workload_svid_never_opens_the_peer_port_atk_25() {
    let node = TestNode::ready().await;
    let written = node.path("svid");
    let written = written.to_str().unwrap();
    node.told(&["mint", "x509", "--spiffe-id", "spiffe://example.org/workload", "--write", written]);
    let file = |name: &str| node.path("svid").join(name);
    let chain: Vec<_> = CertificateDer::pem_file_iter(file("svid.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(file("key.pem")).unwrap();

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![Protocol::Peer.alpn().to_vec()];
    let stream = TcpStream::connect(node.peer).await.unwrap();
    match TlsConnector::from(Arc::new(config)).connect(PeerTls::nobody(), stream).await {
        // The client's part of the handshake may be over before the node has seen what it shows.
        Ok(mut stream) => assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_))),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert!(node.status().await.unwrap().ready);
}

/// ATK-27: removed, its key and name are worth nothing, also while others still have to hear of it.
#[tokio::test]
async fn a_removed_member_is_refused_atk_27() {
    let cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    let first = &cluster.nodes[0];
    let removed = Stranger::as_node(&cluster.nodes[2]);
    let sender = sender(first, 3).await;
    assert_eq!(removed.pre_vote(first, sender.clone()).await, Code::Ok);

    first.told(&["cluster", "remove", "node-3"]);
    for node in &cluster.nodes[..2] {
        assert_ne!(removed.pre_vote(node, sender.clone()).await, Code::Ok, "{}", node.name);
    }
    // The two that are left go on, and the one that was removed signs no more.
    first.create(entry("/after", &[("unix", "uid:1")])).await.unwrap();
    let gone = &cluster.nodes[2];
    let stopped = async || !gone.status().await.is_ok_and(|status| status.ready);
    gone.until("the removed node stops signing", stopped).await;
}

/// ATK-23, ATK-26: floods of silent, half-open and rubbish connections keep no peer out.
#[tokio::test]
async fn a_flood_at_the_peer_port_does_not_disturb_the_cluster_atk_26() {
    let cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    let mut held = Vec::new();
    for node in &cluster.nodes {
        for number in 0..300_usize {
            // Those that the node has pushed out are gone already.
            let Ok(mut stream) = TcpStream::connect(node.peer).await else { continue };
            if number % 3 == 1 {
                let _ = stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
            }
            if number % 3 == 2 {
                let _ = stream.write_all(&[0xff; 64]).await;
            }
            held.push(stream);
        }
    }
    for number in 0..20 {
        cluster.nodes[number % 3].create(entry(&format!("/w{number}"), &[("unix", "uid:1")])).await.unwrap();
    }
    // A node that starts meanwhile finds the others and is found.
    let mut cluster = cluster;
    let follower = (cluster.leader().await + 1) % 3;
    cluster.nodes[follower].kill().await;
    cluster.nodes[follower].start().await;
    cluster.nodes[follower].wait_ready().await;
    let after = cluster.settled().await;
    assert_eq!(after.entries_count, 20);
    drop(held);
}

/// Issue 4, bad input; ATK-42: a newcomer whose clock is off by an hour is refused, and its invitation holds.
#[tokio::test]
async fn a_newcomer_whose_clock_is_off_is_refused_and_may_ask_again_atk_42() {
    let cluster = TestCluster::of(1).await;
    let first = &cluster.nodes[0];
    let invitation = Invitation::parse(&cluster.invite("node-2")).unwrap();
    let newcomer = Stranger::new();
    let now = || i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let asked = async |sent_at: i64| {
        let mut client = JoinClient::new(newcomer.channel_to(first, Protocol::Join));
        let request = AdmitRequest {
            trust_domain: "example.org".into(),
            name: "node-2".into(),
            sealing_key: Bytes::copy_from_slice(newcomer.custody.sealing_public_key()),
            addresses: vec!["127.0.0.1:1".into()],
            version: 1,
            build: "test".into(),
            secret: Bytes::copy_from_slice(invitation.secret().as_bytes()),
            incarnation: Bytes::from_static(&[9; 16]),
            sent_at,
        };
        client.admit(request).await.map(tonic::Response::into_inner)
    };
    for off in [3_600_000, -3_600_000] {
        let refused = asked(now() + off).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("clock is off by"), "{refused}");
    }
    assert_eq!(first.status().await.unwrap().members.len(), 1);
    let admitted = asked(now()).await.unwrap();
    assert_eq!(admitted.member, 2);
    // The same node asks again, because the answer was lost: it gets the same. Nobody else does.
    assert_eq!(asked(now()).await.unwrap().member, 2);
    let other = Stranger::new();
    let mut client = JoinClient::new(other.channel_to(first, Protocol::Join));
    let request = AdmitRequest {
        trust_domain: "example.org".into(),
        name: "node-2".into(),
        sealing_key: Bytes::copy_from_slice(other.custody.sealing_public_key()),
        secret: Bytes::copy_from_slice(invitation.secret().as_bytes()),
        incarnation: Bytes::from_static(&[8; 16]),
        version: 1,
        sent_at: now(),
        ..AdmitRequest::default()
    };
    let refused = client.admit(request).await.unwrap_err();
    assert!(refused.message().contains("was used"), "{refused}");
}
