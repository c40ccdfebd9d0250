//! Heartbeats at our own pace, where Raft's interval is a time limit only (`elections.md`, "Settings").

use std::sync::Arc;

use tokio::{task::JoinHandle, time::sleep};

use crate::{elections::Elections, type_config::Raft};

/// The task that sets the pace. It ends when this is dropped.
pub(crate) struct Pace {
    task: Option<JoinHandle<()>>,
}

impl Pace {
    /// Starts the task if the settings in force ask for one.
    pub(crate) fn start(raft: &Raft, elections: &Arc<Elections>) -> Self {
        let every = elections.settings().own_heartbeat;
        let (raft, elections) = (raft.clone(), Arc::clone(elections));
        let task = every.map(|every| {
            tokio::spawn(async move {
                loop {
                    sleep(every).await;
                    // A leader that hands over has to fall silent (ELE-09).
                    let beats = raft.server_metrics().borrow().state.is_leader() && !elections.is_handing_over();
                    if beats && raft.trigger().heartbeat().await.is_err() {
                        break;
                    }
                }
            })
        });
        Self { task }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
