//! What a backup says of itself, for people and for programs.

use std::path::{Path, PathBuf};

use quorate_actors::backup::{BACKUP_FORMAT, BackupHeader};
use serde::{Deserialize, Serialize};

use crate::cli::text::Facts;
use crate::config::key_text;

/// A backup, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackupJson {
    pub(crate) file: PathBuf,
    pub(crate) format: u32,
    pub(crate) trust_domain: String,
    pub(crate) cluster_id: String,
    pub(crate) created_at: String,
    pub(crate) log_index: String,
    pub(crate) state_hash: String,
    pub(crate) node_name: String,
    pub(crate) member: String,
    /// In the form of `quorate keygen`.
    pub(crate) signed_by: String,
    pub(crate) entries: String,
    pub(crate) file_bytes: String,
    pub(crate) build: String,
    pub(crate) recovery_key: String,
}

impl BackupJson {
    /// What the header says, and how long the file is.
    pub(crate) fn new(file: &Path, header: &BackupHeader, file_bytes: u64) -> Self {
        Self {
            file: file.to_owned(),
            format: BACKUP_FORMAT,
            trust_domain: header.trust_domain.as_str().to_owned(),
            cluster_id: header.cluster.to_string(),
            created_at: header.created_at.seconds().to_string(),
            log_index: header.log_index.to_string(),
            state_hash: header.state_hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            node_name: header.node.to_string(),
            member: header.member.to_string(),
            signed_by: key_text(&header.identity_key),
            entries: header.entries.to_string(),
            file_bytes: file_bytes.to_string(),
            build: header.build.clone(),
            recovery_key: header.recovery_key.clone(),
        }
    }

    /// The same for people.
    pub(crate) fn facts(&self) -> Facts {
        let mut facts = Facts::new();
        facts
            .add("File", self.file.display())
            .add("Trust domain", &self.trust_domain)
            .add("Cluster", &self.cluster_id)
            .add("Made at", &self.created_at)
            .add("Log index", &self.log_index)
            .add("Entries", &self.entries)
            .add("Bytes", &self.file_bytes)
            .add("State hash", &self.state_hash)
            .add("Made by", format!("{} (member {}), version {}", self.node_name, self.member, self.build))
            .add("Signed by", &self.signed_by)
            .add("Sealed to", format!("recovery key {}", self.recovery_key));
        facts
    }
}
