//! A session's place for its newest answer.
//!
//! A slot holds at most one answer: a newer one takes the place of one that was not fetched yet, so a slow reader costs
//! no memory and never sees a state that is over (design section 5). It is what a stream polls; an actor for each stream
//! would cost 12 KiB and tens of microseconds.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use super::{answer::Answer, standing::Standing};
use crate::refusal::Refusal;

/// The place. Written by whoever refreshes its group, read by its stream.
#[derive(Debug)]
pub(crate) struct Slot {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// What the stream has not fetched yet.
    waiting: Option<Answer>,
    /// Why the stream ends, once it is to end.
    end: Option<Refusal>,
    /// The version of the last answer put here; 0 before there was one.
    version: u64,
    /// Under which roots stands what the stream was sent last.
    sent: Option<Arc<Standing>>,
    reader: Option<Waker>,
}

impl Slot {
    pub(crate) fn new() -> Arc<Self> {
        let inner = Inner { waiting: None, end: None, version: 0, sent: None, reader: None };
        Arc::new(Self { inner: Mutex::new(inner) })
    }

    /// Notes what the stream was sent.
    pub(crate) fn note_sent(&self, standing: &Arc<Standing>) {
        self.inner.lock().sent = Some(Arc::clone(standing));
    }

    /// Under which roots stands what the stream was sent last, as long as it goes on.
    pub(crate) fn sent(&self) -> Option<Arc<Standing>> {
        let inner = self.inner.lock();
        if inner.end.is_some() { None } else { inner.sent.clone() }
    }

    /// Puts an answer here unless it is no newer than the last one. Says whether it was.
    pub(crate) fn put(&self, version: u64, answer: impl FnOnce() -> Answer) -> bool {
        let reader = {
            let mut inner = self.inner.lock();
            if inner.end.is_some() || inner.version >= version {
                return false;
            }
            inner.version = version;
            inner.waiting = Some(answer());
            inner.reader.take()
        };
        wake(reader);
        true
    }

    /// Takes note that an answer was fetched and not sent, because it was spoiled meanwhile: whoever waits for the stream to
    /// have it waits on, and the next one goes out whatever its version.
    pub(crate) fn not_sent(&self) {
        let mut inner = self.inner.lock();
        if inner.waiting.is_none() {
            inner.version = 0;
        }
    }

    /// Ends the stream. What was not fetched is dropped: an identity that was taken away must not go out any more.
    pub(crate) fn end(&self, refusal: Refusal) {
        let reader = {
            let mut inner = self.inner.lock();
            inner.waiting = None;
            inner.end.get_or_insert(refusal);
            inner.reader.take()
        };
        wake(reader);
    }

    /// Whether an answer was ever put here.
    pub(crate) fn is_new(&self) -> bool {
        self.inner.lock().version == 0
    }

    /// Whether its stream goes on and has yet to fetch an answer of this version.
    pub(crate) fn lacks(&self, version: u64) -> bool {
        let inner = self.inner.lock();
        inner.end.is_none() && (inner.version < version || inner.waiting.is_some())
    }

    /// Why the stream ends, if it is to.
    pub(crate) fn ended(&self) -> Option<Refusal> {
        self.inner.lock().end.clone()
    }

    /// Takes the newest answer, or learns of the end, or leaves word to be woken.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Answer, Refusal>> {
        let mut inner = self.inner.lock();
        if let Some(refusal) = &inner.end {
            return Poll::Ready(Err(refusal.clone()));
        }
        if let Some(answer) = inner.waiting.take() {
            return Poll::Ready(Ok(answer));
        }
        match &mut inner.reader {
            Some(reader) => reader.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

fn wake(reader: Option<Waker>) {
    if let Some(reader) = reader {
        reader.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;
    use crate::session::answer::tests::answer;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sequence(answer: &Answer) -> u64 {
        match answer {
            Answer::X509Bundles(bundles) | Answer::JwtBundles(bundles) => bundles.own.sequence,
            Answer::X509Svids(_) => 0,
        }
    }

    #[test]
    fn changes_coalesce_and_the_newest_wins() {
        let (slot, count) = (Slot::new(), Arc::new(Counting::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        assert!(slot.is_new());
        assert!(slot.poll(&mut context).is_pending());
        for version in [1, 2, 5] {
            assert!(slot.put(version, || answer(version)));
        }
        assert!(!slot.put(4, || answer(4)), "an older answer comes too late");
        assert!(!slot.put(5, || answer(5)), "the same answer is not sent twice");
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        let Poll::Ready(Ok(newest)) = slot.poll(&mut context) else { panic!("an answer waits") };
        assert_eq!(sequence(&newest), 5);
        assert!(slot.poll(&mut context).is_pending());
    }

    #[test]
    fn what_was_fetched_and_not_sent_is_lacked_until_the_next_answer() {
        let slot = Slot::new();
        let mut context = Context::from_waker(Waker::noop());
        slot.put(3, || answer(3));
        assert!(slot.poll(&mut context).is_ready() && !slot.lacks(3));
        slot.not_sent();
        assert!(slot.lacks(3));
        assert!(slot.put(3, || answer(3)), "it may prove good after all");
        assert!(slot.poll(&mut context).is_ready());
        slot.put(4, || answer(4));
        slot.not_sent();
        assert!(slot.lacks(4) && !slot.put(4, || answer(4)), "a newer one waits already");
    }

    #[tokio::test]
    async fn the_end_comes_before_what_was_not_fetched_and_is_the_first_one_said() {
        let slot = Slot::new();
        slot.put(1, || answer(1));
        slot.end(Refusal::no_identity());
        slot.end(Refusal::unavailable("later"));
        assert!(!slot.put(2, || answer(2)));
        let end = poll_fn(|context| slot.poll(context)).await.map(|_| ());
        assert_eq!(end, Err(Refusal::no_identity()));
    }
}
