//! INV-16: every chain handed out passes whole-chain revocation checking with the bundle and the CRLs that any live node's
//! streams hold, unless it was revoked (when CRLs are on).
//!
//! Whether a chain passes is for programs of others to say, and for our own verifier here. Beside that, what a stream holds
//! must be complete: one list for each root and for each issuing key that may have signed something, and never two of one
//! issuer, of which some verifiers would take the older (CRL-05).

use super::Name;
use crate::consumers::{Chain, Opinion, View};
use crate::registrar::TRUST_DOMAIN;
use quorate_proto_identity::x509::{CrlSet, Purpose, SvidError, parse_crl, verify_unrevoked_x509_svid};
use quorate_proto_identity::{Bundle, Certificate, TrustDomain, UnixSeconds};
use std::collections::{BTreeMap, BTreeSet};

/// Its name.
pub(crate) const NAME: Name = Name(16);

/// Whether a set has one list for each root, one for the issuer of this chain, and no two of one issuer.
pub(crate) fn complete(view: &View, chain: &Chain) -> Result<(), String> {
    let mut issuers = BTreeSet::new();
    for crl in view.crls.iter() {
        let crl = parse_crl(crl).map_err(|error| format!("a CRL that cannot be read: {error}"))?;
        let key_id = crl.authority_key_id;
        if !issuers.insert(key_id.clone()) {
            return Err(format!("two CRLs of one issuer, {}", hex(&key_id)));
        }
    }
    let signers = view.roots.iter().map(|root| ("root", root)).chain([("issuing key", &chain.issuing)]);
    for (kind, certificate) in signers {
        let certificate = Certificate::parse(certificate).map_err(|error| format!("{kind}: {error}"))?;
        let key_id = certificate.extensions().subject_key_id.clone().unwrap_or_default();
        if !issuers.contains(&key_id) {
            return Err(format!("{} CRLs, and none of the {kind} {}", issuers.len(), hex(&key_id)));
        }
    }
    Ok(())
}

/// What our own verifier says (CRL-12).
pub(crate) fn ask(view: &View, chain: &Chain, at: UnixSeconds) -> Opinion {
    match verify(view, chain, at) {
        Ok(()) => Opinion::Accepts,
        Err(Refusal::Svid(error)) if error.is_revoked() => Opinion::Revoked,
        Err(Refusal::Svid(error)) => Opinion::Refuses(error.to_string()),
        Err(Refusal::View(what)) => Opinion::Refuses(what),
    }
}

enum Refusal {
    Svid(SvidError),
    View(String),
}

fn verify(view: &View, chain: &Chain, at: UnixSeconds) -> Result<(), Refusal> {
    let in_words = |error: &dyn std::error::Error| Refusal::View(error.to_string());
    let trust_domain = TrustDomain::new(TRUST_DOMAIN).map_err(|error| in_words(&error))?;
    let mut roots = Bundle::new(trust_domain.clone());
    for root in view.roots.iter() {
        roots.add_x509_authority(Certificate::parse(root).map_err(|error| in_words(&error))?);
    }
    let set = CrlSet::new(&view.crls).map_err(|error| in_words(&error))?;
    let sets = BTreeMap::from([(trust_domain, set)]);
    let chain = [&chain.leaf, &chain.issuing];
    verify_unrevoked_x509_svid(&chain, &roots, &sets, at, Purpose::Any).map(drop).map_err(Refusal::Svid)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto_identity::x509::{
        AuthorityTemplate, CrlTemplate, build_crl, build_issuing_certificate, build_root,
    };
    use quorate_proto_identity::{KeyType, LeafIssuer, LeafTemplate, PrivateKey, SerialNumber, SpiffeId, Validity};

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn crl(key: &PrivateKey) -> Vec<u8> {
        let template = CrlTemplate { this_update: NOW.minus(30), next_update: NOW.plus(900), number: 1, revoked: &[] };
        build_crl(&template, key).unwrap()
    }

    /// A chain, and a complete set for it: the root's list, then the issuer's.
    fn chain_and_view() -> (Chain, View) {
        let trust_domain = TrustDomain::new(TRUST_DOMAIN).unwrap();
        let validity = Validity::new(NOW.minus(30), NOW.plus(600)).unwrap();
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
        let crls = vec![crl(&root_key), crl(&issuing_key)];
        let issuer = LeafIssuer::new(issuing.der(), issuing_key).unwrap();
        let leaf = LeafTemplate {
            spiffe_id: &SpiffeId::from_segments(&trust_domain, &["w"]).unwrap(),
            dns_names: &[],
            subject: None,
            public_key: leaf_key.public_key(),
            serial: SerialNumber::from_random((3_u128 << 100).to_be_bytes()),
            validity,
        };
        let leaf = issuer.issue(&leaf).unwrap();
        let chain = Chain { leaf, issuing: issuing.der().to_vec(), key: vec![] };
        let view =
            View { number: 1, roots: vec![root.der().to_vec()].into(), crls: crls.into(), server: chain.clone() };
        (chain, view)
    }

    #[test]
    fn inv_16_a_set_without_the_list_of_a_root_or_an_issuer_is_a_violation_and_so_are_two_lists_of_one() {
        let (chain, view) = chain_and_view();
        complete(&view, &chain).unwrap();
        assert_eq!(ask(&view, &chain, NOW), Opinion::Accepts);

        let (roots, issuers) = (view.crls[0].clone(), view.crls[1].clone());
        let with = |crls: Vec<Vec<u8>>| View { crls: crls.into(), ..view.clone() };
        assert!(complete(&with(vec![issuers.clone()]), &chain).unwrap_err().contains("none of the root"));
        let without = with(vec![roots.clone()]);
        assert!(complete(&without, &chain).unwrap_err().contains("none of the issuing key"));
        assert_eq!(ask(&without, &chain, NOW), Opinion::Revoked);
        assert!(complete(&with(vec![roots, issuers.clone(), issuers]), &chain).unwrap_err().contains("two CRLs"));
    }
}
