//! Vectors of sections 15.1 to 15.3 for SPIFFE IDs and trust domain names (ID-01 to ID-26, ATK-01, ATK-02).

use quorate_proto_identity::{SpiffeId, SpiffeIdError, TrustDomain};

use crate::support::vectors;

pub(crate) const SPIFFE_IDS: &str = include_str!("../vectors/spiffe_ids.tsv");
pub(crate) const TRUST_DOMAINS: &str = include_str!("../vectors/trust_domains.tsv");

fn domain(name: &str) -> TrustDomain {
    TrustDomain::new(name).unwrap()
}

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

/// VI-01 to VI-37, XI-01 to XI-82.
/// Each vector names its rule; ID-24 by those about the length.
#[test]
fn spiffe_ids_are_accepted_or_refused_as_the_vectors_say() {
    let vectors = vectors(SPIFFE_IDS);
    assert_eq!(vectors.len(), 37 + 82);
    for vector in vectors {
        let parsed = SpiffeId::parse(&vector.input);
        if !vector.number.starts_with('V') {
            assert!(parsed.is_err(), "{}: {:?}", vector.number, vector.input);
            continue;
        }
        let parsed = parsed.unwrap_or_else(|error| panic!("{}: {error}", vector.number));
        let rest = vector.input.strip_prefix("spiffe://").unwrap();
        let (name, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        assert_eq!(parsed.trust_domain_name(), name, "{}", vector.number);
        assert_eq!(parsed.trust_domain().as_str(), name, "{}", vector.number);
        assert_eq!(parsed.path(), path, "{}", vector.number);
        assert_eq!(parsed.to_string(), vector.input, "{}", vector.number);
        assert_eq!(SpiffeId::from_path(&domain(name), path).unwrap(), parsed, "{}", vector.number);
    }
}

/// VT-01 to VT-08, XT-01 to XT-14.
#[test]
fn trust_domain_names_are_accepted_or_refused_as_the_vectors_say() {
    let vectors = vectors(TRUST_DOMAINS);
    assert_eq!(vectors.len(), 8 + 14);
    for vector in vectors {
        let parsed = TrustDomain::new(&vector.input);
        assert_eq!(parsed.is_ok(), vector.number.starts_with('V'), "{}", vector.number);
        if let Ok(parsed) = parsed {
            assert_eq!(parsed.to_string(), vector.input);
            assert_eq!(parsed.id().to_string(), format!("spiffe://{}", vector.input));
            assert_eq!(parsed.id().trust_domain(), parsed);
        }
    }
}

/// XT-14: only the parser for operators' input takes both forms.
#[test]
fn the_parser_for_operators_takes_a_name_or_the_id_of_a_trust_domain() {
    assert_eq!(TrustDomain::parse_name_or_id("example.org"), Ok(domain("example.org")));
    assert_eq!(TrustDomain::parse_name_or_id("spiffe://example.org"), Ok(domain("example.org")));
    for wrong in ["spiffe://example.org/a", "spiffe://", "spiffe://spiffe://a", "Spiffe://a", ""] {
        assert!(TrustDomain::parse_name_or_id(wrong).is_err(), "{wrong}");
    }
}

/// VR-01 to VR-05.
/// ID-25, ID-26.
#[test]
fn ids_are_equal_and_members_by_their_bytes_alone() {
    assert_ne!(id("spiffe://example.org/a"), id("spiffe://example.org/A"));
    assert!(id("spiffe://example.org/a").is_member_of(&domain("example.org")));
    assert!(!id("spiffe://sub.example.org/a").is_member_of(&domain("example.org")));
    assert!(!id("spiffe://example.org/a").is_member_of(&domain("sub.example.org")));
    assert!(!id("spiffe://example.org.evil.example/a").is_member_of(&domain("example.org")));
    assert!(!id("spiffe://127.0.0.1/a").is_member_of(&domain("localhost")));
    assert!(!id("spiffe://example.org/a").is_member_of(&domain("example.org.")));
}

/// VR-06, ATK-02: text that somebody else supplies as a segment never adds a level.
/// ID-22: none is made that is too long.
#[test]
fn a_segment_is_checked_before_it_is_joined() {
    let domain = domain("example.org");
    assert_eq!(SpiffeId::from_segments(&domain, &["a", "b"]).unwrap().as_str(), "spiffe://example.org/a/b");
    assert_eq!(SpiffeId::from_segments(&domain, &[]).unwrap(), domain.id());
    for segment in ["", ".", "..", "a/b", "/", "%2e%2e", "a?b", "a#b", "ä"] {
        assert!(SpiffeId::from_segments(&domain, &["ns", segment]).is_err(), "{segment:?}");
    }
    let long = "a".repeat(2048);
    assert!(matches!(SpiffeId::from_segments(&domain, &[&long]), Err(SpiffeIdError::TooLong { .. })));
    assert!(matches!(SpiffeId::from_path(&domain, "a"), Err(SpiffeIdError::PathStart)));
    assert!(SpiffeId::from_path(&domain, "/").is_err());
}

/// A-02, and the loop over all bytes at the end of section 15.2. Bytes from 128 on stand in the text as UTF-8.
/// ATK-01.
#[test]
fn of_all_bytes_only_the_alphabets_are_accepted() {
    for code in 0..=255_u8 {
        let character = char::from(code);
        let in_name = matches!(character, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
        let in_segment = in_name || character.is_ascii_uppercase();
        let name = format!("spiffe://exa{character}mple/a");
        assert_eq!(SpiffeId::parse(&name).is_ok(), in_name || character == '/', "name, byte {code}");
        assert_eq!(TrustDomain::new(&format!("a{character}b")).is_ok(), in_name, "bare name, byte {code}");
        let segment = format!("spiffe://example.org/a{character}b");
        assert_eq!(SpiffeId::parse(&segment).is_ok(), in_segment || character == '/', "segment, byte {code}");
    }
}
