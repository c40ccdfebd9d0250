//! `quorate cluster`: founding, members, and how it all stands.
//!
//! ```text
//!   init                      once, on one node
//!   invite ──► (newcomer: quorate node --join-file) ──► promote, demote, fence, remove, transfer-leader
//!   plan                      how many voters are wanted, and what the leader does about it by itself
//!   status, members           at any node, at any time
//!   recover                   offline, when a majority is lost for good
//!   backup ──► restore        a file sealed to the recovery key; offline, when every node is lost
//! ```
//!
//! A command that changes something says what it will do, shows the steps while they go on, and says what it did. It can
//! be given at any node: the work is the leader's, and goes on when nobody listens.

mod backup;
pub(super) mod change;
mod init;
mod invite;
mod lost;
mod members;
mod plan;
mod recover;
mod restore;
mod roles;
mod status;
mod upkeep;

use clap::Subcommand;

use super::failure::Failure;

/// What can be done with a cluster.
#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Found an authority on this node, once. Trust domain and node name are those of its configuration
    Init(init::InitArgs),
    /// Say how this node stands, and the cluster as far as it can tell
    Status(status::StatusArgs),
    /// List the members, with what the leader hears of them
    Members(members::MembersArgs),
    /// Make an invitation, by which one node can join, once. Prints it and nothing else
    Invite(invite::InviteArgs),
    /// List the invitations
    Invitations(invite::InvitationsArgs),
    /// Take an invitation back
    RevokeInvitation(invite::RevokeArgs),
    /// Make a member a voter
    Promote(roles::PromoteArgs),
    /// Make a member a learner, which follows and signs and has no vote
    Demote(roles::DemoteArgs),
    /// Revoke a member's issuing certificates, so that it stops signing
    Fence(roles::FenceArgs),
    /// Remove a member for good
    Remove(roles::RemoveArgs),
    /// Hand leadership to another voter
    TransferLeader(roles::TransferArgs),
    /// Show or change how many voters the cluster wants
    Plan(plan::PlanArgs),
    /// Switch on what newer programs can do, once every member runs one
    RaiseVersion(upkeep::RaiseVersionArgs),
    /// Set the time of the log back, after a leader's clock ran ahead
    ResetTime(upkeep::ResetTimeArgs),
    /// Go on with one node when a majority of the voters is lost for good. Offline: the node must not run
    Recover(recover::RecoverArgs),
    /// Back the whole state up to a file, and check such files
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Begin a new cluster from a backup when every node is lost. Offline: into an empty data directory
    Restore(restore::RestoreArgs),
}

impl ClusterCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Init(args) => init::run(args).await,
            Self::Status(args) => status::run(args).await,
            Self::Members(args) => members::run(args).await,
            Self::Invite(args) => invite::run(args).await,
            Self::Invitations(args) => invite::list(args).await,
            Self::RevokeInvitation(args) => invite::revoke(args).await,
            Self::Promote(args) => roles::promote(args).await,
            Self::Demote(args) => roles::demote(args).await,
            Self::Fence(args) => roles::fence(args).await,
            Self::Remove(args) => roles::remove(args).await,
            Self::TransferLeader(args) => roles::transfer(args).await,
            Self::Plan(args) => plan::run(args).await,
            Self::RaiseVersion(args) => upkeep::raise_version(args).await,
            Self::ResetTime(args) => upkeep::reset_time(args).await,
            Self::Recover(args) => recover::run(args).await,
            Self::Backup(command) => command.run().await,
            Self::Restore(args) => restore::run(args).await,
        }
    }
}
