//! INV-14: Workload API calls on nodes that are themselves healthy do not fail while other nodes fail.

use super::Name;
use tonic::Status;

/// Its name.
pub(crate) const NAME: Name = Name(14);

/// A call failed that began and ended while its node was healthy.
pub(crate) fn violation(member: &str, call: &str, status: &Status) -> String {
    format!("{call} on {member}, which is healthy: {status}")
}
