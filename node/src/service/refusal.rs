//! Refusals of the actors as gRPC statuses.

use quorate_actors::Refusal;
use tonic::Status;

/// The status that a refusal is told by (F9 of the conformance list).
pub(super) fn status(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::InvalidArgument(_) => Status::invalid_argument(text),
        Refusal::PermissionDenied(_) => Status::permission_denied(text),
        Refusal::Unavailable(_) => Status::unavailable(text),
    }
}
