//! A backup becomes the first state of a new cluster (FLT-26), on a disk that is cut off at any step.

use std::sync::Arc;

use bytes::Bytes;
use quorate_proto_identity::x509::{AuthorityTemplate, CrlTemplate, build_crl, build_root};
use quorate_proto_identity::{ClusterId, KeyType, MemberNumber, PrivateKey, SerialNumber, UnixMillis};
use quorate_raft_consensus::{Restoration, RestoreError, restore};
use quorate_raft_machine::restore::{Restore, RestoredRoot, RestoredTokenKey, restore_floor};
use quorate_raft_machine::{
    Caller, Command, MemberDraft, Operation, Origin, Recipient, Sealed, SealedFor, SnapshotReader, State,
};
use quorate_raft_store::disk::{Disk, PowerLoss, SimulatedDisk};
use quorate_raft_store::{
    directory::{NodeDirectory, Stage},
    log::WalOptions,
};

use crate::support::{
    DATA_DIR, NOW, PATIENCE, ROOT, TestNode, config, create, eventually, found_operation, member_node,
};

/// Where the log of the lost cluster had come to.
const LOG_INDEX: u64 = 4_711;

/// The number that the restored member gets, after that of the lost cluster.
const RESTORED: u64 = 2;

/// The state of a cluster that is lost, and what restores it.
fn lost() -> (State, Operation) {
    let root_key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let mut found = found_operation(ClusterId::new([1; 16]));
    let Operation::Found(founding) = &mut found else { panic!("it founds") };
    let end = NOW.plus(i64::from(founding.policy.root_lifetime));
    let crl = |number, at| {
        let template = CrlTemplate { this_update: at, next_update: end, number, revoked: &[] };
        Bytes::from(build_crl(&template, &root_key).unwrap())
    };
    let template = AuthorityTemplate {
        trust_domain: &founding.trust_domain,
        serial: SerialNumber::new([1; 16]).unwrap(),
        validity: quorate_proto_identity::Validity::new(NOW, end).unwrap(),
    };
    let certificate = build_root(&template, &root_key).unwrap();
    founding.x509_authority.certificate = Bytes::copy_from_slice(certificate.der());
    founding.x509_authority.crl = crl(1, NOW);
    let member = MemberDraft { incarnation: Some([7; 16]), ..founding.member.clone() };
    let command = Command {
        origin: Origin { node: 1, boot: 1, sequence: 1, acknowledged: 0 },
        caller: Caller::node(),
        time: NOW.millis(),
        operations: vec![found, create("kept")],
    };
    let mut state = State::new();
    let outcome = state.apply(LOG_INDEX, &command, &mut Vec::new());
    assert!(outcome.results.iter().all(Result::is_ok), "{outcome:?}");
    let floor = restore_floor(&state, later()).unwrap();
    let number = MemberNumber::new(RESTORED).unwrap();
    let sealed = || Sealed {
        suite: 1,
        parts: vec![SealedFor {
            recipient: Recipient::Member(number),
            encapsulated_key: Bytes::from_static(b"encapsulated"),
            ciphertext: Bytes::from_static(b"sealed"),
        }],
    };
    let restore = Restore {
        cluster_id: ClusterId::new([2; 16]),
        number,
        member,
        floor,
        roots: vec![RestoredRoot { id: certificate.authority_id(), crl: crl(floor, NOW.plus(60)), sealed: sealed() }],
        token_keys: state
            .jwt_authorities()
            .map(|key| RestoredTokenKey { id: key.id.clone(), sealed: sealed() })
            .collect(),
        secrets: Vec::new(),
    };
    (state, Operation::Restore(Box::new(restore)))
}

fn later() -> UnixMillis {
    NOW.plus(60).millis()
}

fn restoration((state, operation): (State, Operation)) -> Restoration {
    Restoration {
        state,
        log_index: LOG_INDEX,
        operation,
        cluster: ClusterId::new([2; 16]),
        member: MemberNumber::new(RESTORED).unwrap(),
        node: member_node(),
        time: later(),
        caller: Caller::node(),
        boot: 99,
    }
}

fn open(disk: &SimulatedDisk) -> NodeDirectory {
    NodeDirectory::open(Arc::new(disk.clone()), DATA_DIR.as_ref()).unwrap()
}

/// The same state again: a state is not cloned, it is written and read.
fn again(state: &State) -> State {
    let mut reader = SnapshotReader::new();
    state.view().chunks().for_each(|chunk| reader.push(&chunk).unwrap());
    reader.finish().unwrap()
}

#[tokio::test]
async fn a_restored_member_elects_itself_and_has_what_was_backed_up() {
    let disk = SimulatedDisk::new(ROOT);
    let mut directory = open(&disk);
    let restored = restore(&mut directory, WalOptions::default(), restoration(lost()), |_bytes| {}).unwrap();
    assert_eq!(restored.log_index, LOG_INDEX + 1);
    assert!(matches!(directory.stage(), Stage::Member(identity) if identity.member == RESTORED));
    drop(directory);

    let node = TestNode::start_led(disk, config()).await;
    assert!(node.has("kept"));
    let (cluster, sequence) =
        node.handle.state().read(|state| (state.cluster().unwrap().id, state.counters().spiffe_sequence));
    assert_eq!((Some(cluster), sequence), (node.handle.cluster(), restored.sequence));
    assert!(node.create("new").await.log_index > restored.log_index);
    let node = node.restart(config()).await;
    assert!(node.has("kept") && node.has("new"));
    eventually("nothing of the old members is left", || node.handle.state().read(|state| state.members().count() == 1))
        .await;
    assert!(node.handle.wait_for_leadership(PATIENCE).await);
}

/// What is committed is applied before anybody can look.
#[tokio::test]
async fn nobody_ever_sees_the_state_as_it_was_in_the_backup() {
    let disk = SimulatedDisk::new(ROOT);
    let mut directory = open(&disk);
    restore(&mut directory, WalOptions::default(), restoration(lost()), |_bytes| {}).unwrap();
    drop(directory);
    let node = TestNode::start(disk, config()).await;
    let cluster = node.handle.state().read(|state| state.cluster().unwrap().id);
    assert_eq!(cluster, ClusterId::new([2; 16]));
}

#[test]
fn a_crash_at_any_step_leaves_an_empty_directory_or_a_restored_one() {
    let (state, operation) = lost();
    let (mut empty, mut restored) = (0, 0);
    for steps in 0.. {
        let disk = SimulatedDisk::new(ROOT);
        let mut directory = open(&disk);
        disk.stop_after(steps);
        let done =
            restore(&mut directory, WalOptions::default(), restoration((again(&state), operation.clone())), |_| {});
        drop(directory);
        for (seed, kind) in (0..).zip(PowerLoss::ALL) {
            let disk = disk.after_power_loss(kind, seed);
            let directory = open(&disk);
            let names = |path: std::path::PathBuf| disk.list(&path).unwrap_or_default();
            match directory.stage() {
                Stage::Empty => {
                    assert!(done.is_err(), "step {steps}, {kind:?}");
                    assert!(names(directory.log_directory()).is_empty(), "step {steps}, {kind:?}");
                    assert!(names(directory.snapshot_directory()).is_empty(), "step {steps}, {kind:?}");
                    empty += 1;
                }
                Stage::Member(_) => restored += 1,
                stage @ (Stage::Founding(_) | Stage::Joining(_) | Stage::Restoring(_)) => {
                    panic!("step {steps}, {kind:?}: {stage}")
                }
            }
        }
        if done.is_ok() {
            break;
        }
    }
    assert!(empty > 50 && restored > 5, "{empty} and {restored}: the disk was not cut off where it matters");
}

#[test]
fn a_full_disk_is_told_and_leaves_an_empty_directory() {
    let disk = SimulatedDisk::new(ROOT);
    let mut directory = open(&disk);
    disk.set_capacity(Some(600));
    let failed = restore(&mut directory, WalOptions::default(), restoration(lost()), |_bytes| {}).unwrap_err();
    assert!(crate::support::with_causes(&failed).contains("space"), "{}", crate::support::with_causes(&failed));
    drop(directory);
    disk.set_capacity(None);
    assert_eq!(open(&disk).stage(), Stage::Empty);
}

#[test]
fn nothing_is_restored_where_somebody_lives() {
    let disk = SimulatedDisk::new(ROOT);
    let mut directory = open(&disk);
    directory.advance(Stage::Joining([1; 16])).unwrap();
    let refused = restore(&mut directory, WalOptions::default(), restoration(lost()), |_bytes| {}).unwrap_err();
    assert!(matches!(refused, RestoreError::NotEmpty { .. }), "{refused}");
    assert_eq!(directory.stage(), Stage::Joining([1; 16]));
}

#[test]
fn what_the_state_machine_refuses_is_never_written() {
    let disk = SimulatedDisk::new(ROOT);
    let mut directory = open(&disk);
    let (state, _) = lost();
    let wrong = restoration((state, create("no-restore")));
    let refused = restore(&mut directory, WalOptions::default(), wrong, |_bytes| {}).unwrap_err();
    assert!(matches!(refused, RestoreError::NoRestore), "{refused}");
    assert_eq!(directory.stage(), Stage::Empty);
    assert!(disk.list(&directory.snapshot_directory()).is_err(), "not even a directory");
}
