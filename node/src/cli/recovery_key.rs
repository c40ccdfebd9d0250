//! `quorate recovery-key`: a further recipient of every authority key, whose private half no node has.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use quorate_actors::keys::new_recovery_key;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::SetRecoveryKeyRequest;
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_identity::UnixSeconds;
use quorate_raft_machine::RecoveryKey;
use serde::Serialize;

use super::cluster::change::{ChangeArgs, told};
use super::failure::Failure;
use super::files::PrivateDirectory;
use super::output::{Format, answer};
use crate::hardening;

/// Name of the file with the private half.
const FILE: &str = "recovery.pem";

/// What follows the options of `new`.
const NEW: &str = "\
Do this on a machine that is no node, and keep the directory offline. The public key that is printed goes to a node:

  quorate recovery-key set --public-key KEY

Whoever has the private half and a copy of the state can sign as this authority.";

/// What can be done with a recovery key.
#[derive(Debug, Subcommand)]
pub(super) enum RecoveryKeyCommand {
    /// Make a key pair here, without a node
    New(NewArgs),
    /// Have every authority key sealed to this public key too, those there are and those to come
    Set(SetArgs),
    /// Erase what is sealed to the recovery key
    Clear(ClearArgs),
}

/// What `quorate recovery-key new` takes.
#[derive(Debug, Args)]
#[command(after_help = NEW)]
pub(super) struct NewArgs {
    /// Write the private half to this directory, made if it is not there, which only you can enter
    #[arg(long, value_name = "DIR")]
    write: PathBuf,

    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// What `quorate recovery-key set` takes.
#[derive(Debug, Args)]
pub(super) struct SetArgs {
    #[command(flatten)]
    change: ChangeArgs,

    /// The public half, as `quorate recovery-key new` prints it
    #[arg(long, value_name = "KEY")]
    public_key: String,
}

/// What `quorate recovery-key clear` takes.
#[derive(Debug, Args)]
pub(super) struct ClearArgs {
    #[command(flatten)]
    change: ChangeArgs,
}

impl RecoveryKeyCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::New(args) => make(&args),
            Self::Set(args) => {
                let key = STANDARD.decode(args.public_key.trim()).map_err(|error| {
                    Failure::Usage(format!("--public-key: {error}: give what `quorate recovery-key new` printed"))
                })?;
                set(&args.change, key).await
            }
            Self::Clear(args) => set(&args.change, Vec::new()).await,
        }
    }
}

/// The public half of a new key pair.
#[derive(Serialize)]
struct MadeJson {
    public_key: String,
    id: String,
    file: PathBuf,
}

impl fmt::Display for MadeJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { public_key, id, file } = self;
        writeln!(f, "Public key   {public_key}\nID           {id}\nPrivate key  {}", file.display())
    }
}

fn make(args: &NewArgs) -> Result<(), Failure> {
    hardening::shut();
    let mut directory = PrivateDirectory::open(&args.write)?;
    let file = args.write.join(FILE);
    if file.exists() {
        return Err(Failure::Usage(format!(
            "{}: there is a recovery key already, and what is sealed to it opens with nothing else: name another \
             directory",
            file.display()
        )));
    }
    let (private, public) = new_recovery_key()
        .ok_or_else(|| Failure::Local { deed: "make a key pair", cause: "the cryptographic library refused".into() })?;
    directory.write_pem(FILE, "PRIVATE KEY", [private.as_slice()])?;
    let id = RecoveryKey::new(public.clone(), UnixSeconds(0)).id;
    let made = MadeJson { public_key: STANDARD.encode(&public), id, file };
    answer(args.output, &made, &made)
}

async fn set(args: &ChangeArgs, public_key: Vec<u8>) -> Result<(), Failure> {
    let deed = if public_key.is_empty() { "take the recovery key away" } else { "set the recovery key" };
    let connection = args.admin.connect()?;
    let message = SetRecoveryKeyRequest { public_key: public_key.into(), dry_run: args.dry_run };
    let answer = ClusterClient::new(connection.channel())
        .set_recovery_key(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed(deed))?
        .into_inner();
    told(args, &answer)
}
