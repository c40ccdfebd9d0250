//! TLS between two nodes over loopback: what each end proves, and what it refuses.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_actors::keys::{FileCustody, KeyCustody, WhenMissing};
use quorate_raft_consensus::transport::{Connection, Destination, Incoming, Protocol, Transport};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::{ClientConfig, HandshakeKind, NamedGroup};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tls::PeerTls;
use super::transport::PeerTransport;

/// Longest wait for anything: machines that build something else meanwhile are slow.
const PATIENCE: Duration = Duration::from_secs(30);

struct End {
    transport: PeerTransport,
    tls: PeerTls,
    key: Bytes,
    _directory: tempfile::TempDir,
}

fn end() -> End {
    let directory = tempfile::tempdir().unwrap();
    let custody = FileCustody::open(directory.path(), None, WhenMissing::Make).unwrap();
    let key = Bytes::copy_from_slice(custody.identity_public_key().spki_der());
    let tls = PeerTls::new(Arc::new(custody)).unwrap();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let transport = PeerTransport::new(listen, tokio::runtime::Handle::current());
    transport.identify(tls.clone());
    End { transport, tls, key, _directory: directory }
}

/// An end that listens, its address and what comes in.
async fn listening() -> (End, SocketAddr, Box<dyn Incoming>) {
    let end = end();
    let address = end.transport.open().await.unwrap();
    let incoming = end.transport.listen().await.unwrap();
    (end, address, incoming)
}

fn to(addresses: &[String], key: &Bytes, protocol: Protocol) -> Destination {
    Destination { addresses: addresses.to_vec(), keys: vec![key.clone()], protocol }
}

async fn next(incoming: &mut Box<dyn Incoming>) -> Connection {
    timeout(PATIENCE, incoming.next()).await.expect("a connection comes in").unwrap()
}

/// Whether the other end closes without a word.
async fn is_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> bool {
    let mut byte = [0];
    matches!(timeout(PATIENCE, stream.read(&mut byte)).await.expect("the other end acts"), Ok(0) | Err(_))
}

#[tokio::test]
async fn both_ends_learn_each_others_key_and_protocol() {
    for protocol in [Protocol::Peer, Protocol::Join] {
        let (server, address, mut incoming) = listening().await;
        let client = end();
        let peer = to(&[address.to_string()], &server.key, protocol);
        let mut dialled = client.transport.dial(&peer).await.unwrap();
        let mut taken = next(&mut incoming).await;
        assert_eq!((&taken.peer().key, taken.peer().protocol), (&client.key, protocol));
        assert_eq!((&dialled.peer().key, dialled.peer().protocol), (&server.key, protocol));
        assert!(taken.peer().address.starts_with("127.0.0.1:"));
        dialled.write_all(b"question").await.unwrap();
        dialled.flush().await.unwrap();
        let mut read = [0; 8];
        taken.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"question");
    }
}

#[tokio::test]
async fn who_holds_another_key_is_not_spoken_to_and_the_next_address_is_tried_atk_25() {
    let (_other, wrong, _incoming) = listening().await;
    let (server, right, _taken) = listening().await;
    let client = end();
    let peer = to(&[wrong.to_string()], &server.key, Protocol::Peer);
    let refused = client.transport.dial(&peer).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    let words = refused.to_string();
    assert!(words.contains(&wrong.to_string()) && words.contains("another identity key"), "{words}");

    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let addresses = [nobody.to_string(), wrong.to_string(), format!("localhost:{}", right.port())];
    let dialled = client.transport.dial(&to(&addresses, &server.key, Protocol::Peer)).await.unwrap();
    assert_eq!(dialled.peer().key, server.key);
}

#[tokio::test]
async fn a_dial_that_fails_says_what_became_of_each_address() {
    let client = end();
    let addresses = ["127.0.0.1:1".to_owned(), "no-such-host.invalid:8082".to_owned()];
    let refused = client.transport.dial(&to(&addresses, &client.key, Protocol::Peer)).await.unwrap_err().to_string();
    for address in addresses {
        assert!(refused.contains(&address), "{refused}");
    }
    let refused = client.transport.dial(&to(&[], &client.key, Protocol::Peer)).await.unwrap_err();
    assert_eq!(refused.to_string(), "the peer has no address");
}

/// A client that would resume if it could, and would take TLS 1.2.
fn foreign(end: &End, alpn: &[&[u8]]) -> ClientConfig {
    let mut config = ClientConfig::clone(&end.tls.client(vec![end.key.clone()], Protocol::Peer).unwrap());
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

#[tokio::test]
async fn the_hybrid_key_exchange_is_what_nodes_agree_on() {
    let (server, address, mut incoming) = listening().await;
    let config = server.tls.client(vec![server.key.clone()], Protocol::Peer).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = TlsConnector::from(config).connect(PeerTls::nobody(), stream).await.unwrap();
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
    next(&mut incoming).await;
}

#[tokio::test]
async fn nothing_is_resumed_atk_24() {
    let (server, address, mut incoming) = listening().await;
    let mut config = foreign(&server, &[Protocol::Peer.alpn()]);
    config.resumption = rustls::client::Resumption::in_memory_sessions(16);
    config.enable_early_data = true;
    let config = Arc::new(config);
    for _ in 0..2 {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = TlsConnector::from(Arc::clone(&config)).connect(PeerTls::nobody(), stream).await.unwrap();
        let mut taken = next(&mut incoming).await;
        // A ticket would come before this.
        taken.write_all(b"hello").await.unwrap();
        taken.flush().await.unwrap();
        stream.read_exact(&mut [0; 5]).await.unwrap();
        assert!(matches!(
            stream.get_ref().1.handshake_kind(),
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
        ));
        assert!(!stream.get_ref().1.is_early_data_accepted());
    }
}

#[tokio::test]
async fn who_names_no_protocol_of_ours_is_not_let_in() {
    let (server, address, _incoming) = listening().await;
    for alpn in [&[][..], &[b"h2".as_slice()], &[b"quorate-peer/2"]] {
        let config = Arc::new(foreign(&server, alpn));
        let stream = TcpStream::connect(address).await.unwrap();
        match TlsConnector::from(config).connect(PeerTls::nobody(), stream).await {
            Ok(mut stream) => assert!(is_closed(&mut stream).await, "{alpn:?}"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// ATK-25: a certificate, whoever issued it, is not even a kind of identity that this port knows.
#[tokio::test]
async fn who_shows_no_key_or_a_certificate_is_not_let_in_atk_25() {
    let (server, address, _incoming) = listening().await;
    let mut without_key = foreign(&server, &[Protocol::Peer.alpn()]);
    without_key.client_auth_cert_resolver = Arc::new(NoKey);
    let stream = TcpStream::connect(address).await.unwrap();
    match TlsConnector::from(Arc::new(without_key)).connect(PeerTls::nobody(), stream).await {
        Ok(mut stream) => assert!(is_closed(&mut stream).await),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    // The other end asks for a raw public key alone: a client of certificates ends the handshake itself.
    let mut roots = rustls::RootCertStore::empty();
    roots.roots.push(rustls::pki_types::TrustAnchor {
        subject: vec![0x30, 0x00].into(),
        subject_public_key_info: server.key.to_vec().into(),
        name_constraints: None,
    });
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut of_certificates = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    of_certificates.alpn_protocols = vec![Protocol::Peer.alpn().to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let refused = TlsConnector::from(Arc::new(of_certificates)).connect(PeerTls::nobody(), stream).await;
    assert!(refused.is_err());
}

#[derive(Debug)]
struct NoKey;

impl rustls::client::ResolvesClientCert for NoKey {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Says that it holds a key that it does not hold.
#[tokio::test]
async fn who_shows_a_key_without_holding_it_is_not_let_in_atk_25() {
    let (server, address, _incoming) = listening().await;
    let thief = end();
    let mut config = foreign(&server, &[Protocol::Peer.alpn()]);
    let shown = rustls::pki_types::CertificateDer::from(server.key.to_vec());
    let stolen = thief.tls.signing_as(shown);
    config.client_auth_cert_resolver = Arc::new(AlwaysResolvesClientRawPublicKeys::new(stolen));
    let stream = TcpStream::connect(address).await.unwrap();
    match TlsConnector::from(Arc::new(config)).connect(PeerTls::nobody(), stream).await {
        Ok(mut stream) => assert!(is_closed(&mut stream).await),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[tokio::test]
async fn silent_connections_and_rubbish_do_not_keep_a_peer_out_atk_23_atk_26() {
    let (server, address, mut incoming) = listening().await;
    let mut held = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        }
        held.push(stream);
    }
    let client = end();
    let peer = to(&[address.to_string()], &server.key, Protocol::Peer);
    let dialled = timeout(PATIENCE, client.transport.dial(&peer)).await.unwrap().unwrap();
    let taken = next(&mut incoming).await;
    assert_eq!(taken.peer().key, client.key);
    drop((held, dialled));
}

#[tokio::test]
async fn strangers_hold_few_connections_atk_26() {
    let (server, address, mut incoming) = listening().await;
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..super::guard::LIMITS.strangers_per_source + 8 {
        let client = end();
        let peer = to(&[address.to_string()], &server.key, Protocol::Peer);
        let mut dialled = client.transport.dial(&peer).await.unwrap();
        tokio::select! {
            biased;
            taken = next(&mut incoming) => held.push((taken, dialled)),
            closed = is_closed(&mut dialled) => {
                assert!(closed);
                refused += 1;
            }
        }
    }
    assert_eq!(held.len(), super::guard::LIMITS.strangers_per_source);
    assert_eq!(refused, 8);
}

#[tokio::test]
async fn the_port_is_opened_when_it_is_wanted_and_closed_with_the_one_who_listens() {
    let end = end();
    let incoming = end.transport.listen().await.unwrap();
    assert_eq!(end.transport.address(), None);
    let address = end.transport.open().await.unwrap();
    assert_eq!(end.transport.open().await.unwrap(), address);
    TcpStream::connect(address).await.unwrap();
    drop(incoming);
    let closed = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, closed).await.unwrap();
}
