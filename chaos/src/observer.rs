//! Asks every member how it stands, again and again: hashes (INV-03), leaders (INV-04), who is live (INV-05),
//! sequence numbers (INV-09).

use crate::invariants::{inv_03, inv_04, inv_09};
use crate::run::{Run, lock};
use quorate_proto_api::cluster::{Role, StatusResponse};
use quorate_proto_identity::UnixSeconds;
use std::sync::Arc;
use std::time::Duration;

/// How often.
const PACE: Duration = Duration::from_millis(50);

/// Follows one member until the load ends.
pub(crate) async fn observe(run: Arc<Run>, node: usize) {
    let Ok(member) = run.fleet.member(node) else { return };
    let mut registrar = member.registrar();
    while run.pause(PACE).await {
        match registrar.status().await {
            Ok(status) => saw(&run, member.name(), &status),
            Err(_) => registrar = member.registrar(),
        }
    }
}

/// Looks at what a member said.
pub(crate) fn saw(run: &Run, member: &str, status: &StatusResponse) {
    let mut seen = lock(&run.seen);
    run.violations.expect(inv_03::NAME, seen.hashes.saw(member, status.applied_index, &status.state_hash));
    if status.role() == Role::Leader {
        run.violations.expect(inv_04::NAME, seen.leaders.saw(member, status.term));
    }
    if status.ready {
        run.violations.expect(inv_09::NAME, seen.uniques.saw_sequence(member, status.bundle_sequence));
    }
    for member in &status.members {
        seen.bundles.saw_live(&member.name, UnixSeconds(member.issuing_not_after));
    }
}
