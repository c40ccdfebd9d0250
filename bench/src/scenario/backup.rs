//! What a backup of many entries takes: to make it, to verify it, to restore it, and how large it is.
//!
//! ```text
//!   fill ──► recovery key ──► backup create, beside a reader of SVIDs ──► verify (scratch process) ──► restore
//! ```

use super::Options;
use crate::clients::{BATCH, entry_of_another};
use crate::load::{histogram, note};
use crate::nodes::OwnNodes;
use crate::product::sibling;
use crate::report::{Figure, Report, Row};
use crate::trouble::Trouble;
use hdrhistogram::Histogram;
use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::sleep;

/// How long it may take until every key is sealed to the recovery key.
const SEAL_LIMIT: Duration = Duration::from_secs(30);

/// How often that is tried.
const AGAIN: Duration = Duration::from_millis(100);

/// The pause between two first SVIDs of the reader beside the backup.
const PACE: Duration = Duration::from_millis(20);

/// Fills a cluster, backs it up from a member that does not lead, verifies and restores.
pub(crate) async fn run(options: &Options) -> Result<Report, Trouble> {
    let nodes = options.own_nodes().await?;
    let entries = options.entries.first().copied().unwrap_or_default();
    for from in (0..entries).step_by(BATCH) {
        let batch = (from..entries.min(from + BATCH)).map(entry_of_another).collect();
        nodes.clients_of(0).admin().create(batch).await?;
    }
    let directory = tempfile::tempdir().map_err(Trouble::system("a directory"))?;
    let vault = Vault::new(directory, &nodes).await?;
    let member = (nodes.leader().await? + 1) % nodes.count();

    let mut report = Report::new("backup", 1);
    let file = vault.path("backup");
    let mut first_svids = histogram()?;
    let started = Instant::now();
    let made = beside(vault.backup(&nodes, member, &file), || first_svid(&nodes, member), &mut first_svids).await?;
    report.rows.push(Row::beside_others("first SVIDs beside a backup", started.elapsed(), &first_svids));
    let bytes = fs::metadata(&file).map_err(Trouble::system("the backup"))?.len();
    let size = bytes as f64 / f64::from(1 << 20);
    report.figures.push(Figure::new(format!("{entries} entries: backup create"), made.as_secs_f64(), "s"));
    report.figures.push(Figure::new("size of the file", size, "MiB"));
    let verify = ["cluster", "backup", "verify"];
    let verified = vault.offline(&verify, &file, &[]).await?;
    report.figures.push(Figure::new("backup verify, whole", verified.as_secs_f64(), "s"));
    let configuration = vault.configuration(&nodes)?;
    let restored = vault.offline(&["cluster", "restore"], &file, &["--config", &configuration]).await?;
    report.figures.push(Figure::new("restore", restored.as_secs_f64(), "s"));
    nodes.stop().await?;
    Ok(report)
}

/// Reads, over and over, until the work is done; notes how long each read took.
async fn beside<R: Future<Output = Result<Duration, Trouble>>>(
    work: impl Future<Output = Result<Duration, Trouble>>,
    read: impl Fn() -> R,
    latencies: &mut Histogram<u64>,
) -> Result<Duration, Trouble> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            took = read() => note(latencies, took?),
        }
    }
}

async fn first_svid(nodes: &OwnNodes, member: usize) -> Result<Duration, Trouble> {
    sleep(PACE).await;
    let started = Instant::now();
    nodes.clients_of(member).workload().first().await?;
    Ok(started.elapsed())
}

/// Where backups and the recovery key are.
struct Vault {
    directory: TempDir,
    program: PathBuf,
}

impl Vault {
    /// Makes a recovery key and sets it.
    async fn new(directory: TempDir, nodes: &OwnNodes) -> Result<Self, Trouble> {
        let vault = Self { directory, program: sibling("quorate")? };
        let made = vault.told(&["recovery-key", "new", "-o", "json", "--write", &vault.text("")]).await?;
        let made: serde_json::Value = serde_json::from_slice(&made)?;
        let key = made.get("public_key").and_then(|key| key.as_str()).unwrap_or_default().to_owned();
        let socket = socket(nodes, 0);
        vault.told(&["recovery-key", "set", "--public-key", &key, "--socket", &socket]).await?;
        Ok(vault)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A node's configuration with an empty data directory.
    fn configuration(&self, nodes: &OwnNodes) -> Result<String, Trouble> {
        let path = nodes.configuration_of(0);
        let text = fs::read_to_string(&path).map_err(Trouble::system(path.display().to_string()))?;
        let data = format!("data_dir = {:?}", self.text("data"));
        let line = |line: &str| if line.starts_with("data_dir") { data.clone() } else { line.to_owned() };
        let text: Vec<String> = text.lines().map(line).collect();
        let path = self.path("node.toml");
        fs::write(&path, text.join("\n")).map_err(Trouble::system(path.display().to_string()))?;
        fs::set_permissions(self.directory.path(), fs::Permissions::from_mode(0o700))
            .map_err(Trouble::system("the directory"))?;
        Ok(path.display().to_string())
    }

    /// Makes a backup, as soon as every key is sealed; tells how long the one that was made took.
    async fn backup(&self, nodes: &OwnNodes, member: usize, file: &Path) -> Result<Duration, Trouble> {
        let (file, socket) = (file.display().to_string(), socket(nodes, member));
        let since = Instant::now();
        loop {
            let started = Instant::now();
            match self.told(&["cluster", "backup", "create", &file, "--socket", &socket]).await {
                Ok(_) => return Ok(started.elapsed()),
                Err(error) if since.elapsed() > SEAL_LIMIT => return Err(error),
                Err(_not_yet) => sleep(AGAIN).await,
            }
        }
    }

    /// Runs a command that takes a backup and the key; tells how long it took.
    async fn offline(&self, command: &[&str], file: &Path, more: &[&str]) -> Result<Duration, Trouble> {
        let (file, key) = (file.display().to_string(), self.text("recovery.pem"));
        let arguments: Vec<&str> = command
            .iter()
            .copied()
            .chain([file.as_str(), "--recovery-key", &key])
            .chain(more.iter().copied())
            .collect();
        let started = Instant::now();
        self.told(&arguments).await?;
        Ok(started.elapsed())
    }

    async fn told(&self, arguments: &[&str]) -> Result<Vec<u8>, Trouble> {
        let output = Command::new(&self.program).args(arguments).stdin(Stdio::null()).output().await;
        let output = output.map_err(Trouble::system(self.program.display().to_string()))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Trouble::Unexpected(format!("quorate {}: {said}", arguments.join(" "))))
    }
}

fn socket(nodes: &OwnNodes, node: usize) -> String {
    nodes.configuration_of(node).with_file_name("admin.sock").display().to_string()
}
