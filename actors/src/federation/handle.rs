//! Federation as services see it, on any node: asks whoever leads.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use quorate_proto_api::peer::{
    FederationAnswer, FederationQuestion, FederationRefresh, FederationRefreshed, FederationStanding,
    FederationStatuses, FederationTold, FederationWarned, FederationWarnings, federation_answer, federation_question,
};
use quorate_proto_identity::{MemberNumber, TrustDomain, UnixSeconds};
use quorate_raft_consensus::{AskError, Handle, topics};
use tokio::time::Instant;

use super::{
    FederationArguments,
    keeper::FederationMessage,
    peer::Refreshed,
    status::{Board, RelationshipStatus, cut},
};

/// Rows of one answer. With an error of the longest each, they stay below 1 MiB.
const PAGE_ROWS: usize = 500;

/// How long a page of rows may take.
const STATUS_TIME_LIMIT: Duration = Duration::from_secs(5);

/// How long a retrieval may take that an operator waits for: here, then by two other members, and recorded.
const REFRESH_TIME_LIMIT: Duration = Duration::from_secs(50);

/// How many warnings are told one by one.
const WARNINGS_LIMIT: usize = 10;

/// Relationships with foreign trust domains, as the leader sees them.
#[derive(Clone)]
pub struct Federation {
    handle: Handle,
    board: Arc<Board>,
}

/// Why the leader gave no answer, or why nothing was fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FederationError {
    /// The leader could not be asked.
    #[error("the leader cannot be asked")]
    Ask(#[from] AskError),
    /// Its answer is in no form that this version knows.
    #[error("the leader's answer cannot be read: is its program another version?")]
    Malformed,
    /// It was asked, and this is why nothing came of it.
    #[error("{0}")]
    Refused(String),
}

impl Federation {
    pub(crate) fn new(handle: Handle, board: Arc<Board>) -> Self {
        Self { handle, board }
    }

    /// How all relationships are, in the order of their trust domains.
    ///
    /// # Errors
    /// When there is no leader to ask.
    pub async fn statuses(&self) -> Result<Vec<RelationshipStatus>, FederationError> {
        let mut statuses: Vec<RelationshipStatus> = Vec::new();
        loop {
            let after = statuses.last().map(|last| last.trust_domain.to_string()).unwrap_or_default();
            let question = federation_question::Question::Statuses(FederationStatuses { after });
            let federation_answer::Answer::Told(told) = self.ask(question, STATUS_TIME_LIMIT).await? else {
                return Err(FederationError::Malformed);
            };
            let FederationTold { standings, more } = told;
            let before = statuses.len();
            for standing in standings {
                statuses.push(from_wire(standing).ok_or(FederationError::Malformed)?);
            }
            // A leader that says "more" and gives none would have this go on for ever.
            if !more || statuses.len() == before {
                return Ok(statuses);
            }
        }
    }

    /// Has the bundle of a trust domain fetched now, and waits for what comes of it. With `accept_older` it is taken even if
    /// its sequence is below that of the last one: an operator knows that the peer was rebuilt (ATK-39).
    ///
    /// # Errors
    /// When it was not fetched or not taken, in words.
    pub async fn refresh(&self, trust_domain: &TrustDomain, accept_older: bool) -> Result<Refreshed, FederationError> {
        let refresh = FederationRefresh { trust_domain: trust_domain.to_string(), accept_older };
        match self.ask(federation_question::Question::Refresh(refresh), REFRESH_TIME_LIMIT).await? {
            federation_answer::Answer::Refreshed(FederationRefreshed { changed, sequence, host, fetched_by }) => {
                Ok(Refreshed { changed, sequence, host, fetched_by: MemberNumber::new(fetched_by) })
            }
            federation_answer::Answer::Refused(words) => Err(FederationError::Refused(words)),
            federation_answer::Answer::Told(_) | federation_answer::Answer::Warned(_) => {
                Err(FederationError::Malformed)
            }
        }
    }

    /// What needs somebody's eyes, a sentence each, as the leader sees it; on other nodes some seconds old.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.board.warnings(WARNINGS_LIMIT)
    }

    /// The same, asked of the leader now.
    pub(super) async fn leaders_warnings(&self) -> Result<Vec<String>, FederationError> {
        let question = federation_question::Question::Warnings(FederationWarnings {});
        match self.ask(question, STATUS_TIME_LIMIT).await? {
            federation_answer::Answer::Warned(FederationWarned { warnings }) => Ok(warnings),
            federation_answer::Answer::Told(_)
            | federation_answer::Answer::Refreshed(_)
            | federation_answer::Answer::Refused(_) => Err(FederationError::Malformed),
        }
    }

    async fn ask(
        &self,
        question: federation_question::Question,
        limit: Duration,
    ) -> Result<federation_answer::Answer, FederationError> {
        let question = FederationQuestion { question: Some(question) }.encode_to_vec();
        let answer = self.handle.ask(None, topics::FEDERATION, question.into(), Instant::now() + limit).await?;
        let answer = FederationAnswer::decode(answer).map_err(|_unreadable| FederationError::Malformed)?;
        answer.answer.ok_or(FederationError::Malformed)
    }
}

impl std::fmt::Debug for Federation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Federation").finish_non_exhaustive()
    }
}

/// Answers what members ask their leader.
pub(crate) async fn answer_federation(arguments: &FederationArguments, question: Bytes) -> Result<Bytes, String> {
    let question = FederationQuestion::decode(question).map_err(|error| error.to_string())?;
    let answer = match question.question {
        Some(federation_question::Question::Statuses(FederationStatuses { after })) => {
            let after = match after.as_str() {
                "" => None,
                name => Some(TrustDomain::new(name).map_err(|error| error.to_string())?),
            };
            let state = &arguments.core.state;
            let (page, more) = state.read(|state| arguments.board.page(state, after.as_ref(), PAGE_ROWS));
            let standings = page.into_iter().map(to_wire).collect();
            federation_answer::Answer::Told(FederationTold { standings, more })
        }
        Some(federation_question::Question::Refresh(FederationRefresh { trust_domain, accept_older })) => {
            let trust_domain = TrustDomain::new(&trust_domain).map_err(|error| error.to_string())?;
            let refresh = |reply| FederationMessage::Refresh { trust_domain, accept_older, reply };
            match arguments.address.ask(REFRESH_TIME_LIMIT, refresh).await.map_err(|error| error.to_string())? {
                Ok(Refreshed { changed, sequence, host, fetched_by }) => {
                    let fetched_by = fetched_by.map_or(0, MemberNumber::get);
                    federation_answer::Answer::Refreshed(FederationRefreshed { changed, sequence, host, fetched_by })
                }
                Err(words) => federation_answer::Answer::Refused(words),
            }
        }
        Some(federation_question::Question::Warnings(FederationWarnings {})) => {
            let warnings = arguments.board.warnings(WARNINGS_LIMIT);
            federation_answer::Answer::Warned(FederationWarned { warnings })
        }
        None => return Err("this node knows no such question of federation".into()),
    };
    Ok(FederationAnswer { answer: Some(answer) }.encode_to_vec().into())
}

fn to_wire(status: RelationshipStatus) -> FederationStanding {
    let error = cut(status.error.unwrap_or_default());
    FederationStanding {
        trust_domain: status.trust_domain.to_string(),
        last_success: status.last_success.map(|at| at.0),
        last_try: status.last_try.map(|at| at.0),
        next_try: status.next_try.map(|at| at.0),
        sequence: status.sequence,
        refresh_hint: status.refresh_hint,
        error,
        stale: status.stale,
        fetched_by: status.fetched_by.map_or(0, MemberNumber::get),
        watching: status.watching,
        older_in_row: status.older_in_row,
    }
}

fn from_wire(standing: FederationStanding) -> Option<RelationshipStatus> {
    Some(RelationshipStatus {
        trust_domain: TrustDomain::new(&standing.trust_domain).ok()?,
        last_success: standing.last_success.map(UnixSeconds),
        last_try: standing.last_try.map(UnixSeconds),
        next_try: standing.next_try.map(UnixSeconds),
        sequence: standing.sequence,
        refresh_hint: standing.refresh_hint,
        error: Some(standing.error).filter(|error| !error.is_empty()),
        stale: standing.stale,
        fetched_by: MemberNumber::new(standing.fetched_by),
        watching: standing.watching,
        older_in_row: standing.older_in_row,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::status::ERROR_BYTES, *};

    #[test]
    fn a_row_is_read_as_it_was_told_and_an_error_of_any_length_fits() {
        let status = RelationshipStatus {
            last_success: Some(UnixSeconds(1)),
            last_try: Some(UnixSeconds(2)),
            next_try: Some(UnixSeconds(3)),
            sequence: Some(u64::MAX),
            refresh_hint: Some(-1),
            error: Some("no".into()),
            stale: true,
            fetched_by: MemberNumber::new(7),
            watching: true,
            older_in_row: 3,
            ..RelationshipStatus::new(TrustDomain::new("other.example").unwrap())
        };
        assert_eq!(from_wire(to_wire(status.clone())), Some(status.clone()));
        let long = RelationshipStatus { error: Some("ä".repeat(ERROR_BYTES)), ..status };
        assert!(to_wire(long).error.len() <= ERROR_BYTES);
    }
}
