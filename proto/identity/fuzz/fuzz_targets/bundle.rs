//! Bundle documents and maps: what reads prints, and what was printed reads as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_proto_identity::{Bundle, BundleMap, TrustDomain};

fuzz_target!(|data: &[u8]| {
    let Ok(trust_domain) = TrustDomain::new("example.org") else { return };
    if let Ok(parsed) = Bundle::parse(&trust_domain, data) {
        let again = Bundle::parse(&trust_domain, parsed.bundle.to_json().as_bytes());
        assert!(again.is_ok_and(|again| again.bundle == parsed.bundle && again.skipped.is_empty()));
    }
    let _ = Bundle::parse_jwt_key_set(&trust_domain, data);
    if let Ok(map) = BundleMap::parse(data) {
        assert!(BundleMap::parse(map.to_json().as_bytes()).is_ok());
    }
});
