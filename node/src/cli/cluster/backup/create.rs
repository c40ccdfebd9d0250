//! `quorate cluster backup create`

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use quorate_actors::backup::{BackupHeader, BackupReader};
use quorate_proto_api::cluster::backup_client::BackupClient;
use quorate_proto_api::cluster::{BackupPart, CreateBackupRequest};
use quorate_raft_store::disk::RealDisk;
use quorate_raft_store::free_space::FreeSpace;

use super::described::BackupJson;
use crate::cli::failure::Failure;
use crate::cli::output::{Format, answer, complain};
use crate::cli::socket::AdminArgs;
use crate::cli::text::mebibytes;

/// Mode of the file: it is sealed, and nobody's business all the same.
const FILE_MODE: u32 = 0o600;

/// How many steps of progress are told.
const STEPS: u64 = 10;

/// What is being done, in words.
const DEED: &str = "make the backup";

/// What follows the options.
const HELP: &str = "\
The cluster goes on meanwhile; what is answered before this command begins is in the backup. It is sealed to the recovery
key before it leaves the node, so it is as safe to keep as the recovery key is. Keep the two apart, and keep \"Signed by\"
with your notes: `backup verify --signer KEY` and `restore --signer KEY` compare it.";

/// What `quorate cluster backup create` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The file to write. It must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Take what the node has applied, without asking whether that is all: for a cluster that has lost its quorum. Ask the
    /// node that is left with the highest applied index
    #[arg(long)]
    without_quorum: bool,
}

/// Makes a backup.
pub(super) async fn run(args: CreateArgs) -> Result<(), Failure> {
    let mut draft = Draft::begin(&args.file)?;
    let connection = args.admin.connect()?;
    // No deadline: a backup takes as long as it is long. One that stands still is given up by the node.
    let mut parts = BackupClient::new(connection.channel())
        .create(CreateBackupRequest { without_quorum: args.without_quorum })
        .await
        .map_err(connection.failed(DEED))?
        .into_inner();
    let mut progress: Option<Progress> = None;
    while let Some(BackupPart { data }) = parts.message().await.map_err(connection.failed(DEED))? {
        let progress = match &mut progress {
            Some(progress) => progress,
            None => {
                let header = first(&data)?;
                draft.check_space(&header)?;
                progress.insert(Progress::new(args.admin.output, header.sealed_bytes()))
            }
        };
        draft.write(&data)?;
        progress.told(draft.written);
    }
    let (header, bytes) = draft.finish()?;
    if args.without_quorum {
        complain(&format!(
            "nobody was asked whether this is all: what other nodes acknowledged after log index {} is not in it",
            header.log_index
        ));
    }
    let made = BackupJson::new(&args.file, &header, bytes);
    answer(args.admin.output, &made.facts(), &made)
}

/// The header, which is the first part.
fn first(part: &[u8]) -> Result<BackupHeader, Failure> {
    let reader = BackupReader::open(part);
    let header = reader.map(|reader| reader.header().clone());
    header.map_err(|error| Failure::Answer { deed: DEED, what: error.to_string() })
}

/// A file that becomes a backup, or goes.
struct Draft {
    path: PathBuf,
    directory: PathBuf,
    temporary: PathBuf,
    file: File,
    written: u64,
    is_finished: bool,
}

impl Draft {
    fn begin(path: &Path) -> Result<Self, Failure> {
        if path.symlink_metadata().is_ok() {
            return Err(there(path));
        }
        let name = path
            .file_name()
            .ok_or_else(|| Failure::Usage(format!("{}: name a file to write the backup to", path.display())))?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let temporary = directory.join(hidden);
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary);
        let file = file.map_err(|cause| Failure::File { deed: "write", path: temporary.clone(), cause })?;
        let (path, directory) = (path.to_owned(), directory.to_owned());
        Ok(Self { path, directory, temporary, file, written: 0, is_finished: false })
    }

    /// Refuses at once what will not fit.
    fn check_space(&self, header: &BackupHeader) -> Result<(), Failure> {
        let needed = header.sealed_bytes();
        // A file system that does not tell how much is free shows when it is full.
        let Ok(free) = FreeSpace::measure(&RealDisk, &self.directory, needed) else { return Ok(()) };
        if free.is_enough() {
            return Ok(());
        }
        let text = format!("the backup takes {}, and {} are free", mebibytes(needed), mebibytes(free.available_bytes));
        Err(self.failed(io::Error::new(io::ErrorKind::StorageFull, text)))
    }

    fn write(&mut self, part: &[u8]) -> Result<(), Failure> {
        self.file.write_all(part).map_err(|cause| self.failed(cause))?;
        self.written = self.written.saturating_add(part.len() as u64);
        Ok(())
    }

    /// Syncs what was written, reads it again from the disk, checks it, and gives it its name.
    fn finish(mut self) -> Result<(BackupHeader, u64), Failure> {
        self.file.sync_all().map_err(|cause| self.failed(cause))?;
        let written = File::open(&self.temporary).map_err(|cause| self.failed(cause))?;
        let reader = BackupReader::open(io::BufReader::new(written));
        let checked = reader.and_then(|reader| Ok((reader.header().clone(), reader.check()?)));
        let checked = checked.map_err(|error| Failure::Local { deed: DEED, cause: Box::new(error) })?;
        if self.path.symlink_metadata().is_ok() {
            return Err(there(&self.path));
        }
        fs::rename(&self.temporary, &self.path).map_err(|cause| self.failed(cause))?;
        self.is_finished = true;
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(|cause| self.failed(cause))?;
        Ok(checked)
    }

    fn failed(&self, cause: io::Error) -> Failure {
        Failure::File { deed: "write", path: self.path.clone(), cause }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_finished {
            // Half a backup is none; what cannot be removed shows by its name.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn there(path: &Path) -> Failure {
    Failure::Usage(format!(
        "{}: there is something already: a backup replaces nothing, so name another file",
        path.display()
    ))
}

/// What is told while it goes on, for people.
struct Progress {
    format: Format,
    total: u64,
    told: u64,
}

impl Progress {
    const fn new(format: Format, total: u64) -> Self {
        Self { format, total, told: 0 }
    }

    fn told(&mut self, done: u64) {
        let step = done.min(self.total).saturating_mul(STEPS).checked_div(self.total).unwrap_or(STEPS);
        if self.format == Format::Table && step > self.told {
            self.told = step;
            complain(&format!("  {} of {}", mebibytes(done.min(self.total)), mebibytes(self.total)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_that_comes_to_nothing_leaves_nothing() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("backup");
        let mut draft = Draft::begin(&path).unwrap();
        draft.write(b"half of a backup").unwrap();
        let failure = draft.finish().unwrap_err();
        assert!(failure.story().contains("no backup of Quorate"), "{}", failure.story());
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_replaced() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("backup");
        fs::write(&path, "another").unwrap();
        let Err(failure) = Draft::begin(&path) else { panic!("taken") };
        assert!(failure.to_string().contains("a backup replaces nothing"), "{failure}");
        assert_eq!(fs::read(&path).unwrap(), b"another");
    }
}
