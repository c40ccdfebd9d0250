//! Waiting until this node has applied an index of the log.

use std::time::Duration;

use quorate_proto_api::cluster::{WaitRequest, WaitResponse};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::service::reads::{Consistency, Reads, at_applied_index};

/// Longest wait: a node that has to catch up by a snapshot over a slow line may take long, and one that never does
/// must not keep a call for ever.
const WAIT_LIMIT: Duration = Duration::from_secs(3_600);

/// Answers once the index is applied, and with it everything that was acknowledged before, if that was asked for.
///
/// # Errors
///
/// `DeadlineExceeded` when it does not come to that in time; `Unavailable` when it cannot be known how far to wait.
pub(super) async fn until_applied(
    reads: &Reads,
    request: &Request<WaitRequest>,
) -> Result<Response<WaitResponse>, Status> {
    let WaitRequest { index, timeout_millis } = *request.get_ref();
    let deadline = Instant::now() + Duration::from_millis(timeout_millis).min(WAIT_LIMIT);
    if Consistency::of(request)? == Consistency::Linearizable {
        reads.read_index(deadline).await?;
    }
    let state = reads.applied();
    if state.wait_applied(index, deadline).await.is_err() {
        return Err(Status::deadline_exceeded(format!(
            "this node has applied the log up to index {}, not {index}, after {timeout_millis} ms",
            state.applied_index()
        )));
    }
    let applied_index = state.applied_index();
    Ok(at_applied_index(WaitResponse { applied_index }, applied_index))
}
