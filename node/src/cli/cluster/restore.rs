//! `quorate cluster restore`: offline, when every node is lost and a backup is left.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use quorate_actors::backup::{Checked, PlannedRestore, RestoredMember, load, plan_restore};
use quorate_actors::keys::WhenMissing;
use quorate_actors::sources::system_sources;
use quorate_raft_consensus::{MemberNode, Restoration, Restored, restore};
use quorate_raft_machine::{Caller, CallerIdentity};
use quorate_raft_store::directory::{NodeDirectory, Stage};
use quorate_raft_store::disk::RealDisk;
use quorate_raft_store::log::WalOptions;
use serde::Serialize;

use super::backup::described::BackupJson;
use super::backup::verify::{SignerArgs, failed as unreadable};
use super::change::{NOTHING_DONE, lines};
use super::init::PlaceArgs;
use super::lost;
use crate::cli::config::load as load_config;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, answer, complain, say};
use crate::cli::recovery_private_key;
use crate::config::{Config, DEFAULT_CONFIG_PATH};
use crate::hardening;
use crate::node::own_keys;

/// What is being done, in words.
const DEED: &str = "restore the backup";

/// What follows the options.
const HELP: &str = "\
For when every node is lost, or none that is left is fit to go on with: while a majority is there nothing of this is needed,
and while one voter's disk is there `quorate cluster recover` loses less. Run this as the user that the node runs as, with
the recovery key at hand and nowhere else on that host. The node becomes the only member of a new cluster of the same trust
domain; the others join it by invitation. Stop every old node that may still be running before you start it.";

/// What `quorate cluster restore` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The configuration of the node that the new cluster begins with. Its data directory must be empty
    #[arg(long, value_name = "NODE.TOML", default_value = DEFAULT_CONFIG_PATH)]
    config: PathBuf,

    /// The file with the private half of the recovery key; - reads standard input
    #[arg(long, value_name = "KEY")]
    recovery_key: PathBuf,

    #[command(flatten)]
    signer: SignerArgs,

    #[command(flatten)]
    place: PlaceArgs,

    /// Open and check the backup, say what would be done and what would be lost, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// What was done, for programs.
#[derive(Serialize)]
struct RestoredJson {
    dry_run: bool,
    backup: BackupJson,
    /// The new cluster; empty on a dry run.
    cluster_id: String,
    member: String,
    spiffe_sequence: String,
    revoked_issuing_certificates: String,
    /// What may be lost, and what is to be done now.
    notes: Vec<String>,
}

/// Restores, or says what that would be.
pub(super) async fn run(args: RestoreArgs) -> Result<(), Failure> {
    hardening::shut();
    let config = load_config(&args.config)?;
    let labels = args.place.labels()?;
    let reader = args.signer.open(&args.file, DEED)?;
    check_trust_domain(&config, reader.header())?;
    // The directory first: what cannot be restored into needs no key.
    let mut directory = empty_directory(&config)?;
    let key = recovery_private_key::read(&args.recovery_key)?;
    let sources = system_sources(tokio::runtime::Handle::current());
    complain_if(args.output, "  opening and checking the backup");
    let (state, checked) = load(reader, &key, |_bytes| {}).map_err(unreadable(DEED))?;
    let notes = lost::notes(&state, &checked, sources.now().seconds());
    if args.dry_run {
        return told_dry(&args, &config, &checked, notes);
    }
    let custody = own_keys(&config, WhenMissing::Make).map_err(failed)?;
    let addresses: Vec<String> = config.addresses().iter().map(ToString::to_string).collect();
    let member = RestoredMember {
        trust_domain: config.trust_domain.clone(),
        name: config.name.clone(),
        region: args.place.region.clone(),
        zone: args.place.zone.clone(),
        labels,
        addresses: addresses.clone(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let planned = plan_restore(&state, &key, &custody, member, &sources).map_err(failed)?;
    drop(key);
    let PlannedRestore { operation, cluster, member, time } = planned;
    let restoration = Restoration {
        state,
        log_index: checked.header.log_index,
        operation,
        cluster,
        member,
        node: MemberNode { name: config.name.clone(), addresses },
        time,
        caller: caller(),
        boot: sources.random_u64(),
    };
    complain_if(args.output, "  writing the data directory");
    let restored = restore(&mut directory, WalOptions::default(), restoration, |_bytes| {}).map_err(failed)?;
    told(&args, &config, &checked, &restored, (cluster.to_string(), member.to_string()), notes)
}

/// Who restores: a process of this host that needs no socket.
fn caller() -> Caller {
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    let identity = CallerIdentity::Unix { uid, gid, pid: std::process::id() };
    Caller { identity, address: "quorate cluster restore".to_owned() }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::Local { deed: DEED, cause: Box::new(error) }
}

/// The data directory is not one to restore into.
#[derive(Debug, thiserror::Error)]
#[error("the data directory {} is not empty: it is {stage}. Name an empty one, or empty it", path.display())]
struct NotEmpty {
    path: PathBuf,
    stage: Stage,
}

fn empty_directory(config: &Config) -> Result<NodeDirectory, Failure> {
    let path = &config.data_dir;
    let directory = NodeDirectory::open(Arc::new(RealDisk), path).map_err(failed)?;
    match directory.stage() {
        Stage::Empty => Ok(directory),
        stage @ (Stage::Founding(_) | Stage::Joining(_) | Stage::Restoring(_) | Stage::Member(_)) => {
            Err(failed(NotEmpty { path: path.clone(), stage }))
        }
    }
}

/// Before anything is opened: the header is enough to see that this is another trust domain's node.
fn check_trust_domain(config: &Config, header: &quorate_actors::backup::BackupHeader) -> Result<(), Failure> {
    if header.trust_domain == config.trust_domain {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "the backup is of trust domain {}, and trust_domain is {} in the configuration: restore it on a node of its own \
         trust domain",
        header.trust_domain, config.trust_domain
    )))
}

fn complain_if(output: Format, step: &str) {
    if output == Format::Table {
        complain(step);
    }
}

fn told_dry(args: &RestoreArgs, config: &Config, checked: &Checked, notes: Vec<String>) -> Result<(), Failure> {
    let would = format!(
        "{} would become the only member of a new cluster of {} in {}, with the {} entries of the backup, as of {}.",
        config.name,
        checked.header.trust_domain,
        config.data_dir.display(),
        checked.header.entries,
        checked.header.created_at.seconds()
    );
    match args.output {
        Format::Table => {
            say(&lines(&[would], &notes))?;
            say(NOTHING_DONE)
        }
        Format::Json => crate::cli::output::say_json(&RestoredJson {
            dry_run: true,
            backup: described(&args.file, checked)?,
            cluster_id: String::new(),
            member: String::new(),
            spiffe_sequence: String::new(),
            revoked_issuing_certificates: String::new(),
            notes,
        }),
    }
}

fn described(file: &Path, checked: &Checked) -> Result<BackupJson, Failure> {
    let bytes = std::fs::metadata(file).map_err(|cause| Failure::Given { path: file.to_owned(), cause })?.len();
    Ok(BackupJson::new(file, &checked.header, bytes))
}

fn told(
    args: &RestoreArgs,
    config: &Config,
    checked: &Checked,
    restored: &Restored,
    (cluster, member): (String, String),
    notes: Vec<String>,
) -> Result<(), Failure> {
    let Restored { sequence, revoked, log_index: _ } = restored;
    let sentences = [
        format!(
            "{} is member {member}, and the only one, of the new cluster {cluster} of {}, with {} entries as of {}.",
            config.name,
            checked.header.trust_domain,
            checked.header.entries,
            checked.header.created_at.seconds()
        ),
        format!(
            "The bundle begins at spiffe_sequence {sequence}, and so do the numbers of its CRLs. {revoked} issuing \
             certificates are revoked; all invitations are void."
        ),
        "Stop every old node that may still be running, for good. Then start this one: it elects itself, and replaces root \
         and token key, while the old ones stay in the bundle to their end. Invite the others with `quorate cluster \
         invite`, each with an empty data directory, and make a new backup."
            .to_owned(),
    ];
    let json = RestoredJson {
        dry_run: false,
        backup: described(&args.file, checked)?,
        cluster_id: cluster,
        member,
        spiffe_sequence: sequence.to_string(),
        revoked_issuing_certificates: revoked.to_string(),
        notes,
    };
    answer(args.output, &lines(&sentences, &json.notes), &json)
}
