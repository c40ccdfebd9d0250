//! A client that shows a chain to a server: rustls, the roots of the view, the name `localhost`, no resumption.

use super::rustls::{provider, roots};
use super::{Chain, Opinion, View};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, Error};
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The name in the certificate of every server of a run.
pub(crate) const SERVER_NAME: &str = "localhost";

/// Makes the TLS connection over one that is open. With no chain the client has no certificate.
pub(super) async fn connect(stream: TcpStream, view: &View, chain: Option<&Chain>) -> io::Result<TlsStream<TcpStream>> {
    let config = config(view, chain).map_err(io::Error::other)?;
    let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn config(view: &View, chain: Option<&Chain>) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(roots(view)?);
    let mut config = match chain {
        None => builder.with_no_client_auth(),
        Some(chain) => {
            let certificates = [&chain.leaf, &chain.issuing].map(|der| CertificateDer::from(der.clone())).to_vec();
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(chain.key.clone()));
            builder.with_client_auth_cert(certificates, key).map_err(|error| error.to_string())?
        }
    };
    // A resumed session is not checked again.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What a server that ends the connection says by its alert.
pub(super) fn alert(error: &io::Error) -> Opinion {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        Some(Error::AlertReceived(AlertDescription::CertificateRevoked)) => Opinion::Revoked,
        // OpenSSL has no alert of its own for a CRL that it does not have.
        Some(Error::AlertReceived(AlertDescription::UnknownCA)) => Opinion::Unknown,
        Some(_) | None => Opinion::Refuses(error.to_string()),
    }
}
