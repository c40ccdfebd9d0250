//! Heartbeats at our own pace: Raft's interval is a time limit, and the same for all settings (`settings`).

use std::sync::Arc;

use tokio::{task::JoinHandle, time::sleep};

use crate::{elections::Elections, type_config::Raft};

/// The task that sets the pace. It ends when this is dropped.
pub(crate) struct Pace {
    task: JoinHandle<()>,
}

impl Pace {
    /// Starts the task.
    pub(crate) fn start(raft: &Raft, elections: &Arc<Elections>) -> Self {
        Self { task: tokio::spawn(beat(raft.clone(), Arc::clone(elections))) }
    }
}

async fn beat(raft: Raft, elections: Arc<Elections>) {
    loop {
        sleep(elections.settings().heartbeat).await;
        // A leader that hands over has to fall silent (ELE-09).
        let beats = raft.server_metrics().borrow().state.is_leader() && !elections.is_handing_over();
        if beats && raft.trigger().heartbeat().await.is_err() {
            break;
        }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.task.abort();
    }
}
