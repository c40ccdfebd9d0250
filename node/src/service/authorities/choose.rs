//! Which authority a command means: the one it names, or the only one that it can mean.

use quorate_proto_identity::AuthorityId;
use quorate_raft_machine::{AuthorityKind, AuthorityState, AuthorityView};
use tonic::Status;

/// The authority that is to leave this state for the next one.
///
/// # Errors
///
/// `InvalidArgument` when the ID is none, or is left out and several could be meant; `NotFound` when there is no such
/// authority; `FailedPrecondition` when it is in another state, or none is in this one. The text says what to do.
pub(super) fn choose<'a>(
    kind: AuthorityKind,
    known: &'a [AuthorityView],
    id: &str,
    wanted: AuthorityState,
) -> Result<&'a AuthorityView, Status> {
    let word = kind.word();
    if !id.is_empty() {
        let id = AuthorityId::new(id).map_err(|error| Status::invalid_argument(format!("id: {id:?}: {error}")))?;
        let named = known.iter().find(|authority| authority.id == id);
        let named = named.ok_or_else(|| {
            Status::not_found(format!("there is no {word} authority {id}; `quorate authority show` lists them"))
        })?;
        return if named.state == wanted { Ok(named) } else { Err(wrong_state(word, named, wanted)) };
    }
    let mut candidates = known.iter().filter(|authority| authority.state == wanted);
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Status::failed_precondition(none(word, wanted))),
        (Some(first), Some(second)) => {
            let mut ids = vec![first.id.as_str(), second.id.as_str()];
            ids.extend(candidates.map(|authority| authority.id.as_str()));
            let state = wanted.name();
            Err(Status::invalid_argument(format!(
                "{} {word} authorities are {state}, say which by its ID: {}",
                ids.len(),
                ids.join(", ")
            )))
        }
    }
}

fn wrong_state(word: &str, named: &AuthorityView, wanted: AuthorityState) -> Status {
    let advice = match (named.state, wanted) {
        (AuthorityState::Active, AuthorityState::Old | AuthorityState::Tainted) => {
            format!("; `quorate authority replace --compromised {word}` puts another in its place first")
        }
        (AuthorityState::Old, AuthorityState::Tainted) => {
            format!("; `quorate authority taint {word} --id {}` comes first", named.id)
        }
        (AuthorityState::Prepared, AuthorityState::Old | AuthorityState::Tainted) => {
            "; it has signed nothing".to_owned()
        }
        _ => String::new(),
    };
    let (is, id) = (named.state.name(), &named.id);
    Status::failed_precondition(format!("the {word} authority {id} is {is}, not {}{advice}", wanted.name()))
}

fn none(word: &str, wanted: AuthorityState) -> String {
    let state = wanted.name();
    match wanted {
        AuthorityState::Prepared => {
            format!("no {word} authority is {state}; `quorate authority prepare {word}` makes one")
        }
        AuthorityState::Old => format!(
            "no {word} authority is {state}; `quorate authority replace --compromised {word}` replaces the active one"
        ),
        AuthorityState::Tainted => {
            format!("no {word} authority is {state}; `quorate authority taint {word}` comes first")
        }
        AuthorityState::Active | AuthorityState::Revoked => format!("no {word} authority is {state}"),
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{UnixSeconds, Validity};
    use quorate_raft_machine::AuthorityTimes;
    use tonic::Code;

    use super::*;

    fn known(authorities: &[(&str, AuthorityState)]) -> Vec<AuthorityView> {
        let view = |(id, state): &(&str, AuthorityState)| AuthorityView {
            kind: AuthorityKind::X509,
            id: AuthorityId::new(id).unwrap(),
            state: *state,
            validity: Validity::new(UnixSeconds(0), UnixSeconds(1)).unwrap(),
            times: AuthorityTimes::default(),
            is_openable: true,
        };
        authorities.iter().map(view).collect()
    }

    fn chosen(authorities: &[(&str, AuthorityState)], id: &str, wanted: AuthorityState) -> Result<String, Status> {
        choose(AuthorityKind::X509, &known(authorities), id, wanted).map(|authority| authority.id.to_string())
    }

    #[test]
    fn without_an_id_the_only_candidate_is_meant() {
        let one = [("aa", AuthorityState::Active), ("bb", AuthorityState::Prepared)];
        assert_eq!(chosen(&one, "", AuthorityState::Prepared).unwrap(), "bb");
        let none = chosen(&one, "", AuthorityState::Old).unwrap_err();
        assert_eq!(none.code(), Code::FailedPrecondition);
        assert!(none.message().contains("replace --compromised x509"), "{none}");
    }

    #[test]
    fn among_several_one_has_to_be_named() {
        let two = [("aa", AuthorityState::Old), ("bb", AuthorityState::Old), ("cc", AuthorityState::Active)];
        let several = chosen(&two, "", AuthorityState::Old).unwrap_err();
        assert_eq!(several.code(), Code::InvalidArgument);
        assert!(several.message().ends_with("aa, bb"), "{several}");
        assert_eq!(chosen(&two, "bb", AuthorityState::Old).unwrap(), "bb");
    }

    #[test]
    fn a_step_that_the_life_cycle_does_not_have_is_refused_with_the_one_that_comes_first() {
        let all = [("aa", AuthorityState::Old), ("cc", AuthorityState::Active)];
        for (id, wanted, code, says) in [
            ("cc", AuthorityState::Old, Code::FailedPrecondition, "replace --compromised"),
            ("aa", AuthorityState::Tainted, Code::FailedPrecondition, "taint x509 --id aa"),
            ("aa", AuthorityState::Prepared, Code::FailedPrecondition, "is old, not prepared"),
            ("dd", AuthorityState::Old, Code::NotFound, "authority show"),
            ("no ID", AuthorityState::Old, Code::InvalidArgument, "id: "),
        ] {
            let refused = chosen(&all, id, wanted).unwrap_err();
            assert_eq!(refused.code(), code, "{refused}");
            assert!(refused.message().contains(says), "{refused}");
        }
    }
}
