//! A cluster as its operators see it: members that come, change their role, and go, and authorities that move on meanwhile.

use std::time::Duration;

use quorate_proto_identity::{AuthorityId, MemberNumber};
use quorate_raft_consensus::Proposal;
use quorate_raft_machine::{
    AuthorityKind, AuthorityState, MemberRole, MembershipPlan, Operation, Policy, Recipient, State,
};
use tokio::time::Instant;

use super::{
    cluster::{Cluster, asker, deadline, fetched, is_sealed_to, propose, sealed, until, verify},
    world::within,
};
use crate::{
    MembershipError,
    keys::{FileCustody, KeyCustody, SealContext, SealedPart, WhenMissing},
};

/// Actors that are killed are started again, and a change goes on where it stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_comes_in_though_the_actors_that_let_it_in_are_killed() {
    let mut cluster = Cluster::of(1, Policy::default()).await;
    for number in 2..=3 {
        // One that is being started again at this moment is none to kill.
        for child in ["membership", "authority"] {
            cluster.nodes[0].system.child(child).await.inspect(ractor::ActorCell::kill);
        }
        cluster.join(&format!("node-{number}"), None).await;
        cluster.nodes[0].system.child("membership").await.inspect(ractor::ActorCell::kill);
        cluster.nodes[number - 1].until_ready().await;
    }
    cluster.until_voters(3).await;
    for node in &cluster.nodes {
        fetched(node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_promoted_and_demoted_with_the_root_keys_before_and_after_its_vote() {
    let mut cluster = Cluster::of(3, Policy::default()).await;
    cluster.join("node-4", Some(MemberRole::Learner)).await;
    cluster.nodes[3].until_ready().await;
    let number = cluster.number(3);
    let first = &cluster.nodes[0];
    // Asked of any node, whoever leads.
    let asked = cluster.nodes[1].system.membership();
    let promoted = asked.promote(&asker(), number, deadline()).await.unwrap();
    assert!(promoted.steps.iter().any(|step| step.contains("node-4") && step.contains("votes")), "{promoted:?}");
    assert!(first.handle.raft_members().is_voter(number.get()));
    assert!(first.handle.state().read(|state| is_sealed_to(state, AuthorityKind::X509, number)));
    let demoted = asked.demote(&asker(), number, deadline()).await.unwrap();
    assert!(demoted.steps.iter().any(|step| step.contains("no vote")), "{demoted:?}");
    until(|| !first.handle.state().read(|state| is_sealed_to(state, AuthorityKind::X509, number))).await;
    assert!(!first.handle.raft_members().is_voter(number.get()));
    fetched(&cluster.nodes[3]).await;
}

/// INV-11, property 6: a member that was removed as compromised opens nothing that signs afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn inv_11_a_compromised_member_opens_nothing_that_signs_when_its_removal_is_answered() {
    let cluster = Cluster::of(4, Policy::default()).await;
    let thief = cluster.nodes.iter().position(|node| !node.handle.role().borrow().is_leader()).unwrap();
    let number = cluster.number(thief);
    let asked = cluster.nodes.iter().enumerate().find(|(index, _)| *index != thief).unwrap().1;
    let before = asked.handle.state().read(sealed);
    let removed = asked.system.membership().remove(&asker(), number, true, deadline()).await.unwrap();
    assert!(removed.steps.iter().any(|step| step.contains("A new root signs")), "{removed:?}");

    let (after, active, cluster_id) = asked.handle.state().read(|state| {
        let active = [&state.active_x509_authority().unwrap().id, &state.active_jwt_authority().unwrap().id];
        (sealed(state), active.map(Clone::clone), state.cluster().unwrap().id)
    });
    for (_, id, _) in &before {
        assert!(!active.contains(id), "what signed before signs no more");
    }
    let custody: &dyn KeyCustody = cluster.nodes[thief].custody.as_ref();
    for (kind, authority, sealed) in after {
        assert_eq!(sealed.part_for(&Recipient::Member(number)), None);
        for part in &sealed.parts {
            for recipient in [part.recipient.clone(), Recipient::Member(number)] {
                let context = SealContext::of_authority(cluster_id, kind, authority.clone(), recipient);
                let sealed_part =
                    SealedPart { encapsulated_key: part.encapsulated_key.clone(), ciphertext: part.ciphertext.clone() };
                custody.open(sealed.suite, &context, &sealed_part).await.unwrap_err();
            }
        }
    }
    // Those that remain sign with the new ones, and take each other's.
    for (index, node) in cluster.nodes.iter().enumerate().filter(|(index, _)| *index != thief) {
        within(async {
            loop {
                let answer = fetched(node).await;
                let leases = node.handle.state().read(|state| {
                    let issued = |issuing: &&quorate_raft_machine::IssuingCertificate| {
                        issuing.member.get() == cluster.number(index).get() && issuing.issuer == active[0]
                    };
                    state.issuing_certificates().filter(issued).count()
                });
                if leases > 0 {
                    verify(&answer, asked);
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
    assert!(!asked.handle.raft_members().contains(number.get()));
}

/// INV-11, property 6: a leader that is removed as compromised makes none of the keys that take the place of those it knew,
/// because it would know them too. Its actor that hands over is killed, so that it leads for a while longer.
#[tokio::test(flavor = "multi_thread")]
async fn inv_11_a_compromised_leader_makes_none_of_the_keys_that_follow() {
    let cluster = Cluster::of(4, Policy::default()).await;
    let thief = cluster.leader(None).await;
    let asked = &cluster.nodes[(thief + 1) % 4];
    let mut killed = std::collections::BTreeSet::new();
    within(async {
        // Each time it takes longer until there is another.
        while killed.len() < 5 {
            let child = cluster.nodes[thief].system.child("membership").await;
            if let Some(child) = child.filter(|child| killed.insert(child.get_id().pid())) {
                child.kill();
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let removed = asked.system.membership().remove(&asker(), cluster.number(thief), true, deadline()).await.unwrap();
    assert!(removed.steps.iter().any(|step| step.contains("A new token key signs")), "{removed:?}");
    let (root, token_key) = asked.handle.state().read(|state| {
        (state.active_x509_authority().unwrap().id.clone(), state.active_jwt_authority().unwrap().public_key.clone())
    });
    for made in cluster.nodes[thief].keys.made.lock().iter() {
        let id = AuthorityId::from_subject_key_id(&made.public_key().subject_key_id());
        assert_ne!(id, root, "the compromised leader made the root that signs now");
        assert_ne!(made.public_key().spki_der(), token_key.as_ref(), "it made the token key that signs now");
    }
}

/// A leader that is to go seals what only it can open to the one that takes its place, and only then hands over.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_removed_seals_the_roots_to_its_only_successor_first() {
    let mut cluster = Cluster::of(1, Policy::default()).await;
    cluster.join("node-2", Some(MemberRole::Learner)).await;
    cluster.nodes[1].until_ready().await;
    let (first, second) = (&cluster.nodes[0], cluster.number(1));
    assert!(!first.handle.state().read(|state| is_sealed_to(state, AuthorityKind::X509, second)));
    let role = Operation::SetMemberRole { number: second, role: MemberRole::Voter, pinned: true };
    let remove = Operation::RemoveMember { number: cluster.number(0), compromised: false };
    let both = Proposal::new(asker(), vec![role, remove]);
    let done = first.handle.propose(both).await.unwrap().outcome.results;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    until(|| cluster.nodes[1].handle.role().borrow().is_leader()).await;
    let gone = |state: &State| state.member(cluster.number(0)).is_none_or(|member| member.record.status.has_gone());
    until(|| cluster.nodes[1].handle.state().read(gone)).await;
    fetched(&cluster.nodes[1]).await;
}

/// Design section 3, sealing: what one leader began, the next ones complete.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_as_compromised_is_completed_though_the_leadership_moves_all_the_while() {
    let cluster = Cluster::of(4, Policy::default()).await;
    let group = cluster.nodes[0].handle.raft_members();
    let thief = (0..4).find(|index| !group.is_voter(cluster.number(*index).get())).unwrap();
    let asked = cluster.nodes[0].system.membership().clone();
    let number = cluster.number(thief);
    let removal = tokio::spawn(async move { asked.remove(&asker(), number, true, deadline()).await });
    let mut moved = 0;
    while !removal.is_finished() {
        let leader = &cluster.nodes[cluster.leader(None).await];
        moved += usize::from(leader.handle.transfer_leadership(None, deadline()).await.is_ok());
    }
    let removed = removal.await.unwrap().unwrap();
    assert!(removed.steps.iter().any(|step| step.contains("A new root signs")), "{removed:?}");
    assert!(moved > 0);
    let suspects = cluster.nodes[0].handle.state().read(|state| {
        let roots = state.x509_authorities().filter(|root| root.state == AuthorityState::Active);
        roots.filter(|root| root.times.suspected_at.is_some()).count()
    });
    assert_eq!(suspects, 0);
}

/// Property 3: the gate waits for a live member that is cut off, names it, and not for one that is fenced.
#[tokio::test(flavor = "multi_thread")]
async fn an_activation_waits_for_a_live_member_that_is_cut_off_until_it_is_fenced() {
    let cluster = Cluster::of(5, Policy::default()).await;
    let leader = cluster.leader(None).await;
    let group = cluster.nodes[0].handle.raft_members();
    let learners: Vec<usize> = (0..5).filter(|index| !group.is_voter(cluster.number(*index).get())).collect();
    let (thief, absent) = (learners[0], learners[1]);
    cluster.network.cut(cluster.nodes[absent].name.as_str());
    let (asked, roots) = (&cluster.nodes[leader], |state: &State| {
        state.x509_authorities().map(|root| (root.state, root.id.clone())).collect::<Vec<_>>()
    });
    let before = asked.handle.state().read(roots);
    let soon = Instant::now() + Duration::from_secs(5);
    let unfinished = asked.system.membership().remove(&asker(), cluster.number(thief), true, soon).await;
    let cut_off = format!("{} (member {}) is cut off", cluster.nodes[absent].name, cluster.number(absent));
    let names_it = |error: &MembershipError| matches!(error, MembershipError::Unfinished { waits_for, .. } if waits_for.contains(&cut_off));
    assert!(unfinished.as_ref().is_err_and(names_it), "{unfinished:?}");
    let now = asked.handle.state().read(roots);
    assert!(now.contains(&before[0]), "the old root signs on: {now:?}");
    assert!(now.iter().any(|(state, _)| *state == AuthorityState::Prepared));

    let fence = Operation::RevokeIssuingCertificate { member: cluster.number(absent), serial: None };
    propose(asked, fence).await;
    let again = asked.system.membership().remove(&asker(), cluster.number(thief), true, deadline()).await.unwrap();
    assert!(again.steps.iter().any(|step| step.contains("A new token key signs")), "{again:?}");
    // Back again, it learns all of it and serves.
    cluster.network.heal(cluster.nodes[absent].name.as_str());
    until(|| cluster.nodes[absent].handle.state().read(roots).len() > 1).await;
    verify(&fetched(&cluster.nodes[absent]).await, asked);
}

/// A voter that is gone for longer than the plan waits is replaced by a learner that is there, root keys first.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_voter_is_replaced_by_a_healthy_learner() {
    let mut cluster = Cluster::of(3, Policy::default()).await;
    cluster.join("node-4", None).await;
    cluster.nodes[3].until_ready().await;
    let plan = MembershipPlan { dead_voter_grace: 2, ..MembershipPlan::default() };
    propose(&cluster.nodes[0], Operation::SetPlan(plan)).await;
    let dead = (cluster.leader(None).await + 1) % 3;
    let asked = &cluster.nodes[cluster.leader(None).await];
    cluster.network.cut(cluster.nodes[dead].name.as_str());
    let (gone, learner) = (cluster.number(dead).get(), cluster.number(3));
    until(|| {
        let group = asked.handle.raft_members();
        group.voters.len() == 1 && group.is_voter(learner.get()) && !group.is_voter(gone)
    })
    .await;
    assert!(asked.handle.state().read(|state| is_sealed_to(state, AuthorityKind::X509, learner)));
    let stripped = MemberNumber::new(gone).unwrap();
    until(|| !asked.handle.state().read(|state| is_sealed_to(state, AuthorityKind::X509, stripped))).await;
    // The one that is back follows as a learner, and serves.
    cluster.network.heal(cluster.nodes[dead].name.as_str());
    let applied = asked.handle.state().applied_index();
    until(|| cluster.nodes[dead].handle.state().applied_index() >= applied).await;
    fetched(&cluster.nodes[dead]).await;
}

/// Design section 3, sealing: whoever has the recovery key can open what a backup holds, of authorities old and new.
#[tokio::test(flavor = "multi_thread")]
async fn authorities_are_sealed_to_the_recovery_key_those_that_are_and_those_that_come() {
    let cluster = Cluster::of(1, Policy::default()).await;
    let node = &cluster.nodes[0];
    let safe = tempfile::tempdir().unwrap();
    let safe = FileCustody::open(safe.path(), None, WhenMissing::Make).unwrap();
    let public_key = bytes::Bytes::copy_from_slice(safe.sealing_public_key());
    propose(node, Operation::SetRecoveryKey { public_key: Some(public_key) }).await;
    let recovery = node.handle.state().read(|state| Recipient::RecoveryKey(state.recovery_key().unwrap().id.clone()));
    let all_sealed = || {
        let keys = node.handle.state().read(sealed);
        keys.iter().all(|(_, _, sealed)| sealed.part_for(&recovery).is_some())
    };
    until(all_sealed).await;
    // Half of the token key's life: another one is prepared.
    cluster.advance(Duration::from_secs(4 * 24 * 3600));
    node.register("b", "/b").await;
    until(|| node.handle.state().read(|state| state.jwt_authorities().count() == 2)).await;
    until(all_sealed).await;
    let (keys, cluster_id) = node.handle.state().read(|state| (sealed(state), state.cluster().unwrap().id));
    for (kind, authority, sealed) in keys {
        let context = SealContext::of_authority(cluster_id, kind, authority, recovery.clone());
        crate::keys::open_key(&safe, &sealed, &context).await.unwrap();
    }
}
