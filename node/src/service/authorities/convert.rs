//! Authorities of the state machine as messages.

use quorate_proto_api::cluster as wire;
use quorate_proto_identity::UnixSeconds;
use quorate_raft_machine::authority::{Milestone, TimelineStep};
use quorate_raft_machine::{AuthorityKind, AuthorityState, AuthorityTimes, AuthorityView};
use tonic::Status;

/// The kind that a request means.
///
/// # Errors
///
/// `InvalidArgument` when it means none: a change of the wrong kind would be a bad guess.
pub(super) fn kind(kind: i32) -> Result<AuthorityKind, Status> {
    match wire::AuthorityKind::try_from(kind) {
        Ok(wire::AuthorityKind::X509) => Ok(AuthorityKind::X509),
        Ok(wire::AuthorityKind::Jwt) => Ok(AuthorityKind::Jwt),
        Ok(wire::AuthorityKind::Unspecified) | Err(_) => {
            Err(Status::invalid_argument("kind: must be AUTHORITY_KIND_X509 or AUTHORITY_KIND_JWT"))
        }
    }
}

fn kind_to_wire(kind: AuthorityKind) -> wire::AuthorityKind {
    match kind {
        AuthorityKind::X509 => wire::AuthorityKind::X509,
        AuthorityKind::Jwt => wire::AuthorityKind::Jwt,
    }
}

/// The authorities of one kind, those that signed with the newest first.
pub(super) fn set(mut known: Vec<AuthorityView>) -> wire::AuthoritySet {
    known.sort_by(|a, b| (b.times.retired_at, &b.id).cmp(&(a.times.retired_at, &a.id)));
    let mut set = wire::AuthoritySet::default();
    for view in &known {
        let message = authority(view);
        match view.state {
            AuthorityState::Prepared => set.prepared = Some(message),
            AuthorityState::Active => set.active = Some(message),
            AuthorityState::Old | AuthorityState::Tainted => set.old.push(message),
            AuthorityState::Revoked => set.revoked.push(message),
        }
    }
    set
}

/// An authority.
pub(super) fn authority(view: &AuthorityView) -> wire::Authority {
    let AuthorityTimes {
        prepared_at,
        activated_at,
        retired_at,
        tainted_at,
        revoked_at,
        suspected_at,
        replace_at,
        published_at,
        confirmed_at,
    } = view.times;
    let seconds = |at: Option<UnixSeconds>| at.map(|at| at.0);
    wire::Authority {
        id: view.id.to_string(),
        state: state(view.state).into(),
        not_before: view.validity.not_before().0,
        not_after: view.validity.not_after().0,
        prepared_at: prepared_at.0,
        activated_at: seconds(activated_at),
        retired_at: seconds(retired_at),
        tainted_at: seconds(tainted_at),
        revoked_at: seconds(revoked_at),
        replace_at: seconds(replace_at),
        suspected_at: seconds(suspected_at),
        published_at: seconds(published_at),
        confirmed_at: seconds(confirmed_at),
    }
}

fn state(state: AuthorityState) -> wire::AuthorityState {
    match state {
        AuthorityState::Prepared => wire::AuthorityState::Prepared,
        AuthorityState::Active => wire::AuthorityState::Active,
        AuthorityState::Old => wire::AuthorityState::Old,
        AuthorityState::Tainted => wire::AuthorityState::Tainted,
        AuthorityState::Revoked => wire::AuthorityState::Revoked,
    }
}

/// A step of the timeline.
pub(super) fn step(step: &TimelineStep) -> wire::TimelineStep {
    let event = match step.milestone {
        Milestone::Prepared => wire::TimelineEvent::Prepared,
        Milestone::Published => wire::TimelineEvent::Published,
        Milestone::Confirmed => wire::TimelineEvent::Confirmed,
        Milestone::Activated => wire::TimelineEvent::Activated,
        Milestone::Retired => wire::TimelineEvent::Retired,
        Milestone::Replaced => wire::TimelineEvent::Replaced,
        Milestone::Suspected => wire::TimelineEvent::Suspected,
        Milestone::Tainted => wire::TimelineEvent::Tainted,
        Milestone::Revoked => wire::TimelineEvent::Revoked,
        Milestone::Ended => wire::TimelineEvent::Ended,
        Milestone::Pruned => wire::TimelineEvent::Pruned,
    };
    wire::TimelineStep {
        at: step.at.0,
        kind: kind_to_wire(step.kind).into(),
        event: event.into(),
        authority_id: step.id.as_ref().map(ToString::to_string).unwrap_or_default(),
        done: step.taken,
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{AuthorityId, Validity};

    use super::*;

    fn view(id: &str, state: AuthorityState, retired_at: Option<i64>) -> AuthorityView {
        AuthorityView {
            kind: AuthorityKind::Jwt,
            id: AuthorityId::new(id).unwrap(),
            state,
            validity: Validity::new(UnixSeconds(5), UnixSeconds(100)).unwrap(),
            times: AuthorityTimes { retired_at: retired_at.map(UnixSeconds), ..AuthorityTimes::default() },
            is_openable: true,
        }
    }

    #[test]
    fn each_state_has_its_place_and_old_ones_are_listed_from_the_newest() {
        let set = set(vec![
            view("aa", AuthorityState::Old, Some(10)),
            view("bb", AuthorityState::Tainted, Some(20)),
            view("cc", AuthorityState::Active, None),
            view("dd", AuthorityState::Revoked, Some(5)),
            view("ee", AuthorityState::Prepared, None),
        ]);
        assert_eq!(set.active.unwrap().id, "cc");
        let prepared = set.prepared.unwrap();
        assert_eq!((prepared.id.as_str(), prepared.not_before, prepared.not_after), ("ee", 5, 100));
        assert_eq!(set.old.iter().map(|old| old.id.as_str()).collect::<Vec<_>>(), ["bb", "aa"]);
        assert_eq!(set.revoked.len(), 1);
    }

    #[test]
    fn a_change_says_which_kind_it_means() {
        assert_eq!(kind(2).unwrap(), AuthorityKind::Jwt);
        assert_eq!(kind(0).unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(kind(9).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
