//! Calls for many items: a few commands, and a status for each item, in the order of the call.

use quorate_proto_api::convert::failed;
use quorate_proto_api::spire::types;
use quorate_raft_machine::{Caller, Done, Operation, OperationResult};
use tonic::{Code, Status};

use super::writes::Writes;

/// Most items of one batch call. SPIRE's tools send 500 at a time; twice that is room, and still one short turn of
/// `apply`. More are refused as a whole.
pub const BATCH_ITEMS_LIMIT: usize = 1_000;

/// Encoded bytes of items after which a batch goes on in a further command, so that it shares log entries of at most
/// 256 KiB with others. A single larger item is a command of its own.
const COMMAND_BYTES: usize = 128 * 1024;

/// An item of a batch on its way: to be carried out, or finished before it began.
pub(super) enum Item<T> {
    /// To be carried out: the operation, its encoded bytes, and what is kept for the answer.
    Operation(Operation, usize, T),
    /// Its status, without an operation.
    Finished(types::Status),
}

/// What became of an item.
pub(super) enum Fate<T> {
    /// Its outcome, the log index of its command, and what was kept for the answer.
    Carried(OperationResult, u64, T),
    /// Its status, without an operation.
    Finished(types::Status),
}

/// Carries the operations of a batch out, several a command, and keeps the order of the items.
///
/// # Errors
///
/// When nothing of the batch was applied. Once something was, what comes after fails item by item.
pub(super) async fn carry_out<T>(
    writes: &Writes,
    caller: Caller,
    items: Vec<Item<T>>,
) -> Result<(Vec<Fate<T>>, Option<u64>), Status> {
    let mut fates = Vec::with_capacity(items.len());
    let mut log_index = None;
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        let (mut operations, mut places, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        while let Some(item) = items.next_if(|item| fits(item, bytes)) {
            match item {
                Item::Finished(status) => places.push(Err(status)),
                Item::Operation(operation, size, kept) => {
                    bytes = bytes.saturating_add(size.max(1));
                    operations.push(operation);
                    places.push(Ok(kept));
                }
            }
        }
        let answered = if operations.is_empty() {
            Ok((Vec::new(), 0))
        } else {
            writes.write(caller.clone(), operations).await.map(|written| {
                log_index = Some(written.log_index);
                (written.results, written.log_index)
            })
        };
        match answered {
            Ok((results, index)) => {
                let mut results = results.into_iter();
                fates.extend(places.into_iter().map(|place| match place {
                    Err(status) => Fate::Finished(status),
                    Ok(kept) => match results.next() {
                        Some(result) => Fate::Carried(result, index, kept),
                        None => Fate::Finished(failed(Code::Internal, "the operation has no outcome")),
                    },
                }));
            }
            Err(status) if log_index.is_none() => return Err(status),
            Err(status) => {
                fates.extend(places.into_iter().map(|place| {
                    Fate::Finished(place.err().unwrap_or_else(|| failed(status.code(), status.message())))
                }))
            }
        }
    }
    Ok((fates, log_index))
}

/// Whether an item can join a command that has so many bytes already.
fn fits<T>(item: &Item<T>, bytes: usize) -> bool {
    match item {
        Item::Finished(_) => true,
        Item::Operation(_, size, _) => bytes == 0 || bytes.saturating_add(*size) <= COMMAND_BYTES,
    }
}

/// What is told of an outcome that an operation of its kind never has.
pub(super) fn unexpected(done: &Done) -> types::Status {
    failed(Code::Internal, format!("the operation came to an outcome of another kind: {done:?}"))
}

/// Refuses a batch of more items than one call may have.
///
/// # Errors
///
/// `InvalidArgument`, before anything was looked at (ATK-48).
pub(super) fn check_batch(count: usize) -> Result<(), Status> {
    if count > BATCH_ITEMS_LIMIT {
        return Err(Status::invalid_argument(format!(
            "the batch has {count} items, the most is {BATCH_ITEMS_LIMIT}: send it in parts"
        )));
    }
    Ok(())
}
