//! The load: callers that each wait for an answer before they ask again, and what a window of that cost whom.

use crate::process::Process;
use crate::trouble::Trouble;
use hdrhistogram::Histogram;
use std::future::Future;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The longest latency that is told apart, in nanoseconds: ten seconds, the deadline of a call.
const LONGEST_NANOS: u64 = 10_000_000_000;

/// Significant decimal digits of a recorded latency.
const DIGITS: u8 = 3;

/// What happened between two looks at the clocks.
pub(crate) struct Window {
    /// Operations done.
    pub(crate) operations: u64,
    /// Wall time.
    pub(crate) elapsed: Duration,
    /// Latencies in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    /// Processor time of the server.
    pub(crate) server: Duration,
    /// Processor time of this process.
    pub(crate) client: Duration,
}

/// An empty histogram for latencies.
pub(crate) fn histogram() -> Result<Histogram<u64>, Trouble> {
    Histogram::new_with_max(LONGEST_NANOS, DIGITS).map_err(|error| Trouble::Unexpected(format!("histogram: {error}")))
}

/// Notes one latency; what is longer than the longest counts as the longest.
pub(crate) fn note(latencies: &mut Histogram<u64>, latency: Duration) {
    latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(LONGEST_NANOS));
}

/// Clocks of both sides, read together.
pub(crate) struct Meter {
    server: Process,
    client: Process,
    server_start: Duration,
    client_start: Duration,
    start: Instant,
}

impl Meter {
    /// Starts to measure.
    pub(crate) fn start(server: Process) -> Result<Self, Trouble> {
        let client = Process::this()?;
        let (server_start, client_start) = (server.cpu()?, client.cpu()?);
        Ok(Self { server, client, server_start, client_start, start: Instant::now() })
    }

    /// What was used since.
    pub(crate) fn stop(self, operations: u64, latencies: Histogram<u64>) -> Result<Window, Trouble> {
        Ok(Window {
            operations,
            elapsed: self.start.elapsed(),
            latencies,
            server: self.server.cpu()?.saturating_sub(self.server_start),
            client: self.client.cpu()?.saturating_sub(self.client_start),
        })
    }
}

/// Lets every caller make `each` calls, one after the other. `call` gets the caller and the number of its call.
pub(crate) async fn closed_loop<Caller, Call, Answer>(
    callers: Vec<Caller>,
    each: u64,
    server: Process,
    call: Call,
) -> Result<Window, Trouble>
where
    Caller: Clone + Send + 'static,
    Call: Fn(Caller, u64) -> Answer + Clone + Send + 'static,
    Answer: Future<Output = Result<(), Trouble>> + Send,
{
    let operations = each * callers.len() as u64;
    let mut tasks = JoinSet::new();
    let meter = Meter::start(server)?;
    for caller in callers {
        let call = call.clone();
        tasks.spawn(async move {
            let mut latencies = histogram()?;
            for number in 0..each {
                let start = Instant::now();
                call(caller.clone(), number).await?;
                note(&mut latencies, start.elapsed());
            }
            Ok::<_, Trouble>(latencies)
        });
    }
    let mut all = histogram()?;
    while let Some(latencies) = tasks.join_next().await {
        all.add(latencies??).map_err(|error| Trouble::Unexpected(format!("histogram: {error}")))?;
    }
    meter.stop(operations, all)
}
