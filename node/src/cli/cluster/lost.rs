//! What a restore cannot bring back, in sentences: what was done after the backup was made.

use quorate_actors::backup::Checked;
use quorate_proto_identity::{UnixSeconds, Validity};
use quorate_raft_machine::authority::{activate_at, prepare_at};
use quorate_raft_machine::{State, X509Authority};

/// What may be lost, what may still be about, and what to do about it.
pub(super) fn notes(state: &State, checked: &Checked, now: UnixSeconds) -> Vec<String> {
    let made_at = checked.header.created_at.seconds();
    let mut notes = vec![
        format!(
            "whatever was done after {made_at} ({}) may be lost: entries created since are not there, entries deleted \
             since are there again, and so are former policies and members' roles. Look through `quorate entry show`.",
            ago(made_at, now)
        ),
        "bans and revocations made since are not in force: make them again.".to_owned(),
        format!(
            "an old node that is still running signs with an issuing certificate that this backup may not know, until {} \
             at the latest, and its CRLs are not ours: stop it.",
            latest_issuing_end(state, now)
        ),
    ];
    if let Some(root) = state.active_x509_authority() {
        notes.extend(rotated_since(&root.validity, now).map(|at| {
            format!(
                "a root was due to be made at {at}, after the backup: SVIDs under a root that the backup does not know \
                 verify nowhere until their workloads have fetched new ones."
            )
        }));
        notes.extend(has_ended(root, now));
    }
    if let Some(key) = state.active_jwt_authority() {
        notes.extend(rotated_since(&key.validity, now).map(|at| {
            format!("a token key was due to be made at {at}, after the backup: tokens of a key that it does not know are refused.")
        }));
    }
    let unopened = checked.unopened.iter().map(|id| {
        format!("the recovery key does not open the key of authority {id}: its CRL cannot be signed any more.")
    });
    notes.extend(unopened);
    let names: Vec<&str> = state
        .members()
        .filter(|member| member.record.status.is_admitted())
        .map(|member| member.record.name.as_str())
        .collect();
    notes.push(format!(
        "entries whose parent is a node serve again once a node of that name has joined; the old cluster had {}.",
        names.join(", ")
    ));
    notes.push("the recovery key was on this host: if that is not what it is for, set another one.".to_owned());
    notes
}

/// When the successor of an authority with this validity fell due, if that was before now.
fn rotated_since(validity: &Validity, now: UnixSeconds) -> Option<UnixSeconds> {
    let due = prepare_at(validity).min(activate_at(validity));
    (due <= now).then_some(due)
}

fn has_ended(root: &X509Authority, now: UnixSeconds) -> Option<String> {
    let end = root.validity.not_after();
    (end < now)
        .then(|| format!("the active root of the backup ended at {end}: nothing verifies before the new one is out."))
}

/// When the last issuing certificate that the old cluster can have given out until now ends.
fn latest_issuing_end(state: &State, now: UnixSeconds) -> UnixSeconds {
    let life = state.policy().map_or(0, |policy| policy.issuing_lifetime);
    now.plus(i64::from(life))
}

/// "3 hours ago"
fn ago(then: UnixSeconds, now: UnixSeconds) -> String {
    let seconds = now.0.saturating_sub(then.0).max(0);
    let (count, unit) = match seconds {
        0..120 => (seconds, "seconds"),
        120..7_200 => (seconds / 60, "minutes"),
        7_200..172_800 => (seconds / 3_600, "hours"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_the_unit_that_fits() {
        let told = |seconds| ago(UnixSeconds(0), UnixSeconds(seconds));
        assert_eq!(
            [1, 119, 120, 7_200, 200_000].map(told),
            ["1 seconds ago", "119 seconds ago", "2 minutes ago", "2 hours ago", "2 days ago"]
        );
        assert_eq!(ago(UnixSeconds(9), UnixSeconds(0)), "0 seconds ago", "a clock that is behind");
    }
}
