//! `quorate-chaos revocation`: programs that check certificates by themselves refuse what was revoked and accept everything
//! else of every node, while leaves are revoked, nodes restarted, issuing certificates renewed and the root replaced.
//!
//! ```text
//!   nodes ──stream──► posts ──view──► openssl, rustls, nginx, PostgreSQL, our own verifier ──opinion──► judge
//!     ^                 every chain and every set that a stream of each node holds                        |
//!     └── revoke, SIGKILL and start, prepare and activate a root ── the acts                       INV-16, counts
//! ```
//!
//! The policy is `always`: what reads files with a fixed flag needs that (CRL-08). A consumer that is not installed fails
//! the run unless it is named as one that may be missing.

mod acts;
mod consultation;
mod judge;
mod post;

use self::consultation::{Consultant, Wanted};
use self::judge::Judge;
use crate::clock::Clock;
use crate::fleet::Fleet;
use crate::invariants::Violations;
use crate::scenario::healing;
use crate::trouble::Trouble;
use crate::{progress, say};
use clap::Args;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Renewals of issuing certificates every fifteen seconds, and time enough for files to be read again before a new key
/// signs (CRL-07).
const POLICY: &str = "root_lifetime = \"10m\"\nissuing_lifetime = \"30s\"\nx509_svid_lifetime = \"15s\"\n\
                      jwt_key_lifetime = \"10m\"\njwt_svid_lifetime = \"30s\"\nrefresh_hint = \"5s\"\n\
                      crl_mode = \"always\"\ncrl_settle = \"3s\"\n";

/// What `revocation` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often everything is done.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Consumers that need not be installed here.
    #[arg(long, value_enum, value_delimiter = ',')]
    may_miss: Vec<Wanted>,
}

/// One run.
pub(crate) async fn run(options: &Options) -> Result<(), Trouble> {
    super::in_directory("revocation", async |directory| within(options, directory).await).await
}

async fn within(options: &Options, directory: &Path) -> Result<(), Trouble> {
    let found = consultation::find(&options.may_miss).await?;
    // A server that runs as another user passes through it to its files.
    let open = fs::set_permissions(directory, Permissions::from_mode(0o711));
    open.map_err(Trouble::system(directory.display().to_string()))?;
    let fleet = Fleet::on_loopback(&directory.join("nodes"), 3, POLICY).await?;
    acts::register(&fleet).await?;
    for member in fleet.members() {
        healing::served(member).await?;
    }
    let violations = Violations::new(Clock::start());
    let judge = Arc::new(Judge::new(&fleet, violations.clone()));
    let mut tasks = JoinSet::new();
    for (index, member) in fleet.members().iter().enumerate() {
        tasks.spawn(post::read(Arc::clone(&judge), index, member.place.workload_socket()));
    }
    judge.all_open().await?;
    let (end, ended) = watch::channel(false);
    let mut consultants = JoinSet::new();
    for wanted in found {
        let consultant = Consultant::start(wanted, &judge, directory).await?;
        progress(&format!("  {} is there", consultant.name()));
        consultants.spawn(consultant.consult(Arc::clone(&judge), ended.clone()));
    }
    let acted = acts::all(&fleet, &judge, options.rounds).await;
    // Whoever listened has gone by itself: what it died of is told below.
    let _ = end.send(true);
    while let Some(ended) = consultants.join_next().await {
        ended??;
    }
    tasks.shutdown().await;
    let done = acted?;
    for line in judge.lines() {
        say(&format!("revocation: {line}"));
    }
    say(&format!("revocation: {done}"));
    violations.none(directory)?;
    judge.proved(done.restarts)?;
    fleet.stop().await
}
