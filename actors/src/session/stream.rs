//! A stream of answers, as a gRPC handler passes it on.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio_stream::Stream;

use super::{
    answer::Answer,
    caller::{Caller, Glance},
    group::Membership,
    workload_api::Shared,
};
use crate::refusal::Refusal;

type Reopening = Pin<Box<dyn Future<Output = Result<Membership, Refusal>> + Send>>;

/// Complete answers, one after the other, each the newest there is; the last item is the reason why the stream ends.
///
/// `PermissionDenied` when the caller has no identity any more, `Unavailable` when this node cannot answer for it now.
pub struct AnswerStream<T> {
    shared: Arc<Shared>,
    caller: Arc<Caller>,
    state: State,
    /// Whether the caller was looked at for the answer that comes next.
    looked: bool,
    take: fn(&Answer) -> Option<T>,
}

enum State {
    Open(Membership),
    /// The caller is attested afresh, and joins the group that it then belongs to. Until then what it was sent counts where
    /// it was.
    Reopening(Reopening, Membership),
    Ended,
}

impl<T> AnswerStream<T> {
    /// A stream over a session that was just opened for this caller.
    pub(crate) fn new(
        shared: Arc<Shared>,
        caller: Arc<Caller>,
        membership: Membership,
        take: fn(&Answer) -> Option<T>,
    ) -> Self {
        Self { shared, caller, state: State::Open(membership), looked: true, take }
    }

    fn end(&mut self, refusal: Refusal) -> Poll<Option<Result<T, Refusal>>> {
        self.state = State::Ended;
        Poll::Ready(Some(Err(self.caller.refused(refusal))))
    }

    /// Looks at the caller before an answer goes out (ATK-16). Nothing when the answer may go out.
    fn look(&mut self) -> Option<Result<Reopening, Refusal>> {
        let State::Open(membership) = &self.state else { return None };
        if std::mem::take(&mut self.looked) {
            return None;
        }
        match self.caller.glance() {
            Glance::Stands(group) if membership.is_in(&group) => None,
            Glance::Gone(refusal) => Some(Err(refusal)),
            Glance::Stands(_) | Glance::Unknown => {
                let (shared, caller, kind) = (Arc::clone(&self.shared), Arc::clone(&self.caller), membership.kind());
                Some(Ok(Box::pin(async move { shared.open(&caller, kind).await })))
            }
        }
    }
}

impl<T> Stream for AnswerStream<T> {
    type Item = Result<T, Refusal>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Ended => return Poll::Ready(None),
                State::Reopening(reopening, before) => match ready!(reopening.as_mut().poll(context)) {
                    Ok(membership) => {
                        if let Some(sent) = before.slot().sent() {
                            membership.slot().note_sent(&sent);
                        }
                        this.state = State::Open(membership);
                        this.looked = true;
                    }
                    Err(refusal) => return this.end(refusal),
                },
                State::Open(membership) => {
                    let answer = match ready!(membership.slot().poll(context)) {
                        Ok(answer) => answer,
                        Err(refusal) => return this.end(refusal),
                    };
                    match this.look() {
                        None => {}
                        Some(Ok(reopening)) => {
                            this.state = match std::mem::replace(&mut this.state, State::Ended) {
                                State::Open(before) => {
                                    before.slot().not_sent();
                                    State::Reopening(reopening, before)
                                }
                                other @ (State::Reopening(..) | State::Ended) => other,
                            };
                            continue;
                        }
                        Some(Err(refusal)) => return this.end(refusal),
                    }
                    if let Err(refusal) = this.shared.core.leases.current(this.shared.core.sources.now()) {
                        return this.end(refusal);
                    }
                    let State::Open(membership) = &this.state else { continue };
                    let selectors = membership.selectors();
                    let good = match &answer {
                        Answer::X509Svids(answer) => this.shared.core.may_go_out(answer, selectors),
                        Answer::X509Bundles(bundles) | Answer::JwtBundles(bundles) => {
                            this.shared.core.none_withdrawn(&bundles.foreign)
                        }
                    };
                    if !good {
                        // The event that spoiled it is on its way to the keeper; the caller was looked at all the same. The
                        // end of an SVID is no event, and the keeper may sleep through it when the time of day jumps.
                        membership.look_again();
                        membership.slot().not_sent();
                        continue;
                    }
                    if let Answer::X509Svids(answer) = &answer {
                        membership.slot().note_sent(answer.standing());
                    }
                    if let Some(answer) = (this.take)(&answer) {
                        return Poll::Ready(Some(Ok(answer)));
                    }
                }
            }
        }
    }
}

impl<T> fmt::Debug for AnswerStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerStream").field("caller", &self.caller).finish_non_exhaustive()
    }
}
