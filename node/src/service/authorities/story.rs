//! What a stream of progress tells: what will be done, how far it is, what was done.

use quorate_actors::RotationProgress;
use quorate_proto_api::cluster::{AuthorityChange, AuthorityProgress, RotationStand, Sentences, authority_progress};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Messages that wait for a slow client.
const BUFFER: usize = 16;

/// The telling end of a stream. Whoever tells goes on when nobody listens: what was begun is the leader's.
pub(super) struct Story {
    sender: mpsc::Sender<Result<AuthorityProgress, Status>>,
    last: RotationStand,
}

impl Story {
    /// A stream, and where its messages are put.
    pub(super) fn new() -> (Self, ReceiverStream<Result<AuthorityProgress, Status>>) {
        let (sender, receiver) = mpsc::channel(BUFFER);
        (Self { sender, last: RotationStand::default() }, ReceiverStream::new(receiver))
    }

    /// Tells what will be done.
    pub(super) async fn will(&self, sentences: Vec<String>, warnings: Vec<String>) {
        self.tell(authority_progress::Told::Will(Sentences { sentences, warnings })).await;
    }

    /// Tells how far it is, unless that is what was told last.
    pub(super) async fn stand(&mut self, step: &str, progress: RotationProgress, waits_for: Vec<String>) {
        let RotationProgress { members_on, members_all, streams_on, streams_all, waits_for: due } = progress;
        let waits_for = if waits_for.is_empty() { due } else { waits_for };
        let step = step.to_owned();
        let stand = RotationStand { step, members_on, members_all, streams_on, streams_all, waits_for };
        if stand != self.last {
            self.tell(authority_progress::Told::Stand(stand.clone())).await;
            self.last = stand;
        }
    }

    /// Tells how it ended.
    pub(super) async fn end(&self, end: Result<AuthorityChange, Status>) {
        match end {
            Ok(change) => self.tell(authority_progress::Told::Done(change)).await,
            // Nobody listens any more, which is nobody's fault.
            Err(status) => drop(self.sender.send(Err(status)).await),
        }
    }

    /// Whether the caller has gone.
    pub(super) fn is_unheard(&self) -> bool {
        self.sender.is_closed()
    }

    async fn tell(&self, told: authority_progress::Told) {
        drop(self.sender.send(Ok(AuthorityProgress { told: Some(told) })).await);
    }
}
