//! Certificates, requests and CRLs: no input makes the readers panic, and what reads keeps its bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_proto_identity::x509::{Purpose, check_leaf_profile, parse_crl, parse_csr};
use quorate_proto_identity::{Bundle, Certificate, TrustDomain, UnixSeconds, verify_x509_svid};

fuzz_target!(|data: &[u8]| {
    if let Ok(certificate) = Certificate::parse(data) {
        assert_eq!(certificate.der(), data);
        let _ = check_leaf_profile(&certificate);
        let _ = certificate.verify_signature(certificate.public_key());
    }
    if let Ok(certificates) = Certificate::parse_concatenated(data) {
        let again: Vec<u8> = certificates.iter().flat_map(|certificate| certificate.der()).copied().collect();
        assert_eq!(again, data);
    }
    let _ = parse_csr(data);
    let _ = parse_crl(data);
    let Ok(trust_domain) = TrustDomain::new("example.org") else { return };
    // Nothing verifies under a bundle without authorities.
    assert!(verify_x509_svid(&[data], &Bundle::new(trust_domain), UnixSeconds(0), Purpose::Any).is_err());
});
