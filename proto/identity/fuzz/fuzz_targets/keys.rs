//! Keys: no input makes the readers panic, and what reads prints the same bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_proto_identity::{PrivateKey, PublicKey};

fuzz_target!(|data: &[u8]| {
    if let Ok(key) = PublicKey::from_spki_der(data) {
        assert_eq!(key.spki_der(), data);
        let _ = key.verify(b"message", data);
    }
    if let Ok(key) = PrivateKey::from_pkcs8(data) {
        assert!(PrivateKey::from_pkcs8(key.pkcs8()).is_ok());
    }
});
