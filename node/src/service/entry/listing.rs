//! Listings: pages in the order of creation.

use prost::Message as _;
use quorate_proto_api::spire::entry::{ListEntriesRequest, ListEntriesResponse};
use quorate_proto_api::spire::types;
use quorate_raft_consensus::StateReader;
use quorate_raft_machine::EntryFilter;
use tonic::Status;

use super::convert::to_wire;
use super::filter::WireFilter;

/// Encoded bytes after which a page ends, full or not. gRPC clients take answers of 4 MiB, and one more entry, of at
/// most 128 KiB, may be what went over. Clients follow the token, however short the page.
const PAGE_BYTES: usize = 3 * 1024 * 1024;

/// Encoded bytes of an answer with everything (`page_size` 0). Beyond it the call is refused: a list cut short would
/// look like the whole.
const WHOLE_BYTES_LIMIT: usize = 64 * 1024 * 1024;

/// Entries read from the state in one go, so that a long listing does not hold `apply` up.
const READ_AT_ONCE: usize = 500;

/// Answers a page, or everything.
///
/// # Errors
///
/// When the filter, the size or the token is malformed, or everything is too much for one answer.
pub(super) async fn list(state: &StateReader, request: ListEntriesRequest) -> Result<ListEntriesResponse, Status> {
    let ListEntriesRequest { filter, output_mask, page_size, page_token } = request;
    let filter = filter.map(WireFilter::from).unwrap_or_default().checked()?;
    let page_size = usize::try_from(page_size)
        .map_err(|_| Status::invalid_argument(format!("page_size: {page_size} is negative")))?;
    let mask = output_mask.as_ref();
    if page_size == 0 {
        let entries = whole(state, &filter, mask).await?;
        return Ok(ListEntriesResponse { entries, next_page_token: String::new() });
    }
    Ok(page(state, &filter, mask, page_size, after(&page_token)?).await)
}

/// The creation number that a token stands for. It is opaque to callers, and is the same on every node.
fn after(token: &str) -> Result<u64, Status> {
    if token.is_empty() {
        return Ok(0);
    }
    // `parse` alone would take a sign, and one number is to have one token.
    token
        .parse()
        .ok()
        .filter(|number: &u64| number.to_string() == token)
        .ok_or_else(|| Status::invalid_argument("page_token: not a token that a listing gave"))
}

async fn whole(
    state: &StateReader,
    filter: &EntryFilter,
    mask: Option<&types::EntryMask>,
) -> Result<Vec<types::Entry>, Status> {
    let (mut entries, mut bytes, mut after) = (Vec::new(), 0_usize, 0);
    loop {
        let read = state.read(|state| state.list(filter, after, READ_AT_ONCE));
        let Some(last) = read.last() else {
            return Ok(entries);
        };
        after = last.creation_number;
        for entry in &read {
            let entry = to_wire(entry, mask);
            bytes = bytes.saturating_add(entry.encoded_len());
            if bytes > WHOLE_BYTES_LIMIT {
                return Err(Status::resource_exhausted(format!(
                    "the list is longer than {} MiB: ask for it in pages, with a page_size",
                    WHOLE_BYTES_LIMIT >> 20
                )));
            }
            entries.push(entry);
        }
        // A list of hundreds of thousands takes long: other calls of this thread come in between.
        tokio::task::yield_now().await;
    }
}

async fn page(
    state: &StateReader,
    filter: &EntryFilter,
    mask: Option<&types::EntryMask>,
    page_size: usize,
    mut after: u64,
) -> ListEntriesResponse {
    let (mut entries, mut bytes) = (Vec::new(), 0_usize);
    while entries.len() < page_size && bytes < PAGE_BYTES {
        let wanted = page_size.saturating_sub(entries.len()).min(READ_AT_ONCE);
        let read = state.read(|state| state.list(filter, after, wanted));
        if read.is_empty() {
            break;
        }
        for entry in &read {
            let wire = to_wire(entry, mask);
            bytes = bytes.saturating_add(wire.encoded_len());
            entries.push(wire);
            after = entry.creation_number;
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        tokio::task::yield_now().await;
    }
    let next_page_token = if entries.is_empty() { String::new() } else { after.to_string() };
    ListEntriesResponse { entries, next_page_token }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_that_a_listing_gave_is_taken() {
        assert_eq!(after("").unwrap(), 0);
        assert_eq!(after("17").unwrap(), 17);
        for token in ["x", "-1", "+1", "01", "1 ", "18446744073709551616"] {
            assert_eq!(after(token).unwrap_err().code(), tonic::Code::InvalidArgument, "{token:?}");
        }
    }
}
