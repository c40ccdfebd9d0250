//! Joining a cluster by invitation: `quorate node --join-file PATH`.
//!
//! ```text
//!   file ──► checked against the configuration ──► the members it names are asked, in turn, until one decides
//!                 |                                     |  nobody answers: again, with growing pauses
//!              refused: the node ends                   |  refused: the node ends, and says why
//!                                                       v
//!                                        a member: the state comes in, then the actors start
//! ```
//!
//! The cluster decides; nothing is checked here but what would waste an invitation or puzzle an operator. A node that
//! is a member already looks at the invitation no more, so that the same command line starts it again.

use std::time::Duration;

use bytes::Bytes;
use quorate_proto_identity::{NodeName, TrustDomain};
use quorate_raft_consensus::joining::{JoinError, JoinRequest};
use quorate_raft_consensus::transport::{Destination, Protocol};
use quorate_raft_machine::COMMAND_VERSION;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::invitation::{Invitation, InvitationFile, InvitationFileError};
use crate::node::Node;

/// How long one round over the members may take: a few dials, an election and a write.
const ROUND_LIMIT: Duration = Duration::from_secs(20);

/// The pause after the first round that came to nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause between rounds. An invitation lasts ten minutes unless told otherwise.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// An invitation that fits this node's configuration.
#[derive(Debug)]
pub(crate) struct Joining {
    invitation: Invitation,
}

/// Why a node did not join. The cluster is as it was.
#[derive(Debug, thiserror::Error)]
pub enum JoinFailure {
    /// The invitation could not be read.
    #[error(transparent)]
    File(#[from] InvitationFileError),
    /// It is for another trust domain.
    #[error(
        "the invitation is into the trust domain {invited}, and trust_domain is {configured}: correct the configuration, \
         or ask for an invitation into the other cluster"
    )]
    OtherTrustDomain {
        /// The one of the invitation.
        invited: TrustDomain,
        /// The one of the configuration.
        configured: TrustDomain,
    },
    /// It is for a node of another name.
    #[error("the invitation is for a node named {invited}, and name is {configured}: correct one or the other")]
    OtherName {
        /// The one of the invitation.
        invited: NodeName,
        /// The one of the configuration.
        configured: NodeName,
    },
    /// The members would not know where to find this node.
    #[error(
        "peer.listen stands for every address of this host, so the members would not know where to find this node: set \
         peer.advertise"
    )]
    NoAddress,
    /// The data directory belongs to another cluster.
    #[error(
        "the data directory holds a member of another cluster of trust domain {trust_domain}: none of the members that \
         the invitation names is in it. Give this node an empty data_dir"
    )]
    OtherCluster {
        /// Their trust domain.
        trust_domain: TrustDomain,
    },
    /// The cluster said no, or joining broke off on this node.
    #[error(transparent)]
    Join(#[from] JoinError),
}

impl Joining {
    /// Reads an invitation and compares it with the configuration.
    ///
    /// # Errors
    /// When it cannot be read, or does not fit.
    pub(crate) fn prepare(file: &InvitationFile, config: &Config) -> Result<Self, JoinFailure> {
        let invitation = file.read()?;
        if *invitation.trust_domain() != config.trust_domain {
            return Err(JoinFailure::OtherTrustDomain {
                invited: invitation.trust_domain().clone(),
                configured: config.trust_domain.clone(),
            });
        }
        if *invitation.name() != config.name {
            return Err(JoinFailure::OtherName { invited: invitation.name().clone(), configured: config.name.clone() });
        }
        if config.addresses().is_empty() {
            return Err(JoinFailure::NoAddress);
        }
        Ok(Self { invitation })
    }

    /// Whether any member that the invitation names has one of these keys.
    pub(crate) fn names_any(&self, known: impl Fn(&[u8]) -> bool) -> bool {
        self.invitation.peers().iter().any(|peer| known(&peer.key))
    }

    fn targets(&self) -> Vec<Destination> {
        let target = |peer: &crate::invitation::InvitingPeer| Destination {
            addresses: peer.addresses.iter().map(ToString::to_string).collect(),
            keys: vec![peer.key.clone()],
            protocol: Protocol::Join,
        };
        self.invitation.peers().iter().map(target).collect()
    }
}

/// Whether asking again later may end otherwise, with the same invitation.
fn may_pass(error: &JoinError) -> bool {
    matches!(error, JoinError::Unreachable { .. } | JoinError::NotNow { .. } | JoinError::Deadline)
}

impl Node {
    /// Joins by an invitation: asks until the cluster has decided.
    pub(crate) async fn join(&self, joining: &Joining) -> Result<(), JoinFailure> {
        // Wiped when the last one who has it lets it go.
        let secret = Zeroizing::new(joining.invitation.secret().as_bytes().to_vec());
        self.enter(joining.targets(), Bytes::from_owner(secret)).await
    }

    /// Asks to be let in, by a secret or by the founding list, until the cluster has decided.
    pub(crate) async fn enter(&self, targets: Vec<Destination>, secret: Bytes) -> Result<(), JoinFailure> {
        let (config, consensus) = (self.config(), self.consensus());
        let request = JoinRequest {
            trust_domain: config.trust_domain.to_string(),
            name: config.name.to_string(),
            sealing_key: Bytes::copy_from_slice(self.custody().sealing_public_key()),
            addresses: config.addresses().iter().map(ToString::to_string).collect(),
            version: COMMAND_VERSION,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            secret,
            incarnation: consensus.begin_joining().await?,
        };
        let mut pause = FIRST_PAUSE;
        let admitted = loop {
            let error = match consensus.admit_at(&targets, &request, Instant::now() + ROUND_LIMIT).await {
                Ok(admitted) => break admitted,
                Err(error) if may_pass(&error) => error,
                Err(error) => return Err(error.into()),
            };
            tracing::warn!(%error, next_try = ?pause, "no member has let this node in yet");
            self.tell_progress(format!("this node is joining a cluster: {error}"));
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        tracing::info!(
            target: crate::telemetry::SECURITY,
            cluster = %admitted.cluster, member = admitted.member.get(), log_index = admitted.log_index,
            "this node was let into a cluster"
        );
        self.tell_progress("this node has joined a cluster, and waits for its state".to_owned());
        consensus.join(admitted).await?;
        Ok(())
    }
}
