//! A member makes known how it is reached and what it can do, when its record says something else (design section 4,
//! "Peers are pinned"; versions).

use std::{sync::Arc, time::Duration};

use quorate_proto_identity::MemberNumber;
use quorate_raft_machine::{COMMAND_VERSION, Caller, Operation};
use tokio::time::{sleep, timeout};

use crate::{handle::Handle, limits::ANNOUNCE_INTERVAL, node::Node, proposal::Proposal, stop::with_causes};

/// The time limit of one announcement.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Announces until the record is right, and looks again when it changes.
pub(crate) async fn announce(node: Arc<Node>, own: MemberNumber) {
    let mut applied = node.reader().watch_applied_index();
    let mut warned = false;
    loop {
        applied.mark_unchanged();
        if let Some(operation) = wanted(&node, own, &mut warned) {
            let proposal = Proposal::new(Caller::node(), vec![operation]).within(TIME_LIMIT);
            match Handle::new(Arc::clone(&node)).propose(proposal).await {
                Ok(_) => tracing::info!("this node has made known how it is reached and what it can do"),
                Err(error) => tracing::debug!(error = %with_causes(&error), "this node could not announce itself yet"),
            }
        }
        // Whatever comes first makes a look worth while, but not one for each entry of a busy log.
        sleep(TIME_LIMIT / 5).await;
        drop(timeout(ANNOUNCE_INTERVAL, applied.changed()).await);
    }
}

/// What is to be announced; nothing, when the record is right or is not there yet.
fn wanted(node: &Node, own: MemberNumber, warned: &mut bool) -> Option<Operation> {
    let said = &node.config.announcement;
    node.reader().read(|state| {
        let record = &state.member(own)?.record;
        if !said.identity_key.is_empty() && said.identity_key != record.identity_key && !std::mem::replace(warned, true)
        {
            tracing::error!(
                member = own.get(),
                "the identity key of this node is not the one that the cluster knows it by: its peers will refuse it. \
                 Restore the key files, or remove this member and let the node join anew on an empty directory"
            );
        }
        let addresses = if said.addresses.is_empty() { &record.addresses } else { &said.addresses };
        let build = if said.build.is_empty() { &record.build } else { &said.build };
        let right = *addresses == record.addresses
            && *build == record.build
            && said.serves == record.serves
            && record.version == COMMAND_VERSION;
        let may_speak = !record.status.has_gone();
        (!right && may_speak).then(|| Operation::AnnounceMember {
            number: own,
            addresses: addresses.clone(),
            version: COMMAND_VERSION,
            build: build.clone(),
            serves: said.serves.clone(),
        })
    })
}
