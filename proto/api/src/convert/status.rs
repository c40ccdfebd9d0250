//! The status of one item of a batch.

use crate::spire::types;

/// The message of success.
const OK: &str = "OK";

/// The item was done.
#[must_use]
pub fn ok() -> types::Status {
    types::Status { code: tonic::Code::Ok.into(), message: OK.to_owned() }
}

/// The item was not done.
#[must_use]
pub fn failed(code: tonic::Code, message: impl Into<String>) -> types::Status {
    types::Status { code: code.into(), message: message.into() }
}

impl From<tonic::Status> for types::Status {
    fn from(status: tonic::Status) -> Self {
        failed(status.code(), status.message())
    }
}
