//! What a server proves itself with, and how that is replaced while it serves.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_actors::EndpointIdentity;
use quorate_proto_identity::x509::Certificate;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::tls::{self, Readable};
use crate::metrics::WEB_CERTIFICATE_END;

/// How often files are looked at. Whoever replaces a certificate does so days before its end.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Largest file read: a chain has a few KiB, so a larger one is another file.
const FILE_LIMIT: u64 = 1024 * 1024;

/// Where a server's certificate comes from.
#[derive(Debug)]
pub enum CertificateSource {
    /// The node's endpoint certificate, an X509-SVID (FED-36).
    Spiffe(watch::Receiver<Option<Arc<EndpointIdentity>>>),
    /// Two files, read again when they change (FED-20, FED-21: what is in them is the operator's).
    Files(CertificateFiles),
    /// What the cluster has by ACME at the moment.
    Acme(watch::Receiver<Arc<NamedCertificates>>),
    /// No TLS: a proxy on this host has it.
    Plain,
}

impl CertificateSource {
    /// What handshakes ask, none where there are no handshakes; and what keeps it fresh.
    pub(super) fn resolver(self, listener: &'static str) -> (Option<Arc<Resolver>>, Option<Watching>) {
        match self {
            Self::Spiffe(identity) => (Some(Arc::new(Resolver::Spiffe { identity, made: Mutex::default() })), None),
            Self::Files(files) => {
                let (certificate, watching) = files.watch(listener);
                (Some(Arc::new(Resolver::Web(certificate))), Some(watching))
            }
            Self::Acme(certificates) => (Some(Arc::new(Resolver::Named(certificates))), None),
            Self::Plain => (None, None),
        }
    }
}

/// Certificates by the names that they are for.
#[derive(Debug, Default)]
pub struct NamedCertificates(BTreeMap<String, Arc<CertifiedKey>>);

impl NamedCertificates {
    /// One for each name, in lower case.
    pub fn new(certificates: impl IntoIterator<Item = (String, Arc<CertifiedKey>)>) -> Self {
        Self(certificates.into_iter().collect())
    }

    /// The one for a name; for a client that names nobody, or somebody else, the first there is, so that it can say what is
    /// wrong.
    fn of(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let named = name.and_then(|name| self.0.get(name));
        named.or_else(|| self.0.values().next()).cloned()
    }
}

/// An endpoint identity, and what TLS signs with for it.
type Made = (Arc<EndpointIdentity>, Arc<CertifiedKey>);

/// Gives each handshake the certificate of the moment.
#[derive(Debug)]
pub(super) enum Resolver {
    Spiffe { identity: watch::Receiver<Option<Arc<EndpointIdentity>>>, made: Mutex<Option<Made>> },
    Web(watch::Receiver<Option<Arc<CertifiedKey>>>),
    Named(watch::Receiver<Arc<NamedCertificates>>),
}

impl Resolver {
    /// What a client is shown that names this server.
    fn now(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        match self {
            Self::Named(certificates) => certificates.borrow().of(name),
            Self::Web(certificate) => certificate.borrow().clone(),
            Self::Spiffe { identity, made } => {
                let identity = identity.borrow().clone()?;
                let mut made = made.lock();
                if let Some((of, key)) = &*made
                    && Arc::ptr_eq(of, &identity)
                {
                    return Some(Arc::clone(key));
                }
                let key = Arc::new(certified_key(&identity).ok()?);
                *made = Some((identity, Arc::clone(&key)));
                Some(key)
            }
        }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.now(hello.server_name())
    }
}

impl Readable for Resolver {
    fn has_certificate(&self) -> bool {
        self.now(None).is_some()
    }
}

/// What TLS signs with for an endpoint identity, as server or as client.
///
/// # Errors
/// When the key is of no use; a fault of the program.
pub fn certified_key(identity: &EndpointIdentity) -> Result<CertifiedKey, rustls::Error> {
    let chain = identity.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.pkcs8()));
    Ok(CertifiedKey::new(chain, any_supported_type(&key)?))
}

/// Two files with a certificate chain and its key, which were read and belong together.
#[derive(Debug)]
pub struct CertificateFiles {
    certificate: PathBuf,
    private_key: PathBuf,
    loaded: Loaded,
}

/// What was read, and from what.
#[derive(Debug, Clone)]
struct Loaded {
    stamp: Option<Stamp>,
    key: Arc<CertifiedKey>,
}

/// What tells that files were replaced: when each was changed, its length, and which file it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp([(Option<std::time::SystemTime>, u64, u64); 2]);

/// Why certificate files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFilesError {
    /// One cannot be read: look at the path, and at who may read it.
    #[error("cannot read {path:?}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// One is larger than a certificate chain: another file was named.
    #[error("{path:?} is larger than {FILE_LIMIT} bytes; is it the right file?")]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// The chain has no certificate, or one that cannot be read.
    #[error("{path:?} has no certificate chain in PEM")]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// There is no private key, or one of a kind that TLS has no use for.
    #[error("{path:?} has no private key in PEM that TLS can use (PKCS#8, SEC1 or PKCS#1; ECDSA, RSA or Ed25519)")]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// The two are not of each other: one was replaced and the other not, perhaps yet.
    #[error("the key in {private_key:?} is not that of the certificate in {certificate:?}")]
    Mismatch {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        private_key: PathBuf,
    },
}

impl CertificateFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be read, or do not belong together.
    pub fn load(certificate: &Path, private_key: &Path) -> Result<Self, CertificateFilesError> {
        let loaded = load(certificate, private_key)?;
        Ok(Self { certificate: certificate.to_owned(), private_key: private_key.to_owned(), loaded })
    }

    /// Follows the files for as long as the watching lives. What cannot be used is told, and what was there before stays.
    fn watch(self, listener: &'static str) -> (watch::Receiver<Option<Arc<CertifiedKey>>>, Watching) {
        let Self { certificate, private_key, mut loaded } = self;
        show_end(listener, &loaded.key);
        let (publish, published) = watch::channel(Some(Arc::clone(&loaded.key)));
        let task = tokio::spawn(async move {
            let mut told: Option<String> = None;
            let mut ticks = tokio::time::interval(LOOK_EVERY);
            loop {
                ticks.tick().await;
                let now = stamp(&certificate, &private_key);
                if now.is_some() && now == loaded.stamp && told.is_none() {
                    continue;
                }
                match load(&certificate, &private_key) {
                    Ok(read) => {
                        told = None;
                        let is_other = read.key.cert != loaded.key.cert;
                        loaded = read;
                        if is_other {
                            tracing::info!(listener, path = %certificate.display(), "the web certificate was replaced");
                            show_end(listener, &loaded.key);
                            publish.send_replace(Some(Arc::clone(&loaded.key)));
                        }
                    }
                    Err(error) => {
                        let text = error.to_string();
                        if told.as_ref() != Some(&text) {
                            let error = &error as &dyn std::error::Error;
                            tracing::warn!(
                                listener,
                                error,
                                "the web certificate was changed and cannot be used; the one before stays"
                            );
                            told = Some(text);
                        }
                    }
                }
            }
        });
        (published, Watching(task))
    }
}

/// The task that follows files; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn load(certificate: &Path, private_key: &Path) -> Result<Loaded, CertificateFilesError> {
    // Taken before the contents: what changes meanwhile is read again.
    let stamp = stamp(certificate, private_key);
    let chain_text = read(certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain_text).collect();
    let no_certificate = || CertificateFilesError::NoCertificate { path: certificate.to_owned() };
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(no_certificate)?;
    let key_text = zeroize::Zeroizing::new(read(private_key)?);
    let no_key = || CertificateFilesError::NoKey { path: private_key.to_owned() };
    let key = PrivateKeyDer::from_pem_slice(&key_text).map_err(|_none| no_key())?;
    let signer = any_supported_type(&key).map_err(|_unusable| no_key())?;
    let key = CertifiedKey::new(chain, signer);
    if tls::check(&key).is_err() {
        let (certificate, private_key) = (certificate.to_owned(), private_key.to_owned());
        return Err(CertificateFilesError::Mismatch { certificate, private_key });
    }
    Ok(Loaded { stamp, key: Arc::new(key) })
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateFilesError> {
    let unreadable = |source| CertificateFilesError::Unreadable { path: path.to_owned(), source };
    let found = fs::metadata(path).map_err(unreadable)?;
    if !found.is_file() {
        // Reading a pipe would not come back.
        return Err(unreadable(io::Error::other("it is no regular file")));
    }
    if found.len() > FILE_LIMIT {
        return Err(CertificateFilesError::TooLarge { path: path.to_owned() });
    }
    fs::read(path).map_err(unreadable)
}

fn stamp(certificate: &Path, private_key: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let of = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok(), found.len(), found.ino()))
    };
    Some(Stamp([of(certificate)?, of(private_key)?]))
}

/// Shows when a web certificate ends.
fn show_end(listener: &'static str, key: &CertifiedKey) {
    let end = key.cert.first().and_then(|leaf| Certificate::parse(leaf).ok()).map(|leaf| leaf.validity().not_after());
    if let Some(end) = end {
        metrics::gauge!(WEB_CERTIFICATE_END, "listener" => listener).set(end.0 as f64);
    }
}
