//! Files as consumers read them: PEM, replaced whole.

use super::{Chain, View};
use crate::trouble::Trouble;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::unistd::{Gid, Uid, User, chown};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Characters on a line of PEM.
const LINE: usize = 64;

/// Where the files of a server are, and whose they are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    owner: Option<(Uid, Gid)>,
}

impl Files {
    /// In this directory, which is made; for this user, if the one who runs this may give files away.
    pub(crate) fn within(directory: PathBuf, user: Option<&str>) -> Result<Self, Trouble> {
        let shown = || directory.display().to_string();
        let owner = match user {
            Some(name) if Uid::current().is_root() => {
                let user = User::from_name(name).map_err(|errno| Trouble::system(name)(errno.into()))?;
                user.map(|user| (user.uid, user.gid))
            }
            Some(_) | None => None,
        };
        fs::create_dir_all(&directory).map_err(Trouble::system(shown()))?;
        let files = Self { directory: directory.clone(), owner };
        files.give(&directory)?;
        Ok(files)
    }

    /// The user and group that the files belong to, where they are not this process's own.
    pub(crate) fn owner(&self) -> Option<(u32, u32)> {
        self.owner.map(|(user, group)| (user.as_raw(), group.as_raw()))
    }

    /// The path of one.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Replaces one: whoever opens it finds the old one or the new one, whole.
    pub(crate) fn put(&self, name: &str, text: &str) -> Result<(), Trouble> {
        let (path, fresh) = (self.path(name), self.path(&format!("{name}.new")));
        let failed = || Trouble::system(path.display().to_string());
        // PostgreSQL refuses a key that others may read, and whatever was left of an earlier try has its mode.
        let _ = fs::remove_file(&fresh);
        let opened = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&fresh);
        opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed())?;
        self.give(&fresh)?;
        fs::rename(&fresh, &path).map_err(failed())
    }

    /// Writes everything that a server reads. A view without CRLs is refused: with an empty file nginx does not start and
    /// PostgreSQL keeps the old set (CRL-08).
    pub(crate) fn write(&self, view: &View) -> Result<(), Trouble> {
        if view.crls.is_empty() {
            return Err(Trouble::NotReached(
                "a set of CRLs to write, under a policy that always hands one out".to_owned(),
            ));
        }
        self.put("roots.pem", &certificates(view.roots.iter()))?;
        self.put("crls.pem", &crls(view.crls.iter()))?;
        self.put("server.pem", &chain(&view.server))?;
        self.put("server.key", &pem("PRIVATE KEY", &view.server.key))
    }

    fn give(&self, path: &Path) -> Result<(), Trouble> {
        let Some((user, group)) = self.owner else { return Ok(()) };
        let given = chown(path, Some(user), Some(group));
        given.map_err(|errno| Trouble::system(path.display().to_string())(errno.into()))
    }
}

/// Leaf, then issuing certificate.
pub(crate) fn chain(chain: &Chain) -> String {
    certificates([&chain.leaf, &chain.issuing].into_iter())
}

/// Certificates, one behind the other.
pub(crate) fn certificates<'a>(certificates: impl Iterator<Item = &'a Vec<u8>>) -> String {
    certificates.map(|der| pem("CERTIFICATE", der)).collect()
}

/// CRLs, one behind the other.
pub(crate) fn crls<'a>(crls: impl Iterator<Item = &'a Vec<u8>>) -> String {
    crls.map(|der| pem("X509 CRL", der)).collect()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, further) = rest.split_at(rest.len().min(LINE));
        lines.push_str(line);
        lines.push('\n');
        rest = further;
    }
    lines.push_str(&format!("-----END {label}-----\n"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_has_lines_of_sixty_four_characters_between_its_labels() {
        let text = pem("X509 CRL", &[0xff; 50]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!((lines[0], lines[3]), ("-----BEGIN X509 CRL-----", "-----END X509 CRL-----"));
        assert_eq!((lines[1].len(), lines[2].len()), (64, 4));
    }

    #[test]
    fn crl_08_a_file_of_no_crls_is_never_written() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::within(directory.path().join("server"), None).unwrap();
        let server = Chain { leaf: vec![1], issuing: vec![2], key: vec![3] };
        let mut view = View { number: 1, roots: vec![vec![4]].into(), crls: vec![].into(), server };
        files.write(&view).unwrap_err();
        assert!(!files.path("crls.pem").exists());
        view.crls = vec![vec![5]].into();
        files.write(&view).unwrap();
        assert!(fs::metadata(files.path("crls.pem")).unwrap().len() > 0);
    }
}
