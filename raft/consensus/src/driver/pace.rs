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
        let leads_others = {
            let books = raft.server_metrics();
            let books = books.borrow();
            books.state.is_leader() && books.membership_config.membership().nodes().nth(1).is_some()
        };
        // A leader that hands over has to fall silent (ELE-09).
        if leads_others && !elections.is_handing_over() && raft.trigger().heartbeat().await.is_err() {
            break;
        }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.task.abort();
    }
}
