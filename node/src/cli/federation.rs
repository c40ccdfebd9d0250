//! `quorate federation`: relationships with foreign trust domains.

mod accept;
mod access;
mod change;
mod create;
mod describe;
mod discover;
mod endpoint;
mod json;
mod key;
mod refresh;
mod show;
mod status;
mod update;

use clap::Subcommand;
use quorate_proto_api::cluster::federation_client::FederationClient;
use tonic::transport::Channel;

use super::failure::Failure;
use super::socket::Connection;

/// Largest answer taken, in bytes: all relationships that there can be, with room.
const ANSWER_BYTES_LIMIT: usize = 64 * 1024 * 1024;

/// What follows the commands of `quorate federation --help`.
const HELP: &str = "\
A relationship goes one way: it brings the bundle of a foreign trust domain here, so that our workloads can verify those of
theirs. For both to verify each other, each side makes one. Whatever node is asked, all nodes hold the same.

The first exchange, step by step, between one.example (here) and two.example (there):
  1. Each side writes its bundle to a file, and hands it to the other over a way that nobody can change on the way.
     here:   quorate bundle show --format spiffe > one.example.json
     there:  quorate bundle show --format spiffe > two.example.json
  2. Both compare what arrived, by another way such as the telephone: the authorities that `quorate bundle show` shows are
     those that --dry-run tells of.
     here:   quorate federation create two.example --profile https_spiffe --url https://bundle.two.example:8443/ \\
               --endpoint-spiffe-id spiffe://two.example/spire/server --bundle two.example.json --dry-run
  3. Each side makes its relationship: the same without --dry-run. From then on each fetches the other's newest bundle by
     itself, and needs no file again.
  4. Each side looks whether it works, and names the other where its workloads are to have the bundle.
     here:   quorate federation status
             quorate entry create --spiffe-id spiffe://one.example/web --selector unix:user:web --federates-with two.example

Examples:
  quorate federation list
  quorate federation show two.example -o json
  quorate federation refresh two.example --accept-older
  quorate federation delete two.example";

/// What can be done with relationships.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(super) enum FederationCommand {
    /// Make a relationship: fetch the bundle of a foreign trust domain from now on
    Create(Box<create::CreateArgs>),
    /// Look for the endpoints of a foreign trust domain, and show what to compare
    Discover(discover::DiscoverArgs),
    /// Make a relationship of what was found and compared
    Accept(Box<accept::AcceptArgs>),
    /// Change a relationship; what is not given stays as it is
    Update(Box<update::UpdateArgs>),
    /// List the relationships
    List(show::ListArgs),
    /// Show a relationship with all its settings
    Show(show::ShowArgs),
    /// Fetch the bundle of a foreign trust domain now
    Refresh(refresh::RefreshArgs),
    /// End a relationship: its bundle is withdrawn from all workloads
    Delete(change::DeleteArgs),
    /// API keys, by which peers ask for our bundle
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Who may ask for our bundle by the Federation API, and how
    #[command(subcommand)]
    Access(access::AccessCommand),
    /// Tell how fetching stands: what was fetched when, and what went wrong
    Status(status::StatusArgs),
}

impl FederationCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create(args) => create::run(*args).await,
            Self::Discover(args) => discover::run(args).await,
            Self::Accept(args) => accept::run(*args).await,
            Self::Update(args) => update::run(*args).await,
            Self::List(args) => show::list(args).await,
            Self::Show(args) => show::show(args).await,
            Self::Refresh(args) => refresh::run(args).await,
            Self::Delete(args) => change::delete(args).await,
            Self::Key(command) => command.run().await,
            Self::Access(command) => command.run().await,
            Self::Status(args) => status::run(args).await,
        }
    }
}

fn client(connection: &Connection) -> FederationClient<Channel> {
    FederationClient::new(connection.channel()).max_decoding_message_size(ANSWER_BYTES_LIMIT)
}
