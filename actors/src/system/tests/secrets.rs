//! The cluster's secrets: opened by every member, by newcomers too, and by nobody who has gone; restored from a backup.

use std::collections::BTreeMap;

use quorate_proto_identity::NodeName;
use quorate_raft_machine::{Operation, Recipient, SecretName};

use super::{
    cluster::{Cluster, asker, propose, until},
    world::World,
};
use crate::{
    SecretError,
    backup::{RestoredMember, plan_restore},
    keys::{FileCustody, KeyCustody, RecoveryPrivateKey, SealContext, WhenMissing, new_recovery_key, open_secret},
    secrets::SECRET_BYTES_LIMIT,
};

fn name() -> SecretName {
    SecretName::new("federation/peer.example/api-key").unwrap()
}

fn recipients(node: &World) -> Vec<Recipient> {
    let parts = |secret: &quorate_raft_machine::Secret| {
        secret.sealed.parts.iter().map(|part| part.recipient.clone()).collect::<Vec<_>>()
    };
    node.handle.state().read(|state| state.secret(&name()).map(parts)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_one_member_puts_is_opened_by_all_and_by_who_joins_later() {
    let mut cluster = Cluster::of(3, quorate_raft_machine::Policy::default()).await;
    let putter = &cluster.nodes[1];
    assert_eq!(putter.system.secrets().put(&name(), b"first", asker()).await.unwrap(), 1);
    cluster.join("node-4", None).await;
    for node in &cluster.nodes {
        // The newcomer's part comes from the leader, which opens its own for that.
        until(|| recipients(node).len() == 4).await;
        let opened = node.system.secrets().open(&name()).await.unwrap();
        assert_eq!(opened.as_slice(), b"first");
    }
    let putter = &cluster.nodes[2];
    assert_eq!(putter.system.secrets().put(&name(), b"second", asker()).await.unwrap(), 2);
    for node in &cluster.nodes {
        until(|| node.system.secrets().revision(&name()) == Some(2)).await;
        assert_eq!(node.system.secrets().open(&name()).await.unwrap().as_slice(), b"second");
    }
    putter.system.secrets().delete(&name(), asker()).await.unwrap();
    let gone = putter.system.secrets().open(&name()).await.unwrap_err();
    assert!(matches!(gone, SecretError::NotFound { .. }), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_removed_keeps_no_part_of_a_secret() {
    let cluster = Cluster::of(3, quorate_raft_machine::Policy::default()).await;
    let leader = cluster.leader(None).await;
    let (asked, gone) = (&cluster.nodes[leader], (leader + 1) % 3);
    asked.system.secrets().put(&name(), b"secret", asker()).await.unwrap();
    let number = cluster.number(gone);
    assert!(recipients(asked).contains(&Recipient::Member(number)));
    propose(asked, Operation::RemoveMember { number, compromised: true }).await;
    until(|| !recipients(asked).contains(&Recipient::Member(number))).await;
    assert_eq!(asked.system.secrets().open(&name()).await.unwrap().as_slice(), b"secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_secret_is_refused_and_nothing_of_one_is_shown() {
    let node = World::ready().await;
    for length in [0, SECRET_BYTES_LIMIT + 1] {
        let refused = node.system.secrets().put(&name(), &vec![1; length], asker()).await.unwrap_err();
        assert!(matches!(refused, SecretError::Length { .. }), "{refused}");
    }
    let operation = node.system.secrets().seal(&name(), b"a secret in the clear").unwrap();
    let bytes = format!("{operation:?}");
    assert!(!bytes.contains("a secret in the clear") && bytes.contains("SealedFor(member 1"), "{bytes}");
}

/// FLT-26: what was sealed to the recovery key is in the hands of the member that the restored cluster begins with.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_opens_secrets_with_the_recovery_key_and_seals_them_anew() {
    let node = World::ready().await;
    let (private, public_key) = new_recovery_key().unwrap();
    let recovery = RecoveryPrivateKey::from_pkcs8(&private).unwrap();
    propose(&node, Operation::SetRecoveryKey { public_key: Some(public_key) }).await;
    node.system.secrets().put(&name(), b"secret", asker()).await.unwrap();
    let sealed_to_it = Recipient::RecoveryKey(recovery.id().to_owned());
    until(|| recipients(&node).contains(&sealed_to_it)).await;
    let all_keys = || {
        let keys = node.handle.state().read(super::cluster::sealed);
        keys.iter().all(|(_, _, sealed)| sealed.part_for(&sealed_to_it).is_some())
    };
    until(all_keys).await;

    let directory = tempfile::tempdir().unwrap();
    let custody = FileCustody::open(directory.path(), None, WhenMissing::Make).unwrap();
    let member = RestoredMember {
        trust_domain: super::world::trust_domain(),
        name: NodeName::new("restored").unwrap(),
        region: String::new(),
        zone: String::new(),
        labels: BTreeMap::new(),
        addresses: vec!["restored:8082".to_owned()],
        build: "test".to_owned(),
    };
    let planned =
        node.handle.state().read(|state| plan_restore(state, &recovery, &custody, member, &node.sources)).unwrap();
    let Operation::Restore(restore) = planned.operation else { unreachable!("it restores") };
    let [secret] = restore.secrets.as_slice() else { unreachable!("one secret: {:?}", restore.secrets) };
    let own = Recipient::Member(planned.member);
    let context = SealContext::of_secret(planned.cluster, name(), own.clone());
    assert_eq!(open_secret(&custody, &secret.sealed, &context).await.unwrap().as_slice(), b"secret");
    let to: Vec<&Recipient> = secret.sealed.parts.iter().map(|part| &part.recipient).collect();
    assert_eq!(to, [&own, &sealed_to_it], "and to nobody of the old cluster");
    assert!(!custody.sealing_public_key().is_empty());
}
