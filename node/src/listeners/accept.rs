//! The accept loop: it ends when told to, and for no other reason (ATK-21, ATK-23).

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::shutdown::Stopping;

/// First wait after the system could not accept: long enough for a descriptor to become free.
const FIRST_WAIT: Duration = Duration::from_millis(5);

/// Longest wait: a second without new connections is bearable, and costs nothing while it lasts.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Whatever connections come from; a fake in tests.
pub(crate) trait Accept: Send + 'static {
    /// A connection.
    type Stream: Send + 'static;

    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

/// Accepts until `stopping` turns true, then waits at most `drain` for the connections to end.
///
/// `admit` decides about each connection and answers the future that serves it; that future gets
/// the same watch, and ends in good order when it turns true.
pub(crate) async fn accept_loop<A, F, Fut>(
    name: &'static str,
    acceptor: A,
    mut admit: F,
    stopping: Stopping,
    drain: Duration,
) where
    A: Accept,
    F: FnMut(A::Stream, Stopping) -> Option<Fut>,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut wait = FIRST_WAIT;
    let mut told = stopping.clone();
    loop {
        tokio::select! {
            biased;
            () = told.asked() => break,
            Some(ended) = connections.join_next() => note_end(name, ended),
            accepted = acceptor.accept() => match accepted {
                Ok(stream) => {
                    wait = FIRST_WAIT;
                    if let Some(serving) = admit(stream, stopping.clone()) {
                        connections.spawn(serving);
                    }
                }
                Err(error) => {
                    metrics::counter!(crate::metrics::ACCEPT_ERRORS, "listener" => name)
                        .increment(1);
                    if concerns_one_connection(&error) {
                        continue;
                    }
                    tracing::warn!(listener = name, %error, ?wait, "cannot accept at present");
                    sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            },
        }
    }
    // From here on a dial is refused by the kernel, so that clients try another way at once.
    drop(acceptor);
    let deadline = Instant::now() + drain;
    while let Ok(Some(ended)) = timeout_at(deadline, connections.join_next()).await {
        note_end(name, ended);
    }
    if !connections.is_empty() {
        let left = connections.len();
        tracing::warn!(listener = name, left, "connections that did not end in time are cut");
    }
}

fn note_end(name: &'static str, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(listener = name, %error, "a connection's task ended badly");
    }
}

/// Errors that belong to a connection which is gone already, not to the listener.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::shutdown::stop_signal;

    /// Answers from a list, then waits for ever.
    struct Scripted(Mutex<Vec<io::Result<u32>>>);

    impl Accept for Scripted {
        type Stream = u32;

        async fn accept(&self) -> io::Result<u32> {
            let next = self.0.lock().unwrap().pop();
            match next {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test]
    async fn no_accept_error_ends_the_loop_atk_21_atk_23() {
        let mut script: Vec<io::Result<u32>> = Vec::new();
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ECONNABORTED, libc::EPROTO] {
            script.push(Err(io::Error::from_raw_os_error(code)));
            script.push(Ok(1));
        }
        let served = Arc::new(AtomicUsize::new(0));
        let (stop, stopping) = stop_signal();
        let counter = Arc::clone(&served);
        let admit = move |_stream, _stopping| {
            let counter = Arc::clone(&counter);
            Some(async move {
                counter.fetch_add(1, Ordering::SeqCst);
            })
        };
        let drain = Duration::from_secs(1);
        let acceptor = Scripted(Mutex::new(script));
        let task = tokio::spawn(accept_loop("test", acceptor, admit, stopping, drain));
        let all = async {
            while served.load(Ordering::SeqCst) < 5 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), all).await.unwrap();
        stop.ask();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_does_not_end_is_cut_after_the_drain_time() {
        let (stop, stopping) = stop_signal();
        let admit = |_stream, _stopping| Some(std::future::pending());
        let acceptor = Scripted(Mutex::new(vec![Ok(1)]));
        let drain = Duration::from_millis(50);
        let task = tokio::spawn(accept_loop("test", acceptor, admit, stopping, drain));
        tokio::task::yield_now().await;
        let before = Instant::now();
        stop.ask();
        task.await.unwrap();
        assert!(before.elapsed() >= Duration::from_millis(50), "it was given its time");
    }
}
