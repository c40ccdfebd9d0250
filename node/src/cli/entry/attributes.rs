//! What an entry says beside the fields of SPIRE's API.

use std::collections::BTreeSet;

use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::revocations_client::RevocationsClient;
use quorate_proto_api::cluster::{GetEntryCrlPerDomainRequest, SetEntryCrlPerDomainRequest};
use quorate_proto_api::spire::types;

use super::BATCH;
use crate::cli::failure::Failure;
use crate::cli::socket::Connection;

/// Says whether workloads of an entry keep a store for each trust domain.
pub(super) async fn set_crl_per_domain(connection: &Connection, id: &str, crl_per_domain: bool) -> Result<(), Failure> {
    let message = SetEntryCrlPerDomainRequest { entry_id: id.to_owned(), crl_per_domain };
    RevocationsClient::new(connection.channel())
        .set_entry_crl_per_domain(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed("set crl_per_domain of the entry"))
        .map(drop)
}

/// IDs of those of the entries whose workloads keep a store for each trust domain.
pub(super) async fn with_crl_per_domain(
    connection: &Connection,
    entries: &[types::Entry],
) -> Result<BTreeSet<String>, Failure> {
    let mut client = RevocationsClient::new(connection.channel());
    let mut found = BTreeSet::new();
    for batch in entries.chunks(BATCH) {
        let message = GetEntryCrlPerDomainRequest { entry_ids: batch.iter().map(|entry| entry.id.clone()).collect() };
        let answer = client
            .get_entry_crl_per_domain(connection.request(message, CALL_LIMIT))
            .await
            .map_err(connection.failed("show entries"))?;
        found.extend(answer.into_inner().entry_ids);
    }
    Ok(found)
}
