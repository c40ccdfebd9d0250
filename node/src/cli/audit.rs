//! `quorate audit`: the record of who did what, and whether it is what it was.
//!
//! ```text
//!   show, follow ──► the node's socket, or files (--dir)      lines for people, or the records as they stand (JSON lines)
//!   verify ────────► files, always looked at here, with ──► intact 0, cut off 5, altered 6
//!                    anchors from a node's socket
//! ```
//!
//! A verification trusts no node with the files: it reads them itself, and takes from a node only what the cluster has agreed
//! on, and the node's own memory of its last record.

mod lines;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use quorate_actors::audit::{Filter, Reader};
use quorate_actors::sources::SystemClock;
use quorate_proto_api::cluster::ReadRecordsRequest;
use quorate_proto_api::cluster::audit_client::AuditClient;
use quorate_proto_identity::UnixMillis;
use quorate_raft_consensus::WallClock as _;
use quorate_raft_store::disk::RealDisk;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::failure::Failure;
use super::output::Format;
use super::socket::AdminArgs;
use crate::duration::Seconds;
use lines::Lines;

/// What can be done with the audit trail.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Show records, the oldest first
    Show(ShowArgs),
    /// Show the newest records, and each one as it is recorded
    Follow(FollowArgs),
    /// Say whether the trail is intact, cut off or altered: where, and against which anchor
    Verify(verify::VerifyArgs),
}

/// Which records are wanted.
#[derive(Debug, Args)]
struct FilterArgs {
    /// Only since then: a time such as 2026-11-23T12:00:00Z, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<Since>,

    /// Only acts of somebody whose name contains this: `uid=1000`, `node:2`, a SPIFFE ID
    #[arg(long, value_name = "TEXT")]
    who: Option<String>,

    /// Only this act, such as `entry.create`, or all that begin so, such as `entry`
    #[arg(long, value_name = "NAME")]
    what: Option<String>,

    /// Only records that name this SPIFFE ID
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<String>,
}

/// A time, or how long ago.
#[derive(Debug, Clone, Copy)]
enum Since {
    At(UnixMillis),
    Ago(Seconds),
}

fn instant(text: &str) -> Result<Since, String> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        let millis = at.unix_timestamp_nanos() / 1_000_000;
        return i64::try_from(millis).map(|millis| Since::At(UnixMillis(millis))).map_err(|error| error.to_string());
    }
    text.parse()
        .map(Since::Ago)
        .map_err(|_| format!("{text:?} is neither a time such as 2026-11-23T12:00:00Z nor a duration such as 2h"))
}

impl Since {
    fn millis(self) -> UnixMillis {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => SystemClock.now().plus(ago.get().saturating_mul(-1_000)),
        }
    }
}

/// What `quorate audit show` takes.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    admin: AdminArgs,

    #[command(flatten)]
    filter: FilterArgs,

    /// Read the files in this directory, and ask no node
    #[arg(long, value_name = "DIR", conflicts_with = "socket")]
    dir: Option<PathBuf>,
}

/// What `quorate audit follow` takes.
#[derive(Debug, Args)]
pub(super) struct FollowArgs {
    #[command(flatten)]
    admin: AdminArgs,

    #[command(flatten)]
    filter: FilterArgs,

    /// How many of the newest records are shown first
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    newest: u32,
}

impl AuditCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Show(ShowArgs { admin, filter, dir: Some(dir) }) => show_files(admin.output, filter, dir),
            Self::Show(ShowArgs { admin, filter, dir: None }) => {
                records(&admin, filter.request(false, 0), "show the audit trail").await
            }
            Self::Follow(FollowArgs { admin, filter, newest }) => {
                records(&admin, filter.request(true, newest), "follow the audit trail").await
            }
            Self::Verify(args) => verify::run(args).await,
        }
    }
}

impl FilterArgs {
    fn request(self, follow: bool, newest: u32) -> ReadRecordsRequest {
        let Self { since, who, what, spiffe_id } = self;
        ReadRecordsRequest {
            from: 0,
            since: since.map_or(0, |since| since.millis().0),
            who: who.unwrap_or_default(),
            what: what.unwrap_or_default(),
            spiffe_id: spiffe_id.unwrap_or_default(),
            follow,
            newest,
        }
    }
}

async fn records(admin: &AdminArgs, request: ReadRecordsRequest, deed: &'static str) -> Result<(), Failure> {
    let connection = admin.connect()?;
    let mut stream = AuditClient::new(connection.channel())
        .read_records(connection.stream_request(request))
        .await
        .map_err(connection.failed(deed))?
        .into_inner();
    let mut lines = Lines::new(admin.output);
    while let Some(record) = stream.message().await.map_err(connection.failed(deed))? {
        lines.say(&record.line)?;
    }
    Ok(())
}

fn show_files(output: Format, filter: FilterArgs, directory: PathBuf) -> Result<(), Failure> {
    let FilterArgs { since, who, what, spiffe_id } = filter;
    let filter = Filter { since: since.map(Since::millis), who, what, spiffe_id };
    look_at(&directory)?;
    let mut reader = Reader::new(Arc::new(RealDisk), directory, 1);
    let mut lines = Lines::new(output);
    loop {
        let read = reader
            .read(u64::MAX)
            .map_err(|error| Failure::Local { deed: "show the audit trail", cause: error.into() })?;
        if read.is_empty() {
            return Ok(());
        }
        for shown in read.iter().filter(|shown| filter.wants(&shown.record)) {
            lines.say(&shown.line)?;
        }
    }
}

/// Refuses a directory that is none, which would else look like an empty trail.
fn look_at(directory: &std::path::Path) -> Result<(), Failure> {
    std::fs::read_dir(directory).map(drop).map_err(|cause| Failure::Given { path: directory.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_how_long_ago() {
        assert!(matches!(instant("1970-01-01T00:00:01.5Z"), Ok(Since::At(UnixMillis(1_500)))));
        assert!(matches!(instant("2h"), Ok(Since::Ago(ago)) if ago.get() == 7_200));
        assert!(instant("yesterday").is_err());
    }
}
