//! Where the files of a demonstration are: `DIR/<node>/`, of two federated trust domains `DIR/<trust domain>/<node>/`, with
//! the sockets, the configuration, the log and the process ID of each node, and the invitation until it was used. Scripts and
//! tests build on these names.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Where the nodes of a demonstration say that they are, one after the other, and then from the beginning.
const REGIONS: [&str; 3] = ["frankfurt", "virginia", "singapore"];

/// The trust domain of a demonstration of one cluster: a name that is reserved for examples.
const TRUST_DOMAIN: &str = "example.org";

/// The trust domains of two clusters that federate: reserved as well (RFC 2606).
const FEDERATED: [&str; 2] = ["one.example", "two.example"];

/// What a demonstration builds: one cluster, or one of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// Its trust domain.
    pub(super) trust_domain: &'static str,
    /// Whether there is another one: its nodes then have names and directories of their trust domain, and bundle endpoints.
    pub(super) federated: bool,
}

impl Site {
    /// A cluster on its own.
    pub(super) const ALONE: Self = Self { trust_domain: TRUST_DOMAIN, federated: false };

    /// Two that federate.
    pub(super) const FEDERATED: [Self; 2] =
        [Self { trust_domain: FEDERATED[0], federated: true }, Self { trust_domain: FEDERATED[1], federated: true }];

    /// The trust domain that this one federates with.
    pub(super) fn other(self) -> Option<&'static str> {
        FEDERATED.into_iter().find(|other| self.federated && *other != self.trust_domain)
    }
}

/// Longest path of a unix socket that Linux takes, without the final zero byte (`sockaddr_un`).
const SOCKET_PATH_LIMIT: usize = 107;

/// What can go wrong before a node is started.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The directory makes the paths of the sockets too long for the kernel.
    #[error(
        "{path} has {length} bytes, and the path of a socket may have {SOCKET_PATH_LIMIT}: \
         take a directory with a shorter path (--dir)"
    )]
    PathTooLong {
        /// The socket's path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// A file or directory could not be made.
    #[error("cannot {deed} {path}")]
    File {
        /// What was tried.
        deed: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Another demonstration has the directory.
    #[error("a demonstration is running in {path} already: stop it, or name another directory with --dir")]
    Running {
        /// The node's directory.
        path: PathBuf,
    },
    /// The log is something else than a file: writing to it could wait for ever, or go elsewhere.
    #[error("{path} is no regular file: move it away, so that the node's log can be written there")]
    LogIsNoFile {
        /// The log's path.
        path: PathBuf,
    },
    /// The system gave no free TCP port on loopback.
    #[error("no free TCP port on 127.0.0.1")]
    Port(#[source] io::Error),
    /// The temporary directory could not be made.
    #[error("cannot make a directory under {path}: name one with --dir")]
    Temporary {
        /// Where it was tried.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

/// The files of one node.
#[derive(Clone, Debug)]
pub(super) struct NodeFiles {
    /// The node's name, also that of its directory.
    pub(super) name: String,
    /// The cluster that it is of.
    pub(super) site: Site,
    /// The region that it is said to be in.
    pub(super) region: &'static str,
    directory: PathBuf,
}

impl NodeFiles {
    /// Names the files of node `number` of a cluster, counted from 1.
    pub(super) fn new(base: &Path, site: Site, number: u8) -> Result<Self, LayoutError> {
        let name = format!("node-{number}");
        let region = REGIONS.iter().cycle().nth(usize::from(number.saturating_sub(1))).copied().unwrap_or_default();
        let directory = if site.federated { base.join(site.trust_domain).join(&name) } else { base.join(&name) };
        let files = Self { directory, name, site, region };
        let path = files.workload_socket();
        let length = path.as_os_str().len();
        if length > SOCKET_PATH_LIMIT {
            return Err(LayoutError::PathTooLong { path, length });
        }
        Ok(files)
    }

    /// What the node is called on the screen: its name, and that of its trust domain where there are two.
    pub(super) fn title(&self) -> String {
        if self.site.federated { format!("{}/{}", self.site.trust_domain, self.name) } else { self.name.clone() }
    }

    pub(super) fn workload_socket(&self) -> PathBuf {
        self.directory.join("workload.sock")
    }

    pub(super) fn admin_socket(&self) -> PathBuf {
        self.directory.join("admin.sock")
    }

    pub(super) fn configuration(&self) -> PathBuf {
        self.directory.join("node.toml")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.directory.join("node.log")
    }

    pub(super) fn process_id(&self) -> PathBuf {
        self.directory.join("node.pid")
    }

    pub(super) fn invitation(&self) -> PathBuf {
        self.directory.join("invitation")
    }

    /// Leaves an invitation for the node, which it joins by when it is started. It is a secret until then.
    pub(super) fn invite(&self, invitation: &str) -> Result<(), LayoutError> {
        let path = self.invitation();
        let failed = |cause| LayoutError::File { deed: "write", path: path.clone(), cause };
        // What an earlier demonstration left may be readable by others.
        self.forget_invitation();
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path).map_err(failed)?;
        writeln!(file, "{invitation}").map_err(failed)
    }

    /// Removes the invitation: it was used, or never will be.
    pub(super) fn forget_invitation(&self) {
        // Worth nothing once it was used, so what cannot be removed may stay.
        let _ = fs::remove_file(self.invitation());
    }

    /// Where the node serves its metrics, by its configuration.
    pub(super) fn operations(&self) -> Option<SocketAddr> {
        crate::config::Config::load(&self.configuration()).ok()?.operations.listen
    }

    /// Where the node serves its trust domain's bundle by `https_spiffe`, by its configuration.
    pub(super) fn bundle_endpoint(&self) -> Option<String> {
        let endpoint = crate::config::Config::load(&self.configuration()).ok()?.bundle_endpoint;
        Some(format!("https://{}{}", endpoint.spiffe_listen?, endpoint.path))
    }

    /// Makes the directory, and the configuration if there is none yet: a second demonstration in the same directory
    /// goes on with the authority that the first one founded.
    pub(super) fn prepare(&self, ports: &mut Ports) -> Result<(), LayoutError> {
        make_directory(&self.directory)?;
        let path = self.log();
        if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(LayoutError::LogIsNoFile { path });
        }
        let path = self.configuration();
        if path.exists() {
            return Ok(());
        }
        let mut text = self.configuration_text(ports.take()?, ports.take()?);
        if self.site.federated {
            text.push_str(&format!("\n[bundle_endpoint]\nspiffe_listen = \"{}\"\n", ports.take()?));
        }
        fs::write(&path, text).map_err(|cause| LayoutError::File { deed: "write", path, cause })
    }

    /// Takes the directory for this demonstration, as long as what is answered lives. It is a lock on the directory
    /// itself, which is made if need be, so nothing of it is left behind.
    pub(super) fn lock(&self) -> Result<File, LayoutError> {
        make_directory(&self.directory)?;
        let path = || self.directory.clone();
        let failed = |cause| LayoutError::File { deed: "lock", path: path(), cause };
        let directory = File::open(&self.directory).map_err(failed)?;
        match directory.try_lock() {
            Ok(()) => Ok(directory),
            Err(TryLockError::WouldBlock) => Err(LayoutError::Running { path: path() }),
            Err(TryLockError::Error(cause)) => Err(failed(cause)),
        }
    }

    /// The number of the process that says that it is this node. A node says so once it holds its sockets.
    pub(super) fn running(&self) -> Option<u32> {
        fs::read_to_string(self.process_id()).ok()?.trim().parse().ok()
    }

    fn configuration_text(&self, peer: SocketAddr, operations: SocketAddr) -> String {
        let quoted = |path: PathBuf| toml::Value::String(path.display().to_string()).to_string();
        format!(
            "# Written by `quorate demo`.\n\
             trust_domain = \"{trust_domain}\"\n\
             name = \"{name}\"\n\
             data_dir = {data}\n\
             \n\
             [workload_api]\n\
             socket = {workload}\n\
             \n\
             [admin]\n\
             socket = {admin}\n\
             \n\
             [peer]\n\
             listen = \"{peer}\"\n\
             \n\
             [operations]\n\
             listen = \"{operations}\"\n",
            trust_domain = self.site.trust_domain,
            name = self.name,
            data = quoted(self.directory.join("data")),
            workload = quoted(self.workload_socket()),
            admin = quoted(self.admin_socket()),
        )
    }
}

/// The directory that all nodes of a demonstration are under; removed at the end if it was a temporary one.
#[derive(Debug)]
pub(super) struct Base {
    path: PathBuf,
    temporary: bool,
}

impl Base {
    /// `chosen`, or else a new directory of the calling user's own among the temporary files.
    pub(super) fn new(chosen: Option<&Path>) -> Result<Self, LayoutError> {
        if let Some(path) = chosen {
            make_directory(path)?;
            let path =
                path.canonicalize().map_err(|cause| LayoutError::File { deed: "find", path: path.into(), cause })?;
            return Ok(Self { path, temporary: false });
        }
        let parent = std::env::temp_dir();
        // mkdtemp(3) puts a name that nobody can foresee in the place of the six letters, which it asks for.
        let template = parent.join("quorate-demo-XXXXXX");
        let path = nix::unistd::mkdtemp(&template)
            .map_err(|errno| LayoutError::Temporary { path: parent, cause: errno.into() })?;
        Ok(Self { path, temporary: true })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.temporary
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        // What cannot be removed is in the directory for temporary files, where the system clears it some day.
        if self.temporary {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// 0755: workloads of other users may reach the socket in it, and nobody else may put anything there.
fn make_directory(path: &Path) -> Result<(), LayoutError> {
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(|cause| LayoutError::File {
        deed: "make directory",
        path: path.into(),
        cause,
    })
}

/// Free TCP ports of loopback, held until all are known, so that no two nodes are given the same.
///
/// They are taken below the range from which the system gives ports to outgoing connections: nodes dial each other all the
/// time, and one that is down for a moment must find its own port free again.
#[derive(Debug, Default)]
pub(super) struct Ports {
    held: Vec<TcpListener>,
}

/// The lowest port that is tried: below are those that services of the host have, or will.
const LOWEST_PORT: u16 = 16_384;

/// Where the ports of outgoing connections begin if the system does not say (`ip_local_port_range`).
const OUTGOING_PORTS: u16 = 32_768;

impl Ports {
    /// Holds one more.
    fn take(&mut self) -> Result<SocketAddr, LayoutError> {
        let end = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
            .ok()
            .and_then(|range| range.split_whitespace().next()?.parse().ok())
            .unwrap_or(OUTGOING_PORTS);
        let count = end.saturating_sub(LOWEST_PORT);
        // Demonstrations beside each other begin at different places; 7,919 is a prime that scatters their numbers.
        let own = u16::try_from(std::process::id() % 65_521).unwrap_or_default().wrapping_mul(7_919);
        let begin = own.checked_rem(count).unwrap_or_default();
        let below = (begin..count).chain(0..begin).map(|offset| LOWEST_PORT.saturating_add(offset));
        // Whatever the system has, should the range be used up or begin lower.
        let found = below.chain([0]).find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
        let listener = found.ok_or_else(|| LayoutError::Port(io::ErrorKind::AddrInUse.into()))?;
        let address = listener.local_addr().map_err(LayoutError::Port)?;
        self.held.push(listener);
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_that_a_demonstration_writes_passes_the_check() {
        let base = tempfile::tempdir().unwrap();
        let files = NodeFiles::new(base.path(), Site::ALONE, 1).unwrap();

        files.prepare(&mut Ports::default()).unwrap();

        let config = crate::config::Config::load(&files.configuration()).unwrap();
        assert_eq!(config.name.as_str(), "node-1");
        assert_eq!(config.workload_api.socket, files.workload_socket());
    }

    #[test]
    fn nodes_of_two_trust_domains_lie_under_their_names_and_serve_their_bundles() {
        let base = tempfile::tempdir().unwrap();
        let mut ports = Ports::default();
        let mut endpoints = std::collections::BTreeSet::new();
        for site in Site::FEDERATED {
            let files = NodeFiles::new(base.path(), site, 2).unwrap();
            files.prepare(&mut ports).unwrap();
            let config = crate::config::Config::load(&files.configuration()).unwrap();
            assert_eq!(config.trust_domain.as_str(), site.trust_domain);
            assert_eq!(files.title(), format!("{}/node-2", site.trust_domain));
            assert!(base.path().join(site.trust_domain).join("node-2/node.toml").exists());
            endpoints.insert(files.bundle_endpoint().unwrap());
        }
        assert_eq!(endpoints.len(), 2);
    }

    #[test]
    fn an_invitation_is_for_its_owner_and_nodes_stand_in_three_regions() {
        use std::os::unix::fs::PermissionsExt as _;
        let base = tempfile::tempdir().unwrap();
        let files: Vec<NodeFiles> =
            (1..=4).map(|number| NodeFiles::new(base.path(), Site::ALONE, number).unwrap()).collect();
        let regions: std::collections::BTreeSet<&str> = files.iter().map(|files| files.region).collect();
        assert_eq!((regions.len(), files[3].region), (3, files[0].region));

        files[1].prepare(&mut Ports::default()).unwrap();
        files[1].invite("secret").unwrap();

        assert_eq!(fs::metadata(files[1].invitation()).unwrap().permissions().mode() & 0o777, 0o600);
        files[1].forget_invitation();
        assert!(!files[1].invitation().exists());
    }

    #[test]
    fn a_second_demonstration_keeps_the_configuration_of_the_first() {
        let base = tempfile::tempdir().unwrap();
        let files = NodeFiles::new(base.path(), Site::ALONE, 1).unwrap();
        files.prepare(&mut Ports::default()).unwrap();
        let first = fs::read_to_string(files.configuration()).unwrap();

        files.prepare(&mut Ports::default()).unwrap();

        assert_eq!(fs::read_to_string(files.configuration()).unwrap(), first);
    }

    #[test]
    fn no_two_nodes_get_the_same_port_and_none_that_an_outgoing_connection_could_take() {
        let mut ports = Ports::default();
        let taken: std::collections::BTreeSet<u16> = (0..20).map(|_| ports.take().unwrap().port()).collect();
        assert_eq!(taken.len(), 20);
        assert!(taken.iter().all(|port| *port >= LOWEST_PORT), "{taken:?}");
    }

    #[test]
    fn one_demonstration_at_a_time_has_the_directory() {
        let base = tempfile::tempdir().unwrap();
        let files = NodeFiles::new(base.path(), Site::ALONE, 1).unwrap();
        let turn = files.lock().unwrap();

        let error = files.lock().unwrap_err();

        assert!(error.to_string().starts_with("a demonstration is running in "), "{error}");
        drop(turn);
        files.lock().unwrap();
    }

    #[test]
    fn a_log_that_is_no_file_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let files = NodeFiles::new(base.path(), Site::ALONE, 1).unwrap();
        fs::create_dir_all(base.path().join(&files.name)).unwrap();
        std::os::unix::fs::symlink("/dev/null", files.log()).unwrap();

        let error = files.prepare(&mut Ports::default()).unwrap_err();

        assert!(error.to_string().ends_with("so that the node's log can be written there"), "{error}");
        assert!(!files.configuration().exists());
    }

    #[test]
    fn a_directory_whose_sockets_the_kernel_would_refuse_is_refused_before_anything_is_made() {
        let base = tempfile::tempdir().unwrap();
        let long = base.path().join("d".repeat(120));

        let error = NodeFiles::new(&long, Site::ALONE, 1).unwrap_err();

        assert!(error.to_string().contains("may have 107"), "{error}");
        assert!(!long.exists());
    }

    #[test]
    fn a_temporary_directory_goes_with_the_demonstration_and_a_chosen_one_stays() {
        let chosen = tempfile::tempdir().unwrap();
        let temporary = Base::new(None).unwrap();
        let path = temporary.path().to_owned();
        assert!(path.is_dir());

        drop(temporary);
        drop(Base::new(Some(chosen.path())).unwrap());

        assert!(!path.exists());
        assert!(chosen.path().is_dir());
    }
}
