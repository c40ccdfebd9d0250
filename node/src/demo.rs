//! `quorate demo`: an authority on this machine, without configuration and without root.
//!
//! ```text
//!   demo ──► DIR/node-1/  node.toml ──► child: quorate node ──► admin.sock     found, register the calling user
//!     |                                       |                 workload.sock  fetch and verify as a workload
//!     |   prints what it got, commands to try, `ready`
//!     └── stays up: a node that dies is started again; Ctrl-C, SIGTERM or SIGHUP stops all, in order
//! ```
//!
//! It is a fixture too: scripts, documents and other people's tests start it, so the layout of the directory and the
//! line `ready` are promises.

mod child;
mod layout;
mod tour;
mod verify;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

pub use child::ChildError;
use child::{NodeProcess, describe};
pub use layout::LayoutError;
use layout::{Base, NodeFiles};
pub use tour::TourError;
pub use verify::VerifyError;

/// How long a node may take to answer on its admin socket. It opens the socket before all else; this is for machines
/// that are busy building.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How often a node that is starting is asked whether it answers.
const START_PACE: Duration = Duration::from_millis(20);

/// A node that gave up less than this after its start is not started again: it would give up over the same. One that
/// a signal ended is, however young: somebody tries what happens.
const RESTART_AFTER: Duration = Duration::from_secs(2);

/// What `quorate demo` takes.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Keep all files under DIR/NODE/ (node-1, ...), and go on with the authority that is there from an earlier
    /// time. Without it they are in a temporary directory that goes when the demonstration ends.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// How many nodes.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=1))]
    pub nodes: u8,
}

/// Why a demonstration ended early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The files could not be laid out.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The node could not be started, or died.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The node did not answer in time.
    #[error("{name} does not answer on its admin socket after {} s; its log: {log}", START_LIMIT.as_secs())]
    Silent {
        /// The node.
        name: String,
        /// Its log.
        log: PathBuf,
    },
    /// A step of the tour failed.
    #[error(transparent)]
    Tour(#[from] TourError),
    /// Signals or the async runtime could not be used.
    #[error("the demonstration cannot go on")]
    System(#[from] io::Error),
}

/// Runs the demonstration until it is told to stop.
///
/// # Errors
///
/// [`DemoError`] says which step failed and where the node's log is. The node that was started is stopped before.
pub fn run(args: &DemoArgs) -> Result<(), DemoError> {
    // One thread, the one that lives as long as the program: the child is told to end with the thread that made it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(demonstrate(args))
}

async fn demonstrate(args: &DemoArgs) -> Result<(), DemoError> {
    let mut stop = Stop::new()?;
    let base = Base::new(args.dir.as_deref())?;
    let files = NodeFiles::new(base.path(), 1)?;
    // Held until the process ends, however it does.
    let _turn = files.lock()?;
    files.prepare()?;
    let mut node = NodeProcess::start(files)?;
    let result = tokio::select! {
        biased;
        () = stop.wait() => Ok(()),
        result = serve(&mut node, &base) => result,
    };
    // Asked after an error too: nothing that was started here outlives the demonstration.
    let stopped = node.stop().await;
    result?;
    say(&format!("stopped: node-1 {}\n", describe(stopped?)));
    Ok(())
}

/// Brings the node up, shows it, and keeps it up. Ends only by an error.
async fn serve(node: &mut NodeProcess, base: &Base) -> Result<(), DemoError> {
    answering(node).await?;
    say(&tour::introduction(node));
    say(&tour::take(node.files()).await?);
    say(&tour::next_commands(node, base));
    say("ready\n");
    loop {
        let since = Instant::now();
        let status = node.ended().await?;
        if status.code().is_some() && since.elapsed() < RESTART_AFTER {
            return Err(node.ended_error(status).into());
        }
        say(&format!("{} {}; starting it again\n", node.files().name, describe(status)));
        *node = NodeProcess::start(node.files().clone())?;
        answering(node).await?;
        tour::wait_until_serving(node.files()).await?;
        say(&format!("{} serves again, process {}\n", node.files().name, node.id()));
    }
}

/// Waits until the node answers on its admin socket, or has died, or the time is over.
async fn answering(node: &mut NodeProcess) -> Result<(), DemoError> {
    let deadline = Instant::now() + START_LIMIT;
    let files = node.files().clone();
    loop {
        tokio::select! {
            biased;
            status = node.ended() => return Err(node.ended_error(status?).into()),
            // What answers may be another's node; this one says its number when it holds the sockets.
            answers = tour::answers(&files) => if answers && files.running() == Some(node.id()) {
                return Ok(());
            },
        }
        if Instant::now() >= deadline {
            return Err(DemoError::Silent { name: files.name.clone(), log: files.log() });
        }
        sleep(START_PACE).await;
    }
}

/// To standard output at once, since whoever started the demonstration may be reading a pipe. Nobody has to: what
/// cannot be written is not said, and the authority stays up.
fn say(text: &str) {
    let mut output = io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

/// The signals that end a demonstration: Ctrl-C, SIGTERM, and the terminal that was closed.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
