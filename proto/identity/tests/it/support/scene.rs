//! The base case of section 15.4: two trust domains, an intermediate, a leaf. A test changes one thing.

use quorate_proto_identity::x509::{Purpose, SvidError, VerifiedX509Svid};
use quorate_proto_identity::{
    Bundle, BundleMap, Certificate, KeyType, PrivateKey, TrustDomain, UnixSeconds, verify_x509_svid,
};

use super::{CertificateSpec, name, now};

pub(crate) struct Scene {
    pub(crate) root_key: PrivateKey,
    pub(crate) root: CertificateSpec,
    pub(crate) other_root_key: PrivateKey,
    pub(crate) intermediate_key: PrivateKey,
    /// Signed by the root; not sent unless a test sends it.
    pub(crate) intermediate: CertificateSpec,
    pub(crate) leaf_key: PrivateKey,
    pub(crate) leaf: CertificateSpec,
    /// Signs the leaf; the root's unless a test says otherwise.
    pub(crate) leaf_signer: PrivateKey,
    /// What is sent after the leaf.
    pub(crate) sent: Vec<Vec<u8>>,
    /// `None`: the root alone for `example.org`, the other root for `other.org`.
    pub(crate) bundles: Option<BundleMap>,
    pub(crate) purpose: Purpose,
    pub(crate) now: UnixSeconds,
}

/// A bundle of these certificates.
pub(crate) fn bundle_of(trust_domain: &str, certificates: &[Vec<u8>]) -> Bundle {
    let mut bundle = Bundle::new(TrustDomain::new(trust_domain).unwrap());
    for certificate in certificates {
        bundle.add_x509_authority(Certificate::parse(certificate).unwrap());
    }
    bundle
}

impl Scene {
    pub(crate) fn new() -> Self {
        let [root_key, other_root_key, intermediate_key, leaf_key] =
            std::array::from_fn(|_| PrivateKey::generate(KeyType::EcP256).unwrap());
        let root = CertificateSpec::authority("R", &["spiffe://example.org"], &root_key);
        let mut intermediate = CertificateSpec::authority("I", &["spiffe://example.org"], &intermediate_key);
        intermediate.issuer = name("R");
        let leaf = CertificateSpec::leaf("R", "spiffe://example.org/workload", &leaf_key);
        Self {
            leaf_signer: root_key.clone(),
            root_key,
            root,
            other_root_key,
            intermediate_key,
            intermediate,
            leaf_key,
            leaf,
            sent: Vec::new(),
            bundles: None,
            purpose: Purpose::Any,
            now: now(),
        }
    }

    pub(crate) fn root_der(&self) -> Vec<u8> {
        self.root.sign(&self.root_key)
    }

    pub(crate) fn intermediate_der(&self) -> Vec<u8> {
        self.intermediate.sign(&self.root_key)
    }

    pub(crate) fn leaf_der(&self) -> Vec<u8> {
        self.leaf.sign(&self.leaf_signer)
    }

    /// Has the leaf signed by the intermediate, which is sent along.
    pub(crate) fn use_intermediate(&mut self) {
        self.leaf.issuer = name("I");
        self.leaf_signer = self.intermediate_key.clone();
        self.sent = vec![self.intermediate_der()];
    }

    pub(crate) fn verify(&self) -> Result<VerifiedX509Svid, SvidError> {
        self.verify_der(&self.leaf_der())
    }

    /// Verifies these bytes as the leaf.
    pub(crate) fn verify_der(&self, leaf: &[u8]) -> Result<VerifiedX509Svid, SvidError> {
        let mut chain = vec![leaf.to_vec()];
        chain.extend(self.sent.iter().cloned());
        self.verify_chain(&chain)
    }

    pub(crate) fn verify_chain(&self, chain: &[Vec<u8>]) -> Result<VerifiedX509Svid, SvidError> {
        let bundles = self.bundles.clone().unwrap_or_else(|| {
            let other = CertificateSpec::authority("R", &["spiffe://other.org"], &self.other_root_key);
            BundleMap::from_iter([
                bundle_of("example.org", &[self.root_der()]),
                bundle_of("other.org", &[other.sign(&self.other_root_key)]),
            ])
        });
        verify_x509_svid(chain, &bundles, self.now, self.purpose)
    }
}
