//! Founding an authority on a node whose directory is empty: once, by one explicit act (ATK-46).
//!
//! ```text
//!   policy checked ──> consensus: this node the sole voter ──> keys made and sealed ──> `Found` applied ──> actors start
//!        |                  |  synced, by stages                     |                        |
//!     nothing yet      a crash from here on leaves a node that waits: the same call completes it
//! ```

pub(crate) mod listed;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_actors::founding::{FoundingError as PlanError, FoundingPlan, plan};
use quorate_actors::sources::FreshKeys;
use quorate_proto_identity::{ClusterId, MemberNumber, TrustDomain};
use quorate_raft_consensus::{Applied, FoundError, LinearizeError, MemberNode, Proposal, ProposeError};
use quorate_raft_machine::{COMMAND_VERSION, Caller, Done, Operation, Policy, PolicyError, Refusal, RefusalCode};
use tokio::time::Instant;

use crate::node::Node;

/// How long each step of a founding may take: it is two syncs and an election without rivals.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// What the founder chooses. Trust domain and node name are the node's configuration.
#[derive(Clone, Debug)]
pub struct Founding {
    /// The trust domain's policy.
    pub policy: Policy,
    /// The region this node is in; may be empty.
    pub region: String,
    /// The zone within it; may be empty.
    pub zone: String,
    /// Further facts about the node.
    pub labels: BTreeMap<String, String>,
    /// Who founds, for the audit record.
    pub caller: Caller,
}

/// A founded authority.
#[derive(Clone, Debug)]
pub struct FoundedAuthority {
    /// The cluster's random number.
    pub cluster: ClusterId,
    /// Its trust domain.
    pub trust_domain: TrustDomain,
    /// This node's number in it.
    pub member: MemberNumber,
    /// Where in the log the founding stands.
    pub log_index: u64,
}

/// Why nothing was founded.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// An authority is there already. To begin anew takes another, empty directory.
    #[error("the authority of trust domain {trust_domain} was founded on this node before (cluster {cluster})")]
    AlreadyFounded {
        /// Its trust domain.
        trust_domain: TrustDomain,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// This node is founded together with others, or joins a cluster.
    #[error("{reason}")]
    ByOtherMeans {
        /// What it does instead.
        reason: &'static str,
    },
    /// The policy contradicts itself.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The state machine refused what the founder chose.
    #[error(transparent)]
    Refused(Refusal),
    /// Consensus could not be started. The call can be repeated.
    #[error("the cluster could not be made; the call can be repeated")]
    Consensus(#[from] FoundError),
    /// The keys could not be made. The call can be repeated.
    #[error("the authority could not be made; the call can be repeated")]
    Plan(#[from] PlanError),
    /// The node lost its way to the log. The call can be repeated.
    #[error("the log did not take the founding; the call can be repeated")]
    Log(#[from] LinearizeError),
    /// The command was not applied, or is not known to be. The call can be repeated.
    #[error("the log did not take the founding; the call can be repeated")]
    Propose(#[from] ProposeError),
}

impl Node {
    /// Founds the authority, or completes a founding that was cut short.
    ///
    /// # Errors
    /// When there is one already, when what the founder chose is refused, or when a step failed; after
    /// the latter the same call can be repeated.
    pub async fn found(&self, founding: Founding) -> Result<FoundedAuthority, FoundingError> {
        self.refuse_if_founded()?;
        if let Some(reason) = self.enters_by_other_means() {
            return Err(FoundingError::ByOtherMeans { reason });
        }
        let founded = self.found_with(founding, Vec::new()).await?;
        // Whoever founded it finds it served, if it comes to that in time.
        let _ = tokio::time::timeout(STEP_LIMIT, self.serving()).await;
        Ok(founded)
    }

    /// The same, with further operations in the command that founds, and without a wait for the serving: a node that is
    /// founded from a list serves only after it.
    pub(crate) async fn found_with(
        &self,
        founding: Founding,
        with: Vec<Operation>,
    ) -> Result<FoundedAuthority, FoundingError> {
        let _turn = self.founding_turn().await;
        self.refuse_if_founded()?;
        founding.policy.check()?;
        let config = self.config();
        let addresses: Vec<String> = config.addresses().iter().map(ToString::to_string).collect();
        let member = MemberNode { name: config.name.clone(), addresses: addresses.clone() };
        let made = self.consensus().found(&member).await?;
        // A founding that was cut short may have come as far as its command.
        self.consensus().ensure_linearizable(Instant::now() + STEP_LIMIT).await?;
        self.refuse_if_founded()?;
        let chosen = FoundingPlan {
            cluster: made.cluster,
            member: made.member,
            trust_domain: config.trust_domain.clone(),
            policy: founding.policy,
            name: config.name.clone(),
            region: founding.region,
            zone: founding.zone,
            labels: founding.labels,
            addresses,
            version: COMMAND_VERSION,
            build: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let operation = plan(chosen, self.sources(), Arc::new(FreshKeys), Arc::clone(self.custody())).await?;
        // All in one command: a crash leaves the whole of it, or nothing.
        let operations = std::iter::once(operation).chain(with).collect();
        let proposal = Proposal::new(founding.caller, operations);
        let applied = self.consensus().propose(proposal).await?;
        let founded = self.founded(made.cluster, applied)?;
        tracing::info!(
            target: crate::telemetry::SECURITY,
            trust_domain = %founded.trust_domain, cluster = %founded.cluster, log_index = founded.log_index,
            "an authority was founded"
        );
        Ok(founded)
    }

    fn founded(&self, cluster: ClusterId, applied: Applied) -> Result<FoundedAuthority, FoundingError> {
        let Applied { log_index, outcome } = applied;
        let mut results = outcome.results.into_iter();
        let first = results.next();
        for refusal in results.filter_map(Result::err) {
            tracing::error!(%refusal, "the founding is done, but not all that was to be done with it");
        }
        match first {
            Some(Ok(Done::Founded { member })) => {
                Ok(FoundedAuthority { cluster, trust_domain: self.config().trust_domain.clone(), member, log_index })
            }
            Some(Err(refusal)) => Err(FoundingError::Refused(refusal)),
            Some(Ok(_)) | None => {
                let message = "the state machine answered something else than a founding";
                Err(FoundingError::Refused(Refusal::new(RefusalCode::WrongState, message)))
            }
        }
    }

    fn refuse_if_founded(&self) -> Result<(), FoundingError> {
        self.consensus().state().read(|state| match state.cluster() {
            Some(cluster) => {
                Err(FoundingError::AlreadyFounded { trust_domain: cluster.trust_domain.clone(), cluster: cluster.id })
            }
            None => Ok(()),
        })
    }
}
