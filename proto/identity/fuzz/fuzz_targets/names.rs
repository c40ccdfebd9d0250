//! Names: what parses prints back as it came, and keeps the rules of its kind.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_proto_identity::{
    EntryId, NodeName, Selector, SerialNumber, SpiffeId, TrustDomain, WorkloadEndpoint, check_dns_name,
};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = SpiffeId::parse(text) {
        assert_eq!(id.as_str(), text);
        assert_eq!(SpiffeId::from_path(&id.trust_domain(), id.path()), Ok(id.clone()));
        assert!(id.is_member_of(&id.trust_domain()));
    }
    if let Ok(name) = TrustDomain::new(text) {
        assert_eq!(name.as_str(), text);
        assert_eq!(name.id().trust_domain(), name);
    }
    if let Ok(selector) = Selector::parse(text) {
        assert_eq!(Selector::new(selector.kind(), selector.value()), Ok(selector));
    }
    if let Ok(endpoint) = WorkloadEndpoint::parse(text) {
        assert_eq!(WorkloadEndpoint::parse(&endpoint.to_string()), Ok(endpoint));
    }
    if let Ok(serial) = text.parse::<SerialNumber>() {
        assert_eq!(serial.to_string(), text);
    }
    let _ = EntryId::new(text);
    let _ = NodeName::new(text);
    let _ = check_dns_name(text);
});
