//! INV-05: every SVID handed out verifies, at that instant, with the bundle of every live member (design, property 3).
//!
//! A member's bundle is the last one that it pushed into a stream of ours. A member that stands still or is dead has the
//! bundle that it had; while its issuing certificate is valid it is live, and the others have to respect that.

use super::Name;
use crate::registrar::TRUST_DOMAIN;
use quorate_proto_identity::x509::Purpose;
use quorate_proto_identity::{Bundle, Certificate, TrustDomain, UnixSeconds, verify_jwt_svid, verify_x509_svid};
use std::collections::BTreeMap;

/// Its name.
pub(crate) const NAME: Name = Name(5);

/// What members are known to have, and until when they are live.
#[derive(Debug, Default)]
pub(crate) struct Bundles {
    x509: BTreeMap<String, Vec<u8>>,
    jwt: BTreeMap<String, Vec<u8>>,
    live_until: BTreeMap<String, UnixSeconds>,
}

/// What was handed out.
#[derive(Clone, Debug)]
pub(crate) enum HandedOut {
    /// The certificates of an X509-SVID, leaf first, one DER behind the other.
    X509(Vec<u8>),
    /// A token, and the audience that it was asked for.
    Jwt(String, String),
}

impl Bundles {
    /// A member pushed its X.509 bundle: DER, one certificate behind the other.
    pub(crate) fn saw_x509(&mut self, member: &str, roots: &[u8]) {
        self.x509.insert(member.to_owned(), roots.to_vec());
    }

    /// A member pushed its JWT bundle: a JWKS.
    pub(crate) fn saw_jwt(&mut self, member: &str, key_set: &[u8]) {
        self.jwt.insert(member.to_owned(), key_set.to_vec());
    }

    /// A member is live until then, as some member's state has it.
    pub(crate) fn saw_live(&mut self, member: &str, until: UnixSeconds) {
        self.live_until.insert(member.to_owned(), until);
    }

    /// Until when a member is live, as some member's state has it.
    pub(crate) fn live_until(&self, member: &str) -> Option<UnixSeconds> {
        self.live_until.get(member).copied()
    }

    /// The bundles of how many members are known.
    pub(crate) fn known(&self) -> usize {
        self.x509.len().min(self.jwt.len())
    }

    /// Verifies an SVID that was handed out between these two instants: one that verifies at either has not been proven bad.
    /// An SVID near its end may have ended by the time that this program reads it.
    pub(crate) fn check_between(
        &self,
        by: &str,
        svid: &HandedOut,
        (earliest, read): (UnixSeconds, UnixSeconds),
    ) -> Result<(), String> {
        self.check(by, svid, read).or_else(|why| self.check(by, svid, earliest).map_err(|_| why))
    }

    /// Verifies an SVID with the bundle of each member that is live at that instant.
    fn check(&self, by: &str, svid: &HandedOut, at: UnixSeconds) -> Result<(), String> {
        let bundles = match svid {
            HandedOut::X509(_) => &self.x509,
            HandedOut::Jwt(..) => &self.jwt,
        };
        for (member, bundle) in bundles {
            if self.live_until.get(member).is_some_and(|until| *until > at) {
                verify(svid, bundle, at).map_err(|why| {
                    format!("what {by} handed out at {at} does not verify with the bundle of {member}: {why}")
                })?;
            }
        }
        Ok(())
    }
}

/// Verifies an SVID with one bundle.
pub(crate) fn verify(svid: &HandedOut, bundle: &[u8], at: UnixSeconds) -> Result<(), String> {
    let trust_domain = TrustDomain::new(TRUST_DOMAIN).map_err(in_words)?;
    match svid {
        HandedOut::X509(chain) => {
            let mut roots = Bundle::new(trust_domain);
            for root in Certificate::parse_concatenated(bundle).map_err(in_words)? {
                roots.add_x509_authority(root);
            }
            let chain = Certificate::parse_concatenated(chain).map_err(in_words)?;
            let chain: Vec<&[u8]> = chain.iter().map(Certificate::der).collect();
            verify_x509_svid(&chain, &roots, at, Purpose::Any).map(drop).map_err(in_words)
        }
        HandedOut::Jwt(token, audience) => {
            let keys = Bundle::parse_jwt_key_set(&trust_domain, bundle).map_err(in_words)?.bundle;
            verify_jwt_svid(token, audience, &keys, at).map(drop).map_err(in_words)
        }
    }
}

fn in_words(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto_identity::x509::{AuthorityTemplate, build_issuing_certificate, build_root};
    use quorate_proto_identity::{KeyType, LeafIssuer, LeafTemplate, PrivateKey, SerialNumber, SpiffeId, Validity};

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn key() -> PrivateKey {
        PrivateKey::generate(KeyType::EcP256).unwrap()
    }

    /// A root, and a chain under it.
    fn authority() -> (Vec<u8>, HandedOut) {
        let trust_domain = TrustDomain::new(TRUST_DOMAIN).unwrap();
        let validity = Validity::new(NOW.minus(30), NOW.plus(600)).unwrap();
        let template = |number: u128| AuthorityTemplate {
            trust_domain: &trust_domain,
            serial: SerialNumber::from_random(number.to_be_bytes()),
            validity,
        };
        let (root_key, issuing_key, leaf_key) = (key(), key(), key());
        let root = build_root(&template(1 << 100), &root_key).unwrap();
        let issuing =
            build_issuing_certificate(&template(2 << 100), issuing_key.public_key(), &root, &root_key).unwrap();
        let issuer = LeafIssuer::new(issuing.der(), issuing_key).unwrap();
        let spiffe_id = SpiffeId::from_segments(&trust_domain, &["w"]).unwrap();
        let leaf = LeafTemplate {
            spiffe_id: &spiffe_id,
            dns_names: &[],
            subject: None,
            public_key: leaf_key.public_key(),
            serial: SerialNumber::from_random((3_u128 << 100).to_be_bytes()),
            validity,
        };
        let chain = [issuer.issue(&leaf).unwrap(), issuing.der().to_vec()].concat();
        (root.der().to_vec(), HandedOut::X509(chain))
    }

    #[test]
    fn inv_05_an_svid_that_a_live_members_bundle_does_not_verify_is_a_violation_and_a_dead_members_is_not() {
        let (root, svid) = authority();
        let (other, _) = authority();
        let mut bundles = Bundles::default();
        bundles.saw_x509("node-1", &root);
        bundles.saw_x509("node-2", &other);
        bundles.saw_live("node-1", NOW.plus(60));
        bundles.saw_live("node-2", NOW);
        bundles.check("node-1", &svid, NOW).unwrap();

        bundles.saw_live("node-2", NOW.plus(60));
        assert!(bundles.check("node-1", &svid, NOW).unwrap_err().contains("bundle of node-2"));

        bundles.saw_x509("node-2", &[other, root].concat());
        bundles.check("node-1", &svid, NOW).unwrap();
    }
}
