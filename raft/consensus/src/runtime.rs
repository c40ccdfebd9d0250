//! The asynchronous runtime as openraft sees it: Tokio, but for the random numbers (SIM-05).
//!
//! openraft draws its election timeout once, inside `Raft::new`, from a generator of the current thread. We seed that
//! generator from the [`Entropy`](crate::sources::Entropy) seam right before, so that a simulated node draws the same
//! number at each run of its seed, and another after each boot.

use std::{cell::RefCell, future::Future, time::Duration};

use openraft::{AsyncRuntime, OptionalSend, TokioInstant, TokioRuntime};
use rand::{RngCore, SeedableRng, rngs::SmallRng};

thread_local! {
    /// The generator of this thread, once seeded.
    static GENERATOR: RefCell<Option<SmallRng>> = const { RefCell::new(None) };
}

/// Seeds the generator that openraft will draw from on this thread.
pub(crate) fn seed_thread(seed: u64) {
    GENERATOR.with_borrow_mut(|generator| *generator = Some(SmallRng::seed_from_u64(seed)));
}

/// Draws from the seeded generator of the thread, and from the operating system's where none was seeded.
#[derive(Debug)]
pub(crate) struct ThreadRandom;

impl ThreadRandom {
    fn with<T>(draw: impl FnOnce(&mut dyn RngCore) -> T) -> T {
        GENERATOR.with_borrow_mut(|generator| match generator {
            Some(seeded) => draw(seeded),
            None => draw(&mut rand::thread_rng()),
        })
    }
}

impl RngCore for ThreadRandom {
    fn next_u32(&mut self) -> u32 {
        Self::with(|generator| generator.next_u32())
    }

    fn next_u64(&mut self) -> u64 {
        Self::with(|generator| generator.next_u64())
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        Self::with(|generator| generator.fill_bytes(bytes));
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand::Error> {
        Self::with(|generator| generator.try_fill_bytes(bytes))
    }
}

/// Tokio with our random numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Runtime;

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = ThreadRandom;
    type OneshotSender<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;
    type OneshotReceiver<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        ThreadRandom
    }

    fn oneshot<T>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>)
    where
        T: OptionalSend,
    {
        TokioRuntime::oneshot()
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn a_seeded_thread_draws_the_same_numbers_again_as_sim_05_asks() {
        let draw = || -> Vec<u64> { (0..8).map(|_| Runtime::thread_rng().gen_range(0..1_000_000)).collect() };
        seed_thread(7);
        let first = draw();
        seed_thread(7);
        assert_eq!(first, draw());
        seed_thread(8);
        assert_ne!(first, draw());
    }
}
