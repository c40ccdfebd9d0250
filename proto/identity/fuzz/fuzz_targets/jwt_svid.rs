//! Tokens: nothing verifies without a key, and no input makes the verifier panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_proto_identity::{Bundle, TrustDomain, UnixSeconds, verify_jwt_svid};

fuzz_target!(|data: &[u8]| {
    let Ok(token) = std::str::from_utf8(data) else { return };
    let Ok(trust_domain) = TrustDomain::new("example.org") else { return };
    assert!(verify_jwt_svid(token, "audience", &Bundle::new(trust_domain), UnixSeconds(0)).is_err());
});
