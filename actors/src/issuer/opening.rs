//! The token key: opened when it begins to sign, wiped when it ends.

use std::sync::Arc;

use quorate_proto_identity::{AuthorityId, UnixMillis};
use quorate_raft_machine::{AuthorityKind, Recipient};
use ractor::ActorRef;

use super::{
    IssuerMessage, IssuerState,
    tokens::{TokenKey, signs_tokens},
};
use crate::{
    authority::own_context,
    errors::with_causes,
    keys::{CustodyError, open_key},
    mailbox::{Envelope, Outcome},
};

/// Wait after the token key could not be opened, in milliseconds: a key service may be away for a moment.
pub(super) const OPEN_WAIT_MILLIS: i64 = 1000;

/// Why the token key was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("its private half is not in the state")]
    Erased,
    #[error(transparent)]
    Custody(#[from] CustodyError),
    #[error("it cannot sign tokens")]
    Unusable(#[from] quorate_proto_identity::jwt_svid::JwtSignError),
    #[error("the task that opened it was lost")]
    Lost,
}

impl IssuerState {
    /// Opens the active token key unless it is open; it stays sealed in the state and is wiped from memory with its last
    /// user.
    pub(super) fn take_up_token_key(&mut self, myself: &ActorRef<Envelope<IssuerMessage>>, now: UnixMillis) {
        let core = &self.arguments.core;
        if let Some(open) = core.tokens.active_id()
            && !core.state.read(|state| state.jwt_authority(&open).is_some_and(|key| signs_tokens(key.state)))
        {
            // Tainted, revoked or gone: whatever becomes of its successor, this one signs nothing any more.
            core.tokens.set(None);
        }
        let found = core.state.read(|state| {
            let own = core.own.member(state).ok()?;
            let active = state.active_jwt_authority()?;
            Some((state.cluster()?.id, own.number, active.clone()))
        });
        let Some((cluster, number, active)) = found else {
            // No member (any more), or no key: what is still open is wiped.
            core.tokens.set(None);
            return;
        };
        let waits = self.open_failed_at.is_some_and(|failed| now.since(failed) < OPEN_WAIT_MILLIS);
        if core.tokens.active_id().as_ref() == Some(&active.id) || self.opening.as_ref() == Some(&active.id) || waits {
            return;
        }
        let own = Recipient::Member(number);
        if active.sealed.as_ref().is_some_and(|sealed| sealed.part_for(&own).is_none()) {
            // A newcomer's: the leader seals it on its way here, and the event of that wakes this up.
            self.trouble = Some("the token key is not sealed to this node yet".into());
            return;
        }
        self.opening = Some(active.id.clone());
        let custody = Arc::clone(&self.arguments.workshop.custody);
        let outcome = Outcome::new(myself, IssuerMessage::Opened(active.id.clone(), Err(OpenError::Lost)));
        self.tasks.spawn(async move {
            let opened = async {
                let sealed = active.sealed.as_ref().ok_or(OpenError::Erased)?;
                let context = own_context(cluster, AuthorityKind::Jwt, active.id.clone(), number);
                let key = open_key(custody.as_ref(), sealed, &context).await?;
                Ok(Arc::new(TokenKey::new(active.id.clone(), key, &active.validity)?))
            };
            let opened = opened.await;
            outcome.say(IssuerMessage::Opened(active.id, opened));
        });
    }

    /// Takes an opened key into use, or remembers why it was not.
    pub(super) fn opened(&mut self, id: &AuthorityId, result: Result<Arc<TokenKey>, OpenError>) {
        if self.opening.as_ref() == Some(id) {
            self.opening = None;
        }
        match result {
            Ok(key) => {
                tracing::info!(target: "quorate::security", authority_id = %id, "this node signs tokens with another key");
                self.open_failed_at = None;
                self.trouble = None;
                self.arguments.core.tokens.set(Some(key));
            }
            Err(error) => {
                tracing::error!(
                    authority_id = %id, error = &error as &dyn std::error::Error,
                    "the token key could not be opened"
                );
                self.open_failed_at = Some(self.arguments.core.sources.now());
                self.trouble = Some(format!("the token key could not be opened: {}", with_causes(&error)).into());
            }
        }
    }
}
