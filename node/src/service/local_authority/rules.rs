//! What SPIRE's API allows to be done with which authority, and by what code it refuses the rest (spire-api.md section 11).
//!
//! SPIRE has two slots of a kind: the current one, and a next one that is prepared, or old after an activation. We have the
//! active one, at most one prepared, and any number of old ones (section 21). Read as slots:
//!
//! ```text
//!   current   the active one
//!   next      the prepared one; without one, the newest of the old ones
//!   old       the newest of the old ones. Taint and revoke take any of them: none is lost by another prepare
//! ```

use quorate_proto_identity::AuthorityId;
use quorate_raft_machine::{AuthorityKind, AuthorityState, AuthorityView, State};
use tonic::Status;

/// The authorities of a kind that are in the bundle, as SPIRE's slots.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    kind: AuthorityKind,
    pub(super) active: Option<AuthorityView>,
    pub(super) prepared: Option<AuthorityView>,
    /// Old and tainted ones, the newest first.
    old: Vec<AuthorityView>,
}

impl Slots {
    /// The slots of a kind.
    pub(super) fn of(state: &State, kind: AuthorityKind) -> Self {
        Self::from_authorities(kind, state.authorities(kind))
    }

    fn from_authorities(kind: AuthorityKind, authorities: Vec<AuthorityView>) -> Self {
        let mut slots = Self { kind, active: None, prepared: None, old: Vec::new() };
        for authority in authorities {
            match authority.state {
                AuthorityState::Active => slots.active = Some(authority),
                AuthorityState::Prepared => slots.prepared = Some(authority),
                AuthorityState::Old | AuthorityState::Tainted => slots.old.push(authority),
                AuthorityState::Revoked => {}
            }
        }
        slots.old.sort_by(|a, b| (b.times.retired_at, &b.id).cmp(&(a.times.retired_at, &a.id)));
        slots
    }

    /// What `Get…State` shows as `old`: the one that signed last and is still in the bundle, tainted or not. When it has
    /// been revoked, the one before it is shown.
    pub(super) fn newest_old(&self) -> Option<&AuthorityView> {
        self.old.first()
    }

    /// `Get…State`: `Unavailable` until there is an active authority.
    pub(super) fn signing(&self) -> Result<&AuthorityView, Status> {
        self.active.as_ref().ok_or_else(|| {
            Status::unavailable(format!("server is initializing: there is no active {}", self.kind.word()))
        })
    }

    /// `Prepare`: refused while one is prepared. SPIRE would drop that one; ours is in the bundle already, and is not
    /// thrown away unseen.
    pub(super) fn may_prepare(&self) -> Result<(), Status> {
        match &self.prepared {
            None => Ok(()),
            Some(prepared) => Err(Status::failed_precondition(format!(
                "failed to prepare {} authority: {} is prepared already; activate it",
                self.kind.word(),
                prepared.id
            ))),
        }
    }

    /// `Activate`: the ID is required and that of the next slot, else `InvalidArgument`; the next slot is prepared, else
    /// `Internal`.
    pub(super) fn may_activate(&self, id: &str) -> Result<AuthorityId, Status> {
        let next = self.prepared.as_ref().or_else(|| self.old.first());
        let id = self.wanted(id)?;
        match next {
            Some(next) if next.id == id && next.state == AuthorityState::Prepared => Ok(id),
            Some(next) if next.id == id => Err(Status::internal(format!(
                "only Prepared authorities can be activated: {id} is {}",
                next.state.name()
            ))),
            Some(_) | None => Err(unexpected(&id)),
        }
    }

    /// `Taint`: neither the active one nor one that is prepared nor one that is not known, else `InvalidArgument`. One that
    /// is tainted already answers `Internal`, as where SPIRE's datastore refuses.
    pub(super) fn may_taint(&self, id: &str) -> Result<AuthorityId, Status> {
        let old = self.old(id)?;
        match old.state {
            AuthorityState::Old => Ok(old.id.clone()),
            AuthorityState::Prepared | AuthorityState::Active | AuthorityState::Tainted | AuthorityState::Revoked => {
                Err(Status::internal(format!("failed to taint authority: {} is already {}", old.id, old.state.name())))
            }
        }
    }

    /// `Revoke`: the same, and it must be tainted, else `Internal`.
    pub(super) fn may_revoke(&self, id: &str) -> Result<AuthorityId, Status> {
        let old = self.old(id)?;
        match old.state {
            AuthorityState::Tainted => Ok(old.id.clone()),
            AuthorityState::Prepared | AuthorityState::Active | AuthorityState::Old | AuthorityState::Revoked => {
                Err(Status::internal(format!(
                    "failed to revoke authority: it is not possible to revoke an untainted authority: {}",
                    old.id
                )))
            }
        }
    }

    /// One that signs no more, by an ID that may be taken back.
    fn old(&self, id: &str) -> Result<&AuthorityView, Status> {
        let id = self.wanted(id)?;
        if self.prepared.as_ref().is_some_and(|prepared| prepared.id == id) {
            return Err(invalid("unable to use a prepared key"));
        }
        self.old.iter().find(|old| old.id == id).ok_or_else(|| unexpected(&id))
    }

    /// An ID that is there and is not the active one's.
    fn wanted(&self, id: &str) -> Result<AuthorityId, Status> {
        if id.is_empty() {
            return Err(invalid("no authority ID provided"));
        }
        let id = AuthorityId::new(id).map_err(|_| unexpected(id))?;
        if self.active.as_ref().is_some_and(|active| active.id == id) {
            return Err(invalid("unable to use current authority"));
        }
        Ok(id)
    }
}

fn unexpected(id: impl std::fmt::Display) -> Status {
    invalid(&format!("unexpected authority ID: {id}"))
}

fn invalid(why: &str) -> Status {
    Status::invalid_argument(format!("invalid authority ID: {why}"))
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{UnixSeconds, Validity};
    use quorate_raft_machine::AuthorityTimes;
    use tonic::Code;

    use super::*;

    fn authority(id: &str, state: AuthorityState, retired_at: i64) -> AuthorityView {
        AuthorityView {
            kind: AuthorityKind::X509,
            id: AuthorityId::new(id).unwrap(),
            state,
            validity: Validity::new(UnixSeconds(0), UnixSeconds(100)).unwrap(),
            times: AuthorityTimes { retired_at: Some(UnixSeconds(retired_at)), ..AuthorityTimes::default() },
            is_openable: true,
        }
    }

    /// An active one, one that is prepared, two that are old, one tainted, one revoked.
    fn whole() -> Slots {
        Slots::from_authorities(
            AuthorityKind::X509,
            vec![
                authority("a0", AuthorityState::Old, 10),
                authority("a1", AuthorityState::Old, 40),
                authority("a2", AuthorityState::Tainted, 30),
                authority("a3", AuthorityState::Revoked, 20),
                authority("b0", AuthorityState::Active, 0),
                authority("c0", AuthorityState::Prepared, 0),
            ],
        )
    }

    /// The same after the prepared one was activated and before another is made.
    fn unprepared() -> Slots {
        Slots { prepared: None, ..whole() }
    }

    fn codes(rule: impl Fn(&str) -> Result<AuthorityId, Status>, table: &[(&str, Code)]) {
        for (id, code) in table {
            let got = rule(id).map_or_else(
                |status| status.code(),
                |allowed| {
                    assert_eq!(allowed.as_str(), *id);
                    Code::Ok
                },
            );
            assert_eq!(got, *code, "{id:?}");
        }
    }

    /// spire-api.md section 11: "Unavailable until the server has an active authority"; section 21: the newest in `old`.
    #[test]
    fn the_state_is_told_once_there_is_an_active_authority_with_the_newest_old_one_section_11() {
        assert_eq!(whole().signing().unwrap().id.as_str(), "b0");
        assert_eq!(whole().newest_old().unwrap().id.as_str(), "a1");
        let none = Slots::from_authorities(AuthorityKind::Jwt, Vec::new());
        assert_eq!(none.signing().unwrap_err().code(), Code::Unavailable);
        assert!(none.newest_old().is_none());
    }

    /// Section 11: a prepare adds one that does not sign yet. Ours is one at a time.
    #[test]
    fn a_second_prepare_is_refused_and_names_the_one_that_is_prepared_section_11() {
        assert!(unprepared().may_prepare().is_ok());
        let refused = whole().may_prepare().unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("c0"), "{refused}");
    }

    /// Section 11: "id required and equal to next slot's, else InvalidArgument; next not PREPARED → Internal".
    #[test]
    fn only_the_prepared_authority_is_activated_and_only_by_its_id_section_11() {
        codes(
            |id| whole().may_activate(id),
            &[
                ("c0", Code::Ok),
                ("", Code::InvalidArgument),
                ("b0", Code::InvalidArgument),
                ("a1", Code::InvalidArgument),
                ("ff", Code::InvalidArgument),
                ("not an ID", Code::InvalidArgument),
            ],
        );
        codes(|id| unprepared().may_activate(id), &[("a1", Code::Internal), ("a0", Code::InvalidArgument)]);
        let none = Slots::from_authorities(AuthorityKind::X509, Vec::new());
        codes(|id| none.may_activate(id), &[("c0", Code::InvalidArgument)]);
    }

    /// Section 11: "current → InvalidArgument; must be the next slot and OLD".
    #[test]
    fn only_an_old_authority_is_tainted_section_11() {
        codes(
            |id| whole().may_taint(id),
            &[
                ("a1", Code::Ok),
                ("a0", Code::Ok),
                ("a2", Code::Internal),
                ("", Code::InvalidArgument),
                ("b0", Code::InvalidArgument),
                ("c0", Code::InvalidArgument),
                ("a3", Code::InvalidArgument),
                ("ff", Code::InvalidArgument),
            ],
        );
    }

    /// Section 11: "same slot rules; must already be tainted (Internal)"; for token keys "prepared/current refused".
    #[test]
    fn only_a_tainted_authority_is_revoked_section_11() {
        codes(
            |id| whole().may_revoke(id),
            &[
                ("a2", Code::Ok),
                ("a1", Code::Internal),
                ("a0", Code::Internal),
                ("", Code::InvalidArgument),
                ("b0", Code::InvalidArgument),
                ("c0", Code::InvalidArgument),
                ("a3", Code::InvalidArgument),
                ("ff", Code::InvalidArgument),
            ],
        );
    }
}
