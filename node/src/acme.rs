//! ACME over HTTPS (RFC 8555): how this node speaks with web authorities, and answers their challenges.
//!
//! ```text
//!   actors (acme) ──> AcmeOverHttps ──> instant-acme (what is said) ──> outbound (how it gets there: ATK-36, ATK-37)
//!
//!   authority ──> port 443, ALPN acme-tls/1 ──> alpn: a certificate with the challenge's digest   (RFC 8737)
//!             └─> port 80, /.well-known/acme-challenge/ ──> http01: the key authorization          (RFC 8555, 8.3)
//!                                   both read the state: every member that has applied the challenge answers it
//! ```
//!
//! What an authority says is foreign input: answers have limits, nothing of them is a path or a command here, and a chain is
//! taken only if its leaf is for the key that was asked for.

pub mod alpn;
mod chain;
pub mod http01;
pub mod serving;
mod transport;

use std::time::Duration;

use bytes::Bytes;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeStatus, ChallengeType, Identifier, Key, NewOrder, Order, OrderStatus,
    RetryPolicy,
};
use quorate_actors::acme::{
    AcmeAccount, AcmeClient, AcmeError, AcmeFuture, AcmeOrder, IssuedWebCertificate, OrderStanding,
};
use quorate_proto_identity::PrivateKey;
use quorate_raft_machine::web::{AcmeChallenge, WebChallenge};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::time::timeout;

use crate::outbound::Outbound;
use transport::Guarded;

/// How long one step of an order may take: a validation takes authorities seconds, an issuance up to a minute.
const STEP_LIMIT: Duration = Duration::from_secs(120);

/// How long an order is waited for within a step, and how often it is looked at.
const POLL: RetryPolicy = RetryPolicy::new().initial_delay(Duration::from_millis(500)).timeout(Duration::from_secs(90));

/// Speaks with ACME authorities through the guarded client.
#[derive(Debug, Clone)]
pub struct AcmeOverHttps {
    outbound: Outbound,
}

impl AcmeOverHttps {
    /// Over this client.
    #[must_use]
    pub fn new(outbound: Outbound) -> Self {
        Self { outbound }
    }

    /// The account of this key, made if the authority has none. Connections and nonces are not kept between steps.
    async fn account(&self, account: &AcmeAccount) -> Result<Account, instant_acme::Error> {
        let der = || PrivatePkcs8KeyDer::from(account.key.pkcs8().to_vec());
        let key = Key::from_pkcs8_der(der())?;
        let http = Box::new(Guarded::new(self.outbound.clone(), account.directory.clone()));
        let builder = Account::builder_with_http(http);
        let directory = account.directory.to_string();
        let (account, _) = builder.create_from_key((key, PrivateKeyDer::Pkcs8(der())), directory).await?;
        Ok(account)
    }

    async fn order(&self, account: &AcmeAccount, order: &AcmeOrder) -> Result<(Account, Order), instant_acme::Error> {
        let account = self.account(account).await?;
        let found = account.order(order.url.clone()).await?;
        Ok((account, found))
    }
}

impl AcmeClient for AcmeOverHttps {
    fn place<'a>(&'a self, account: &'a AcmeAccount, domain: &'a str) -> AcmeFuture<'a, String> {
        Box::pin(in_time(async move {
            let opened = self.account(account).await.map_err(|error| told(&error))?;
            let contact: Vec<&str> = account.contact.iter().map(String::as_str).collect();
            opened.update_contacts(&contact).await.map_err(|error| told(&error))?;
            let names = [Identifier::Dns(domain.to_owned())];
            let order = opened.new_order(&NewOrder::new(&names)).await.map_err(|error| told(&error))?;
            Ok(order.url().to_owned())
        }))
    }

    fn standing<'a>(&'a self, account: &'a AcmeAccount, order: &'a AcmeOrder) -> AcmeFuture<'a, OrderStanding> {
        Box::pin(in_time(async move {
            let (_, mut found) = self.order(account, order).await.map_err(|error| told(&error))?;
            match found.state().status {
                OrderStatus::Pending => {}
                OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid => return Ok(OrderStanding::Proved),
                OrderStatus::Invalid => return Err(refused(why_invalid(&mut found).await)),
            }
            let mut authorizations = found.authorizations();
            let mut challenge = None;
            while let Some(authorization) = authorizations.next().await {
                let mut authorization = authorization.map_err(|error| told(&error))?;
                if authorization.status != AuthorizationStatus::Pending {
                    continue;
                }
                let offered = authorization.challenge(kind(order.challenge)).ok_or_else(|| {
                    refused(format!(
                        "the authority offers no {} challenge for {}",
                        order.challenge.name(),
                        order.domain
                    ))
                })?;
                challenge = Some(WebChallenge {
                    kind: order.challenge,
                    token: offered.token.clone(),
                    key_authorization: offered.key_authorization().as_str().to_owned(),
                });
            }
            Ok(challenge.map_or(OrderStanding::Proved, OrderStanding::Challenge))
        }))
    }

    fn finish<'a>(
        &'a self,
        account: &'a AcmeAccount,
        order: &'a AcmeOrder,
        key: &'a PrivateKey,
    ) -> AcmeFuture<'a, IssuedWebCertificate> {
        Box::pin(in_time(async move {
            let (_, mut found) = self.order(account, order).await.map_err(|error| told(&error))?;
            if found.state().status == OrderStatus::Pending {
                prove(&mut found, order.challenge).await?;
            }
            if found.state().status == OrderStatus::Ready {
                let request = request(&order.domain, key)?;
                found.finalize_csr(&request).await.map_err(|error| told(&error))?;
            }
            match found.state().status {
                OrderStatus::Processing | OrderStatus::Valid => {}
                OrderStatus::Pending | OrderStatus::Ready => return Err(not_now("the order is not ready yet")),
                OrderStatus::Invalid => return Err(refused(why_invalid(&mut found).await)),
            }
            let pem = found.poll_certificate(&POLL).await.map_err(|error| told(&error))?;
            chain::read(&pem, &order.domain, key).map_err(|error| refused(error.to_string()))
        }))
    }
}

/// Tells the authority that the challenges can be looked at, and waits for what it finds.
async fn prove(order: &mut Order, challenge: AcmeChallenge) -> Result<(), AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(|error| told(&error))?;
        let Some(mut offered) = authorization.challenge(kind(challenge)) else { continue };
        // One that is looked at already, for a leader before this one, is not offered twice.
        if offered.status == ChallengeStatus::Pending {
            offered.set_ready().await.map_err(|error| told(&error))?;
        }
    }
    match order.poll_ready(&POLL).await {
        Ok(OrderStatus::Invalid) => Err(refused(why_invalid(order).await)),
        Ok(_) => Ok(()),
        Err(error) => Err(told(&error)),
    }
}

/// What an authority says of an order that has failed: the reason stands beside the challenge.
async fn why_invalid(order: &mut Order) -> String {
    if let Some(error) = &order.state().error {
        return error.to_string();
    }
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        // What is cached was read before the authority looked.
        if authorization.refresh().await.is_err() {
            continue;
        }
        if let Some(error) = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return error.to_string();
        }
    }
    "the authority has given the order up, and does not say why".to_owned()
}

/// The request for a certificate of a key. The name is in the SAN alone, as public authorities want it.
fn request(domain: &str, key: &PrivateKey) -> Result<Bytes, AcmeError> {
    let made = || {
        let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()))?;
        let mut params = CertificateParams::new(vec![domain.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        params.serialize_request(&pair).map(|request| Bytes::copy_from_slice(request.der()))
    };
    made().map_err(|error: rcgen::Error| refused(format!("the certificate request could not be made: {error}")))
}

fn kind(challenge: AcmeChallenge) -> ChallengeType {
    match challenge {
        AcmeChallenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        AcmeChallenge::Http01 => ChallengeType::Http01,
    }
}

async fn in_time<T>(step: impl Future<Output = Result<T, AcmeError>>) -> Result<T, AcmeError> {
    timeout(STEP_LIMIT, step).await.unwrap_or_else(|_| Err(not_now("the authority took too long")))
}

fn refused(reason: String) -> AcmeError {
    AcmeError::Refused { reason }
}

fn not_now(reason: &str) -> AcmeError {
    AcmeError::NotNow { reason: reason.to_owned() }
}

/// Problems of kinds that pass by themselves (RFC 8555 section 6.7).
const PASSING: [&str; 3] = ["serverInternal", "badNonce", "rateLimited"];

/// Whether an authority said no, or could not be asked.
fn told(error: &instant_acme::Error) -> AcmeError {
    if let instant_acme::Error::Api(problem) = error {
        let kind = problem.r#type.as_deref().and_then(|kind| kind.rsplit(':').next()).unwrap_or_default();
        let reason = problem.to_string();
        return if PASSING.contains(&kind) { AcmeError::NotNow { reason } } else { AcmeError::Refused { reason } };
    }
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !reason.contains(&next) {
            reason.push_str(": ");
            reason.push_str(&next);
        }
        cause = error.source();
    }
    AcmeError::NotNow { reason }
}
