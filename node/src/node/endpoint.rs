//! What this node shows to other trust domains, also before it has anything to show.

use std::sync::Arc;

use quorate_actors::EndpointIdentity;
use tokio::sync::watch;

use super::Node;

impl Node {
    /// This node's endpoint certificate and its changes; none until the actors run and have one. May be asked for at any
    /// time, so that listeners can be started before the node is a member.
    #[must_use]
    pub fn endpoint_identity(&self) -> watch::Receiver<Option<Arc<EndpointIdentity>>> {
        if let Some(system) = self.system() {
            return system.endpoint_identity();
        }
        let (publish, published) = watch::channel(None);
        let node = self.clone();
        let mut stopping = self.stopping();
        tokio::spawn(async move {
            let follow = async {
                let mut identity = node.serving().await.endpoint_identity();
                loop {
                    publish.send_replace(identity.borrow_and_update().clone());
                    if identity.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                biased;
                () = stopping.asked() => {}
                () = publish.closed() => {}
                () = follow => {}
            }
        });
        published
    }
}
