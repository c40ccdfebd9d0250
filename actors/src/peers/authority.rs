//! Questions about the life of authorities, between the member that an operator asked and the one that leads.

use bytes::Bytes;
use prost::Message;
use quorate_proto_api::peer::{
    AuthorityAnswer, AuthorityAsker, AuthorityAskerProcess, AuthorityFailed, AuthorityMoved, AuthorityNotLeader,
    AuthorityQuestion, AuthorityRefused, AuthorityStanding, AuthorityStep, AuthorityWaits, authority_answer::Outcome,
};
use quorate_proto_identity::{AuthorityId, SpiffeId, UnixSeconds};
use quorate_raft_consensus::{Handle, topics};
use quorate_raft_machine::{AuthorityKind, AuthorityState, Caller, CallerIdentity, Refusal, RefusalCode};
use tokio::time::Instant;

use super::PeerError;
use crate::{
    authority::{
        AuthorityChange, AuthorityCommand, AuthorityMessage, COMMAND_TIME_LIMIT, RotationProgress, Tried, Wanted,
    },
    mailbox::Address,
};

/// Asks whoever leads to carry a command out, as far as one try gets.
pub(crate) async fn ask_authority(
    handle: &Handle,
    command: &AuthorityCommand,
    deadline: Instant,
) -> Result<Tried, PeerError> {
    let question = to_question(command).encode_to_vec().into();
    let answer = handle.ask(None, topics::AUTHORITY, question, deadline).await?;
    let outcome = AuthorityAnswer::decode(answer)?.outcome;
    Ok(outcome.map_or_else(|| Tried::Failed("the leader's answer is empty".into()), from_outcome))
}

/// Answers such a question. Any member may ask: whoever can propose a command could do the same by it.
pub(super) async fn answer_authority(authority: &Address<AuthorityMessage>, question: Bytes) -> Result<Bytes, String> {
    let question = AuthorityQuestion::decode(question).map_err(|error| error.to_string())?;
    let command = from_question(&question)?;
    let carry_out = |reply| AuthorityMessage::Command { command, reply };
    let tried = authority.ask(COMMAND_TIME_LIMIT, carry_out).await.map_err(|error| error.to_string())?;
    Ok(AuthorityAnswer { outcome: Some(to_outcome(tried)) }.encode_to_vec().into())
}

fn to_question(command: &AuthorityCommand) -> AuthorityQuestion {
    let (step, id, force) = match &command.wanted {
        Wanted::Prepare => (AuthorityStep::Prepare, None, false),
        Wanted::Activate { id, force } => (AuthorityStep::Activate, Some(id), *force),
        Wanted::Taint { id } => (AuthorityStep::Taint, Some(id), false),
        Wanted::Revoke { id, force } => (AuthorityStep::Revoke, Some(id), *force),
        Wanted::Replace { id, compromised: false } => (AuthorityStep::Replace, Some(id), false),
        Wanted::Replace { id, compromised: true } => (AuthorityStep::ReplaceCompromised, Some(id), false),
        Wanted::Progress => (AuthorityStep::Progress, None, false),
        Wanted::Gate { id } => (AuthorityStep::Gate, Some(id), false),
    };
    AuthorityQuestion {
        asker: Some(to_asker(&command.asker)),
        kind: command.kind as u32,
        id: id.map(ToString::to_string).unwrap_or_default(),
        step: step.into(),
        force,
    }
}

fn from_question(question: &AuthorityQuestion) -> Result<AuthorityCommand, String> {
    let kind = AuthorityKind::from_number(question.kind)
        .ok_or_else(|| format!("this node knows no authorities of kind {}", question.kind))?;
    let id = || AuthorityId::new(&question.id).map_err(|error| format!("the authority's ID is malformed: {error}"));
    let force = question.force;
    let wanted = match question.step() {
        AuthorityStep::Prepare => Wanted::Prepare,
        AuthorityStep::Activate => Wanted::Activate { id: id()?, force },
        AuthorityStep::Taint => Wanted::Taint { id: id()? },
        AuthorityStep::Revoke => Wanted::Revoke { id: id()?, force },
        AuthorityStep::Replace => Wanted::Replace { id: id()?, compromised: false },
        AuthorityStep::ReplaceCompromised => Wanted::Replace { id: id()?, compromised: true },
        AuthorityStep::Progress => Wanted::Progress,
        AuthorityStep::Gate => Wanted::Gate { id: id()? },
        AuthorityStep::Unspecified => return Err(format!("this node knows no step {}", question.step)),
    };
    let asker = from_asker(question.asker.clone().unwrap_or_default())?;
    Ok(AuthorityCommand { asker, kind, wanted })
}

fn to_asker(asker: &Caller) -> AuthorityAsker {
    let (process, spiffe_id) = match &asker.identity {
        CallerIdentity::Node => (None, String::new()),
        CallerIdentity::Unix { uid, gid, pid } => {
            (Some(AuthorityAskerProcess { uid: *uid, gid: *gid, pid: *pid }), String::new())
        }
        CallerIdentity::Spiffe(id) => (None, id.to_string()),
    };
    AuthorityAsker { process, spiffe_id, address: asker.address.clone() }
}

fn from_asker(asker: AuthorityAsker) -> Result<Caller, String> {
    let identity = match asker.process {
        Some(AuthorityAskerProcess { uid, gid, pid }) => CallerIdentity::Unix { uid, gid, pid },
        None if asker.spiffe_id.is_empty() => CallerIdentity::Node,
        None => CallerIdentity::Spiffe(SpiffeId::parse(&asker.spiffe_id).map_err(|error| error.to_string())?),
    };
    Ok(Caller { identity, address: asker.address })
}

fn to_outcome(tried: Tried) -> Outcome {
    match tried {
        Tried::Moved(change, not_everywhere) => Outcome::Moved(AuthorityMoved {
            id: change.id.to_string(),
            state: change.state as u32,
            not_after: change.not_after.0,
            log_index: change.log_index,
            passed_by: change.passed_by,
            fails_for: change.fails_for,
            fails_for_peers: change.fails_for_peers,
            not_everywhere: not_everywhere.unwrap_or_default(),
        }),
        Tried::Waits(waits_for) => Outcome::Waits(AuthorityWaits { waits_for }),
        Tried::Refused(refusal) => {
            Outcome::Refused(AuthorityRefused { code: refusal.code.number(), message: refusal.message })
        }
        Tried::NotLeader(reason) => Outcome::NotLeader(AuthorityNotLeader { reason }),
        Tried::Failed(reason) => Outcome::Failed(AuthorityFailed { reason }),
        Tried::Standing(standing) => {
            let RotationProgress { members_on, members_all, streams_on, streams_all, waits_for } = standing;
            Outcome::Standing(AuthorityStanding { members_on, members_all, streams_on, streams_all, waits_for })
        }
    }
}

fn from_outcome(outcome: Outcome) -> Tried {
    match outcome {
        Outcome::Moved(moved) => from_moved(moved),
        Outcome::Waits(waits) => Tried::Waits(waits.waits_for),
        Outcome::Refused(refused) => match RefusalCode::from_number(refused.code) {
            Some(code) => Tried::Refused(Refusal::new(code, refused.message)),
            None => Tried::Failed(refused.message),
        },
        Outcome::NotLeader(not_leader) => Tried::NotLeader(not_leader.reason),
        Outcome::Failed(failed) => Tried::Failed(failed.reason),
        Outcome::Standing(standing) => {
            let AuthorityStanding { members_on, members_all, streams_on, streams_all, waits_for } = standing;
            Tried::Standing(RotationProgress { members_on, members_all, streams_on, streams_all, waits_for })
        }
    }
}

fn from_moved(moved: AuthorityMoved) -> Tried {
    let (Ok(id), Some(state)) = (AuthorityId::new(&moved.id), AuthorityState::from_number(moved.state)) else {
        return Tried::Failed("the leader's answer cannot be read: is its program another version?".into());
    };
    let change = AuthorityChange {
        id,
        state,
        not_after: UnixSeconds(moved.not_after),
        log_index: moved.log_index,
        passed_by: moved.passed_by,
        fails_for: moved.fails_for,
        fails_for_peers: moved.fails_for_peers,
    };
    Tried::Moved(change, Some(moved.not_everywhere).filter(|reason| !reason.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_it_was_asked() {
        let id = AuthorityId::new("0a0b").unwrap();
        let wanted = [
            Wanted::Prepare,
            Wanted::Activate { id: id.clone(), force: true },
            Wanted::Taint { id: id.clone() },
            Wanted::Revoke { id: id.clone(), force: false },
            Wanted::Replace { id: id.clone(), compromised: false },
            Wanted::Replace { id, compromised: true },
            Wanted::Progress,
        ];
        let identities = [
            CallerIdentity::Node,
            CallerIdentity::Unix { uid: 0, gid: 5, pid: 7 },
            CallerIdentity::Spiffe(SpiffeId::parse("spiffe://example.org/admin").unwrap()),
        ];
        for (number, wanted) in wanted.into_iter().enumerate() {
            let kind = AuthorityKind::ALL[number % 2];
            let asker = Caller { identity: identities[number % 3].clone(), address: "here".into() };
            let command = AuthorityCommand { asker, kind, wanted };
            assert_eq!(from_question(&to_question(&command)).unwrap(), command);
        }
        from_question(&AuthorityQuestion::default()).unwrap_err();
    }

    #[test]
    fn an_answer_is_read_as_it_was_given() {
        let change = AuthorityChange {
            id: AuthorityId::new("0a").unwrap(),
            state: AuthorityState::Active,
            not_after: UnixSeconds(9),
            log_index: 7,
            passed_by: vec!["x".into()],
            fails_for: vec!["node-2".into()],
            fails_for_peers: vec!["peer.example".into()],
        };
        for not_everywhere in [None, Some("why".to_owned())] {
            let read = from_outcome(to_outcome(Tried::Moved(change.clone(), not_everywhere.clone())));
            assert!(matches!(read, Tried::Moved(read, why) if read == change && why == not_everywhere));
        }
        let refusal = Refusal::new(RefusalCode::WrongState, "no");
        let read = from_outcome(to_outcome(Tried::Refused(refusal.clone())));
        assert!(matches!(read, Tried::Refused(read) if read == refusal));
    }
}
