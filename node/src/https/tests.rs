//! The server as strangers meet it: over real sockets and real TLS.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use http::StatusCode;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{CipherSuite, ClientConfig, NamedGroup, ProtocolVersion, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

const LIMITS: ServerLimits = ServerLimits { max_connections: 64, requests_per_second: 1000 };

/// Answers every path with its name.
struct Echo;

impl Handler for Echo {
    fn handle(&self, _peer: &Arc<Peer>, request: Request<Body>) -> AnswerFuture {
        let path = request.uri().path().to_owned();
        Box::pin(std::future::ready(Response::new(full(path))))
    }
}

/// A certificate of its own, in two files.
struct Pair {
    chain: CertificateDer<'static>,
    key: KeyPair,
}

impl Pair {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        Self { chain: certificate.der().clone(), key }
    }

    fn write_certificate(&self, to: &Path) {
        replace(&to.join("web.pem"), &crate::pem::pem("CERTIFICATE", &self.chain));
    }

    fn write_key(&self, to: &Path) {
        replace(&to.join("web.key"), &self.key.serialize_pem());
    }

    fn write(&self, to: &Path) {
        self.write_certificate(to);
        self.write_key(to);
    }

    fn certified(&self) -> Arc<CertifiedKey> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        Arc::new(CertifiedKey::new(vec![self.chain.clone()], signer))
    }
}

/// As tools replace files: written beside, then renamed.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

struct Stand {
    server: HttpsServer,
    directory: TempDir,
    pair: Pair,
}

impl Stand {
    async fn new() -> Self {
        Self::with(LIMITS, None).await
    }

    async fn with(limits: ServerLimits, challenges: Option<Arc<dyn Challenges>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pair = Pair::new("bundle.example.org");
        pair.write(directory.path());
        let files =
            CertificateFiles::load(&directory.path().join("web.pem"), &directory.path().join("web.key")).unwrap();
        let settings = HttpsSettings {
            name: "test",
            certificate: CertificateSource::Files(files),
            client_certificates: None,
            challenges,
            limits,
            answer_limit: Some(Duration::from_secs(30)),
            drain: Duration::from_secs(5),
        };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = HttpsServer::start(any, settings, Arc::new(Echo)).await.unwrap();
        Self { server, directory, pair }
    }

    async fn dial_from(&self, from: [u8; 4]) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((IpAddr::from(from), 0)))?;
        socket.connect(self.server.address()).await
    }

    /// A handshake by someone who trusts just this certificate.
    async fn shake_hands(&self, pair: &Pair, alpn: &[u8]) -> io::Result<TlsStream<TcpStream>> {
        shake_hands(self.dial_from([127, 0, 0, 1]).await?, client(pair, alpn)).await
    }

    async fn http(&self, pair: &Pair) -> io::Result<SendRequest<Body>> {
        talk(self.shake_hands(pair, b"http/1.1").await?).await
    }
}

fn client(pair: &Pair, alpn: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(pair.chain.clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_webpki_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

async fn shake_hands(stream: TcpStream, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("bundle.example.org").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn talk(stream: TlsStream<TcpStream>) -> io::Result<SendRequest<Body>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "bundle.example.org").body(full("")).unwrap()
}

async fn asked(sender: &mut SendRequest<Body>, path: &str) -> (StatusCode, Bytes) {
    sender.ready().await.unwrap();
    let answer = sender.send_request(get(path)).await.unwrap();
    let status = answer.status();
    (status, answer.into_body().collect().await.unwrap().to_bytes())
}

/// Waits for a condition, with a bound.
async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let since = Instant::now();
    while !condition().await {
        assert!(since.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a server says to a first message of TLS that is written by hand: the alert, or nothing where it goes on.
async fn alert_to(stand: &Stand, version: [u8; 2], suites: &[u16]) -> Option<u8> {
    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    let extension = |number: u16, body: &[u8]| {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&number.to_be_bytes()[..], &length, body].concat()
    };
    let extensions = [
        // supported_groups: x25519, P-256; ec_point_formats; signature_algorithms: ECDSA and RSA with SHA-256, SHA-1.
        extension(10, &[0, 4, 0, 29, 0, 23]),
        extension(11, &[1, 0]),
        extension(13, &[0, 8, 4, 3, 4, 1, 2, 3, 2, 1]),
        extension(23, &[]),
    ]
    .concat();
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
    let hello =
        [&version[..], &[7; 32], &[0], &length(&suites), &suites, &[1, 0], &length(&extensions), &extensions].concat();
    let message = [&[1, 0][..], &length(&hello), &hello].concat();
    let record = [&[22, 3, 1][..], &length(&message), &message].concat();
    let mut stream = stand.dial_from([127, 0, 0, 1]).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut header = [0; 7];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut header)).await.unwrap().unwrap();
    // A record of type 21 is an alert: level, then description.
    (header[0] == 21).then_some(header[6])
}

/// SF-02.
///
/// Accepts: FED-15
#[tokio::test]
async fn tls_is_1_3_with_the_hybrid_exchange_or_1_2_with_aead_and_forward_secrecy() {
    let stand = Stand::new().await;
    let stream = stand.shake_hands(&stand.pair, b"h2").await.unwrap();
    let (_, session) = stream.get_ref();
    assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = session.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    // Mozilla's intermediate profile, version 1.2.
    for suite in aws_lc_rs::ALL_CIPHER_SUITES {
        let provider = CryptoProvider { cipher_suites: vec![*suite], ..aws_lc_rs::default_provider() };
        let mut roots = RootCertStore::empty();
        roots.add(stand.pair.chain.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[suite.version()])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = stand.dial_from([127, 0, 0, 1]).await.unwrap();
        let shaken = shake_hands(stream, config).await;
        // The certificate's key is ECDSA, so the suites that want RSA have no certificate here.
        let is_rsa = format!("{:?}", suite.suite()).contains("_RSA_");
        assert_eq!(shaken.is_err(), is_rsa, "{:?}", suite.suite());
    }
    // The same by hand: the server takes what the profile has.
    assert_eq!(alert_to(&stand, [3, 3], &[CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256.into()]).await, None);
}

/// SF-02.
///
/// Refuses: FED-15
#[tokio::test]
async fn tls_1_1_and_suites_with_cbc_rc4_or_without_forward_secrecy_are_refused() {
    const PROTOCOL_VERSION: u8 = 70;
    const HANDSHAKE_FAILURE: u8 = 40;
    let stand = Stand::new().await;
    let good = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256.into();
    for old in [[3, 0], [3, 1], [3, 2]] {
        assert_eq!(alert_to(&stand, old, &[good]).await, Some(PROTOCOL_VERSION), "{old:?}");
    }
    let suites = [
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_RC4_128_SHA,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
        CipherSuite::TLS_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::TLS_RSA_WITH_3DES_EDE_CBC_SHA,
    ];
    for suite in suites {
        assert_eq!(alert_to(&stand, [3, 3], &[suite.into()]).await, Some(HANDSHAKE_FAILURE), "{suite:?}");
    }
    let all: Vec<u16> = suites.into_iter().map(Into::into).collect();
    assert_eq!(alert_to(&stand, [3, 3], &all).await, Some(HANDSHAKE_FAILURE));
}

/// Refuses: FED-14, FED-18: both profiles are HTTPS, and plain HTTP gets no answer at all.
#[tokio::test]
async fn nothing_is_answered_without_tls() {
    let stand = Stand::new().await;
    let mut stream = stand.dial_from([127, 0, 0, 1]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: bundle.example.org\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    // It may be cut before all was read, which is an error here.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.unwrap();
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
}

#[tokio::test]
async fn no_session_is_resumed() {
    let stand = Stand::new().await;
    let config = Arc::new(client(&stand.pair, b"http/1.1"));
    for _ in 0..2 {
        let stream = stand.dial_from([127, 0, 0, 1]).await.unwrap();
        let name = ServerName::try_from("bundle.example.org").unwrap();
        let stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        let mut sender = talk(stream).await.unwrap();
        assert_eq!(asked(&mut sender, "/a").await, (StatusCode::OK, Bytes::from("/a")));
    }
}

#[tokio::test]
async fn a_certificate_is_replaced_and_open_connections_go_on() {
    let stand = Stand::new().await;
    let mut before = stand.http(&stand.pair).await.unwrap();
    assert_eq!(asked(&mut before, "/1").await.1, "/1");

    let next = Pair::new("bundle.example.org");
    next.write(stand.directory.path());
    until("the new certificate is shown", async || stand.shake_hands(&next, b"http/1.1").await.is_ok()).await;
    assert!(stand.shake_hands(&stand.pair, b"http/1.1").await.is_err(), "the old one is gone");
    assert_eq!(asked(&mut before, "/2").await.1, "/2", "no connection was dropped");
}

#[tokio::test]
async fn files_that_do_not_belong_together_change_nothing_until_they_do() {
    let stand = Stand::new().await;
    let next = Pair::new("bundle.example.org");
    next.write_certificate(stand.directory.path());
    let (certificate, key) = (stand.directory.path().join("web.pem"), stand.directory.path().join("web.key"));
    let refused = CertificateFiles::load(&certificate, &key).unwrap_err();
    assert!(matches!(refused, CertificateFilesError::Mismatch { .. }), "{refused}");
    // Two looks of the server later it still shows what it had.
    let since = Instant::now();
    until("two looks have passed", async || {
        assert!(stand.shake_hands(&stand.pair, b"http/1.1").await.is_ok());
        since.elapsed() > Duration::from_secs(5)
    })
    .await;
    next.write_key(stand.directory.path());
    until("the new pair is shown", async || stand.shake_hands(&next, b"http/1.1").await.is_ok()).await;
}

#[test]
fn files_that_are_no_certificate_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let load = || CertificateFiles::load(&path("web.pem"), &path("web.key")).unwrap_err();
    assert!(matches!(load(), CertificateFilesError::Unreadable { .. }));
    let pair = Pair::new("bundle.example.org");
    pair.write(directory.path());
    fs::write(path("web.pem"), "no certificate").unwrap();
    assert!(matches!(load(), CertificateFilesError::NoCertificate { .. }));
    pair.write(directory.path());
    fs::write(path("web.key"), "no key").unwrap();
    assert!(matches!(load(), CertificateFilesError::NoKey { .. }));
    fs::write(path("web.key"), vec![b'#'; 2 << 20]).unwrap();
    assert!(matches!(load(), CertificateFilesError::TooLarge { .. }));
}

/// Slowloris: whoever connects and does not go on is cut, at each stage, and others are answered meanwhile.
#[tokio::test]
async fn who_stalls_in_the_handshake_or_in_a_request_is_cut() {
    let stand = Stand::new().await;
    let mut silent = stand.dial_from([127, 0, 0, 1]).await.unwrap();
    let mut halfway = stand.dial_from([127, 0, 0, 1]).await.unwrap();
    halfway.write_all(&[22, 3, 1, 0, 200, 1]).await.unwrap();
    let mut no_request = stand.shake_hands(&stand.pair, b"h2").await.unwrap();
    let mut half_head = stand.shake_hands(&stand.pair, b"http/1.1").await.unwrap();
    half_head.write_all(b"GET / HTTP/1.1\r\nhost: b\r\nx: ").await.unwrap();

    let mut honest = stand.http(&stand.pair).await.unwrap();
    assert_eq!(asked(&mut honest, "/ok").await.1, "/ok");

    let begun = Instant::now();
    let ended = async |stream: &mut (dyn tokio::io::AsyncRead + Unpin + Send)| {
        let mut sink = Vec::new();
        // An error is an end too.
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut sink)).await.map(drop)
    };
    ended(&mut silent).await.unwrap();
    ended(&mut halfway).await.unwrap();
    ended(&mut half_head).await.unwrap();
    ended(&mut no_request).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// A flood of connections from one address leaves room for another, and one of requests is answered 429.
#[tokio::test]
async fn floods_of_one_address_are_bounded_and_do_not_keep_others_out() {
    let limits = ServerLimits { max_connections: 16, requests_per_second: 20 };
    let stand = Stand::with(limits, None).await;
    // Its own quarter, and no more: what is beyond is closed without a word.
    let mut flood = Vec::new();
    for _ in 0..12 {
        flood.push(stand.dial_from([127, 0, 0, 2]).await.unwrap());
    }
    let mut closed = 0;
    for stream in &mut flood {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(300), stream.read(&mut byte)).await;
        closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    assert_eq!(closed, 8, "a quarter of 16 is held");
    let stream = stand.dial_from([127, 0, 0, 3]).await.unwrap();
    let mut other = talk(shake_hands(stream, client(&stand.pair, b"http/1.1")).await.unwrap()).await.unwrap();
    let mut statuses = Vec::new();
    for _ in 0..300 {
        statuses.push(asked(&mut other, "/x").await.0);
    }
    let served = statuses.iter().filter(|status| **status == StatusCode::OK).count();
    assert!((199..290).contains(&served), "ten seconds' worth and what has come since: {served}");
    assert!(statuses.contains(&StatusCode::TOO_MANY_REQUESTS));
    // A third one is not concerned by either.
    let stream = stand.dial_from([127, 0, 0, 4]).await.unwrap();
    let mut third = talk(shake_hands(stream, client(&stand.pair, b"http/1.1")).await.unwrap()).await.unwrap();
    assert_eq!(asked(&mut third, "/third").await, (StatusCode::OK, Bytes::from("/third")));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let stand = Stand::new().await;
    let mut sender = stand.http(&stand.pair).await.unwrap();
    let mut request = get("/");
    request.headers_mut().insert("x", "a".repeat(32 * 1024).parse().unwrap());
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

/// What ACME's TLS-ALPN-01 asks for (RFC 8737): the challenge's certificate for its protocol alone.
#[tokio::test]
async fn a_challenge_of_acme_is_answered_by_its_own_certificate_and_nothing_else_is() {
    struct One(Arc<CertifiedKey>);
    impl Challenges for One {
        fn certificate_for(&self, server_name: &str) -> Option<Arc<CertifiedKey>> {
            (server_name == "bundle.example.org").then(|| Arc::clone(&self.0))
        }
    }
    let proof = Pair::new("bundle.example.org");
    let stand = Stand::with(LIMITS, Some(Arc::new(One(proof.certified())))).await;
    let stream = stand.shake_hands(&proof, ACME_ALPN).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ACME_ALPN));
    assert!(stand.shake_hands(&proof, b"http/1.1").await.is_err(), "it is shown to nobody else");
    let mut usual = stand.http(&stand.pair).await.unwrap();
    assert_eq!(asked(&mut usual, "/a").await.1, "/a");
    let none = Stand::new().await;
    assert!(none.shake_hands(&none.pair, ACME_ALPN).await.is_err(), "nobody has set a challenge there");
}

#[tokio::test]
async fn a_stop_lets_open_answers_finish_and_takes_nobody_new() {
    let stand = Stand::new().await;
    let mut sender = stand.http(&stand.pair).await.unwrap();
    assert_eq!(asked(&mut sender, "/a").await.1, "/a");
    let address = stand.server.address();
    stand.server.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}
