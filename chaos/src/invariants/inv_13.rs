//! INV-13: after the faults heal, the cluster elects a leader, catches up and serves, within a stated time; nothing needs
//! a restart by hand.

use super::Name;
use crate::fleet::Fleet;
use crate::trouble::Trouble;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Its name.
pub(crate) const NAME: Name = Name(13);

/// The stated time, on a machine with two cores that does all of it at once.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// How often the members are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Waits until one leads, all are ready and all have applied the same; tells how long that took.
pub(crate) async fn healed(fleet: &Fleet) -> Result<Result<Duration, String>, Trouble> {
    let begin = Instant::now();
    loop {
        let missing = match missing(fleet).await? {
            None => return Ok(Ok(begin.elapsed())),
            Some(missing) => missing,
        };
        if begin.elapsed() > LIMIT {
            return Ok(Err(format!("not healed within {LIMIT:?}: {missing}")));
        }
        sleep(LOOK).await;
    }
}

/// What is missing, if anything.
async fn missing(fleet: &Fleet) -> Result<Option<String>, Trouble> {
    let mut indexes = BTreeSet::new();
    let mut leaders = BTreeSet::new();
    for member in fleet.members() {
        if let Some(ended) = member.ended().await? {
            return Ok(Some(format!("{} ended by itself with {ended}", member.name())));
        }
        let Some(status) = member.status().await else {
            return Ok(Some(format!("{} does not answer", member.name())));
        };
        if !status.ready {
            return Ok(Some(format!("{} is not ready: {}", member.name(), status.reasons.join(" "))));
        }
        indexes.insert(status.applied_index);
        leaders.insert(status.leader);
    }
    Ok(match leaders.first() {
        _ if leaders.len() != 1 => Some(format!("members name several leaders: {leaders:?}")),
        Some(0) | None => Some("no member knows a leader".to_owned()),
        Some(_) if indexes.len() != 1 => Some(format!("members have applied {indexes:?}")),
        Some(_) => None,
    })
}
