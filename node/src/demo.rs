//! `quorate demo`: a cluster on this machine, without configuration and without root.
//!
//! ```text
//!   demo ──► DIR/node-1/  node.toml ──► child: quorate node ──► init            the authority is founded here
//!     |                                                     ──► invite ──┐
//!     |      DIR/node-2/  node.toml, invitation ──► child: quorate node ◄┤      and each other node joins by an
//!     |      DIR/node-3/  node.toml, invitation ──► child: quorate node ◄┘      invitation, as anybody's would
//!     |
//!     |   registers the calling user; fetches and verifies at every node, as a workload
//!     |   prints what it got, commands to try, `ready`
//!     └── stays up: a node that dies is started again; Ctrl-C, SIGTERM or SIGHUP stops all, in order
//! ```
//!
//! With `--federation` there are two such clusters, each an authority of its own trust domain under `DIR/<trust domain>/`; each
//! is given the other's bundle and fetches it from then on, and workloads of both call each other over mutual TLS.
//!
//! It is a fixture too: scripts, documents and other people's tests start it, so the layout of the directory and the
//! line `ready` are promises, and where nobody looks (standard output is no terminal) it does nothing by itself after
//! that line but to start again what died. Before somebody's eyes it fetches and writes on, and shows on one line what
//! comes of that while nodes are killed.

mod activity;
mod assembly;
mod call;
mod child;
mod federation;
mod keeper;
mod layout;
mod outlook;
mod screen;
mod tour;
mod verify;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use activity::Activity;
use assembly::Assembly;
pub use call::CallError;
pub use child::ChildError;
pub use layout::LayoutError;
use layout::{Base, NodeFiles, Ports, Site};
use screen::Screen;
pub use tour::TourError;
pub use verify::VerifyError;

/// How long a node may take to answer on its admin socket. It opens the socket before all else; this is for machines
/// that are busy building.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Most nodes: as many as there may be voters.
const NODES_LIMIT: i64 = 7;

/// What `quorate demo` takes.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Keep all files under DIR/NODE/ (node-1, ...), and go on with the authority that is there from an earlier
    /// time. Without it they are in a temporary directory that goes when the demonstration ends.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// Two clusters of as many nodes, of the trust domains one.example and two.example, that federate; their files are under
    /// DIR/TRUST-DOMAIN/NODE/
    #[arg(long)]
    pub federation: bool,

    /// How many nodes. Three go on without any one of them
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=NODES_LIMIT))]
    pub nodes: u8,

    /// Fetch and write on, and show what comes of it, though standard output is no terminal
    #[arg(long)]
    pub live: bool,
}

/// Why a demonstration ended early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The files could not be laid out.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A node could not be started, or died.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// A node did not answer in time.
    #[error("{name} does not answer on its admin socket after {} s; its log: {log}", START_LIMIT.as_secs())]
    Silent {
        /// The node.
        name: String,
        /// Its log.
        log: PathBuf,
    },
    /// The directory holds a cluster that has other nodes, too: without them it may have no quorum.
    #[error(
        "{path} holds a cluster of {members} nodes: run the demonstration with --nodes {members}, or in another directory"
    )]
    OtherSize {
        /// The directory.
        path: PathBuf,
        /// How many nodes it has.
        members: usize,
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
/// [`DemoError`] says which step failed and where the node's log is. The nodes that were started are stopped before.
pub fn run(args: &DemoArgs) -> Result<(), DemoError> {
    // One thread, the one that lives as long as the program: children are told to end with the thread that made them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(demonstrate(args))
}

async fn demonstrate(args: &DemoArgs) -> Result<(), DemoError> {
    let mut stop = Stop::new()?;
    let base = Base::new(args.dir.as_deref())?;
    let sites: &[Site] = if args.federation { &Site::FEDERATED } else { &[Site::ALONE] };
    let clusters = sites
        .iter()
        .map(|site| (1..=args.nodes).map(|number| NodeFiles::new(base.path(), *site, number)).collect())
        .collect::<Result<Vec<Vec<NodeFiles>>, _>>()?;
    // Held until the process ends, however it does.
    let _turns = clusters.iter().flatten().map(NodeFiles::lock).collect::<Result<Vec<_>, _>>()?;
    let mut ports = Ports::default();
    for files in clusters.iter().flatten() {
        files.prepare(&mut ports)?;
    }
    drop(ports);
    let terminal = io::stdout().is_terminal();
    let screen = Screen::new(terminal);
    screen.say(&tour::introduction(sites, args.nodes, &base));
    let mut assemblies: Vec<Assembly> =
        clusters.into_iter().map(|nodes| Assembly::new(nodes, screen.clone())).collect();
    let live = terminal || args.live;
    let result = tokio::select! {
        biased;
        () = stop.wait() => Ok(()),
        result = serve(&mut assemblies, &base, &screen, live) => result,
    };
    // Asked after an error too: nothing that was started here outlives the demonstration.
    assemblies.iter().for_each(Assembly::begin_stop);
    for assembly in &mut assemblies {
        assembly.stop().await;
    }
    result
}

/// Brings the nodes up, shows them, and keeps them up. Ends only by an error.
async fn serve(assemblies: &mut [Assembly], base: &Base, screen: &Screen, live: bool) -> Result<(), DemoError> {
    match assemblies {
        [alone] => serve_one(alone, base, screen, live).await,
        [one, two] => Box::pin(serve_two(one, two, base, screen, live)).await,
        _ => Ok(()),
    }
}

async fn serve_one(assembly: &mut Assembly, base: &Base, screen: &Screen, live: bool) -> Result<(), DemoError> {
    assembly.bring_up(base.path()).await?;
    let nodes = assembly.files().to_vec();
    let story = assembly.meanwhile(tour::take(&nodes)).await??;
    screen.say(&story);
    screen.say(&tour::next_commands(assembly, base).await);
    screen.say("ready\n");
    let activity = live.then(|| Activity::start(assembly, screen.clone()));
    let end = assembly.keep().await;
    drop(activity);
    Err(end)
}

async fn serve_two(
    one: &mut Assembly,
    two: &mut Assembly,
    base: &Base,
    screen: &Screen,
    live: bool,
) -> Result<(), DemoError> {
    one.bring_up(base.path()).await?;
    one.meanwhile(two.bring_up(base.path())).await??;
    let (first, second) = (one.files().to_vec(), two.files().to_vec());
    let story = one.meanwhile(two.meanwhile(Box::pin(federation::take(&first, &second)))).await???;
    screen.say(&story);
    screen.say(&tour::next_federation_commands(one, two, base).await);
    screen.say("ready\n");
    let activity = live.then(|| Activity::start_federated(one, two, screen.clone()));
    let end = tokio::select! {
        biased;
        end = one.keep() => end,
        end = two.keep() => end,
    };
    drop(activity);
    Err(end)
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
