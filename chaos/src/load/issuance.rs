//! Workload API calls, one after the other, on one node: what they answer is verified, and none may fail while the node
//! is healthy.

use super::CALLS_PER_CONNECTION;
use super::workload::Workload;
use crate::clock::now;
use crate::fleet::Member;
use crate::invariants::inv_05::HandedOut;
use crate::invariants::{inv_05, inv_06, inv_09};
use crate::run::{Run, lock};
use quorate_proto_api::workload::X509svidResponse;
use quorate_proto_identity::UnixSeconds;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// How long a member's bundle may be under way to us when an SVID that it has to verify is here already. It was sent
/// before the SVID was signed; what is waited for is this program.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// Calls a node until the load ends, with this long between two calls.
pub(crate) async fn call(run: Arc<Run>, node: usize, pace: Duration) {
    let Ok(member) = run.fleet.member(node) else { return };
    let mut workload = Workload::new(&member.place.workload_socket());
    let mut number = 0_u64;
    while run.goes_on() {
        if run.unless_stopped(member.condition.until_healthy()).await.is_none() {
            break;
        }
        number += 1;
        if number.is_multiple_of(CALLS_PER_CONNECTION) {
            workload = Workload::new(&member.place.workload_socket());
        }
        let Some(spell) = member.condition.spell() else { continue };
        let faulted = run.faulted();
        let life = (member.name().to_owned(), member.lives());
        let (name, answer) = one(&run, &mut workload, &life, number).await;
        if !member.condition.unbroken(spell) {
            run.tally.calls_disturbed.add();
        } else if let Err(status) = answer {
            run.call_failed(member.name(), name, &status);
        } else {
            run.tally.calls.add();
            if faulted {
                run.tally.calls_during_faults.add();
            }
        }
        if !run.pause(pace).await {
            break;
        }
    }
}

/// One call, of one of four kinds in turn.
async fn one(
    run: &Arc<Run>,
    workload: &mut Workload,
    life: &inv_06::Life,
    number: u64,
) -> (&'static str, Result<(), Status>) {
    match number % 4 {
        0 => ("FetchX509SVID", x509_svid(run, workload, life).await),
        1 => ("FetchJWTSVID", token(run, workload, life, number).await),
        2 => ("ValidateJWTSVID", validate(run, workload).await),
        _ => ("FetchX509Bundles", workload.x509_bundle().await.map(drop)),
    }
}

async fn x509_svid(run: &Arc<Run>, workload: &mut Workload, life: &inv_06::Life) -> Result<(), Status> {
    let begun = now();
    let answer = workload.x509_svid().await?;
    saw_svids(run, life, &answer, Some(begun));
    Ok(())
}

/// Looks at what a node handed out, in answer to a call that began then; in a stream it may have been handed out at any
/// time since it was signed, because this program is not the first to be given a processor.
pub(crate) fn saw_svids(run: &Arc<Run>, life: &inv_06::Life, answer: &X509svidResponse, begun: Option<UnixSeconds>) {
    let read = now();
    for svid in &answer.svids {
        let at = (begun.unwrap_or_else(|| inv_06::signed_in(&svid.x509_svid).unwrap_or(read)), read);
        let signer = lock(&run.seen).signers.saw(life, &svid.x509_svid, &svid.bundle, at);
        run.violations.expect(inv_06::NAME, signer);
        let unique = lock(&run.seen).uniques.saw_chain(&svid.x509_svid);
        run.violations.expect(inv_09::NAME, unique);
        handed_out(run, &life.0, HandedOut::X509(svid.x509_svid.to_vec()), at);
    }
}

async fn token(run: &Arc<Run>, workload: &mut Workload, life: &inv_06::Life, number: u64) -> Result<(), Status> {
    let audience = format!("chaos-{}-{number}", life.0);
    let begun = now();
    let token = workload.token(&audience).await?;
    lock(&run.seen).token = Some((token.clone(), audience.clone()));
    handed_out(run, &life.0, HandedOut::Jwt(token, audience), (begun, now()));
    Ok(())
}

/// Has a token validated that some node handed out, another one most times.
async fn validate(run: &Run, workload: &mut Workload) -> Result<(), Status> {
    let known = lock(&run.seen).token.clone();
    match known {
        Some((token, audience)) => workload.validate(&token, &audience).await,
        None => Ok(()),
    }
}

/// Verifies an SVID with what every live member is known to have; should that not do, once more when what is on its way
/// has come.
fn handed_out(run: &Arc<Run>, by: &str, svid: HandedOut, at: (UnixSeconds, UnixSeconds)) {
    run.tally.svids.add();
    if lock(&run.seen).bundles.check_between(by, &svid, at).is_ok() {
        return;
    }
    let (run, by) = (Arc::clone(run), by.to_owned());
    tokio::spawn(async move {
        tokio::time::sleep(ON_ITS_WAY).await;
        let checked = lock(&run.seen).bundles.check_between(&by, &svid, at);
        run.violations.expect(inv_05::NAME, checked);
    });
}

/// One call more on a node, outside of any load: whether its workloads are served.
pub(crate) async fn served(member: &Member) -> Result<(), Status> {
    let mut workload = Workload::new(&member.place.workload_socket());
    workload.x509_svid().await?;
    workload.token("chaos").await.map(drop)
}
