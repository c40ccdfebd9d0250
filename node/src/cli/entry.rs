//! `quorate entry`: registration entries.

mod attributes;
mod count;
mod create;
mod data_file;
mod delete;
mod describe;
mod filter;
mod show;
mod update;

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use quorate_proto_api::spire::entry::entry_client::EntryClient;
use tonic::transport::Channel;

use super::failure::Failure;
use super::socket::Connection;

/// Most entries in one call. Like the 500 that SPIRE's own tools use; more are sent in several calls.
const BATCH: usize = 500;

/// Largest answer taken, in bytes. Pages are far smaller; one entry may have 128 KiB.
const ANSWER_BYTES_LIMIT: usize = 64 * 1024 * 1024;

/// What can be done with entries.
#[derive(Debug, Subcommand)]
pub(crate) enum EntryCommand {
    /// Register workloads: give a SPIFFE ID to what has certain selectors
    Create(Box<create::CreateArgs>),
    /// Show entries, all of them or some
    Show(show::ShowArgs),
    /// Change fields of an entry
    Update(Box<update::UpdateArgs>),
    /// Delete entries
    Delete(delete::DeleteArgs),
    /// Count entries, all of them or some
    Count(count::CountArgs),
}

impl EntryCommand {
    /// Carries the command out.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create(args) => create::run(*args).await,
            Self::Show(args) => show::run(args).await,
            Self::Update(args) => update::run(*args).await,
            Self::Delete(args) => delete::run(args).await,
            Self::Count(args) => count::run(args).await,
        }
    }
}

/// An instant in Unix seconds that has not been yet, or 0, which is never. The node would take any: an entry that has
/// expired is pruned at its next look, and so would be gone without a word.
#[expect(clippy::disallowed_methods, reason = "whoever types an instant means it by the clock of this process")]
fn to_come(text: &str) -> Result<i64, String> {
    let seconds: i64 = text.parse().map_err(|error| format!("{error}"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match u64::try_from(seconds) {
        Ok(0) => Ok(0),
        Ok(instant) if instant > now => Ok(seconds),
        Ok(_) | Err(_) => Err(format!("this is in the past; now is {now}")),
    }
}

fn client(connection: &Connection) -> EntryClient<Channel> {
    EntryClient::new(connection.channel()).max_decoding_message_size(ANSWER_BYTES_LIMIT)
}
