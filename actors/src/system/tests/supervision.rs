//! Actors are killed, and service goes on or comes back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use quorate_raft_machine::Operation;
use tokio_stream::StreamExt;

use super::world::{World, caller, next, within};
use crate::{Refusal, SystemStatus};

/// Kills a child and waits until another one is there in its place.
async fn kill(world: &World, name: &'static str) {
    let before = world.system.child(name).await.unwrap();
    before.kill();
    within(async {
        loop {
            match world.system.child(name).await {
                Some(child) if child.get_id() != before.get_id() => return,
                Some(_) | None => tokio::task::yield_now().await,
            }
        }
    })
    .await;
}

/// Asks until an answer comes; in between, nothing but `Unavailable` is answered.
async fn until_served(world: &World) {
    within(async {
        loop {
            let caller = caller();
            let served = async {
                let answer = world.system.workload_api().x509_svids(&caller).await?.next().await;
                answer.unwrap_or_else(|| Err(Refusal::Unavailable("ended".into())))?;
                world.system.workload_api().fetch_jwt_svids(&caller, vec!["x".into()], None, None).await
            };
            match served.await {
                Ok(_) => return,
                Err(Refusal::Unavailable(_)) => tokio::task::yield_now().await,
                Err(other) => panic!("{other:?}"),
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_actor_comes_back_after_a_kill_and_the_node_serves() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    for name in ["ledger", "authority", "issuer", "attestor", "keeper-1", "keeper-2", "keeper-3", "keeper-4"] {
        kill(&world, name).await;
        until_served(&world).await;
    }
    assert_eq!(*world.system.status().borrow(), SystemStatus::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_do_not_notice_the_end_of_any_actor_but_their_keeper() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let caller = caller();
    let mut stream = world.system.workload_api().x509_svids(&caller).await.unwrap();
    next(&mut stream).await.unwrap();
    for name in ["ledger", "authority", "issuer", "attestor"] {
        kill(&world, name).await;
    }
    world.register("b", "/b").await;
    assert_eq!(next(&mut stream).await.unwrap().svids.len(), 2);
    for name in ["keeper-1", "keeper-2", "keeper-3", "keeper-4"] {
        kill(&world, name).await;
    }
    assert!(matches!(next(&mut stream).await, Err(Refusal::Unavailable(_))));
    assert!(within(stream.next()).await.is_none());
    // The same connection opens another stream and is served.
    let mut stream = within(async {
        loop {
            match world.system.workload_api().x509_svids(&caller).await {
                Ok(stream) => return stream,
                Err(refusal) => assert!(matches!(refusal, Refusal::Unavailable(_)), "{refusal:?}"),
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(next(&mut stream).await.unwrap().svids.len(), 2);
    world.delete("a").await;
    assert_eq!(next(&mut stream).await.unwrap().svids.len(), 1, "its new keeper hears of changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_keeps_dying_ends_the_system() {
    let world = World::ready().await;
    let mut status = world.system.status();
    for _ in 0..11 {
        if *status.borrow() != SystemStatus::Running {
            break;
        }
        let Some(child) = world.system.child("attestor").await else {
            // It is between two lives.
            tokio::task::yield_now().await;
            continue;
        };
        child.kill();
        within(async {
            while *status.borrow() == SystemStatus::Running
                && world.system.child("attestor").await.is_none_or(|next| next.get_id() == child.get_id())
            {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let failed = within(status.wait_for(|status| *status != SystemStatus::Running)).await.unwrap().clone();
    assert_eq!(failed, SystemStatus::Failed { actor: "attestor" });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_system_ends_its_streams_with_unavailable() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    next(&mut stream).await.unwrap();
    world.system.stop().await;
    assert!(matches!(next(&mut stream).await, Err(Refusal::Unavailable(_))));
    let refused = world.system.workload_api().x509_svids(&caller()).await;
    assert!(matches!(refused, Err(Refusal::Unavailable(_))));
    assert_eq!(*world.system.status().borrow(), SystemStatus::Stopped);
    world.system.stop().await;
}

/// A fault in the making of an issuing key is a failure like any other: the issuer asks again.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_the_issuer_that_panics_is_not_waited_for() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let faults = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&faults);
    *world.keys.hook.lock() = Some(Box::new(move || {
        assert!(counted.fetch_add(1, Ordering::SeqCst) > 0, "the first key is a fault");
    }));
    let member = world.handle.member().unwrap();
    world.propose(Operation::RevokeIssuingCertificate { member, serial: None }).await;
    until_served(&world).await;
    assert!(faults.load(Ordering::SeqCst) > 1);
    assert_eq!(*world.system.status().borrow(), SystemStatus::Running);
}

/// A crash loop must not use up what certificates a member may have: what a former process had stays until it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_starts_again_and_again_gets_shorter_certificates_and_serves() {
    let mut world = World::ready().await;
    world.register("a", "/a").await;
    for _ in 0..26 {
        world.restart_actors().await;
        world.until_ready().await;
    }
    until_served(&world).await;
    let (lives, wanted) = world.handle.state().read(|state| {
        let lives: Vec<i64> = state.issuing_certificates().map(|issuing| issuing.validity.seconds() - 30).collect();
        (lives, i64::from(state.policy().unwrap().issuing_lifetime))
    });
    assert!(lives.len() > 26 && lives.iter().all(|life| *life <= wanted), "{lives:?}");
    let shorter = lives.iter().filter(|life| **life < wanted).count();
    assert!((1..=lives.len() - 24).contains(&shorter), "{lives:?}");
}
