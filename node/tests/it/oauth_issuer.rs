//! A small OAuth 2.0 server: discovery, keys, and tokens for client credentials. And the authority that vouches for it, and
//! for whatever else has to have a certificate of the web in a test.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use url::form_urlencoded;

/// A certificate authority of the web, as far as a test goes.
pub(crate) struct WebAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl WebAuthority {
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap() }
    }

    /// Its certificate in a file, for `federation.web_roots`.
    pub(crate) fn roots_in(&self, directory: &Path) -> PathBuf {
        let path = directory.join("web-roots.pem");
        fs::write(&path, self.issuer.pem()).unwrap();
        path
    }

    /// A certificate and key for this machine, in files.
    pub(crate) fn certificate_in(&self, directory: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue();
        let paths = (directory.join("web.pem"), directory.join("web.key"));
        fs::write(&paths.0, certificate.pem()).unwrap();
        fs::write(&paths.1, key.serialize_pem()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&paths.1, mode).unwrap();
        paths
    }

    fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        (parameters.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn server(&self) -> TlsAcceptor {
        let (certificate, key) = self.issue();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// The secret of every client.
pub(crate) const SECRET: &str = "s3cret/+ä";

/// The server. It ends with the runtime.
pub(crate) struct OAuthIssuer {
    address: SocketAddr,
    issued: Arc<AtomicUsize>,
}

struct Inner {
    base: String,
    key: KeyPair,
    issued: Arc<AtomicUsize>,
}

impl OAuthIssuer {
    pub(crate) async fn start(authority: &WebAuthority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let issued = Arc::new(AtomicUsize::new(0));
        let key = KeyPair::generate().unwrap();
        let inner = Arc::new(Inner { base: format!("https://{address}"), key, issued: Arc::clone(&issued) });
        let acceptor = authority.server();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, inner) = (acceptor.clone(), Arc::clone(&inner));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let answer = service_fn(move |request| {
                        let inner = Arc::clone(&inner);
                        async move { Ok::<_, std::convert::Infallible>(inner.answer(request).await) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Self { address, issued }
    }

    /// `iss` of its tokens.
    pub(crate) fn issuer(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Where tokens are to be had.
    pub(crate) fn token_url(&self) -> String {
        format!("https://{}/token", self.address)
    }

    /// How many tokens it has given.
    pub(crate) fn issued(&self) -> usize {
        self.issued.load(Ordering::Relaxed)
    }
}

fn answered(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let body = Full::new(Bytes::from(value.to_string()));
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

impl Inner {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let base = &self.base;
        match request.uri().path() {
            "/.well-known/openid-configuration" => answered(
                StatusCode::OK,
                &json!({"issuer": base, "jwks_uri": format!("{base}/keys"), "token_endpoint": format!("{base}/token")}),
            ),
            "/keys" => answered(StatusCode::OK, &self.keys()),
            "/token" => self.token(request).await,
            _ => answered(StatusCode::NOT_FOUND, &json!({})),
        }
    }

    fn keys(&self) -> Value {
        let point = self.key.public_key_raw();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "one", "x": x, "y": y}]})
    }

    /// RFC 6749, sections 2.3.1, 4.4, 5.1 and 5.2.
    async fn token(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let authorization = request.headers()["authorization"].to_str().unwrap().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let form: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
        let value = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        assert_eq!(value("grant_type").as_deref(), Some("client_credentials"));
        let pair = String::from_utf8(STANDARD.decode(authorization.strip_prefix("Basic ").unwrap()).unwrap()).unwrap();
        let (id, secret) = pair.split_once(':').unwrap();
        let decoded =
            |text: &str| form_urlencoded::parse(format!("v={text}").as_bytes()).next().unwrap().1.into_owned();
        let (id, secret) = (decoded(id), decoded(secret));
        if secret != SECRET {
            let refusal = json!({"error": "invalid_client", "error_description": "no such client, or another secret"});
            return answered(StatusCode::UNAUTHORIZED, &refusal);
        }
        self.issued.fetch_add(1, Ordering::Relaxed);
        let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
        let claims = json!({
            "iss": self.base, "sub": id, "iat": now, "exp": now + 300,
            "aud": value("audience").unwrap_or_default(), "scope": value("scope").unwrap_or_default(),
        });
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("one".to_owned());
        let key = EncodingKey::from_ec_der(&self.key.serialize_der());
        let token = encode(&header, &claims, &key).unwrap();
        answered(StatusCode::OK, &json!({"access_token": token, "token_type": "Bearer", "expires_in": 300}))
    }
}
