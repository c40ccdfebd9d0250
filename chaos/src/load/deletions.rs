//! Entries for this very process, made on one node, used on all and deleted on another: after the acknowledgement nobody
//! who is connected hands out their SVID (INV-07).

use super::workload::Workload;
use crate::condition::Spell;
use crate::fleet::Member;
use crate::invariants::inv_07;
use crate::registrar::{TRUST_DOMAIN, own_entry};
use crate::run::Run;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tonic::Status;

/// How long a change may take until its outcome counts as unknown.
const LIMIT: Duration = Duration::from_secs(5);

/// How long is waited for an SVID of the new entry before it is deleted all the same.
const USE_LIMIT: Duration = Duration::from_millis(500);

/// How long is waited between two entries.
const PACE: Duration = Duration::from_millis(50);

/// Makes, uses and deletes entries until the load ends.
pub(crate) async fn work(run: Arc<Run>, seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut number = 0_u64;
    while run.pause(PACE).await {
        number += 1;
        let path = format!("/deleted/{number}");
        let healthy: Vec<&Member> =
            run.fleet.members().iter().filter(|member| member.condition.spell().is_some()).collect();
        let (Some(maker), Some(deleter)) = (healthy.choose(&mut random), healthy.choose(&mut random)) else { continue };
        let _ = run.unless_stopped(one(&run, maker, deleter, &path)).await;
    }
}

async fn one(run: &Run, maker: &Member, deleter: &Member, path: &str) -> Result<(), Status> {
    let id = within(maker.registrar().create_entry(own_entry(path))).await?;
    let spiffe_id = format!("spiffe://{TRUST_DOMAIN}{path}");
    in_use(deleter, &spiffe_id).await?;
    let spells: Vec<(&Member, Option<Spell>)> =
        run.fleet.members().iter().map(|member| (member, member.condition.spell())).collect();
    within(deleter.registrar().delete_entry(&id)).await?;
    for (member, spell) in spells {
        let Some(spell) = spell else { continue };
        // Since before the delete was asked for, and for long enough before that.
        if !member.condition.unbroken(spell) || spell.age() < inv_07::CONNECTED_AFTER {
            continue;
        }
        let answer = Workload::new(&member.place.workload_socket()).x509_svid().await;
        if !member.condition.unbroken(spell) {
            continue;
        }
        let given: Vec<String> = answer?.svids.into_iter().map(|svid| svid.spiffe_id).collect();
        run.violations.expect(inv_07::NAME, inv_07::check(member.name(), &spiffe_id, &given));
        run.tally.deletes.add();
    }
    Ok(())
}

/// Waits until the node hands out an SVID for the entry, for a while.
async fn in_use(member: &Member, spiffe_id: &str) -> Result<(), Status> {
    let give_up = Instant::now() + USE_LIMIT;
    let mut workload = Workload::new(&member.place.workload_socket());
    while Instant::now() < give_up {
        if workload.x509_svid().await?.svids.iter().any(|svid| svid.spiffe_id == spiffe_id) {
            break;
        }
    }
    Ok(())
}

async fn within<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(LIMIT, call).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
}
