//! Random histories: every invariant after each step, and two members that never differ.

mod serving;

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use quorate_proto_identity::{EntryId, NodeName, UnixMillis, UnixSeconds};
use quorate_raft_machine::{
    Admission, AuthorityKind, AuthorityState, BundleFields, Command, CrlSet, Due, EntryChange, EntryDraft, EntryFilter,
    Event, ForeignDeletion, MemberRole, MembershipPlan, NewForeignBundle, NewInvitation, NodeScope, Operation, Policy,
    PollSettings, Publication, RelationshipChange, RevocationReason, RevocationTarget, SecretName, SetHow,
    SnapshotReader, State, due,
};

use crate::admission::{invitation, newcomer};
use crate::federation::{bundle, create_relationship, foreign};
use crate::world::{
    World, create, draft_under, entitled_by_reading, entry_id, id, jwt_key, member, number, sealed_to, selectors,
    serial, short_policy,
};

const PATHS: [&str; 6] = ["/a", "/b", "/c", "/a/b", "/alias", "/spire/x"];
const PARENTS: [&str; 7] = [
    "/spire/nodes",
    "/spire/agent/quorate/node-1",
    "/spire/agent/quorate/node-2",
    "/spire/server",
    "/a",
    "/b",
    "/alias",
];
const SELECTORS: [&str; 7] =
    ["unix:uid:1", "unix:uid:2", "unix:gid:1", "unix:gid:2", "unix:path:/x", "quorate:name:node-1", "quorate:zone:a"];

/// What workloads hold that are asked about after each step.
const HELD: [&[&str]; 4] =
    [&SELECTORS, &["unix:uid:1"], &["unix:uid:2", "unix:gid:1", "unix:gid:2"], &["unix:uid:2", "unix:none:1"]];

/// One step, in terms of choices; what it becomes depends on the state that it meets.
#[derive(Debug, Clone)]
enum Step {
    Create(Choice),
    Update(u8, Choice, u16),
    Delete(u8),
    PruneEntries,
    Wait(u8),
    PrepareX509,
    ActivateX509(u8, bool),
    TaintX509(u8),
    RevokeX509(u8),
    PrepareJwt,
    ActivateJwt(u8),
    TaintJwt(u8),
    RevokeJwt(u8),
    PruneAuthorities,
    WhatIsDue,
    Record(u8, i64),
    Fence(u8),
    Member(u8, u8),
    Policy(u32),
    Repeat(u8),
    Restore,
    PruneRevocations,
    Revocation(RevocationStep),
    Mark(u8, bool),
    Anchor(u8),
    Federation(u8, u8),
    Access(u8, u8),
    Web(u8, u8),
    Published(u8),
}

/// One step of revocation.
#[derive(Debug, Clone)]
enum RevocationStep {
    Revoke(u8, u8, bool),
    Remove(u8),
    DeleteAndRevoke(u8),
    IssuerCrl(u8, u8),
    RootCrl,
    RevokeKey(u8),
    ActivateKey(u8),
}

/// The fields of an entry.
#[derive(Debug, Clone)]
struct Choice {
    id: u8,
    path: u8,
    parent: u8,
    selectors: u8,
    ttl: u32,
    ends_in: Option<u8>,
    bits: u8,
}

fn choice() -> impl Strategy<Value = Choice> {
    (0..20_u8, 0..6_u8, 0..7_u8, 0..128_u8, prop_oneof![Just(0), 2..4_u32], proptest::option::of(0..40_u8), any::<u8>())
        .prop_map(|(id, path, parent, selectors, ttl, ends_in, bits)| Choice {
            id,
            path,
            parent,
            selectors,
            ttl,
            ends_in,
            bits,
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => choice().prop_map(Step::Create),
        8 => (0..20_u8, choice(), any::<u16>()).prop_map(|(id, choice, mask)| Step::Update(id, choice, mask)),
        6 => (0..20_u8).prop_map(Step::Delete),
        1 => Just(Step::PruneEntries),
        3 => (0..30_u8).prop_map(Step::Wait),
        2 => Just(Step::PrepareX509),
        2 => (0..3_u8, any::<bool>()).prop_map(|(pick, issuing)| Step::ActivateX509(pick, issuing)),
        1 => (0..3_u8).prop_map(Step::TaintX509),
        1 => (0..3_u8).prop_map(Step::RevokeX509),
        2 => Just(Step::PrepareJwt),
        2 => (0..3_u8).prop_map(Step::ActivateJwt),
        1 => (0..3_u8).prop_map(Step::TaintJwt),
        1 => (0..3_u8).prop_map(Step::RevokeJwt),
        1 => Just(Step::PruneAuthorities),
        3 => Just(Step::WhatIsDue),
        3 => (1..4_u8, 1..25_i64).prop_map(|(member, life)| Step::Record(member, life)),
        1 => (1..4_u8).prop_map(Step::Fence),
        10 => (0..4_u8, any::<u8>()).prop_map(|(member, bits)| Step::Member(member, bits)),
        1 => (1..40_u32).prop_map(Step::Policy),
        3 => (0..8_u8).prop_map(Step::Repeat),
        2 => Just(Step::Restore),
        16 => revocation_step().prop_map(Step::Revocation),
        1 => Just(Step::PruneRevocations),
        1 => (0..3_u8, any::<bool>()).prop_map(|(pick, compromised)| Step::Mark(pick, compromised)),
        1 => (1..4_u8).prop_map(Step::Anchor),
        5 => (any::<u8>(), any::<u8>()).prop_map(|(pick, bits)| Step::Federation(pick, bits)),
        5 => (any::<u8>(), any::<u8>()).prop_map(|(pick, bits)| Step::Access(pick, bits)),
        8 => (any::<u8>(), any::<u8>()).prop_map(|(pick, bits)| Step::Web(pick, bits)),
        1 => any::<u8>().prop_map(Step::Published),
    ]
}

fn revocation_step() -> impl Strategy<Value = RevocationStep> {
    prop_oneof![
        4 => (0..6_u8, 0..6_u8, any::<bool>()).prop_map(|(kind, pick, ban)| RevocationStep::Revoke(kind, pick, ban)),
        1 => (0..6_u8).prop_map(RevocationStep::Remove),
        2 => (0..20_u8).prop_map(RevocationStep::DeleteAndRevoke),
        4 => (0..8_u8, 0..4_u8).prop_map(|(pick, count)| RevocationStep::IssuerCrl(pick, count)),
        2 => Just(RevocationStep::RootCrl),
        2 => (0..8_u8).prop_map(RevocationStep::RevokeKey),
        2 => (0..8_u8).prop_map(RevocationStep::ActivateKey),
    ]
}

fn drafted(world: &World, choice: &Choice) -> EntryDraft {
    let held: Vec<&str> = (0..7).filter(|bit| choice.selectors >> bit & 1 == 1).map(|bit| SELECTORS[bit]).collect();
    let entry = format!("entry-{}", choice.id);
    let mut drafted = draft_under(PARENTS[usize::from(choice.parent)], &entry, PATHS[usize::from(choice.path)], &held);
    drafted.x509_svid_ttl = choice.ttl;
    drafted.expires_at = choice.ends_in.map(|seconds| UnixSeconds(world.now + i64::from(seconds)));
    drafted.admin = choice.bits & 1 != 0;
    drafted.downstream = choice.bits & 2 != 0;
    drafted.store_svid = choice.bits & 4 != 0;
    drafted.crl_per_domain = choice.bits & 32 != 0;
    drafted.hint = if choice.bits & 8 != 0 { "hint".to_owned() } else { String::new() };
    drafted.dns_names = if choice.bits & 16 != 0 { vec!["a.example.org".to_owned()] } else { vec![] };
    drafted
}

fn change(drafted: EntryDraft, mask: u16) -> EntryChange {
    let all = EntryChange::everything(drafted);
    let has = |bit: u16| mask >> bit & 1 == 1;
    EntryChange {
        spiffe_id: all.spiffe_id.filter(|_| has(0)),
        parent_id: all.parent_id.filter(|_| has(1)),
        selectors: all.selectors.filter(|_| has(2)),
        x509_svid_ttl: all.x509_svid_ttl.filter(|_| has(3)),
        jwt_svid_ttl: all.jwt_svid_ttl.filter(|_| has(4)),
        federates_with: all.federates_with.filter(|_| has(5)),
        admin: all.admin.filter(|_| has(6)),
        downstream: all.downstream.filter(|_| has(7)),
        expires_at: all.expires_at.filter(|_| has(8)),
        dns_names: all.dns_names.filter(|_| has(9)),
        store_svid: all.store_svid.filter(|_| has(10)),
        hint: all.hint.filter(|_| has(11)),
        additional_attributes: all.additional_attributes.filter(|_| has(12)),
        crl_per_domain: has(13).then_some(mask & 1 == 1),
    }
}

/// The operations that a step becomes.
fn operations(world: &mut World, step: &Step) -> Vec<Operation> {
    let pick_root = |world: &World, pick: u8| {
        let roots: Vec<_> = world.state.x509_authorities().map(|root| root.id.clone()).collect();
        roots[usize::from(pick) % roots.len()].clone()
    };
    let pick_key = |world: &World, pick: u8| {
        let keys: Vec<_> = world.state.jwt_authorities().map(|key| key.id.clone()).collect();
        keys[usize::from(pick) % keys.len()].clone()
    };
    match step {
        Step::Create(choice) => vec![create(drafted(world, choice))],
        Step::Update(entry, choice, mask) => vec![Operation::UpdateEntry {
            id: entry_id(&format!("entry-{entry}")),
            change: Box::new(change(drafted(world, choice), *mask)),
        }],
        Step::Delete(entry) => vec![Operation::DeleteEntry { id: entry_id(&format!("entry-{entry}")), revoke: None }],
        Step::PruneEntries => vec![Operation::PruneExpiredEntries],
        Step::Wait(_) | Step::Repeat(_) | Step::Restore => vec![],
        Step::PrepareX509 => vec![Operation::PrepareX509Authority(Box::new(world.root(120).new))],
        Step::ActivateX509(pick, with_issuing) => {
            let id = pick_root(world, *pick);
            let root = world.root_with(&id);
            let has_ended = root.certificate.validity().not_after() < world.seconds();
            let issuing_certificates =
                if *with_issuing && !has_ended { vec![world.issuing(&root, 1, 15)] } else { vec![] };
            vec![Operation::ActivateX509Authority { id, issuing_certificates }]
        }
        Step::TaintX509(pick) => vec![Operation::TaintX509Authority { id: pick_root(world, *pick) }],
        Step::RevokeX509(pick) => vec![Operation::RevokeX509Authority { id: pick_root(world, *pick) }],
        Step::PrepareJwt => {
            let name = format!("kid-{}", world.sequence);
            vec![Operation::PrepareJwtAuthority(Box::new(jwt_key(&name, world.now, 120)))]
        }
        Step::ActivateJwt(pick) => vec![Operation::ActivateJwtAuthority { id: pick_key(world, *pick) }],
        Step::TaintJwt(pick) => vec![Operation::TaintJwtAuthority { id: pick_key(world, *pick) }],
        Step::RevokeJwt(pick) => vec![Operation::RevokeJwtAuthority { id: pick_key(world, *pick) }],
        Step::PruneAuthorities => vec![Operation::PruneAuthorities],
        Step::PruneRevocations => vec![Operation::PruneRevocations],
        Step::Revocation(step) => revocation(world, step).into_iter().collect(),
        Step::Mark(pick, compromised) => {
            let id = pick_root(world, *pick);
            vec![Operation::MarkAuthority { kind: AuthorityKind::X509, id, compromised: *compromised }]
        }
        Step::Federation(pick, bits) => vec![federation_step(world, *pick, *bits)],
        Step::Access(pick, bits) => vec![serving::access_step(world, *pick, *bits)],
        Step::Web(pick, bits) => vec![serving::web_step(world, *pick, *bits)],
        Step::Published(bits) => vec![serving::mark_published(world, *bits)],
        Step::Anchor(of) => vec![Operation::AnchorAudit {
            member: number(u64::from(*of)),
            records: world.sequence,
            index: world.log_index,
            hash: [*of; 32],
        }],
        Step::WhatIsDue => what_is_due(world),
        Step::Record(of, life) => {
            let root = world.active_root();
            let room = root.certificate.validity().not_after().since(world.seconds()).clamp(0, *life);
            if room == 0 {
                return vec![];
            }
            vec![Operation::RecordIssuingCertificate(Box::new(world.issuing(&root, u64::from(*of), room)))]
        }
        Step::Fence(of) => {
            vec![Operation::RevokeIssuingCertificate { member: number(u64::from(*of)), serial: None }]
        }
        Step::Member(of, bits) => vec![member_step(world, *of, *bits)],
        Step::Policy(issuing_lifetime) => vec![Operation::SetPolicy {
            policy: Policy {
                issuing_lifetime: *issuing_lifetime,
                x509_svid_lifetime: 2,
                publication: [Publication::Hints, Publication::ConfirmedByPeers]
                    [usize::from(issuing_lifetime & 1 == 1)],
                ..short_policy()
            },
            expected_revision: 0,
        }],
    }
}

/// The operation that a step of revocation becomes, if there is what it is about. CRLs are signed by the keys that the world has made.
fn revocation(world: &mut World, step: &RevocationStep) -> Option<Operation> {
    match step {
        RevocationStep::Revoke(kind, pick, ban) => {
            let target = match kind {
                0 => RevocationTarget::Serial { serial: serial(u64::from(*pick) + 7_000) },
                1 | 2 => RevocationTarget::SpiffeId(id(PATHS[usize::from(*pick)])),
                3 => RevocationTarget::Entry(entry_id(&format!("entry-{pick}"))),
                4 => RevocationTarget::Node(number(u64::from(pick % 4) + 1)),
                _ => RevocationTarget::Jti {
                    jti: format!("jti-{pick}"),
                    expires_at: world.seconds().plus(i64::from(*pick)),
                },
            };
            Some(crate::revocation::revoke(target, *ban))
        }
        RevocationStep::Remove(back) => Some(Operation::RemoveRevocation {
            number: world.state.last_revocation_number().saturating_sub((*back).into()),
        }),
        RevocationStep::DeleteAndRevoke(entry) => Some(Operation::DeleteEntry {
            id: entry_id(&format!("entry-{entry}")),
            revoke: Some(RevocationReason::Superseded),
        }),
        RevocationStep::IssuerCrl(pick, count) => world.next_issuer_crl(usize::from(*pick), u64::from(*count)),
        RevocationStep::RootCrl => {
            let root = world.active_root();
            let crl = world.next_root_crl(&root, &[]);
            Some(Operation::RecordCrl(Box::new(crl)))
        }
        RevocationStep::RevokeKey(pick) => {
            let key = nth(world.state.issuing_keys().map(|key| key.id.clone()), *pick)?;
            let roots: BTreeSet<_> = world.state.certificates_of(&key).map(|issuing| issuing.issuer.clone()).collect();
            let serials: Vec<_> = world.state.certificates_of(&key).map(|issuing| issuing.serial).collect();
            let in_bundle = |id: &quorate_proto_identity::AuthorityId| {
                world.state.x509_authority(id).is_some_and(|root| root.state.in_bundle())
            };
            let roots: Vec<_> = roots.into_iter().filter(in_bundle).map(|id| world.root_with(&id)).collect();
            let root_crls = roots.iter().map(|root| world.next_root_crl(root, &serials)).collect();
            Some(Operation::RevokeIssuingKeys { keys: vec![key], reason: RevocationReason::Superseded, root_crls })
        }
        RevocationStep::ActivateKey(pick) => {
            let key = nth(world.state.issuing_keys().map(|key| key.id.clone()), *pick)?;
            Some(Operation::ActivateIssuingKey { key })
        }
    }
}

fn nth<T>(items: impl Iterator<Item = T>, pick: u8) -> Option<T> {
    let items: Vec<T> = items.collect();
    let place = usize::from(pick).checked_rem(items.len())?;
    items.into_iter().nth(place)
}

/// One step of federation. Trust domains and names are few, so that they meet again.
fn federation_step(world: &World, pick: u8, bits: u8) -> Operation {
    let trust_domain = foreign(["a.example", "b.example", "c.example"][usize::from(bits % 3)]);
    let name = SecretName::of_relationship(&trust_domain, ["key", "oauth"][usize::from(bits / 4 % 2)]).unwrap();
    let (sequence, one) = (Some(u64::from(bits / 8)).filter(|sequence| *sequence > 2), u64::from(bits % 4) + 1);
    let relationship_revision = world.state.relationship(&trust_domain).map_or(1, |known| known.revision);
    let how = match bits / 16 % 8 {
        0 => SetHow::Create,
        1 => SetHow::Update(BundleFields {
            x509_authorities: bits & 1 == 0,
            jwt_authorities: bits & 2 == 0,
            refresh_hint: bits & 4 == 0,
            sequence: bits & 8 == 0,
        }),
        2 => SetHow::Set,
        3 => SetHow::Fetched { relationship_revision, accept_older: true },
        _ => SetHow::Fetched { relationship_revision, accept_older: false },
    };
    let mode = [ForeignDeletion::Restrict, ForeignDeletion::Delete, ForeignDeletion::Dissociate];
    match pick % 10 {
        0 | 1 => create_relationship(&trust_domain),
        2 => Operation::UpdateRelationship {
            trust_domain,
            change: Box::new(RelationshipChange {
                poll: Some(PollSettings { floor: u32::from(bits), ..PollSettings::default() }),
                ..RelationshipChange::default()
            }),
            expected_revision: 0,
        },
        3 => Operation::DeleteRelationship { trust_domain },
        4 | 5 => {
            Operation::SetForeignBundle(Box::new(NewForeignBundle { bundle: bundle(&trust_domain, sequence), how }))
        }
        6 => Operation::DeleteForeignBundle { trust_domain, mode: mode[usize::from(bits / 16 % 3)] },
        7 => Operation::PutSecret { name, sealed: sealed_to(&[one]) },
        8 if bits & 1 == 0 => Operation::DeleteSecret { name },
        8 => {
            let revision = world.state.secret(&name).map_or(1, |known| known.revision);
            Operation::SealSecret { name, revision, parts: sealed_to(&[one, one + 1]).parts }
        }
        _ => create({
            let mut draft = draft_under("/spire/nodes", &format!("f{}", bits % 16), "/federated", &["unix:uid:1"]);
            draft.spiffe_id = id(&format!("/federated/{}", bits % 16));
            draft.federates_with = [trust_domain].into();
            draft
        }),
    }
}

/// One step in the life of the membership. Newcomers and secrets are few, so that they meet again.
fn member_step(world: &World, of: u8, bits: u8) -> Operation {
    let of = u64::from(of % 4) + 1;
    let (name, pick) = (format!("node-{}", bits % 4), bits / 16);
    let role = if bits & 1 == 0 { MemberRole::Voter } else { MemberRole::Learner };
    match pick {
        0 => Operation::SetMember { number: None, member: Box::new(member(&name)) },
        1 | 2 => Operation::CreateInvitation(Box::new(NewInvitation {
            role: Some(role).filter(|_| pick == 1),
            ..invitation(world, bits % 3, &name)
        })),
        3..=5 => Operation::AdmitMember(Box::new(Admission {
            // The same key, and mostly the same directory, whenever a name comes.
            identity_key: KEYS.with(|keys| keys[usize::from(bits % 4)].clone()),
            incarnation: [if pick == 5 { bits } else { 1 }; 16],
            ..newcomer(bits % 3, &name)
        })),
        6 => Operation::RemoveMember { number: number(of), compromised: bits & 1 == 0 },
        7 => Operation::CompleteRemoval { number: number(of) },
        8 => Operation::SetMemberRole { number: number(of), role, pinned: bits & 2 == 0 },
        9 => Operation::StripSeals { number: number(of) },
        10 => Operation::SealX509Authority { id: world.active_root().id(), parts: sealed_to(&[of]).parts },
        11 => {
            let id = world.state.active_jwt_authority().unwrap().id.clone();
            Operation::SealJwtAuthority { id, parts: sealed_to(&[of]).parts }
        }
        12 => Operation::SetRecoveryKey { public_key: (bits & 1 == 0).then(|| vec![bits & 2; 4].into()) },
        13 => serving::announce(of, &NodeName::new(&name).unwrap(), bits),
        14 => Operation::SetPlan(MembershipPlan { voters: u32::from(bits % 8), ..MembershipPlan::default() }),
        _ => match bits % 4 {
            0 => Operation::RaiseEpoch,
            1 => Operation::RaiseVersion { version: 1 },
            2 => Operation::DeleteInvitation { name: NodeName::new(&name).unwrap() },
            _ => Operation::ResetTime { time: UnixMillis(world.now * 1_000) },
        },
    }
}

thread_local! {
    /// Identity keys of newcomers.
    static KEYS: [Bytes; 4] = [0, 1, 2, 3].map(|n| newcomer(n, "n").identity_key);
}

/// What a leader does about everything that is due.
fn what_is_due(world: &mut World) -> Vec<Operation> {
    let steps = due(&world.state, world.seconds());
    steps
        .into_iter()
        .map(|step| match step {
            Due::Prepare { kind: AuthorityKind::X509 } => {
                Operation::PrepareX509Authority(Box::new(world.root(120).new))
            }
            Due::Activate { kind: AuthorityKind::X509, id } => {
                let root = world.root_with(&id);
                let issuing = vec![world.issuing(&root, 1, 15)];
                Operation::ActivateX509Authority { id, issuing_certificates: issuing }
            }
            Due::Prepare { kind: AuthorityKind::Jwt } => {
                let name = format!("due-{}", world.sequence);
                Operation::PrepareJwtAuthority(Box::new(jwt_key(&name, world.now, 120)))
            }
            Due::Activate { kind: AuthorityKind::Jwt, id } => Operation::ActivateJwtAuthority { id },
            Due::Publish { kind, id } => Operation::MarkPublished { kind, id, confirmed: false },
            Due::Confirm { kind, id } => Operation::MarkPublished { kind, id, confirmed: true },
            Due::Taint { kind: AuthorityKind::X509, id } => Operation::TaintX509Authority { id },
            Due::Taint { kind: AuthorityKind::Jwt, id } => Operation::TaintJwtAuthority { id },
            Due::Revoke { kind: AuthorityKind::X509, id } => Operation::RevokeX509Authority { id },
            Due::Revoke { kind: AuthorityKind::Jwt, id } => Operation::RevokeJwtAuthority { id },
            Due::PruneAuthorities => Operation::PruneAuthorities,
            Due::PruneExpiredEntries => Operation::PruneExpiredEntries,
        })
        .collect()
}

fn restored(state: &State) -> State {
    let mut reader = SnapshotReader::new();
    for chunk in state.view().chunks() {
        reader.push(&chunk).unwrap();
    }
    reader.finish().unwrap()
}

/// What must hold between one state and the next.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Default)]
struct Marks {
    time: i64,
    next_creation_number: u64,
    next_member_number: u64,
    next_revocation_number: u64,
    spiffe_sequence: u64,
    foreign_version: u64,
    federation_revision: u64,
}

fn marks(state: &State) -> Marks {
    let counters = state.counters();
    Marks {
        time: counters.time.0,
        next_creation_number: counters.next_creation_number,
        next_member_number: counters.next_member_number,
        next_revocation_number: counters.next_revocation_number,
        spiffe_sequence: counters.spiffe_sequence,
        foreign_version: counters.foreign_version,
        federation_revision: counters.federation_revision,
    }
}

fn check_progress(before: &Marks, after: &Marks, events: &[Event]) {
    let is_reset = events.iter().any(|event| matches!(event, Event::TimeReset { .. }));
    assert!(before.time <= after.time || is_reset);
    assert!(before.next_creation_number <= after.next_creation_number);
    assert!(before.next_member_number <= after.next_member_number);
    assert!(before.next_revocation_number <= after.next_revocation_number);
    assert!(before.foreign_version <= after.foreign_version);
    assert!(before.federation_revision <= after.federation_revision);
    assert!(
        [before.spiffe_sequence, before.spiffe_sequence + 1].contains(&after.spiffe_sequence),
        "{before:?} {after:?}"
    );
}

/// That the bundle's sequence counts up just when its content changes.
fn check_bundle(before: &quorate_raft_machine::BundleContent, state: &State) {
    let after = state.bundle();
    let content = |bundle: &quorate_raft_machine::BundleContent| {
        (bundle.x509_authorities.clone(), bundle.jwt_authorities.clone(), bundle.refresh_hint)
    };
    assert_eq!(content(before) == content(&after), before.sequence == after.sequence);
}

/// That lookups say what reading every entry says, for a scope that is asked for the first time as for one that is kept
/// from the first step to the last.
fn check_lookups(world: &World, kept: &NodeScope) {
    let fresh = world.scope(1);
    for (scope, held) in [kept, &fresh].into_iter().flat_map(|scope| HELD.map(|held| (scope, held))) {
        let held = selectors(held);
        let entitled = world.state.entitled(scope, &held, world.seconds(), usize::MAX).entitlements;
        let found: Vec<EntryId> = entitled.into_iter().map(|entitlement| entitlement.entry_id).collect();
        assert_eq!(found, entitled_by_reading(&world.state, scope, &held, world.seconds()));
    }
    for path in ["/a", "/spire/nodes", "/spire/server"] {
        let filter = EntryFilter { parent_id: Some(id(path)), ..EntryFilter::default() };
        let all = world.state.list(&EntryFilter::default(), 0, usize::MAX);
        let expected: Vec<_> = all.into_iter().filter(|entry| filter.lets_through(entry)).collect();
        assert_eq!(world.state.list(&filter, 0, usize::MAX), expected);
    }
}

/// That whatever came into the node's scope or left it, and was not changed itself, was announced.
fn check_scopes(before: &[EntryId], after: &[EntryId], events: &[Event]) {
    let changed =
        |id: &EntryId| events.iter().any(|event| matches!(event, Event::EntryChanged { id: of, .. } if of == id));
    let differs = |one: &[EntryId], other: &[EntryId]| one.iter().any(|id| !other.contains(id) && !changed(id));
    if differs(before, after) || differs(after, before) {
        assert!(events.contains(&Event::ScopesChanged), "{before:?} became {after:?}: {events:?}");
    }
}

/// That streams are told of each change of what they are handed, and of nothing else.
fn check_crl_events(before: &Option<std::sync::Arc<CrlSet>>, state: &State, events: &[Event]) {
    let after = state.crl_set();
    let is_told = events.contains(&Event::CrlSetChanged);
    assert!(*before == after || is_told, "{events:?}");
    let switched = events.iter().any(|event| matches!(event, Event::CrlsSwitched { on } if *on == after.is_some()));
    assert_eq!(before.is_some() != after.is_some(), switched, "{events:?}");
}

/// That the events of a command say everything that happened to entries, and nothing else.
fn check_events(before: &[std::sync::Arc<quorate_raft_machine::Entry>], state: &State, events: &[Event]) {
    let mut entries: std::collections::BTreeMap<EntryId, _> =
        before.iter().map(|entry| (entry.id.clone(), entry.clone())).collect();
    for event in events {
        if let Event::EntryChanged { id, before, after } = event {
            assert_eq!(entries.get(id), before.as_ref());
            match after {
                Some(after) => entries.insert(id.clone(), after.clone()),
                None => entries.remove(id),
            };
        }
    }
    let after = state.list(&EntryFilter::default(), 0, usize::MAX);
    let expected: std::collections::BTreeMap<EntryId, _> =
        after.iter().map(|entry| (entry.id.clone(), entry.clone())).collect();
    assert_eq!(entries, expected);
}

fn run(steps: &[Vec<Step>]) {
    let mut world = World::founded();
    let mut other = restored(&world.state);
    let scope = world.scope(1);
    let mut history: Vec<(Command, quorate_raft_machine::Outcome)> = Vec::new();
    let mut revoked = BTreeSet::new();
    for group in steps {
        for step in group {
            if let Step::Wait(seconds) = step {
                world.now += i64::from(*seconds);
            }
            if matches!(step, Step::Restore) {
                other = restored(&other);
            }
        }
        let wanted: Vec<Operation> = group.iter().flat_map(|step| operations(&mut world, step)).collect();
        let repeated = group.iter().find_map(|step| {
            let Step::Repeat(back) = step else { return None };
            history.iter().rev().nth(usize::from(*back)).cloned()
        });
        let (before, bundle) = (marks(&world.state), world.state.bundle());
        let crls = world.state.crl_set();
        let entries = world.state.list(&EntryFilter::default(), 0, usize::MAX);
        let web_domains: Vec<_> = world.state.web_domains().cloned().collect();
        world.take_events();
        // Every selector that an entry can have is held: what entitles is what is in scope.
        let all = selectors(&SELECTORS);
        let in_scope = entitled_by_reading(&world.state, &scope, &all, world.seconds());
        let command = match &repeated {
            Some((command, _)) => command.clone(),
            None => {
                let mut command = world.command(wanted);
                command.origin.acknowledged = world.sequence.saturating_sub(20);
                command
            }
        };
        let outcome = world.apply(&command);
        if let Some((_, first)) = repeated {
            assert_eq!(outcome, first, "a repeat gets the outcome of the first time");
        } else {
            history.push((command.clone(), outcome.clone()));
        }

        let mut other_events = Vec::new();
        let other_outcome = other.apply(world.log_index, &command, &mut other_events);
        assert_eq!(other_outcome, outcome, "a restored state decides the same");
        assert_eq!(other.state_hash(), world.state.state_hash(), "and comes to the same hash");
        assert_eq!(other.crl_set(), world.state.crl_set(), "and hands out the same CRLs");
        check_crl_events(&crls, &world.state, &world.events);
        check_progress(&before, &marks(&world.state), &world.events);
        check_bundle(&bundle, &world.state);
        if !command.operations.iter().any(|operation| matches!(operation, Operation::PutSecret { .. })) {
            serving::check_web_keys(&web_domains, &world);
        }
        check_lookups(&world, &scope);
        check_events(&entries, &world.state, &world.events);
        check_scopes(&in_scope, &entitled_by_reading(&world.state, &scope, &all, world.seconds()), &world.events);
        revoked.extend(
            world
                .state
                .x509_authorities()
                .filter(|root| root.state == AuthorityState::Revoked)
                .map(|root| root.id.clone()),
        );
        assert!(world.state.bundle().x509_authorities.iter().all(|root| !revoked.contains(&root.id)));
    }
    assert_eq!(restored(&world.state).state_hash(), world.state.state_hash());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_invariant_holds_after_every_step_and_a_restored_member_never_differs(
        steps in prop::collection::vec(prop::collection::vec(step(), 1..4), 1..50)
    ) {
        run(&steps);
    }
}
