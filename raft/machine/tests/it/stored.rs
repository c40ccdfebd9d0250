//! Stored forms: the bytes that each version wrote are read for ever.
//!
//! Files in `tests/stored/` hold what a version wrote, in hexadecimal, and are never edited. A later version adds files
//! of its own and goes on reading these.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_proto_identity::{
    AuthorityId, Bundle, ClusterId, EndpointUrl, KeyType, NodeName, SpiffeId, TrustDomain, UnixMillis, UnixSeconds,
    Validity,
};
use quorate_raft_machine::command::{COMMAND_BYTES_LIMIT, COMMANDS_PER_BATCH, OPERATIONS_PER_COMMAND};
use quorate_raft_machine::{
    AdditionalAttributes, Admission, AuditIssuance, AuthorityKind, COMMAND_VERSION, Caller, CallerIdentity, Command,
    CommandBatch, CrlMode, EntryChange, EntryDraft, Found, MemberDraft, MemberRole, MemberStatus, MembershipPlan,
    NetworkProfile, NewCrl, NewInvitation, NewIssuingCertificate, NewJwtAuthority, NewRevocation, NewX509Authority,
    Operation, Origin, Policy, Recipient, RevocationReason, RevocationTarget, RevokedLeaf, Sealed, SealedFor,
    SnapshotReader, State, StoredError,
};

use quorate_raft_machine::{
    ApiCredential, ApiServer, BundleFields, Endpoint, EndpointPins, ForeignDeletion, MemberServices, NewForeignBundle,
    NewRelationship, PollSettings, RelationshipChange, RelationshipOrigin, SecretName, SetHow,
};

use crate::federation::peer;
use crate::world::{World, create, domain, draft, entry_id, id, jwt_key, number, selectors, serial};

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Bytes {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

pub(crate) fn envelope(operations: Vec<Operation>) -> Command {
    Command {
        origin: Origin { node: 3, boot: 5, sequence: 700, acknowledged: 699 },
        caller: Caller {
            identity: CallerIdentity::Unix { uid: 1000, gid: 100, pid: 4242 },
            address: "/run/quorate/admin.sock".to_owned(),
        },
        time: UnixMillis(1_700_000_000_123),
        operations,
    }
}

fn sealed() -> Sealed {
    let part = |recipient, text: &'static str| SealedFor {
        recipient,
        encapsulated_key: Bytes::from_static(b"encapsulated"),
        ciphertext: Bytes::from_static(text.as_bytes()),
    };
    Sealed {
        suite: 1,
        parts: vec![
            part(Recipient::Member(number(1)), "sealed to member 1"),
            part(Recipient::RecoveryKey("recovery-2026".to_owned()), "sealed to the recovery key"),
        ],
    }
}

fn policy() -> Policy {
    Policy {
        root_lifetime: 1_000,
        issuing_lifetime: 101,
        x509_svid_lifetime: 42,
        jwt_key_lifetime: 900,
        jwt_svid_lifetime: 43,
        refresh_hint: 44,
        root_key_type: KeyType::EcP384,
        issuing_key_type: KeyType::Rsa2048,
        x509_svid_key_type: KeyType::Ed25519,
        jwt_key_type: KeyType::Rsa4096,
        network: NetworkProfile::Distance,
        crl_mode: CrlMode::Always,
        crl_settle: 7,
        publication_time: 45,
        audit_issuance: AuditIssuance::Required,
        publication: quorate_raft_machine::Publication::Hints,
    }
}

fn member() -> MemberDraft {
    MemberDraft {
        name: NodeName::new("node-1").unwrap(),
        identity_key: Bytes::from_static(b"identity key"),
        sealing_key: Bytes::from_static(b"sealing key"),
        incarnation: None,
        region: "eu".to_owned(),
        zone: "a".to_owned(),
        labels: BTreeMap::from([("disk".to_owned(), "ssd".to_owned()), ("rack".to_owned(), "7".to_owned())]),
        addresses: vec!["a.example.org:8082".to_owned(), "10.0.0.1:8082".to_owned()],
        version: 1,
        build: "0.1.0".to_owned(),
        role: MemberRole::Learner,
        role_pinned: false,
        status: MemberStatus::Admitted,
        serves: quorate_raft_machine::MemberServices::default(),
    }
}

fn new_x509() -> NewX509Authority {
    NewX509Authority {
        certificate: Bytes::from_static(b"root certificate"),
        crl: Bytes::from_static(b"root CRL"),
        sealed: sealed(),
        succeeds: None,
    }
}

fn new_jwt() -> NewJwtAuthority {
    NewJwtAuthority {
        id: AuthorityId::new("kid-1").unwrap(),
        public_key: Bytes::from_static(b"public key"),
        validity: Validity::new(UnixSeconds(1_700_000_000), UnixSeconds(1_700_000_900)).unwrap(),
        sealed: sealed(),
        succeeds: None,
    }
}

fn new_issuing() -> NewIssuingCertificate {
    NewIssuingCertificate {
        member: number(2),
        certificate: Bytes::from_static(b"issuing certificate"),
        crl: Bytes::from_static(b"issuing CRL"),
        boot: 5,
    }
}

fn full_draft() -> EntryDraft {
    EntryDraft {
        x509_svid_ttl: 600,
        jwt_svid_ttl: 60,
        federates_with: [TrustDomain::new("other.org").unwrap()].into(),
        admin: true,
        downstream: true,
        expires_at: Some(UnixSeconds(1_800_000_000)),
        dns_names: vec!["b.example.org".to_owned(), "a.example.org".to_owned()],
        store_svid: true,
        hint: "internal".to_owned(),
        additional_attributes: Some(AdditionalAttributes {
            disable_x509_svid_prefetch: true,
            jwt_svid_include_jti: true,
        }),
        crl_per_domain: true,
        ..draft("entry-1", "/workload", &["unix:uid:1000", "unix:gid:100"])
    }
}

/// A command with every operation and every field of each.
fn every_operation() -> Command {
    let authority = AuthorityId::new("0123456789abcdef0123456789abcdef01234567").unwrap();
    envelope(vec![
        Operation::Found(Box::new(Found {
            cluster_id: ClusterId::new([9; 16]),
            trust_domain: domain(),
            policy: policy(),
            member: member(),
            x509_authority: new_x509(),
            jwt_authority: new_jwt(),
        })),
        Operation::CreateEntry(Box::new(full_draft())),
        Operation::CreateEntry(Box::new(draft("entry-2", "/bare", &["unix:uid:0"]))),
        Operation::UpdateEntry { id: entry_id("entry-1"), change: Box::new(EntryChange::everything(full_draft())) },
        Operation::UpdateEntry {
            id: entry_id("entry-1"),
            change: Box::new(EntryChange {
                selectors: Some(selectors(&[])),
                federates_with: Some([].into()),
                admin: Some(false),
                expires_at: Some(None),
                dns_names: Some(vec![]),
                additional_attributes: Some(None),
                ..EntryChange::default()
            }),
        },
        Operation::DeleteEntry { id: entry_id("entry-1"), revoke: None },
        Operation::PruneExpiredEntries,
        Operation::SetPolicy { policy: policy(), expected_revision: 12 },
        Operation::PrepareX509Authority(Box::new(new_x509())),
        Operation::ActivateX509Authority {
            id: authority.clone(),
            issuing_certificates: vec![new_issuing(), new_issuing()],
        },
        Operation::PrepareJwtAuthority(Box::new(new_jwt())),
        Operation::ActivateJwtAuthority { id: authority.clone() },
        Operation::TaintX509Authority { id: authority.clone() },
        Operation::TaintJwtAuthority { id: authority.clone() },
        Operation::RevokeX509Authority { id: authority.clone() },
        Operation::RevokeJwtAuthority { id: authority },
        Operation::PruneAuthorities,
        Operation::RecordIssuingCertificate(Box::new(new_issuing())),
        Operation::RevokeIssuingCertificate { member: number(2), serial: Some(serial(77)) },
        Operation::RevokeIssuingCertificate { member: number(2), serial: None },
        Operation::SetMember { number: None, member: Box::new(member()) },
        Operation::SetMember { number: Some(number(2)), member: Box::new(member()) },
    ])
}

/// A command with every operation on the membership and on the cluster as a whole, and every field of each.
fn every_operation_on_members() -> Command {
    let authority = AuthorityId::new("0123456789abcdef0123456789abcdef01234567").unwrap();
    let name = || NodeName::new("node-2").unwrap();
    let place = member();
    let invitation = |role| NewInvitation {
        secret_hash: [0xa5; 32],
        name: name(),
        role,
        region: place.region.clone(),
        zone: place.zone.clone(),
        labels: place.labels.clone(),
        expires_at: UnixSeconds(1_700_000_600),
    };
    let admission = |secret_hash| Admission {
        secret_hash,
        incarnation: [0x5a; 16],
        name: name(),
        identity_key: Bytes::from_static(b"identity key"),
        sealing_key: Bytes::from_static(b"sealing key"),
        addresses: place.addresses.clone(),
        version: 1,
        build: "0.1.0".to_owned(),
    };
    let of = number(2);
    let joined = MemberDraft { incarnation: Some([0x5a; 16]), role_pinned: true, ..member() };
    envelope(vec![
        Operation::CreateInvitation(Box::new(invitation(Some(MemberRole::Voter)))),
        Operation::CreateInvitation(Box::new(invitation(None))),
        Operation::DeleteInvitation { name: name() },
        Operation::AdmitMember(Box::new(admission(Some([0xa5; 32])))),
        Operation::AdmitMember(Box::new(admission(None))),
        Operation::AnnounceMember {
            number: of,
            addresses: place.addresses.clone(),
            version: 1,
            build: "b".to_owned(),
            serves: quorate_raft_machine::MemberServices::default(),
        },
        Operation::SetMemberRole { number: of, role: MemberRole::Voter, pinned: true },
        Operation::SetMemberRole { number: of, role: MemberRole::Learner, pinned: false },
        Operation::RemoveMember { number: of, compromised: true },
        Operation::RemoveMember { number: of, compromised: false },
        Operation::CompleteRemoval { number: of },
        Operation::SealX509Authority { id: authority.clone(), parts: sealed().parts },
        Operation::SealJwtAuthority { id: authority, parts: vec![] },
        Operation::StripSeals { number: of },
        Operation::SetRecoveryKey { public_key: Some(Bytes::from_static(b"recovery key")) },
        Operation::SetRecoveryKey { public_key: None },
        Operation::SetPlan(MembershipPlan { voters: 5, dead_voter_grace: 60, automatic: true }),
        Operation::RaiseEpoch,
        Operation::RaiseVersion { version: 1 },
        Operation::ResetTime { time: UnixMillis(1_700_000_000_123) },
        Operation::SetMember { number: Some(of), member: Box::new(joined) },
    ])
}

/// A command with every operation on revocations, CRLs and what goes with them, and every field of each.
fn every_operation_on_revocations() -> Command {
    let authority = || AuthorityId::new("0123456789abcdef0123456789abcdef01234567").unwrap();
    let revoke = |target, reason, ban| Operation::Revoke(Box::new(NewRevocation { target, reason, ban }));
    let leaf =
        RevokedLeaf { serial: serial(78), spiffe_id: id("/a"), not_after: UnixSeconds(1_700_000_090), revocation: 3 };
    let crl = NewCrl { issuer: authority(), crl: Bytes::from_static(b"CRL"), covers: 3, revoked: vec![leaf] };
    let root_crl = NewCrl { covers: 0, revoked: vec![], ..crl.clone() };
    envelope(vec![
        revoke(RevocationTarget::Serial { serial: serial(77) }, RevocationReason::Unspecified, false),
        revoke(RevocationTarget::SpiffeId(id("/a")), RevocationReason::KeyCompromise, true),
        revoke(RevocationTarget::Entry(entry_id("entry-1")), RevocationReason::Superseded, true),
        revoke(RevocationTarget::Node(number(2)), RevocationReason::CessationOfOperation, true),
        revoke(
            RevocationTarget::Jti { jti: "token-1".to_owned(), expires_at: UnixSeconds(1_700_000_300) },
            RevocationReason::PrivilegeWithdrawn,
            false,
        ),
        Operation::DeleteEntry { id: entry_id("entry-1"), revoke: Some(RevocationReason::AffiliationChanged) },
        Operation::DeleteEntry { id: entry_id("entry-1"), revoke: Some(RevocationReason::Unspecified) },
        Operation::RemoveRevocation { number: 3 },
        Operation::RecordCrl(Box::new(crl)),
        Operation::ActivateIssuingKey { key: authority() },
        Operation::RevokeIssuingKeys {
            keys: vec![authority()],
            reason: RevocationReason::CaCompromise,
            root_crls: vec![root_crl],
        },
        Operation::PruneRevocations,
        Operation::MarkAuthority { kind: AuthorityKind::X509, id: authority(), compromised: false },
        Operation::MarkAuthority { kind: AuthorityKind::Jwt, id: authority(), compromised: true },
        Operation::AnchorAudit { member: number(2), records: 5, index: 77, hash: [7; 32] },
        Operation::UpdateEntry {
            id: entry_id("entry-1"),
            change: Box::new(EntryChange { crl_per_domain: Some(true), ..EntryChange::default() }),
        },
        Operation::UpdateEntry {
            id: entry_id("entry-1"),
            change: Box::new(EntryChange { crl_per_domain: Some(false), ..EntryChange::default() }),
        },
    ])
}

/// A command with every operation on relationships, foreign bundles and secrets, and every field of each.
fn every_operation_on_federation() -> Command {
    let (peer, name) = (peer(), || SecretName::new("federation/peer.example/oauth").unwrap());
    let url = |text: &str| EndpointUrl::parse(text).unwrap();
    let spiffe_id = |path: &str| SpiffeId::from_path(&peer, path).unwrap();
    let bundle = || {
        let mut bundle = Bundle::new(peer.clone());
        bundle.set_sequence(Some(7));
        bundle.set_refresh_hint(Some(300));
        bundle
    };
    let create = |endpoint, bundle| {
        Operation::CreateRelationship(Box::new(NewRelationship {
            trust_domain: peer.clone(),
            endpoint,
            pins: EndpointPins { hosts: vec!["peer.example".to_owned()], keys: vec![[9; 32]] },
            poll: PollSettings { floor: 5, follow_redirects: false, accept_private: Some(true) },
            origin: RelationshipOrigin::Configuration { node: NodeName::new("node-1").unwrap() },
            bundle,
        }))
    };
    let api =
        |server, credential, watch| Endpoint::Api { url: url("https://peer.example/"), server, credential, watch };
    let oauth = ApiCredential::OAuth {
        token_url: url("https://login.peer.example/token"),
        client_id: "us".to_owned(),
        scope: "read".to_owned(),
        audience: "them".to_owned(),
        secret: name(),
    };
    let change = RelationshipChange {
        endpoint: Some(api(ApiServer::Web, ApiCredential::None, false)),
        pins: Some(EndpointPins::default()),
        poll: Some(PollSettings::default()),
        origin: Some(RelationshipOrigin::Operator),
    };
    let update = |change: RelationshipChange, expected_revision| Operation::UpdateRelationship {
        trust_domain: peer.clone(),
        change: Box::new(change),
        expected_revision,
    };
    let set = |how| Operation::SetForeignBundle(Box::new(NewForeignBundle { bundle: bundle(), how }));
    let delete = |mode| Operation::DeleteForeignBundle { trust_domain: peer.clone(), mode };
    let serves = MemberServices {
        bundle_endpoint: Some("https://a:8443/".to_owned()),
        federation_api: Some("https://a:8444/".to_owned()),
        oidc: Some("https://a:8445/".to_owned()),
    };
    let id = || AuthorityId::new("kid-1").unwrap();
    envelope(vec![
        create(Endpoint::Web { url: url("https://peer.example/a?b") }, None),
        create(
            Endpoint::Spiffe { url: url("https://peer.example/"), endpoint_spiffe_id: spiffe_id("/server") },
            Some(bundle()),
        ),
        create(api(ApiServer::Spiffe(spiffe_id("/api")), ApiCredential::MutualTls, true), None),
        create(api(ApiServer::Web, ApiCredential::ApiKey { secret: name() }, false), None),
        create(api(ApiServer::Web, oauth, true), None),
        update(change, 3),
        update(RelationshipChange::default(), 0),
        Operation::DeleteRelationship { trust_domain: peer.clone() },
        set(SetHow::Fetched { relationship_revision: 3, accept_older: true }),
        set(SetHow::Create),
        set(SetHow::Update(BundleFields::ALL)),
        set(SetHow::Update(BundleFields { jwt_authorities: false, sequence: false, ..BundleFields::ALL })),
        set(SetHow::Set),
        delete(ForeignDeletion::Restrict),
        delete(ForeignDeletion::Delete),
        delete(ForeignDeletion::Dissociate),
        Operation::PutSecret { name: name(), sealed: sealed() },
        Operation::DeleteSecret { name: name() },
        Operation::SealSecret { name: name(), revision: 4, parts: sealed().parts },
        Operation::MarkPublished { kind: AuthorityKind::X509, id: id(), confirmed: false },
        Operation::MarkPublished { kind: AuthorityKind::Jwt, id: id(), confirmed: true },
        Operation::AnnounceMember { number: number(2), addresses: vec![], version: 1, build: "b".to_owned(), serves },
    ])
}

/// Commands of each kind of caller.
fn callers() -> CommandBatch {
    let mut by_node = envelope(vec![Operation::PruneAuthorities]);
    by_node.caller = Caller::node();
    let mut by_peer = envelope(vec![]);
    by_peer.caller = Caller { identity: CallerIdentity::Spiffe(id("/admin")), address: "10.0.0.9:40000".to_owned() };
    CommandBatch { commands: vec![by_node, by_peer] }
}

const EVERY_OPERATION_V1: &str = include_str!("../stored/command-v1.hex");
const CALLERS_V1: &str = include_str!("../stored/batch-v1.hex");
const HISTORY_V1: &str = include_str!("../stored/history-v1.hex");
const SNAPSHOT_V1: &str = include_str!("../stored/snapshot-v1.hex");
const MEMBERS_OPERATION_V1: &str = include_str!("../stored/command-members-v1.hex");
const MEMBERS_HISTORY_V1: &str = include_str!("../stored/history-members-v1.hex");
const MEMBERS_SNAPSHOT_V1: &str = include_str!("../stored/snapshot-members-v1.hex");
const FEDERATION_OPERATION_V1: &str = include_str!("../stored/command-federation-v1.hex");
const REVOCATIONS_OPERATION_V1: &str = include_str!("../stored/command-revocations-v1.hex");
const REVOCATIONS_HISTORY_V1: &str = include_str!("../stored/history-revocations-v1.hex");
const REVOCATIONS_SNAPSHOT_V1: &str = include_str!("../stored/snapshot-revocations-v1.hex");

#[test]
fn version_1_of_commands_is_read_and_still_written_so() {
    let stored = unhex(EVERY_OPERATION_V1);
    assert_eq!(Command::decode(stored.clone()).unwrap(), every_operation());
    assert_eq!(hex(&every_operation().encode()), hex(&stored));
    let stored = unhex(MEMBERS_OPERATION_V1);
    assert_eq!(Command::decode(stored.clone()).unwrap(), every_operation_on_members());
    assert_eq!(hex(&every_operation_on_members().encode()), hex(&stored));
    let stored = unhex(REVOCATIONS_OPERATION_V1);
    assert_eq!(Command::decode(stored.clone()).unwrap(), every_operation_on_revocations());
    assert_eq!(hex(&every_operation_on_revocations().encode()), hex(&stored));
    let stored = unhex(FEDERATION_OPERATION_V1);
    assert_eq!(Command::decode(stored.clone()).unwrap(), every_operation_on_federation());
    assert_eq!(hex(&every_operation_on_federation().encode()), hex(&stored));
    let stored = unhex(CALLERS_V1);
    assert_eq!(CommandBatch::decode(stored.clone()).unwrap(), callers());
    assert_eq!(hex(&callers().encode()), hex(&stored));
}

#[test]
fn version_1_of_snapshots_is_read_and_gives_the_hash_it_had() {
    let stored = unhex(SNAPSHOT_V1);
    let mut reader = SnapshotReader::new();
    reader.push(&stored).unwrap();
    let state = reader.finish().unwrap();
    assert_eq!(state.entry_count(), 3);
    assert_eq!(state.members().count(), 2);
    assert_eq!(state.x509_authorities().count(), 2);
    assert_eq!(state.issuing_certificates().count(), 1);
    assert_eq!(state.entry(&entry_id("full")).unwrap().hint, "hint");
    let written: Vec<u8> = state.view().chunks().flatten().collect();
    assert_eq!(hex(&written), hex(&stored));
}

#[test]
fn version_1_of_snapshots_with_members_is_read_and_gives_the_hash_it_had() {
    let stored = unhex(MEMBERS_SNAPSHOT_V1);
    let mut reader = SnapshotReader::new();
    reader.push(&stored).unwrap();
    let state = reader.finish().unwrap();
    let statuses: Vec<_> = state.members().map(|member| member.record.status).collect();
    assert_eq!(statuses, [MemberStatus::Admitted, MemberStatus::Admitted, MemberStatus::Compromised]);
    assert_eq!((state.invitations().count(), state.plan().voters), (1, 5));
    assert!(state.recovery_key().is_some());
    assert_eq!(state.cluster().unwrap().epoch, 2);
    let written: Vec<u8> = state.view().chunks().flatten().collect();
    assert_eq!(hex(&written), hex(&stored));
}

#[test]
fn version_1_of_snapshots_with_revocations_is_read_and_gives_the_hash_it_had() {
    let stored = unhex(REVOCATIONS_SNAPSHOT_V1);
    let mut reader = SnapshotReader::new();
    reader.push(&stored).unwrap();
    let state = reader.finish().unwrap();
    assert_eq!((state.revocations().count(), state.revoked_leaves().count()), (4, 1));
    assert!(state.crls_are_on() && state.crl_set().is_some());
    assert_eq!(state.audit_anchors(number(1)).count(), 1);
    let written: Vec<u8> = state.view().chunks().flatten().collect();
    assert_eq!(hex(&written), hex(&stored));
}

/// A history of a membership: invitations used, repeated and refused, a removal, seals, and the cluster's own settings.
fn membership() -> World {
    use crate::admission::{invitation, newcomer};
    let mut world = World::founded();
    for n in [1, 2, 3] {
        let new = NewInvitation {
            role: Some(MemberRole::Voter).filter(|_| n < 3),
            ..invitation(&world, n, &format!("node-{}", n + 1))
        };
        world.one(Operation::CreateInvitation(Box::new(new))).unwrap();
    }
    let (second, third) = (newcomer(1, "node-2"), newcomer(2, "node-3"));
    let lost = Admission { incarnation: [9; 16], ..second.clone() };
    let admit = |admission: &Admission| Operation::AdmitMember(Box::new(admission.clone()));
    let results = world.all(vec![admit(&second), admit(&third), admit(&second), admit(&lost)]);
    assert!(results[..3].iter().all(Result::is_ok) && results[3].is_err(), "{results:?}");
    let root = world.active_root();
    let issuing = world.issuing(&root, 3, 15);
    let key = world.state.active_jwt_authority().unwrap().id.clone();
    let parts = || crate::world::sealed_to(&[2, 3]).parts;
    let results = world.all(vec![
        Operation::SetPlan(MembershipPlan { voters: 5, ..MembershipPlan::default() }),
        Operation::SetRecoveryKey { public_key: Some(Bytes::from_static(b"recovery key")) },
        Operation::SealX509Authority { id: root.id(), parts: parts() },
        Operation::SealJwtAuthority { id: key, parts: parts() },
        Operation::RecordIssuingCertificate(Box::new(issuing)),
        Operation::AnnounceMember {
            number: number(2),
            addresses: vec![],
            version: 2,
            build: "0.2.0".to_owned(),
            serves: quorate_raft_machine::MemberServices::default(),
        },
        Operation::SetMemberRole { number: number(2), role: MemberRole::Learner, pinned: true },
        Operation::StripSeals { number: number(2) },
        Operation::RemoveMember { number: number(3), compromised: true },
        Operation::CompleteRemoval { number: number(3) },
        Operation::RaiseEpoch,
        Operation::RaiseVersion { version: 2 },
        Operation::RaiseVersion { version: 1 },
    ]);
    let refused: Vec<usize> = (0..results.len()).filter(|place| results[*place].is_err()).collect();
    assert_eq!(refused, [11], "{results:?}");
    world.now += 3_600;
    world.one(Operation::PruneExpiredEntries).unwrap();
    let time = UnixMillis((world.now - 3_600) * 1_000);
    world.one(Operation::ResetTime { time }).unwrap();
    world
}

/// A history in which nearly everything happens, with refusals in between.
fn eventful() -> World {
    let mut world = crate::snapshots::rich();
    let (first, next) = (world.roots[0].clone(), world.roots[1].clone());
    let issuing = world.issuing(&next, 1, 15);
    let policy = Policy { refresh_hint: 12, ..crate::world::short_policy() };
    let hint = EntryChange { hint: Some("other".to_owned()), ..EntryChange::default() };
    let results = world.all(vec![
        Operation::PrepareJwtAuthority(Box::new(jwt_key("jwt-2", world.now, 120))),
        Operation::ActivateJwtAuthority { id: AuthorityId::new("jwt-2").unwrap() },
        Operation::TaintJwtAuthority { id: AuthorityId::new("jwt-1").unwrap() },
        Operation::RevokeJwtAuthority { id: AuthorityId::new("jwt-1").unwrap() },
        Operation::TaintX509Authority { id: first.id() },
        Operation::ActivateX509Authority { id: next.id(), issuing_certificates: vec![issuing] },
        Operation::TaintX509Authority { id: first.id() },
        Operation::RevokeX509Authority { id: first.id() },
        Operation::SetPolicy { policy, expected_revision: 7 },
        Operation::SetPolicy { policy, expected_revision: 1 },
    ]);
    let refused: Vec<usize> = (0..results.len()).filter(|place| results[*place].is_err()).collect();
    assert_eq!(refused, [4, 8], "{results:?}");
    world.now += 3;
    world.all(vec![
        create(draft("full", "/taken", &["unix:uid:9"])),
        create(draft("again", "/full", &["unix:gid:2", "unix:uid:1"])),
        create(draft("spire", "/spire/x", &["unix:uid:9"])),
        Operation::UpdateEntry { id: entry_id("child"), change: Box::new(hint) },
        Operation::DeleteEntry { id: entry_id("alias"), revoke: None },
        Operation::RevokeIssuingCertificate { member: number(1), serial: None },
    ]);
    world.now += 60;
    world.one(Operation::PruneExpiredEntries).unwrap();
    world.now -= 30;
    world.one(create(draft("late", "/late", &["unix:uid:9"]))).unwrap();
    world.now += 300;
    world.one(Operation::PruneAuthorities).unwrap();
    world
}

/// What every version must make of the history that version 1 wrote: its state hash after each command. A change that
/// breaks this would make members of mixed versions differ; new behaviour of `apply` is for a command in the log to
/// switch on.
#[test]
fn the_history_that_version_1_wrote_comes_to_the_hashes_it_came_to() {
    assert_eq!(replay(HISTORY_V1), 7);
    assert_eq!(replay(MEMBERS_HISTORY_V1), 8);
    assert_eq!(replay(REVOCATIONS_HISTORY_V1), 14);
}

/// Applies a history that was stored, and answers how many commands it has.
fn replay(history: &str) -> u64 {
    let mut state = State::new();
    // A command and a hash in turn, with an empty line after each.
    let mut parts = history.split("\n\n");
    let mut log_index = 0;
    while let (Some(command), Some(hash)) = (parts.next(), parts.next()) {
        log_index += 1;
        let command = Command::decode(unhex(command)).unwrap();
        state.apply(log_index, &command, &mut Vec::new());
        assert_eq!(state.state_hash().to_string(), hash.trim(), "after command {log_index}");
    }
    assert_eq!(quorate_raft_machine::invariants::violations(&state), []);
    log_index
}

/// Prints what goes into the files of a new version: `cargo test -p quorate-raft-machine print_ -- --ignored
/// --nocapture`.
#[test]
#[ignore = "prints the bytes that this version writes, for a new file"]
fn print_what_this_version_writes() {
    println!("command {}", hex(&every_operation().encode()));
    println!("batch {}", hex(&callers().encode()));
    let world = crate::snapshots::rich();
    println!("snapshot {}", hex(&world.state.view().chunks().flatten().collect::<Vec<u8>>()));
    println!("command-members {}", hex(&every_operation_on_members().encode()));
    let members = membership();
    println!("command-federation {}", hex(&every_operation_on_federation().encode()));
    println!("command-revocations {}", hex(&every_operation_on_revocations().encode()));
    let revoked = crate::crls::eventful();
    println!("snapshot-revocations {}", hex(&revoked.state.view().chunks().flatten().collect::<Vec<u8>>()));
    println!("snapshot-members {}", hex(&members.state.view().chunks().flatten().collect::<Vec<u8>>()));
    let worlds = [("history", eventful()), ("history-members", members), ("history-revocations", revoked)];
    for (name, world) in worlds {
        let mut state = State::new();
        for (log_index, command) in (1..).zip(world.applied) {
            state.apply(log_index, &Command::decode(command.clone()).unwrap(), &mut Vec::new());
            println!("{name} {}\n{name} {}", hex(&command), state.state_hash());
        }
    }
}

#[test]
fn damaged_bytes_are_refused_and_never_panic() {
    for command in [every_operation(), every_operation_on_members(), every_operation_on_revocations()] {
        damage(&command);
    }
    damage(&every_operation_on_federation());
}

fn damage(command: &Command) {
    let stored = command.encode();
    for length in 0..stored.len() {
        // Cut between two fields a message is whole again; then it is another command, never this one.
        assert_ne!(Command::decode(stored.slice(..length)).ok().as_ref(), Some(command));
    }
    for at in 0..stored.len() {
        for bit in 0..8 {
            let mut flipped = stored.to_vec();
            flipped[at] ^= 1 << bit;
            if let Ok(command) = Command::decode(flipped.into()) {
                let _ = command.encode();
            }
        }
    }
}

#[test]
fn what_a_newer_version_wrote_is_refused_with_what_to_do() {
    // Format 2, least version 1.
    let error = Command::decode(Bytes::from_static(&[0x08, 2, 0x10, 1])).unwrap_err();
    assert_eq!(error, StoredError::NewerFormat { format: 2, known: 1 });
    assert!(error.to_string().contains("upgrade this node"));
    // Format 1, a least version that nobody has yet, and an operation that is not known here.
    let error = Command::decode(Bytes::from_static(&[0x08, 1, 0x10, 99, 0x32, 2, 0xa0, 6])).unwrap_err();
    assert_eq!(error, StoredError::NeedsVersion { needed: 99, have: COMMAND_VERSION });
    assert!(error.to_string().contains("upgrade this node"));
    assert!(matches!(Command::decode(Bytes::new()), Err(StoredError::Missing { .. })));
}

#[test]
fn a_field_that_is_not_known_here_is_never_passed_over() {
    let stored = envelope(vec![Operation::DeleteEntry { id: entry_id("entry-1"), revoke: None }]).encode();
    assert!(Command::decode(stored.clone()).is_ok());
    // A field of the envelope, and one of the operation: number 100, the number 1.
    let added = [0xa0, 0x06, 0x01];
    let with_field = [&stored[..], &added].concat();
    assert_eq!(Command::decode(with_field.into()), Err(StoredError::NotUnderstood { what: "command" }));
    let batch = [&callers().encode()[..], &added].concat();
    assert_eq!(CommandBatch::decode(batch.into()), Err(StoredError::NotUnderstood { what: "batch of commands" }));
    let mut within = stored.to_vec();
    let length = within.len() - 10;
    assert_eq!(within[length..length + 2], [9, 0x22], "the operation is last: its length, then its only field");
    within[length] += 3;
    within.extend(added);
    assert_eq!(Command::decode(within.into()), Err(StoredError::NotUnderstood { what: "command" }));
}

#[test]
fn more_than_the_limits_is_refused() {
    let many = envelope(vec![Operation::PruneAuthorities; OPERATIONS_PER_COMMAND]);
    assert!(Command::decode(many.encode()).is_ok());
    let too_many = envelope(vec![Operation::PruneAuthorities; OPERATIONS_PER_COMMAND + 1]);
    assert!(matches!(Command::decode(too_many.encode()), Err(StoredError::TooMuch { .. })));
    let batch = CommandBatch { commands: vec![envelope(vec![]); COMMANDS_PER_BATCH + 1] };
    assert!(matches!(CommandBatch::decode(batch.encode()), Err(StoredError::TooMuch { .. })));
    let huge = Bytes::from(vec![0; COMMAND_BYTES_LIMIT + 1]);
    assert!(matches!(Command::decode(huge), Err(StoredError::TooMuch { .. })));
    let mut address = envelope(vec![]);
    address.caller.address = "x".repeat(257);
    assert!(matches!(Command::decode(address.encode()), Err(StoredError::TooMuch { .. })));
}

#[test]
fn a_batch_of_stored_commands_is_the_batch_of_the_commands() {
    let batch = callers();
    assert_eq!(CommandBatch::encode_commands(batch.commands.iter().map(Command::encode)), batch.encode());
}

#[test]
fn debug_output_of_sealed_keys_shows_no_sealed_bytes() {
    let shown = format!("{:?}", every_operation());
    assert!(shown.contains("SealedFor(member 1, 18 bytes)"), "{shown}");
    assert!(!shown.contains("sealed to member 1"), "{shown}");
}
