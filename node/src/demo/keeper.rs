//! Keeps one node up: starts it, and starts it again when it dies, until it is told to stop.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::child::{NodeProcess, describe};
use super::layout::NodeFiles;
use super::{DemoError, START_LIMIT, tour};

/// How often a node that is starting is asked whether it answers.
const START_PACE: Duration = Duration::from_millis(20);

/// A node that gave up less than this after its start is not started again: it would give up over the same. One that
/// a signal ended is, however young: somebody tries what happens.
const RESTART_AFTER: Duration = Duration::from_secs(2);

/// Events that wait to be told: a few a node.
pub(super) const EVENTS: usize = 64;

/// What becomes of a node.
#[derive(Debug)]
pub(super) enum Event {
    /// It ended, and will be started again.
    Ended {
        /// Which node.
        name: String,
        /// How, in words.
        how: String,
    },
    /// It serves again.
    Back {
        /// Which node.
        name: String,
        /// Its process.
        process: u32,
        /// What it has applied.
        applied_index: u64,
        /// How long it took from the start of the process.
        after: Duration,
    },
    /// It does not start.
    GaveUp(DemoError),
}

/// A node that is kept up.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) files: NodeFiles,
    /// Its process: while it answers, or, when it was started again, since it serves.
    pub(super) process: watch::Receiver<Option<u32>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Option<ExitStatus>>,
}

impl Keeper {
    /// Starts the node. `pause` is how long it stays down when it died.
    pub(super) fn start(files: NodeFiles, pause: Duration, events: mpsc::Sender<Event>) -> Self {
        let (stop, stopping) = watch::channel(false);
        let (running, process) = watch::channel(None);
        let task = tokio::spawn(keep(files.clone(), pause, events, running, stopping));
        Self { files, process, stop, task }
    }

    /// Tells the node to stop.
    pub(super) fn begin_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits for its end, and says how it was.
    pub(super) async fn stopped(self) -> String {
        match self.task.await {
            Ok(Some(status)) => format!("{} {}", self.files.title(), describe(status)),
            Ok(None) => format!("{} was not running", self.files.title()),
            Err(_) => format!("{} was left", self.files.title()),
        }
    }
}

async fn keep(
    files: NodeFiles,
    pause: Duration,
    events: mpsc::Sender<Event>,
    running: watch::Sender<Option<u32>>,
    mut stopping: watch::Receiver<bool>,
) -> Option<ExitStatus> {
    let mut again = false;
    loop {
        let since = Instant::now();
        let mut node = match NodeProcess::start(files.clone()) {
            Ok(node) => node,
            Err(error) => {
                drop(events.send(Event::GaveUp(error.into())).await);
                return None;
            }
        };
        let life = live(&mut node, again, since, &events, &running);
        let end = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => None,
            end = life => Some(end),
        };
        running.send_replace(None);
        let Some(end) = end else {
            return node.stop().await.ok();
        };
        match end {
            Ok(status) if status.code().is_some() && since.elapsed() < RESTART_AFTER => {
                drop(events.send(Event::GaveUp(node.ended_error(status).into())).await);
                return Some(status);
            }
            Ok(status) => {
                let (name, how) = (files.title(), describe(status));
                drop(events.send(Event::Ended { name, how }).await);
            }
            Err(error) => {
                drop(events.send(Event::GaveUp(error)).await);
                return node.stop().await.ok();
            }
        }
        again = true;
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return None,
            () = sleep(pause) => {}
        }
    }
}

/// From the start of a process to its end.
async fn live(
    node: &mut NodeProcess,
    again: bool,
    since: Instant,
    events: &mpsc::Sender<Event>,
    running: &watch::Sender<Option<u32>>,
) -> Result<ExitStatus, DemoError> {
    if let Some(status) = answering(node).await? {
        return Ok(status);
    }
    if again {
        let files = node.files().clone();
        tokio::select! {
            biased;
            status = node.ended() => return Ok(status?),
            applied_index = tour::caught_up(&files) => {
                let back =
                    Event::Back { name: files.title(), process: node.id(), applied_index, after: since.elapsed() };
                drop(events.send(back).await);
            }
        }
    }
    running.send_replace(Some(node.id()));
    Ok(node.ended().await?)
}

/// Waits until the node answers on its admin socket, or the time is over. Gives how it ended if it died before.
async fn answering(node: &mut NodeProcess) -> Result<Option<ExitStatus>, DemoError> {
    let deadline = Instant::now() + START_LIMIT;
    let files = node.files().clone();
    loop {
        tokio::select! {
            biased;
            status = node.ended() => return Ok(Some(status?)),
            // What answers may be another's node; this one says its number when it holds the sockets.
            answers = tour::answers(&files) => if answers && files.running() == Some(node.id()) {
                return Ok(None);
            },
        }
        if Instant::now() >= deadline {
            return Err(DemoError::Silent { name: files.title(), log: files.log() });
        }
        sleep(START_PACE).await;
    }
}
