//! `quorate cluster backup verify`

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use quorate_actors::backup::{BackupError, BackupReader};
use serde::{Deserialize, Serialize};

use super::described::BackupJson;
use super::scratch;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, answer};
use crate::config::key_text;

/// What is being done, in words.
pub(super) const DEED: &str = "verify the backup";

/// What follows the options.
const HELP: &str = "\
Without the recovery key: that the file is whole and unaltered since the member that is named in it signed it. Whose key
that is, the file alone cannot prove: compare it by --signer with what `backup create` printed, or with `quorate keygen
--data-dir DIR` on that node. With the recovery key also: that it opens, that the state in it is the one that was backed up
and breaks no rule, and that the recovery key opens the keys of the authorities in it, which nobody can forge. That is done
in a process of its own, with bounded memory; no data directory is touched.";

/// What `quorate cluster backup verify` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct VerifyArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,

    #[command(flatten)]
    pub(super) signer: SignerArgs,

    /// Open it with the private half of the recovery key and check all of it; - reads standard input
    #[arg(long, value_name = "KEY")]
    pub(super) recovery_key: Option<PathBuf>,

    /// This is the process of its own
    #[arg(long, hide = true, requires = "recovery_key")]
    scratch: bool,

    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}

/// Whose signature is wanted.
#[derive(Debug, Clone, Args)]
pub(crate) struct SignerArgs {
    /// Refuse a backup that another identity key has signed: as `backup create` and `quorate keygen` print keys
    #[arg(long, value_name = "KEY")]
    signer: Option<String>,
}

impl SignerArgs {
    /// Opens a backup, and checks whose signature it has.
    ///
    /// # Errors
    /// When it is no backup that can be read, or another's.
    pub(crate) fn open(&self, path: &Path, deed: &'static str) -> Result<BackupReader<BufReader<File>>, Failure> {
        let file = File::open(path).map_err(|cause| Failure::Given { path: path.to_owned(), cause })?;
        let reader = BackupReader::open(BufReader::new(file)).map_err(failed(deed))?;
        let signer = key_text(&reader.header().identity_key);
        match &self.signer {
            Some(wanted) if wanted.trim() != signer => Err(Failure::Local {
                deed,
                cause: format!("it is signed by {signer}, and --signer is {}", wanted.trim()).into(),
            }),
            Some(_) | None => Ok(reader),
        }
    }

    /// The same wish, for the command line of another process.
    pub(super) fn arguments(&self) -> impl Iterator<Item = String> + '_ {
        self.signer.iter().map(|signer| format!("--signer={signer}"))
    }
}

/// Why a backup is refused, with all its causes.
pub(crate) fn failed(deed: &'static str) -> impl Fn(BackupError) -> Failure {
    move |error| Failure::Local { deed, cause: Box::new(error) }
}

/// What was found, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VerifiedJson {
    #[serde(flatten)]
    pub(super) backup: BackupJson,
    /// Whether it was opened, and all of it checked.
    pub(super) opened: bool,
    pub(super) roots: usize,
    pub(super) token_keys: usize,
    /// Authorities whose keys nobody can open any more.
    pub(super) unopened: Vec<String>,
}

/// Verifies a backup.
pub(super) fn run(args: VerifyArgs) -> Result<(), Failure> {
    if args.scratch {
        return scratch::serve(&args);
    }
    let verified = match &args.recovery_key {
        Some(key) => scratch::verify(&args, key)?,
        None => {
            let reader = args.signer.open(&args.file, DEED)?;
            let header = reader.header().clone();
            let bytes = reader.check().map_err(failed(DEED))?;
            let backup = BackupJson::new(&args.file, &header, bytes);
            VerifiedJson { backup, opened: false, roots: 0, token_keys: 0, unopened: Vec::new() }
        }
    };
    let mut facts = verified.backup.facts();
    facts.add("Whole and signed", "yes");
    if verified.opened {
        let VerifiedJson { roots, token_keys, unopened, .. } = &verified;
        facts.add("State", "opened; its hash and every rule hold");
        facts.add("Keys", format!("the recovery key opens {roots} roots and {token_keys} token keys"));
        facts.add_unless_empty("Not openable", &unopened.join(", "));
    } else {
        facts.add("State", "not opened: --recovery-key opens it and checks all of it");
    }
    answer(args.output, &facts, &verified)
}

/// Reads to the end, so that the other side never waits; what is more than this is no answer of ours.
pub(super) fn read_all(source: impl Read, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
