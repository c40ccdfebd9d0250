//! The consumers that are installed here tell a good chain from a revoked one, so that a run may believe them.

use super::handshake::SERVER_NAME;
use super::nginx::Nginx;
use super::openssl::OpenSsl;
use super::postgresql::PostgreSql;
use super::rustls::Rustls;
use super::{Chain, Opinion, View};
use crate::clock::now;
use crate::invariants::inv_16;
use crate::registrar::TRUST_DOMAIN;
use quorate_proto_identity::x509::{
    AuthorityTemplate, CrlTemplate, RevocationReason, RevokedCertificate, build_crl, build_issuing_certificate,
    build_root,
};
use quorate_proto_identity::{
    Certificate, KeyType, LeafIssuer, LeafTemplate, PrivateKey, SerialNumber, SpiffeId, TrustDomain, Validity,
};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A trust domain with one node, whose only leaf is the server's and the client's.
struct Domain {
    root: Certificate,
    root_key: PrivateKey,
    issuing_key: PrivateKey,
    chain: Chain,
}

impl Domain {
    fn new() -> Self {
        let trust_domain = TrustDomain::new(TRUST_DOMAIN).unwrap();
        let validity = Validity::new(now().minus(30), now().plus(600)).unwrap();
        let template = |number: u128| AuthorityTemplate {
            trust_domain: &trust_domain,
            serial: SerialNumber::from_random(number.to_be_bytes()),
            validity,
        };
        let key = || PrivateKey::generate(KeyType::EcP256).unwrap();
        let (root_key, issuing_key, leaf_key) = (key(), key(), key());
        let root = build_root(&template(1 << 100), &root_key).unwrap();
        let issuing =
            build_issuing_certificate(&template(2 << 100), issuing_key.public_key(), &root, &root_key).unwrap();
        let issuer = LeafIssuer::new(issuing.der(), issuing_key.clone()).unwrap();
        let leaf = LeafTemplate {
            spiffe_id: &SpiffeId::from_segments(&trust_domain, &["w"]).unwrap(),
            dns_names: &[SERVER_NAME.to_owned()],
            subject: None,
            public_key: leaf_key.public_key(),
            serial: SerialNumber::from_random((3_u128 << 100).to_be_bytes()),
            validity,
        };
        let leaf = issuer.issue(&leaf).unwrap();
        let key = leaf_key.pkcs8().to_vec();
        Self { root, root_key, issuing_key, chain: Chain { leaf, issuing: issuing.der().to_vec(), key } }
    }

    /// What a stream holds, the number told; with this leaf revoked or not.
    fn view(&self, number: u64, revoked: bool) -> View {
        let leaf = Certificate::parse(&self.chain.leaf).unwrap();
        let entry = RevokedCertificate {
            serial: SerialNumber::from_big_endian(leaf.serial()).unwrap(),
            revoked_at: now(),
            reason: RevocationReason::default(),
        };
        let list = |key, revoked| {
            let number = number.max(1);
            let this_update = now().minus(30).plus(i64::try_from(number).unwrap());
            build_crl(&CrlTemplate { this_update, next_update: now().plus(900), number, revoked }, key).unwrap()
        };
        let entries: &[RevokedCertificate] = if revoked { &[entry] } else { &[] };
        let crls = vec![list(&self.root_key, &[]), list(&self.issuing_key, entries)];
        let server = self.chain.clone();
        View { number, roots: vec![self.root.der().to_vec()].into(), crls: crls.into(), server }
    }
}

fn open_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    directory
}

#[tokio::test]
async fn openssl_rustls_and_our_own_verifier_accept_refuse_what_is_revoked_and_refuse_what_has_no_list() {
    let (domain, directory) = (Domain::new(), open_directory());
    let (good, bad) = (domain.view(1, false), domain.view(2, true));
    let mut lacking = domain.view(3, false);
    lacking.crls = lacking.crls[..1].into();
    let mut rustls = Rustls::default();
    assert_eq!(rustls.ask(&good, &domain.chain), Opinion::Accepts);
    assert_eq!(rustls.ask(&bad, &domain.chain), Opinion::Revoked);
    assert_eq!(rustls.ask(&lacking, &domain.chain), Opinion::Unknown);
    assert_eq!(inv_16::ask(&good, &domain.chain, now()), Opinion::Accepts);
    assert_eq!(inv_16::ask(&bad, &domain.chain, now()), Opinion::Revoked);
    let Some(program) = OpenSsl::find() else { return };
    let mut openssl = OpenSsl::new(program, directory.path().join("openssl")).unwrap();
    assert_eq!(openssl.ask(&good, &domain.chain).await.unwrap(), Opinion::Accepts);
    assert_eq!(openssl.ask(&bad, &domain.chain).await.unwrap(), Opinion::Revoked);
    assert_eq!(openssl.ask(&lacking, &domain.chain).await.unwrap(), Opinion::Unknown);
}

#[tokio::test]
async fn nginx_refuses_a_revoked_client_once_it_has_the_list() {
    let Some(program) = Nginx::find() else { return };
    let (domain, directory) = (Domain::new(), open_directory());
    let (good, bad) = (domain.view(1, false), domain.view(2, true));
    let mut nginx = Nginx::start(program, place(&directory, "nginx"), &good).await.unwrap();
    assert_eq!(nginx.ask(&good, &domain.chain).await, Opinion::Accepts);
    nginx.load(&bad).await.unwrap();
    assert_eq!(nginx.ask(&bad, &domain.chain).await, Opinion::Revoked);
    nginx.stop().await.unwrap();
}

#[tokio::test]
async fn postgresql_refuses_a_revoked_client_once_it_has_the_list() {
    let Some(program) = PostgreSql::find() else { return };
    let (domain, directory) = (Domain::new(), open_directory());
    let (good, bad) = (domain.view(1, false), domain.view(2, true));
    let mut server = PostgreSql::start(program, place(&directory, "postgresql"), &good).await.unwrap();
    assert_eq!(server.ask(&good, &domain.chain).await, Opinion::Accepts);
    server.load(&bad).await.unwrap();
    assert_eq!(server.ask(&bad, &domain.chain).await, Opinion::Revoked);
    server.stop().await.unwrap();
}

fn place(directory: &tempfile::TempDir, name: &str) -> std::path::PathBuf {
    Path::new(directory.path()).join(name)
}
