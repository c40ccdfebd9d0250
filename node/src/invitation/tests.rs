use proptest::prelude::*;
use quorate_proto_identity::key::{KeyType, PrivateKey};

use super::*;

fn peer(addresses: &[&str]) -> InvitingPeer {
    let key = PrivateKey::generate(KeyType::Ed25519).unwrap();
    InvitingPeer {
        key: Bytes::copy_from_slice(key.public_key().spki_der()),
        addresses: addresses.iter().map(|address| PeerAddress::new(address).unwrap()).collect(),
    }
}

pub(super) fn invitation() -> Invitation {
    let peers = vec![peer(&["node-1.example.org:8082", "10.0.0.1:8082"]), peer(&["[2001:db8::3]:8082"])];
    let secret = InvitationSecret::from_random([7; SECRET_BYTES]);
    Invitation::new(TrustDomain::new("example.org").unwrap(), NodeName::new("node-2").unwrap(), secret, peers).unwrap()
}

/// The text of a body, with its right checksum.
fn sealed(body: &[u8]) -> String {
    let mut bytes = body.to_vec();
    bytes.extend_from_slice(&checksum(body));
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

fn body_of(text: &str) -> Vec<u8> {
    let mut bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX).unwrap()).unwrap();
    bytes.truncate(bytes.len() - CHECKSUM_BYTES);
    bytes
}

#[test]
fn an_invitation_comes_back_as_it_was_made() {
    let made = invitation();
    let text = made.to_text();
    assert!(text.starts_with("quorate1.") && !text.contains(char::is_whitespace));
    for around in [text.to_string(), format!("\n{}\r\n", *text)] {
        let read = Invitation::parse(&around).unwrap();
        assert_eq!(read.trust_domain(), made.trust_domain());
        assert_eq!(read.name(), made.name());
        assert_eq!(read.secret(), made.secret());
        assert_eq!(read.peers(), made.peers());
        assert_eq!(read.to_text(), text);
    }
}

#[test]
fn the_bytes_of_form_1_are_what_they_were() {
    let key = URL_SAFE_NO_PAD.decode("MCowBQYDK2VwAyEA11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    let peers = vec![InvitingPeer { key: key.into(), addresses: vec![PeerAddress::new("a:1").unwrap()] }];
    let secret = InvitationSecret::from_random([7; SECRET_BYTES]);
    let name = NodeName::new("b").unwrap();
    let made = Invitation::new(TrustDomain::new("t.test").unwrap(), name, secret, peers).unwrap();
    assert_eq!(
        *made.to_text(),
        "quorate1.AAZ0LnRlc3QAAWIHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwEALDAqMAUGAytlcAMhANdamAGCsQq31Uv\
         -08lkBzoO4XLz2qYjJa8CGmj3B1EaAQADYToxhdRcKtZnMrY"
    );
}

#[test]
fn nothing_of_the_secret_is_shown_atk_07() {
    let invitation = invitation();
    assert!(format!("{invitation:?}").contains("InvitationSecret(..)"));
    assert!(!format!("{invitation:?}").contains("7, 7"));
}

#[test]
fn what_is_kept_of_the_secret_is_its_hash() {
    let secret = InvitationSecret::from_random(*b"abcdefghijklmnopqrstuvwxyz012345");
    let hex: String = secret.hash().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "653bb1245e828fcda4fa53fcd5a3def5bd7654e651f54b4132b73d74e64435c4");
}

#[test]
fn another_form_or_none_is_told_apart() {
    for none in ["", "quorate", "quorate1", "quorateX.AAAA", "quorate12345.A", "eyJhbGciOiJub25lIn0.e30."] {
        assert_eq!(Invitation::parse(none).unwrap_err(), InvitationError::NotOne, "{none:?}");
    }
    assert_eq!(Invitation::parse("quorate2.AAAA").unwrap_err(), InvitationError::Newer);
    assert_eq!(Invitation::parse(&"q".repeat(LONGEST_TEXT + 1)).unwrap_err(), InvitationError::TooLong);
}

#[test]
fn what_is_whole_and_wrong_is_refused() {
    let good = body_of(&invitation().to_text());
    Invitation::parse(&sealed(&good)).unwrap();
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(Invitation::parse(&sealed(&longer)).unwrap_err(), InvitationError::Invalid { what: "end" });
    for length in 0..good.len() {
        assert!(Invitation::parse(&sealed(&good[..length])).is_err(), "{length}");
    }
    let empty = (TrustDomain::new("a").unwrap(), NodeName::new("b").unwrap(), InvitationSecret::from_random([0; 32]));
    let (domain, name, secret) = empty;
    let refused = Invitation::new(domain.clone(), name.clone(), secret.clone(), Vec::new()).unwrap_err();
    assert_eq!(refused, InvitationError::Peers);
    let nowhere = vec![InvitingPeer { addresses: Vec::new(), ..peer(&[]) }];
    assert_eq!(
        Invitation::new(domain.clone(), name.clone(), secret.clone(), nowhere).unwrap_err(),
        InvitationError::Peers
    );
    let no_key = vec![InvitingPeer { key: Bytes::from_static(b"key"), ..peer(&["a:1"]) }];
    let refused = Invitation::new(domain, name, secret, no_key).unwrap_err();
    assert_eq!(refused, InvitationError::Invalid { what: "member's key" });
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,300}") {
        let _ = Invitation::parse(&text);
        let _ = Invitation::parse(&format!("{PREFIX}{text}"));
    }

    #[test]
    fn no_body_makes_the_parser_panic_and_what_is_read_is_written_again(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let text = sealed(&body);
        if let Ok(read) = Invitation::parse(&text) {
            prop_assert_eq!(&*read.to_text(), &text);
        }
    }

    #[test]
    fn a_changed_letter_is_noticed(at in any::<prop::sample::Index>(), letter in "[A-Za-z0-9_-]") {
        let text = invitation().to_text().to_string();
        let at = PREFIX.len() + at.index(text.len() - PREFIX.len());
        let mut changed = text.clone();
        changed.replace_range(at..=at, &letter);
        prop_assume!(changed != text);
        prop_assert_eq!(Invitation::parse(&changed).unwrap_err(), InvitationError::Damaged);
    }

    #[test]
    fn a_changed_byte_under_a_right_checksum_is_read_as_it_stands_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut body = body_of(&invitation().to_text());
        let at = at.index(body.len());
        body[at] = byte;
        let text = sealed(&body);
        if let Ok(read) = Invitation::parse(&text) {
            prop_assert_eq!(&*read.to_text(), &text);
        }
    }
}
