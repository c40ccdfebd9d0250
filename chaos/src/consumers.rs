//! Programs of others that check certificates against CRLs, as they come from Debian, and what they say of a chain.
//!
//! ```text
//!   stream of a node ──► View: roots, CRLs, an SVID for a server
//!                          |── openssl verify -crl_check_all      a process for each question
//!                          |── rustls, whole chain                in this process
//!                          |── nginx, ssl_crl                     files, and SIGHUP; asked by a handshake
//!                          `── PostgreSQL, ssl_crl_file           files, and SIGHUP; asked by a handshake
//! ```
//!
//! Those that read files have them replaced whole, by renaming, and told to read them again; a file of CRLs is never
//! empty, because the policy is `always` (CRL-08).

pub(crate) mod files;
mod handshake;
pub(crate) mod nginx;
pub(crate) mod openssl;
pub(crate) mod postgresql;
pub(crate) mod rustls;

use crate::trouble::Trouble;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::process::Command;

/// A chain as a stream brought it, with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The leaf, DER.
    pub(crate) leaf: Vec<u8>,
    /// The issuing certificate, DER.
    pub(crate) issuing: Vec<u8>,
    /// The leaf's key, PKCS#8.
    pub(crate) key: Vec<u8>,
}

/// What a consumer is given to check with.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Tells it from others of its stream; it grows.
    pub(crate) number: u64,
    /// The roots, DER.
    pub(crate) roots: Arc<[Vec<u8>]>,
    /// The CRLs, DER.
    pub(crate) crls: Arc<[Vec<u8>]>,
    /// What a server shows for itself.
    pub(crate) server: Chain,
}

/// What a consumer says of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opinion {
    /// It is good.
    Accepts,
    /// The leaf or its issuer is revoked.
    Revoked,
    /// There is no CRL of an issuer.
    Unknown,
    /// It is refused for another reason, in the consumer's words.
    Refuses(String),
}

impl Opinion {
    /// By the words of OpenSSL, which three of the four use.
    fn of_openssl(said: &str) -> Self {
        if said.contains("certificate revoked") {
            Self::Revoked
        } else if said.contains("unable to get certificate CRL") {
            Self::Unknown
        } else {
            Self::Refuses(said.trim().to_owned())
        }
    }
}

/// A program of a package, where Debian puts it or where the path has it.
pub(crate) fn installed(name: &str, places: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = places.iter().map(PathBuf::from).collect();
    directories.extend(std::env::split_paths(&path));
    directories.push(PathBuf::from("/usr/sbin"));
    directories.into_iter().map(|directory| directory.join(name)).find(|program| program.is_file())
}

/// What a program says of its version, on one line.
pub(crate) async fn version(program: &std::path::Path, argument: &str) -> Result<String, Trouble> {
    let output = Command::new(program).arg(argument).kill_on_drop(true).output().await;
    let output = output.map_err(Trouble::system(program.display().to_string()))?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests;
