//! Whether configuration, keys and data directory speak of the same node.

use std::path::PathBuf;
use std::sync::Arc;

use quorate_actors::keys::{FileCustody, FileCustodyError, KeyCustody, WhenMissing};
use quorate_raft_consensus::Handle;

use super::StartError;
use crate::config::Config;
use crate::invitation::InvitationFile;
use crate::joining::{JoinFailure, Joining};

/// Where systemd puts the credentials of a service; a node's own keys can be handed in there.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Reads the node's keys, or makes them where nobody knows any yet.
pub(super) fn open_custody(config: &Config, consensus: &Handle) -> Result<Arc<dyn KeyCustody>, StartError> {
    // A member's keys are in the cluster's record; until the directory says that it is one, nothing was sealed to them.
    // The directory is asked, and not the role: that moves while the node starts.
    let when_missing = if consensus.member().is_none() { WhenMissing::Make } else { WhenMissing::Refuse };
    Ok(Arc::new(own_keys(config, when_missing)?))
}

/// The node's own keys: handed in as credentials, or in the data directory, which the caller holds.
pub(crate) fn own_keys(config: &Config, when_missing: WhenMissing) -> Result<FileCustody, FileCustodyError> {
    let credentials = std::env::var_os(CREDENTIALS_VARIABLE).map(PathBuf::from);
    FileCustody::open(&config.data_dir, credentials.as_deref(), when_missing)
}

/// Whether the state in the data directory is the one that the configuration speaks of, and the keys are this member's.
/// A node that has not applied its own admission yet is looked at again when it has.
pub(super) fn check(config: &Config, consensus: &Handle, custody: &dyn KeyCustody) -> Result<(), StartError> {
    let number = consensus.member();
    consensus.state().read(|state| {
        let Some(cluster) = state.cluster() else { return Ok(()) };
        if cluster.trust_domain != config.trust_domain {
            return Err(StartError::OtherTrustDomain {
                found: cluster.trust_domain.clone(),
                configured: config.trust_domain.clone(),
            });
        }
        let Some(member) = number.and_then(|number| state.member(number)) else { return Ok(()) };
        if member.record.status.has_gone() {
            return Err(StartError::Removed { name: member.record.name.clone() });
        }
        if member.record.name == config.name {
            let own = custody.identity_public_key().spki_der();
            let is_own = member.record.identity_key.as_ref() == own;
            return if is_own { Ok(()) } else { Err(StartError::OtherKeys { name: config.name.clone() }) };
        }
        if state.member_by_name(&config.name).is_some() {
            let (found, configured) = (member.record.name.clone(), config.name.clone());
            return Err(StartError::OtherName { found, configured });
        }
        let members: Vec<&str> = state.members().map(|member| member.record.name.as_str()).collect();
        Err(StartError::UnknownName { name: config.name.clone(), members: members.join(", ") })
    })
}

/// The invitation, if this node is to use one: not when it is a member already, so that it can be started again by the
/// same command line.
pub(super) fn invitation_to_use(
    config: &Config,
    consensus: &Handle,
    file: Option<&InvitationFile>,
) -> Result<Option<Joining>, JoinFailure> {
    let Some(file) = file else { return Ok(None) };
    if consensus.member().is_none() {
        return Joining::prepare(file, config).map(Some);
    }
    // What is still there may be of use to find a mistake; standard input is left alone.
    let left = match file {
        InvitationFile::Path(path) if path.exists() => Joining::prepare(file, config).ok(),
        InvitationFile::Path(_) | InvitationFile::StandardInput => None,
    };
    let of_other_cluster = left.is_some_and(|joining| {
        consensus.state().read(|state| {
            let known = |key: &[u8]| state.members().any(|member| member.record.identity_key.as_ref() == key);
            state.cluster().is_some() && !joining.names_any(known)
        })
    });
    if of_other_cluster {
        return Err(JoinFailure::OtherCluster { trust_domain: config.trust_domain.clone() });
    }
    tracing::info!("this node is a member already, so the invitation is not used");
    Ok(None)
}
