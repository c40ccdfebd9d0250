//! Where a unix socket may stand, and how it comes and goes (ATK-45).
//!
//! ```text
//!   /run/quorate/workload/workload.sock
//!    |   |       |            `-- appears with its final mode: bound under another name in the same
//!    |   |       |                directory, given its mode and group, then linked into place
//!    |   |       `-- ours (or root's), and nobody else can write in it
//!    `---`-- each of root or ours, and nobody else can rename in it (or it is sticky, like /tmp)
//! ```

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, chown};

/// Mode of directories made for sockets: everyone may pass, only we may change what is there.
const DIRECTORY_MODE: u32 = 0o755;

/// The bit that lets everyone write.
const WRITABLE_BY_ALL: u32 = 0o002;

/// The bit that lets the group write.
const WRITABLE_BY_GROUP: u32 = 0o020;

/// The sticky bit: only its owner may rename or remove a file in the directory.
const STICKY: u32 = 0o1000;

/// Why a socket could not be placed. Nothing that was there before has been touched.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers at the path: stop it, or choose another path.
    #[error("{path:?} is in use: another process answers there; stop it or configure another path")]
    InUse {
        /// The configured path.
        path: PathBuf,
    },
    /// Something that is no socket is at the path; it is not ours to remove.
    #[error("{path:?} exists and is not a socket ({found}); remove it or configure another path")]
    NotASocket {
        /// The configured path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// A directory on the way can be changed by others, who could then put their socket in place
    /// of ours.
    #[error(
        "{directory:?} can be written by others (mode {mode:04o}), so they could replace {path:?}; \
         run chmod go-w on it, or configure a path in a directory of its own"
    )]
    WritableByOthers {
        /// The configured path.
        path: PathBuf,
        /// The directory at fault.
        directory: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A directory on the way belongs to another user, who could then replace the socket.
    #[error(
        "{directory:?} belongs to user {owner}, who could replace {path:?}; configure a path in a \
         directory of root or of user {us}"
    )]
    ForeignDirectory {
        /// The configured path.
        path: PathBuf,
        /// The directory at fault.
        directory: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user this process runs as.
        us: u32,
    },
    /// A symbolic link of another user is on the way.
    #[error(
        "{link:?} is a symbolic link of user {owner}, who could point {path:?} elsewhere; configure \
         the real path"
    )]
    ForeignLink {
        /// The configured path.
        path: PathBuf,
        /// The link.
        link: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The system refused a step.
    #[error("cannot {action} {path:?}")]
    System {
        /// The step.
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A listening socket in its place; taken away again when dropped, if it is still this one.
#[derive(Debug)]
pub struct PlacedSocket {
    listener: UnixListener,
    place: Place,
}

/// Which file a placed socket is.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl PlacedSocket {
    /// Makes the socket at `path` with exactly this mode and group, and listens.
    ///
    /// Missing directories are made with mode 0755. A socket left behind by a process that is gone
    /// is replaced.
    ///
    /// # Errors
    /// When the path or a directory on the way breaks a rule, or the path is in use.
    pub fn place(path: &Path, mode: u32, group: Option<Gid>) -> Result<Self, SocketError> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        make_directories(directory)?;
        check_way(path, directory)?;
        remove_stale(path)?;
        let waiting = waiting_name(path, directory);
        let system = |action, source| SocketError::System { action, path: path.to_owned(), source };
        // Our own leftover of a crash between bind and link: only we can write here.
        let _ = fs::remove_file(&waiting);
        let listener = UnixListener::bind(&waiting).map_err(|source| system("bind", source))?;
        let placed = prepare(&waiting, mode, group)
            .and_then(|()| fs::hard_link(&waiting, path))
            .and_then(|()| fs::symlink_metadata(path));
        let _ = fs::remove_file(&waiting);
        let file = placed.map_err(|source| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                SocketError::InUse { path: path.to_owned() }
            } else {
                system("place a socket at", source)
            }
        })?;
        let place = Place { path: path.to_owned(), device: file.dev(), inode: file.ino() };
        Ok(Self { listener, place })
    }

    /// The listener, and the place to keep for as long as it listens.
    #[must_use]
    pub fn into_parts(self) -> (UnixListener, Place) {
        (self.listener, self.place)
    }
}

impl Place {
    /// The path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == (self.device, self.inode));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket file could not be removed");
        }
    }
}

/// A short name beside the path: `sockaddr_un` has no room for a longer one.
fn waiting_name(path: &Path, directory: &Path) -> PathBuf {
    // Two sockets of one directory, or two processes, do not meet in one name.
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let mark = mixed(name) ^ std::process::id();
    directory.join(format!(".{:06x}", mark & 0x00ff_ffff))
}

/// A small mixing of bytes into 32 bits (FNV-1a); not for security.
fn mixed(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn prepare(path: &Path, mode: u32, group: Option<Gid>) -> io::Result<()> {
    if let Some(group) = group {
        chown(path, None, Some(group))?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Makes what is missing, each with its mode whatever the umask is.
fn make_directories(directory: &Path) -> Result<(), SocketError> {
    if fs::symlink_metadata(directory).is_ok() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make_directories(parent)?;
    }
    let made = fs::DirBuilder::new()
        .mode(DIRECTORY_MODE)
        .create(directory)
        .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE)));
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(SocketError::System { action: "make the directory", path: directory.to_owned(), source: error })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Checks every directory on the way, as the path is written and as it resolves.
fn check_way(path: &Path, directory: &Path) -> Result<(), SocketError> {
    let system = |source| SocketError::System { action: "look at the directory", path: directory.to_owned(), source };
    let real = fs::canonicalize(directory).map_err(system)?;
    for way in [directory, real.as_path()] {
        for (distance, step) in way.ancestors().enumerate() {
            if !step.as_os_str().is_empty() {
                check_step(path, step, distance == 0).map_err(|problem| problem.or_system(step))?;
            }
        }
    }
    Ok(())
}

/// A broken rule, or a step that could not be looked at.
enum StepProblem {
    Rule(SocketError),
    Io(io::Error),
}

impl StepProblem {
    fn or_system(self, step: &Path) -> SocketError {
        match self {
            Self::Rule(error) => error,
            Self::Io(source) => SocketError::System { action: "look at", path: step.to_owned(), source },
        }
    }
}

fn check_step(path: &Path, step: &Path, holds_the_socket: bool) -> Result<(), StepProblem> {
    let file = fs::symlink_metadata(step).map_err(StepProblem::Io)?;
    let us = Uid::effective().as_raw();
    let trusted = file.uid() == 0 || file.uid() == us;
    let rule = |error| Err(StepProblem::Rule(error));
    if file.is_symlink() {
        if trusted {
            return Ok(());
        }
        return rule(SocketError::ForeignLink { path: path.to_owned(), link: step.to_owned(), owner: file.uid() });
    }
    if !trusted {
        return rule(SocketError::ForeignDirectory {
            path: path.to_owned(),
            directory: step.to_owned(),
            owner: file.uid(),
            us,
        });
    }
    let mode = file.mode() & 0o7777;
    // In a sticky directory others cannot rename what is ours, but they can be there first: enough
    // for a directory on the way, not for the one that holds the socket.
    let sticky_helps = !holds_the_socket && mode & STICKY != 0;
    let others_write = mode & WRITABLE_BY_ALL != 0 || (mode & WRITABLE_BY_GROUP != 0 && !is_own_group(file.gid(), us));
    if others_write && !sticky_helps {
        return rule(SocketError::WritableByOthers { path: path.to_owned(), directory: step.to_owned(), mode });
    }
    Ok(())
}

/// Whether the members of a group can do nothing that we or root cannot: root's group, and the
/// private group of our user, which by custom has the user's number. Distributions that give users
/// such groups make directories group-writable by default.
fn is_own_group(group: u32, us: u32) -> bool {
    group == 0 || (group == us && group == Gid::effective().as_raw())
}

/// Removes a socket nobody answers at; refuses everything else that is there.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let system = |action, source| SocketError::System { action, path: path.to_owned(), source };
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system("look at", error)),
    };
    if !file.is_socket() {
        let found = if file.is_symlink() {
            "a symbolic link"
        } else if file.is_dir() {
            "a directory"
        } else {
            "a file"
        };
        return Err(SocketError::NotASocket { path: path.to_owned(), found });
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|source| system("remove the stale socket", source))
        }
        // Gone between the two looks.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // It answers, or it is too busy to: either way someone is there.
        Ok(_) | Err(_) => Err(SocketError::InUse { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory only we can write in, as every test wants it.
    fn own_directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        directory
    }

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_socket_has_its_final_mode_and_leaves_nothing_else_behind_atk_45() {
        let root = own_directory();
        let path = root.path().join("a/b/workload.sock");
        let socket = PlacedSocket::place(&path, 0o777, None).unwrap();
        assert_eq!(mode_of(&path), 0o777);
        assert_eq!(mode_of(path.parent().unwrap()), 0o755);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let (_listener, place) = socket.into_parts();
        assert_eq!(place.path(), path);
        drop(place);
        assert!(!path.exists(), "a socket that is no longer served is removed");
    }

    #[test]
    fn a_path_in_use_is_refused_and_the_one_there_keeps_working() {
        let root = own_directory();
        let path = root.path().join("admin.sock");
        let _first = PlacedSocket::place(&path, 0o660, None).unwrap();
        let error = PlacedSocket::place(&path, 0o660, None).unwrap_err();
        assert!(matches!(error, SocketError::InUse { .. }));
        assert!(error.to_string().contains("is in use: another process answers there"));
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_nobody_answers_at_is_replaced() {
        let root = own_directory();
        let path = root.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _socket = PlacedSocket::place(&path, 0o660, None).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_never_removed() {
        let root = own_directory();
        let file = root.path().join("file");
        fs::write(&file, "keep").unwrap();
        let link = root.path().join("link");
        symlink(&file, &link).unwrap();
        for (path, found) in [(&file, "(a file)"), (&link, "(a symbolic link)")] {
            let error = PlacedSocket::place(path, 0o660, None).unwrap_err();
            assert!(error.to_string().contains(found), "{error}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "keep");
        assert!(link.is_symlink());
    }

    #[test]
    fn a_directory_others_can_write_is_refused_even_when_it_is_sticky_atk_45() {
        let root = own_directory();
        let open = root.path().join("open");
        fs::create_dir(&open).unwrap();
        for mode in [0o777, 0o1777] {
            fs::set_permissions(&open, Permissions::from_mode(mode)).unwrap();
            let error = PlacedSocket::place(&open.join("a.sock"), 0o660, None).unwrap_err();
            assert!(error.to_string().contains("can be written by others"), "{error}");
            assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
        }
        // On the way, sticky is enough: others cannot rename what is ours.
        let inner = open.join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, Permissions::from_mode(0o755)).unwrap();
        PlacedSocket::place(&inner.join("a.sock"), 0o660, None).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        PlacedSocket::place(&inner.join("a.sock"), 0o660, None).unwrap_err();
    }

    #[test]
    fn a_group_that_is_not_ours_alone_counts_as_others() {
        if !Uid::effective().is_root() {
            return; // Only root can give a directory to any group.
        }
        let root = own_directory();
        let shared = root.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o775)).unwrap();
        PlacedSocket::place(&shared.join("a.sock"), 0o660, None).unwrap();
        chown(&shared, None, Some(Gid::from_raw(12_345))).unwrap();
        PlacedSocket::place(&shared.join("a.sock"), 0o660, None).unwrap_err();
    }

    #[test]
    fn another_users_directory_or_link_is_refused_atk_45() {
        if !Uid::effective().is_root() {
            return; // Only root can make a directory that belongs to someone else.
        }
        let root = own_directory();
        let theirs = root.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::set_permissions(&theirs, Permissions::from_mode(0o755)).unwrap();
        chown(&theirs, Some(Uid::from_raw(12_345)), None).unwrap();
        let error = PlacedSocket::place(&theirs.join("a.sock"), 0o660, None).unwrap_err();
        assert!(error.to_string().contains("belongs to user 12345"), "{error}");

        let real = root.path().join("real");
        fs::create_dir(&real).unwrap();
        let link = root.path().join("link");
        symlink(&real, &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(12_345), None).unwrap();
        let error = PlacedSocket::place(&link.join("a.sock"), 0o660, None).unwrap_err();
        assert!(error.to_string().contains("symbolic link of user 12345"), "{error}");
    }

    #[test]
    fn a_socket_put_in_our_place_by_hand_is_not_removed() {
        let root = own_directory();
        let path = root.path().join("admin.sock");
        let socket = PlacedSocket::place(&path, 0o660, None).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }
}
