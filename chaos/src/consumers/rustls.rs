//! rustls as a server checks its clients: webpki over the whole chain, an unknown status refused, which is its default.

use super::{Chain, Opinion, View};
use crate::clock::now;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error, RootCertStore};
use std::sync::Arc;
use std::time::Duration;

/// A verifier, replaced as a whole with each view (CRL-12).
#[derive(Debug, Default)]
pub(crate) struct Rustls {
    loaded: Option<(u64, Arc<dyn ClientCertVerifier>)>,
}

impl Rustls {
    /// What it says of a chain.
    pub(crate) fn ask(&mut self, view: &View, chain: &Chain) -> Opinion {
        let verifier = match self.load(view) {
            Ok(verifier) => verifier,
            Err(why) => return Opinion::Refuses(why),
        };
        let (leaf, issuing) =
            (CertificateDer::from(chain.leaf.as_slice()), CertificateDer::from(chain.issuing.as_slice()));
        let seconds = u64::try_from(now().0).unwrap_or_default();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        match verifier.verify_client_cert(&leaf, &[issuing], at) {
            Ok(_) => Opinion::Accepts,
            Err(Error::InvalidCertificate(CertificateError::Revoked)) => Opinion::Revoked,
            Err(Error::InvalidCertificate(CertificateError::UnknownRevocationStatus)) => Opinion::Unknown,
            Err(error) => Opinion::Refuses(error.to_string()),
        }
    }

    fn load(&mut self, view: &View) -> Result<Arc<dyn ClientCertVerifier>, String> {
        if let Some((number, verifier)) = &self.loaded
            && *number == view.number
        {
            return Ok(Arc::clone(verifier));
        }
        let crls = view.crls.iter().map(|crl| CertificateRevocationListDer::from(crl.clone()));
        let builder = WebPkiClientVerifier::builder_with_provider(roots(view)?, provider()).with_crls(crls);
        let verifier = builder.build().map_err(|error| error.to_string())?;
        self.loaded = Some((view.number, Arc::clone(&verifier)));
        Ok(verifier)
    }
}

/// The roots of a view.
pub(super) fn roots(view: &View) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for root in view.roots.iter() {
        roots.add(CertificateDer::from(root.as_slice())).map_err(|error| error.to_string())?;
    }
    Ok(Arc::new(roots))
}

/// The one crypto provider.
pub(super) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
