//! `quorate authority`: the keys that sign for the trust domain, and their life.
//!
//! ```text
//!   show, timeline                                 what there is, what happened, what comes: at any node
//!   prepare ──► activate ──► taint ──► revoke      one step each
//!   replace [--compromised]                        all of them, in their order, by one command
//! ```
//!
//! Nobody needs any of these for rotation: that goes on by itself, as `timeline` shows. A command can be given at any node;
//! the work is the leader's, and what `replace` began goes on when nobody listens.

mod change;
mod json;
mod progress;
mod show;
mod timeline;

use clap::{Subcommand, ValueEnum};
use quorate_proto_api::cluster::AuthorityKind;

use super::failure::Failure;

/// What follows the commands of `quorate authority --help`.
const HELP: &str = "\
The life of an authority: prepared (in the bundle, so that everybody knows it, and not signing), active (signing), old (in the \
bundle until its end, so that what it signed holds), and gone. By command also: tainted (what it signed is replaced at once), \
and revoked (out of the bundle before its end). Routine rotation needs no command.

After a leak of a key, one command for each kind that may have leaked:
  quorate authority replace --compromised x509
  quorate authority replace --compromised jwt";

/// Which kind of authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Roots, which sign the nodes' issuing certificates
    X509,
    /// Keys that sign JWT-SVIDs
    Jwt,
}

impl Kind {
    fn to_wire(self) -> i32 {
        match self {
            Self::X509 => AuthorityKind::X509.into(),
            Self::Jwt => AuthorityKind::Jwt.into(),
        }
    }
}

/// What can be done with authorities.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(super) enum AuthorityCommand {
    /// Show the authorities: which one signs, which is next, which are old
    Show(show::ShowArgs),
    /// Draw the steps that authorities went and will go, with their times
    Timeline(timeline::TimelineArgs),
    /// Make a new authority and put it into the bundle; it does not sign yet
    Prepare(change::PrepareArgs),
    /// Let the prepared authority sign, once everybody who needs it knows it
    Activate(change::ActivateArgs),
    /// Replace at once all that an old authority signed
    Taint(change::TaintArgs),
    /// Take a tainted authority out of the bundle
    Revoke(change::RevokeArgs),
    /// Replace the active authority: all steps by one command, also after a leak of its key
    Replace(change::ReplaceArgs),
}

impl AuthorityCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Show(args) => show::run(args).await,
            Self::Timeline(args) => timeline::run(args).await,
            Self::Prepare(args) => change::prepare(args).await,
            Self::Activate(args) => change::activate(args).await,
            Self::Taint(args) => change::taint(args).await,
            Self::Revoke(args) => change::revoke(args).await,
            Self::Replace(args) => change::replace(args).await,
        }
    }
}
