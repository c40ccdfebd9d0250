//! Every field of every object reaches its stored bytes, and so the state hash.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use quorate_proto_identity::{
    AuthorityId, Bundle, ClusterId, EndpointUrl, EntryId, JwtAuthority as JwtKey, KeyType, MemberNumber, NodeName,
    PrivateKey, PublicKey, Selector, SelectorSet, SerialNumber, SpiffeId, TrustDomain, UnixMillis, UnixSeconds,
    Validity,
};

use super::StoredError;
use crate::audit::AuditAnchor;
use crate::authority::{
    AuthorityState, AuthorityTimes, IssuingCertificate, IssuingKey, IssuingKeyState, JwtAuthority, Recipient, Sealed,
    SealedFor, X509Authority,
};
use crate::entry::{AdditionalAttributes, Entry, EntryDraft};
use crate::federation::{
    ApiCredential, ApiServer, Endpoint, EndpointPins, ForeignBundle, ForeignOrigin, PollSettings, Relationship,
    RelationshipOrigin, Secret, SecretName,
};
use crate::invitation::{Invitation, NewInvitation};
use crate::members::{Member, MemberDraft, MemberRole, MemberStatus};
use crate::objects::Object;
use crate::origins::{KeptOutcome, OriginRecord};
use crate::plan::MembershipPlan;
use crate::policy::{AuditIssuance, CrlMode, NetworkProfile, Policy};
use crate::recovery::RecoveryKey;
use crate::revocation::{Revocation, RevocationReason, RevocationTarget, RevokedLeaf};
use crate::state::{Cluster, Counters, PolicyRecord, RevokedRecord};

fn domain() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::from_path(&domain(), path).unwrap()
}

fn set(texts: &[&str]) -> SelectorSet {
    texts.iter().map(|text| Selector::parse(text).unwrap()).collect()
}

fn authority(text: &str) -> AuthorityId {
    AuthorityId::new(text).unwrap()
}

fn number(number: u64) -> MemberNumber {
    MemberNumber::new(number).unwrap()
}

fn validity(from: i64, to: i64) -> Validity {
    Validity::new(UnixSeconds(from), UnixSeconds(to)).unwrap()
}

fn sealed() -> Sealed {
    Sealed {
        suite: 1,
        parts: vec![SealedFor {
            recipient: Recipient::Member(number(1)),
            encapsulated_key: Bytes::from_static(b"enc"),
            ciphertext: Bytes::from_static(b"text"),
        }],
    }
}

/// Checks that an object reads back as it was, and that each change of one field gives other bytes and another hash
/// than the object and than every other change, and reads back too.
pub(super) fn walk<V: Object + Clone + PartialEq + Debug>(
    object: &V,
    decode: impl Fn(Bytes) -> Result<V, StoredError>,
    changes: &[fn(&mut V)],
) {
    assert_eq!(decode(object.stored().into()).as_ref(), Ok(object));
    let mut seen = BTreeSet::from([object.stored()]);
    let mut hashes = vec![object.object_hash()];
    for (place, change) in changes.iter().enumerate() {
        let mut changed = object.clone();
        change(&mut changed);
        assert_ne!(&changed, object, "change {place} changes nothing");
        assert!(seen.insert(changed.stored()), "change {place} of {object:?} does not reach the stored bytes");
        assert!(!hashes.contains(&changed.object_hash()));
        hashes.push(changed.object_hash());
        assert_eq!(decode(changed.stored().into()), Ok(changed), "change {place}");
    }
}

#[test]
fn every_field_of_an_entry_is_stored() {
    let draft = EntryDraft::new(
        EntryId::new("e").unwrap(),
        id("/workload"),
        id("/spire/nodes"),
        set(&["unix:uid:1", "unix:gid:1"]),
    );
    let entry = draft.into_entry(UnixSeconds(1_700_000_000), 17);
    let changes: [fn(&mut Entry); 24] = [
        |e| e.crl_per_domain = true,
        |e| e.id = EntryId::new("f").unwrap(),
        |e| e.spiffe_id = id("/other"),
        |e| e.parent_id = id("/other"),
        |e| e.selectors = set(&["unix:uid:1"]),
        |e| e.selectors = set(&["unix:uid:1", "unix:gid:2"]),
        |e| e.x509_svid_ttl = 1,
        |e| e.jwt_svid_ttl = 1,
        |e| e.federates_with = [TrustDomain::new("other.org").unwrap()].into(),
        |e| e.admin = true,
        |e| e.downstream = true,
        |e| e.expires_at = Some(UnixSeconds(0)),
        |e| e.expires_at = Some(UnixSeconds(-5)),
        |e| e.dns_names = vec!["a".to_owned()],
        |e| e.dns_names = vec!["a".to_owned(), "b".to_owned()],
        |e| e.dns_names = vec!["b".to_owned(), "a".to_owned()],
        |e| e.revision_number = 1,
        |e| e.store_svid = true,
        |e| e.hint = "hint".to_owned(),
        |e| e.created_at = UnixSeconds(1_700_000_001),
        |e| e.additional_attributes = Some(AdditionalAttributes::default()),
        |e| {
            e.additional_attributes =
                Some(AdditionalAttributes { disable_x509_svid_prefetch: true, ..AdditionalAttributes::default() });
        },
        |e| {
            e.additional_attributes =
                Some(AdditionalAttributes { jwt_svid_include_jti: true, ..AdditionalAttributes::default() });
        },
        |e| e.creation_number = 18,
    ];
    walk(&entry, |bytes| super::entry::decode(bytes, &domain()), &changes);
}

#[test]
fn every_field_of_what_was_founded_and_of_the_counters_is_stored() {
    let cluster = Cluster {
        id: ClusterId::new([1; 16]),
        trust_domain: domain(),
        epoch: 1,
        version: 1,
        founded_at: UnixSeconds(5),
    };
    walk(
        &cluster,
        super::cluster::decode_cluster,
        &[
            |c| c.id = ClusterId::new([2; 16]),
            |c| c.trust_domain = TrustDomain::new("other.org").unwrap(),
            |c| c.epoch = 2,
            |c| c.version = 2,
            |c| c.founded_at = UnixSeconds(6),
        ],
    );
    walk(
        &Counters::default(),
        super::cluster::decode_counters,
        &[
            |c| c.time = UnixMillis(2),
            |c| c.next_creation_number = 2,
            |c| c.next_member_number = 2,
            |c| c.spiffe_sequence = 2,
            |c| c.next_revocation_number = 2,
            |c| c.next_key_number = 2,
        ],
    );
}

#[test]
fn every_field_of_the_policy_is_stored() {
    let record = PolicyRecord { revision: 1, policy: Policy::default() };
    walk(
        &record,
        super::policy::decode,
        &[
            |r| r.revision = 2,
            |r| r.policy.root_lifetime = 7,
            |r| r.policy.issuing_lifetime = 7,
            |r| r.policy.x509_svid_lifetime = 7,
            |r| r.policy.jwt_key_lifetime = 7,
            |r| r.policy.jwt_svid_lifetime = 7,
            |r| r.policy.refresh_hint = 7,
            |r| r.policy.root_key_type = KeyType::EcP384,
            |r| r.policy.issuing_key_type = KeyType::EcP384,
            |r| r.policy.x509_svid_key_type = KeyType::EcP384,
            |r| r.policy.jwt_key_type = KeyType::EcP384,
            |r| r.policy.network = NetworkProfile::Distance,
            |r| r.policy.crl_mode = CrlMode::Off,
            |r| r.policy.crl_mode = CrlMode::Always,
            |r| r.policy.crl_settle = 0,
            |r| r.policy.publication_time = 1,
            |r| r.policy.audit_issuance = AuditIssuance::Recorded,
            |r| r.policy.audit_issuance = AuditIssuance::Required,
            |r| r.policy.publication = crate::policy::Publication::ConfirmedByPeers,
        ],
    );
}

#[test]
fn every_field_of_a_member_is_stored() {
    let member = Member {
        number: number(1),
        revision: 0,
        record: MemberDraft {
            name: NodeName::new("n").unwrap(),
            identity_key: Bytes::from_static(b"i"),
            sealing_key: Bytes::from_static(b"s"),
            incarnation: None,
            region: String::new(),
            zone: String::new(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            addresses: vec!["a:1".to_owned()],
            version: 1,
            build: String::new(),
            role: MemberRole::Voter,
            role_pinned: false,
            status: MemberStatus::Admitted,
            serves: crate::members::MemberServices {
                bundle_endpoint: Some("b".to_owned()),
                federation_api: Some("f".to_owned()),
                oidc: Some("o".to_owned()),
            },
        },
        invitation: None,
    };
    walk(
        &member,
        super::member::decode,
        &[
            |m| m.number = number(2),
            |m| m.revision = 1,
            |m| m.record.name = NodeName::new("m").unwrap(),
            |m| m.record.identity_key = Bytes::from_static(b"x"),
            |m| m.record.sealing_key = Bytes::from_static(b"x"),
            |m| m.record.region = "x".to_owned(),
            |m| m.record.zone = "x".to_owned(),
            |m| m.record.labels = [("a".to_owned(), "x".to_owned())].into(),
            |m| m.record.labels = [("x".to_owned(), "b".to_owned())].into(),
            |m| m.record.addresses = vec!["a:1".to_owned(), "b:1".to_owned()],
            |m| m.record.addresses = vec!["b:1".to_owned(), "a:1".to_owned()],
            |m| m.record.version = 2,
            |m| m.record.build = "x".to_owned(),
            |m| m.record.role = MemberRole::Learner,
            |m| m.record.status = MemberStatus::Removed,
            |m| m.record.status = MemberStatus::Compromised,
            |m| m.record.status = MemberStatus::Leaving,
            |m| m.record.status = MemberStatus::LeavingCompromised,
            |m| m.record.role_pinned = true,
            |m| m.record.serves.bundle_endpoint = None,
            |m| m.record.serves.federation_api = Some("x".to_owned()),
            |m| m.record.serves.oidc = None,
            |m| m.record.serves = crate::members::MemberServices::default(),
            |m| m.record.incarnation = Some([0; 16]),
            |m| m.record.incarnation = Some([1; 16]),
            |m| m.invitation = Some([0; 32]),
            |m| m.invitation = Some([1; 32]),
        ],
    );
}

#[test]
fn every_field_of_an_invitation_is_stored() {
    let invitation = Invitation {
        invitation: NewInvitation {
            secret_hash: [1; 32],
            name: NodeName::new("n").unwrap(),
            role: None,
            region: String::new(),
            zone: String::new(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            expires_at: UnixSeconds(9),
        },
        created_at: UnixSeconds(1),
    };
    walk(
        &invitation,
        super::membership::decode_invitation,
        &[
            |i| i.invitation.secret_hash = [2; 32],
            |i| i.invitation.name = NodeName::new("m").unwrap(),
            |i| i.invitation.role = Some(MemberRole::Voter),
            |i| i.invitation.role = Some(MemberRole::Learner),
            |i| i.invitation.region = "x".to_owned(),
            |i| i.invitation.zone = "x".to_owned(),
            |i| i.invitation.labels = [("a".to_owned(), "x".to_owned())].into(),
            |i| i.invitation.expires_at = UnixSeconds(10),
            |i| i.created_at = UnixSeconds(2),
        ],
    );
}

#[test]
fn every_field_of_the_plan_and_of_the_recovery_key_is_stored() {
    walk(
        &MembershipPlan::default(),
        super::membership::decode_plan,
        &[|p| p.voters = 5, |p| p.dead_voter_grace = 5, |p| p.automatic = false],
    );
    walk(
        &RecoveryKey::new(Bytes::from_static(b"k"), UnixSeconds(1)),
        super::membership::decode_recovery_key,
        &[
            |k| *k = RecoveryKey::new(Bytes::from_static(b"x"), UnixSeconds(1)),
            |k| *k = RecoveryKey::new(Bytes::from_static(b"k"), UnixSeconds(2)),
        ],
    );
}

#[test]
fn every_field_of_an_authority_is_stored() {
    let root = X509Authority {
        id: authority("a"),
        certificate: Bytes::from_static(b"c"),
        crl: Bytes::from_static(b"l"),
        crl_keeps_until: None,
        validity: validity(1, 100),
        state: AuthorityState::Active,
        times: AuthorityTimes { prepared_at: UnixSeconds(1), ..AuthorityTimes::default() },
        sealed: Some(sealed()),
    };
    walk(
        &root,
        super::authority::decode_x509,
        &[
            |r| r.id = authority("b"),
            |r| r.certificate = Bytes::from_static(b"x"),
            |r| r.crl = Bytes::from_static(b"x"),
            |r| r.crl_keeps_until = Some(UnixSeconds(0)),
            |r| r.times.replace_at = Some(UnixSeconds(0)),
            |r| r.validity = validity(2, 100),
            |r| r.validity = validity(1, 101),
            |r| r.state = AuthorityState::Old,
            |r| r.times.prepared_at = UnixSeconds(2),
            |r| r.times.activated_at = Some(UnixSeconds(0)),
            |r| r.times.retired_at = Some(UnixSeconds(0)),
            |r| r.times.tainted_at = Some(UnixSeconds(0)),
            |r| r.times.revoked_at = Some(UnixSeconds(0)),
            |r| r.times.suspected_at = Some(UnixSeconds(0)),
            |r| r.times.published_at = Some(UnixSeconds(0)),
            |r| r.times.confirmed_at = Some(UnixSeconds(0)),
            |r| r.sealed = None,
            |r| r.sealed = Some(Sealed { suite: 2, ..sealed() }),
            |r| r.sealed = Some(Sealed { parts: vec![], ..sealed() }),
            |r| r.sealed.as_mut().unwrap().parts[0].recipient = Recipient::Member(number(2)),
            |r| r.sealed.as_mut().unwrap().parts[0].recipient = Recipient::RecoveryKey("1".to_owned()),
            |r| r.sealed.as_mut().unwrap().parts[0].encapsulated_key = Bytes::from_static(b"x"),
            |r| r.sealed.as_mut().unwrap().parts[0].ciphertext = Bytes::from_static(b"x"),
        ],
    );
    let key = JwtAuthority {
        id: authority("a"),
        public_key: Bytes::from_static(b"c"),
        validity: validity(1, 100),
        state: AuthorityState::Active,
        times: AuthorityTimes::default(),
        sealed: Some(sealed()),
    };
    walk(
        &key,
        super::authority::decode_jwt,
        &[
            |k| k.id = authority("b"),
            |k| k.public_key = Bytes::from_static(b"x"),
            |k| k.validity = validity(2, 100),
            |k| k.validity = validity(1, 101),
            |k| k.state = AuthorityState::Prepared,
            |k| k.times.prepared_at = UnixSeconds(2),
            |k| k.times.activated_at = Some(UnixSeconds(2)),
            |k| k.sealed = None,
            |k| k.sealed = Some(Sealed { suite: 2, ..sealed() }),
        ],
    );
}

#[test]
fn every_field_of_issuing_keys_and_certificates_is_stored() {
    let key = IssuingKey {
        id: authority("a"),
        member: number(1),
        crl: Bytes::from_static(b"l"),
        crl_next_update: UnixSeconds(9),
        number: 1,
        boot: 0,
        state: IssuingKeyState::Prepared,
        covered: 0,
        recorded_at: UnixSeconds(3),
    };
    walk(
        &key,
        super::authority::decode_issuing_key,
        &[
            |k| k.id = authority("b"),
            |k| k.member = number(2),
            |k| k.crl = Bytes::from_static(b"x"),
            |k| k.crl_next_update = UnixSeconds(10),
            |k| k.number = 2,
            |k| k.boot = 1,
            |k| k.state = IssuingKeyState::Signing,
            |k| k.covered = 1,
            |k| k.recorded_at = UnixSeconds(4),
        ],
    );
    let certificate = IssuingCertificate {
        member: number(1),
        key_id: authority("a"),
        serial: SerialNumber::new([1; 16]).unwrap(),
        issuer: authority("r"),
        certificate: Bytes::from_static(b"c"),
        validity: validity(1, 100),
        recorded_at: UnixSeconds(3),
        revoked_at: None,
    };
    walk(
        &certificate,
        super::authority::decode_issuing_certificate,
        &[
            |c| c.member = number(2),
            |c| c.key_id = authority("b"),
            |c| c.serial = SerialNumber::new([2; 16]).unwrap(),
            |c| c.issuer = authority("s"),
            |c| c.certificate = Bytes::from_static(b"x"),
            |c| c.validity = validity(2, 100),
            |c| c.validity = validity(1, 101),
            |c| c.recorded_at = UnixSeconds(4),
            |c| c.revoked_at = Some(UnixSeconds(0)),
        ],
    );
}

#[test]
fn every_field_of_revocations_and_revoked_leaves_is_stored() {
    let revocation = Revocation {
        number: 1,
        target: RevocationTarget::SpiffeId(id("/a")),
        subject: None,
        reason: RevocationReason::Unspecified,
        ban: false,
        token_rule: false,
        created_at: UnixSeconds(1),
        up_to: UnixSeconds(1),
        expires_at: UnixSeconds(9),
        certificates_end: None,
    };
    walk(
        &revocation,
        super::revocation::decode_revocation,
        &[
            |r| r.number = 2,
            |r| r.target = RevocationTarget::SpiffeId(id("/b")),
            |r| r.target = RevocationTarget::Serial { serial: SerialNumber::new([1; 16]).unwrap() },
            |r| r.target = RevocationTarget::Serial { serial: SerialNumber::new([2; 16]).unwrap() },
            |r| r.target = RevocationTarget::Entry(EntryId::new("e").unwrap()),
            |r| r.target = RevocationTarget::Node(number(1)),
            |r| r.target = RevocationTarget::Node(number(2)),
            |r| r.target = RevocationTarget::Jti { jti: "j".to_owned(), expires_at: UnixSeconds(1) },
            |r| r.target = RevocationTarget::Jti { jti: "j".to_owned(), expires_at: UnixSeconds(2) },
            |r| r.target = RevocationTarget::Jti { jti: "k".to_owned(), expires_at: UnixSeconds(1) },
            |r| r.subject = Some(id("/a")),
            |r| r.reason = RevocationReason::KeyCompromise,
            |r| r.reason = RevocationReason::PrivilegeWithdrawn,
            |r| r.ban = true,
            |r| r.token_rule = true,
            |r| r.created_at = UnixSeconds(2),
            |r| r.up_to = UnixSeconds(2),
            |r| r.expires_at = UnixSeconds(10),
            |r| r.certificates_end = Some(UnixSeconds(0)),
        ],
    );
    let leaf = RevokedLeaf {
        serial: SerialNumber::new([1; 16]).unwrap(),
        spiffe_id: id("/a"),
        not_after: UnixSeconds(5),
        revocation: 1,
    };
    walk(
        &RevokedRecord { issuer: authority("a"), leaf },
        super::revocation::decode_leaf,
        &[
            |r| r.issuer = authority("b"),
            |r| r.leaf.serial = SerialNumber::new([2; 16]).unwrap(),
            |r| r.leaf.spiffe_id = id("/b"),
            |r| r.leaf.not_after = UnixSeconds(6),
            |r| r.leaf.revocation = 2,
        ],
    );
}

#[test]
fn every_field_of_an_anchor_is_stored() {
    let anchor = AuditAnchor { member: number(1), records: 5, index: 9, hash: [7; 32], recorded_at: UnixSeconds(3) };
    walk(
        &anchor,
        super::revocation::decode_anchor,
        &[
            |a| a.member = number(2),
            |a| a.records = 6,
            |a| a.index = 10,
            |a| a.hash = [8; 32],
            |a| a.recorded_at = UnixSeconds(4),
        ],
    );
}

#[test]
fn every_field_of_origins_and_kept_outcomes_is_stored() {
    let record = OriginRecord { node: 1, boot: 2, floor: 3, last_used: 4 };
    walk(
        &record,
        super::origin::decode_record,
        &[|r| r.node = 9, |r| r.boot = 9, |r| r.floor = 9, |r| r.last_used = 9],
    );
    let (empty, messages) = super::outcome::encode(&crate::Outcome::default());
    let kept = KeptOutcome { node: 1, boot: 2, sequence: 3, outcome: empty, messages };
    walk(
        &kept,
        super::origin::decode_outcome,
        &[
            |k| k.node = 9,
            |k| k.boot = 9,
            |k| k.sequence = 9,
            |k| {
                let results = vec![Ok(crate::Done::PolicySet { revision: 1 })];
                k.outcome = super::outcome::encode(&crate::Outcome { results }).0;
            },
            |k| {
                let results = vec![Err(crate::Refusal::new(crate::RefusalCode::Conflict, "why"))];
                (k.outcome, k.messages) = super::outcome::encode(&crate::Outcome { results });
            },
            |k| {
                let results = vec![Err(crate::Refusal::new(crate::RefusalCode::NotFound, "why"))];
                (k.outcome, k.messages) = super::outcome::encode(&crate::Outcome { results });
            },
        ],
    );
}

#[test]
fn every_kind_of_outcome_reads_back() {
    use crate::authority::AuthorityKind;
    use crate::outcome::{Done, Outcome, Refusal, RefusalCode};
    let entry = || EntryId::new("e").unwrap();
    let mut results = vec![
        Ok(Done::Founded { member: number(1) }),
        Ok(Done::EntryCreated { id: entry(), creation_number: 2, created_at: UnixSeconds(3) }),
        Ok(Done::EntryExists { id: entry() }),
        Ok(Done::EntryUpdated { id: entry(), revision_number: 4 }),
        Ok(Done::EntryDeleted { id: entry(), revocation: None }),
        Ok(Done::EntryDeleted { id: entry(), revocation: Some(8) }),
        Ok(Done::EntriesPruned { count: 5, more: true }),
        Ok(Done::PolicySet { revision: 6 }),
        Ok(Done::AuthoritiesPruned { x509: 1, jwt: 2, issuing: 3 }),
        Ok(Done::IssuingCertificateRecorded {
            member: number(1),
            key_id: authority("a"),
            serial: SerialNumber::new([1; 16]).unwrap(),
        }),
        Ok(Done::IssuingCertificatesRevoked { member: number(1), count: 7 }),
        Ok(Done::MemberSet { number: number(2) }),
        Ok(Done::Revoked { number: 9 }),
        Ok(Done::RevocationRemoved { number: 9 }),
        Ok(Done::CrlRecorded { issuer: authority("a") }),
        Ok(Done::IssuingKeyActivated { key: authority("a") }),
        Ok(Done::IssuingKeysRevoked { certificates: 3 }),
        Ok(Done::RevocationsPruned { revocations: 1, leaves: 2, more: true }),
        Ok(Done::AuthorityMarked { kind: AuthorityKind::Jwt, id: authority("a") }),
        Ok(Done::AuditAnchored { member: number(2), index: 77 }),
    ];
    for kind in [AuthorityKind::X509, AuthorityKind::Jwt] {
        for state in AuthorityState::ALL {
            results.push(Ok(Done::AuthorityMoved { kind, id: authority("a"), state }));
        }
    }
    results.extend(RefusalCode::ALL.map(|code| Err(Refusal::new(code, "why"))));
    let outcome = Outcome { results };
    let (bytes, messages) = super::outcome::encode(&outcome);
    assert_eq!(super::outcome::decode(&bytes, &messages).as_ref(), Ok(&outcome));
    assert!(super::outcome::decode(&bytes, &messages[1..]).is_err(), "a refusal without its message");
    assert!(super::outcome::decode(&bytes, &[messages, vec![String::new()]].concat()).is_err());
}

#[test]
fn members_that_word_a_refusal_differently_agree_on_hash_and_memory() {
    use crate::outcome::{Outcome, Refusal, RefusalCode};
    let kept = |message: &str| {
        let results =
            vec![Ok(crate::Done::PolicySet { revision: 1 }), Err(Refusal::new(RefusalCode::Invalid, message))];
        let (outcome, messages) = super::outcome::encode(&Outcome { results });
        KeptOutcome { node: 1, boot: 2, sequence: 3, outcome, messages }
    };
    let (short, long) = (kept("no"), kept(&"because of the other thing ".repeat(20)));
    assert_ne!(short.stored(), long.stored(), "each member gives its own words to a repeat");
    assert_eq!(short.object_hash(), long.object_hash());
    assert_eq!(short.weight(), long.weight(), "and neither forgets it before the other does");
}

#[test]
fn the_message_of_a_refusal_is_cut_at_a_character() {
    use crate::outcome::{REFUSAL_MESSAGE_LIMIT, Refusal, RefusalCode};
    let refusal = Refusal::new(RefusalCode::Invalid, "ü".repeat(REFUSAL_MESSAGE_LIMIT));
    assert_eq!(refusal.message, "ü".repeat(REFUSAL_MESSAGE_LIMIT / 2));
    let odd = Refusal::new(RefusalCode::Invalid, format!("x{}", "ü".repeat(REFUSAL_MESSAGE_LIMIT)));
    assert_eq!(odd.message.len(), REFUSAL_MESSAGE_LIMIT - 1);
}

fn url(text: &str) -> EndpointUrl {
    EndpointUrl::parse(text).unwrap()
}

fn foreign_bundle(sequence: Option<u64>) -> Bundle {
    let mut bundle = Bundle::new(domain());
    bundle.add_jwt_authority(JwtKey { key_id: "kid".to_owned(), public_key: public_key() });
    bundle.set_sequence(sequence);
    bundle.set_refresh_hint(Some(300));
    bundle
}

fn public_key() -> PublicKey {
    thread_local! {
        static KEY: PublicKey = PrivateKey::generate(KeyType::EcP256).unwrap().public_key().clone();
    }
    KEY.with(Clone::clone)
}

#[test]
fn every_field_of_a_relationship_is_stored() {
    let oauth = || ApiCredential::OAuth {
        token_url: url("https://login.example/"),
        client_id: "us".to_owned(),
        scope: String::new(),
        audience: String::new(),
        secret: SecretName::new("a").unwrap(),
    };
    let api = |credential| Endpoint::Api { url: url("https://a/"), server: ApiServer::Web, credential, watch: false };
    let relationship = Relationship {
        trust_domain: domain(),
        endpoint: api(oauth()),
        pins: EndpointPins::default(),
        poll: PollSettings::default(),
        origin: RelationshipOrigin::Operator,
        revision: 1,
        created_at: UnixSeconds(1),
        changed_at: UnixSeconds(1),
    };
    fn of_api(r: &mut Relationship) -> (&mut EndpointUrl, &mut ApiServer, &mut ApiCredential, &mut bool) {
        let Endpoint::Api { url, server, credential, watch } = &mut r.endpoint else { unreachable!() };
        (url, server, credential, watch)
    }
    fn of_oauth(r: &mut Relationship) -> [&mut String; 3] {
        let ApiCredential::OAuth { client_id, scope, audience, .. } = of_api(r).2 else { unreachable!() };
        [client_id, scope, audience]
    }
    walk(
        &relationship,
        super::federation::decode_relationship,
        &[
            |r| r.trust_domain = TrustDomain::new("other.example").unwrap(),
            |r| r.endpoint = Endpoint::Web { url: url("https://a/") },
            |r| r.endpoint = Endpoint::Web { url: url("https://b/") },
            |r| r.endpoint = Endpoint::Spiffe { url: url("https://a/"), endpoint_spiffe_id: id("/a") },
            |r| r.endpoint = Endpoint::Spiffe { url: url("https://a/"), endpoint_spiffe_id: id("/b") },
            |r| *of_api(r).0 = url("https://a/x?y"),
            |r| *of_api(r).1 = ApiServer::Spiffe(id("/a")),
            |r| *of_api(r).2 = ApiCredential::None,
            |r| *of_api(r).2 = ApiCredential::MutualTls,
            |r| *of_api(r).2 = ApiCredential::ApiKey { secret: SecretName::new("a").unwrap() },
            |r| *of_api(r).2 = ApiCredential::ApiKey { secret: SecretName::new("b").unwrap() },
            |r| *of_api(r).3 = true,
            |r| *of_oauth(r)[0] = "them".to_owned(),
            |r| *of_oauth(r)[1] = "read".to_owned(),
            |r| *of_oauth(r)[2] = "read".to_owned(),
            |r| r.pins.hosts = vec!["a".to_owned()],
            |r| r.pins.hosts = vec!["b".to_owned()],
            |r| r.pins.keys = vec![[0; 32]],
            |r| r.poll.floor = 1,
            |r| r.poll.follow_redirects = false,
            |r| r.poll.accept_private = Some(false),
            |r| r.poll.accept_private = Some(true),
            |r| r.origin = RelationshipOrigin::Configuration { node: NodeName::new("n").unwrap() },
            |r| r.origin = RelationshipOrigin::Configuration { node: NodeName::new("m").unwrap() },
            |r| r.revision = 2,
            |r| r.created_at = UnixSeconds(2),
            |r| r.changed_at = UnixSeconds(2),
        ],
    );
}

#[test]
fn every_field_of_a_foreign_bundle_and_of_a_secret_is_stored() {
    let foreign = ForeignBundle {
        trust_domain: domain(),
        bundle: Arc::new(foreign_bundle(Some(7))),
        origin: ForeignOrigin::Fetched,
        fetched_sequence: Some(7),
        changed_at: UnixSeconds(1),
        version: 1,
    };
    walk(
        &foreign,
        super::foreign::decode_foreign,
        &[
            |f| f.bundle = Arc::new(foreign_bundle(None)),
            |f| f.bundle = Arc::new(foreign_bundle(Some(0))),
            |f| Arc::make_mut(&mut f.bundle).set_refresh_hint(None),
            |f| Arc::make_mut(&mut f.bundle).set_refresh_hint(Some(-1)),
            |f| {
                let key = JwtKey { key_id: "other".to_owned(), public_key: public_key() };
                assert!(Arc::make_mut(&mut f.bundle).add_jwt_authority(key));
            },
            |f| f.origin = ForeignOrigin::Operator,
            |f| f.fetched_sequence = None,
            |f| f.fetched_sequence = Some(0),
            |f| f.changed_at = UnixSeconds(2),
            |f| f.version = 2,
        ],
    );
    let secret = Secret { name: SecretName::new("a").unwrap(), sealed: sealed(), revision: 1, put_at: UnixSeconds(1) };
    walk(
        &secret,
        super::secret::decode_secret,
        &[
            |s| s.name = SecretName::new("b").unwrap(),
            |s| s.sealed.suite = 2,
            |s| s.sealed.parts.clear(),
            |s| s.revision = 2,
            |s| s.put_at = UnixSeconds(2),
        ],
    );
}
