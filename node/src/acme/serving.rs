//! Web certificates as HTTPS servers take them: by name, with what signs for each.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_actors::acme::WebIdentity;
use rustls::Error;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::alpn::AlpnChallenges;
use crate::bundle_endpoint::AcmeHooks;
use crate::https::NamedCertificates;
use crate::metrics::ACME_CERTIFICATE_END;
use crate::node::Node;

/// The certificates and their changes, and the answers to challenges; may be asked for before this node is a member.
#[must_use]
pub fn hooks(node: &Node) -> AcmeHooks {
    let (publish, certificates) = watch::channel(Arc::default());
    let (node, state) = (node.clone(), node.consensus().state());
    let mut stopping = node.stopping();
    tokio::spawn(async move {
        let follow = async {
            let mut identities = node.serving().await.web_certificates().watch();
            loop {
                let named = named(&identities.borrow_and_update().clone());
                publish.send_replace(Arc::new(named));
                if identities.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = stopping.asked() => {}
            () = publish.closed() => {}
            () = follow => {}
        }
    });
    AcmeHooks { certificates, challenges: Arc::new(AlpnChallenges::new(state)) }
}

fn named(identities: &BTreeMap<String, Arc<WebIdentity>>) -> NamedCertificates {
    let certified = identities.values().filter_map(|identity| match certified(identity) {
        Ok(key) => {
            let end = identity.validity.not_after().0 as f64;
            metrics::gauge!(ACME_CERTIFICATE_END, "domain" => identity.domain.clone()).set(end);
            Some((identity.domain.clone(), Arc::new(key)))
        }
        Err(error) => {
            tracing::error!(domain = identity.domain, %error, "a web certificate cannot be served");
            None
        }
    });
    NamedCertificates::new(certified)
}

fn certified(identity: &WebIdentity) -> Result<CertifiedKey, Error> {
    let chain = identity.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.pkcs8().to_vec()));
    // Key and certificate were compared when it came: an order ends with no other.
    Ok(CertifiedKey::new(chain, any_supported_type(&key)?))
}
