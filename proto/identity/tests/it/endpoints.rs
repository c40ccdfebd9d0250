//! Vectors of section 15.3 for addresses of Workload Endpoints (EP-11 to EP-14).

use std::path::Path;

use quorate_proto_identity::WorkloadEndpoint;

use crate::support::vectors_with_expectation;

const ENDPOINTS: &str = include_str!("../vectors/workload_endpoints.tsv");

/// VE-01 to VE-05, XE-01 to XE-15.
/// EP-13 by VE-01 and XE-01 to XE-06, EP-14 by VE-03 to VE-05 and XE-07 to XE-12, EP-12 by XE-13 to XE-15.
#[test]
fn endpoint_addresses_are_accepted_or_refused_as_the_vectors_say() {
    let vectors = vectors_with_expectation(ENDPOINTS);
    assert_eq!(vectors.len(), 5 + 15);
    for (expectation, vector) in vectors {
        let parsed = WorkloadEndpoint::parse(&vector.input);
        assert_eq!(parsed.is_ok(), expectation == "accept", "{}: {parsed:?}", vector.number);
        if let Ok(endpoint) = parsed {
            assert_eq!(WorkloadEndpoint::parse(&endpoint.to_string()), Ok(endpoint), "{}", vector.number);
        }
    }
}

/// `unix:/path` and `unix:///path` are one address.
#[test]
fn both_forms_of_a_socket_path_name_the_same_file() {
    let endpoint = WorkloadEndpoint::Unix("/run/a b.sock".into());
    assert_eq!(WorkloadEndpoint::parse("unix:/run/a%20b.sock"), Ok(endpoint.clone()));
    assert_eq!(WorkloadEndpoint::parse("unix:///run/a%20b.sock"), Ok(endpoint.clone()));
    assert_eq!(endpoint.to_string(), "unix:///run/a%20b.sock");
}

#[test]
fn what_a_uri_cannot_hold_is_refused() {
    for wrong in [
        "unix:///run/a b.sock",
        "unix:///run/%",
        "unix:///run/%2",
        "unix:///run/%zz",
        "unix:///run/%00",
        "unix:///",
        "unix:/",
        "unix:///run/ü.sock",
        "UNIX:///run/a",
        "tcp:127.0.0.1:80",
        "tcp://127.0.0.1:80000",
        "tcp://127.1:80",
        "tcp://[fe80::1%25eth0]:80",
        "tcp://localhost:80",
        "tcp://127.0.0.1:",
    ] {
        assert!(WorkloadEndpoint::parse(wrong).is_err(), "{wrong}");
    }
    assert!(WorkloadEndpoint::parse(&format!("unix:///{}", "a".repeat(1024))).is_err());
    let WorkloadEndpoint::Unix(path) = WorkloadEndpoint::parse("unix:/a").unwrap() else { panic!() };
    assert_eq!(path, Path::new("/a"));
}
