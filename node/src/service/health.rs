//! The gRPC health protocol on the admin socket: SERVING when the own bundle can be read (spire-api.md section 12): an
//! authority is founded, and this node has caught up with it since it started.
//!
//! This is what load balancers and `spire-server healthcheck` ask. Whether the node may sign now is a finer question,
//! answered by `/ready` and by `quorate cluster status`.

use std::collections::BTreeMap;

use quorate_proto_api::health::health_check_response::ServingStatus;
use quorate_proto_api::health::health_server::{Health as HealthApi, HealthServer};
use quorate_proto_api::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use quorate_raft_consensus::StateReader;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::reads::Reads;
use crate::node::Node;
use crate::shutdown::Stopping;

/// Answers of a watch that wait for a slow client. There are three in the whole life of a node.
const WATCH_BUFFER: usize = 3;

/// The service.
#[derive(Debug, Clone)]
pub(super) struct HealthService {
    state: StateReader,
    reads: Reads,
    stopping: Stopping,
}

/// Puts the service together.
pub(super) fn service(node: &Node, reads: &Reads) -> HealthServer<HealthService> {
    let state = node.consensus().state();
    HealthServer::new(HealthService { state, reads: reads.clone(), stopping: node.stopping() })
}

impl HealthService {
    fn status(&self) -> ServingStatus {
        let founded = self.state.read(|state| state.cluster().is_some());
        if founded && self.reads.is_caught_up() && !self.stopping.is_asked() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }

    /// Tells the status at once and at each change, until the node stops or nobody listens.
    async fn tell(self, listener: mpsc::Sender<Result<HealthCheckResponse, Status>>) {
        let mut applied = self.state.watch_applied_index();
        let mut stopping = self.stopping.clone();
        let mut caught_up = self.reads.watch_caught_up();
        let mut told = None;
        loop {
            applied.mark_unchanged();
            caught_up.mark_unchanged();
            let status = self.status();
            if told.replace(status) != Some(status) && listener.send(Ok(response(status))).await.is_err() {
                return;
            }
            if stopping.is_asked() {
                return;
            }
            tokio::select! {
                biased;
                () = listener.closed() => return,
                () = stopping.asked() => {}
                // Its sender goes when it has turned, or never will.
                Ok(()) = caught_up.changed() => {}
                changed = applied.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// The process is asked about as a whole, and in no other way.
fn whole_process(request: &HealthCheckRequest) -> Result<(), Status> {
    match request.service.as_str() {
        "" => Ok(()),
        _ => Err(Status::invalid_argument("service: only the empty name, the process as a whole, can be asked about")),
    }
}

#[tonic::async_trait]
impl HealthApi for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        whole_process(request.get_ref())?;
        Ok(Response::new(response(self.status())))
    }

    async fn list(&self, _request: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let statuses = BTreeMap::from([(String::new(), response(self.status()))]);
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        whole_process(request.get_ref())?;
        let (sender, receiver) = mpsc::channel(WATCH_BUFFER);
        tokio::spawn(self.clone().tell(sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_process_as_a_whole_can_be_asked_about() {
        assert!(whole_process(&HealthCheckRequest { service: String::new() }).is_ok());
        let status = whole_process(&HealthCheckRequest { service: "x".into() }).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
}
