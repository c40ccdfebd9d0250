//! `openssl verify -crl_check_all`: a process for each question.

use super::files::{certificates, crls};
use super::{Chain, Opinion, View, installed};
use crate::consumers::files::Files;
use crate::trouble::Trouble;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// The program, and where it finds what it is asked about.
#[derive(Debug)]
pub(crate) struct OpenSsl {
    program: PathBuf,
    files: Files,
    /// The view that the files hold.
    loaded: Option<u64>,
}

impl OpenSsl {
    /// Where it is installed.
    pub(crate) fn find() -> Option<PathBuf> {
        installed("openssl", &["/usr/bin"])
    }

    /// Keeps its files in this directory.
    pub(crate) fn new(program: PathBuf, directory: PathBuf) -> Result<Self, Trouble> {
        Ok(Self { program, files: Files::within(directory, None)?, loaded: None })
    }

    /// What it says of a chain.
    pub(crate) async fn ask(&mut self, view: &View, chain: &Chain) -> Result<Opinion, Trouble> {
        if self.loaded != Some(view.number) {
            self.files.put("roots.pem", &certificates(view.roots.iter()))?;
            self.files.put("crls.pem", &crls(view.crls.iter()))?;
            self.loaded = Some(view.number);
        }
        self.files.put("leaf.pem", &certificates([&chain.leaf].into_iter()))?;
        self.files.put("issuing.pem", &certificates([&chain.issuing].into_iter()))?;
        let output = Command::new(&self.program)
            .args(["verify", "-crl_check_all", "-no-CApath", "-no-CAstore"])
            .args(self.file("-CAfile", "roots.pem"))
            .args(self.file("-CRLfile", "crls.pem"))
            .args(self.file("-untrusted", "issuing.pem"))
            .arg(self.files.path("leaf.pem"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(Trouble::system(self.program.display().to_string()))?;
        if output.status.success() {
            return Ok(Opinion::Accepts);
        }
        Ok(Opinion::of_openssl(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat())))
    }

    fn file(&self, option: &'static str, name: &str) -> [PathBuf; 2] {
        [Path::new(option).to_owned(), self.files.path(name)]
    }
}
