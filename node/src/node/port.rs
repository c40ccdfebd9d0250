//! When the peer port is opened: at the start, if it is known to be needed, or once the node gets company.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::sleep;

use super::Node;

/// The pause after the port could not be had.
const PAUSE: Duration = Duration::from_secs(5);

impl Node {
    /// Opens the peer port if this node needs it from the start: because the configuration says where, because the node
    /// is about to enter a cluster, or because it is in one with others.
    ///
    /// # Errors
    /// When the system does not let this process listen there.
    pub(crate) async fn open_port_at_start(&self) -> Result<(), (SocketAddr, io::Error)> {
        let config = self.config();
        let entering = self.enters_by_other_means().is_some();
        if config.peer.listen_is_set || entering || self.consensus().member().is_some() && self.has_company() {
            self.transport().open().await.map_err(|error| (config.peer.listen, error))?;
        }
        Ok(())
    }

    /// Whether others need the peer port: members, invited ones too.
    fn has_company(&self) -> bool {
        self.consensus().state().read(|state| {
            let mut present = state.members().filter(|member| !member.record.status.has_gone());
            state.cluster().is_none() || present.nth(1).is_some() || state.invitations().next().is_some()
        })
    }

    /// Opens the port once it is needed. Ends with the node.
    pub(crate) async fn keep_port(&self) {
        let mut stopping = self.stopping();
        tokio::select! {
            biased;
            () = stopping.asked() => {}
            () = self.open_port_when_wanted() => {}
        }
    }

    async fn open_port_when_wanted(&self) {
        let mut applied = self.consensus().state().watch_applied_index();
        while self.transport().address().is_none() {
            if self.number().is_none() || !self.has_company() {
                // The sender lives as long as the handle that this node holds.
                drop(applied.changed().await);
                continue;
            }
            if let Err(error) = self.transport().open().await {
                let address = self.config().peer.listen;
                tracing::error!(%address, %error, "peer.listen: nobody can reach this node, because the port cannot be had");
                sleep(PAUSE).await;
            }
        }
    }
}
