//! What an entry says of the stores of its workloads (CRL-10). SPIRE's API has no such field.

use quorate_proto_api::cluster::{
    ChangeResponse, GetEntryCrlPerDomainRequest, GetEntryCrlPerDomainResponse, SetEntryCrlPerDomainRequest,
};
use quorate_raft_machine::{EntryChange, Operation};
use tonic::{Request, Response, Status};

use super::{RevocationsService, target};
use crate::service::BATCH_ITEMS_LIMIT;
use crate::service::reads::{Consistency, at_applied_index};
use crate::service::writes::{at_log_index, refused};

/// Sets it.
pub(super) async fn set(
    service: &RevocationsService,
    request: Request<SetEntryCrlPerDomainRequest>,
) -> Result<Response<ChangeResponse>, Status> {
    service.reads.current(Consistency::of(&request)?).await?;
    let caller = service.writes.caller(&request);
    let SetEntryCrlPerDomainRequest { entry_id, crl_per_domain } = request.into_inner();
    let id = target::entry_id(&entry_id)?;
    let change = EntryChange { crl_per_domain: Some(crl_per_domain), ..EntryChange::default() };
    let operation = Operation::UpdateEntry { id: id.clone(), change: Box::new(change) };
    let written = service.writes.write(caller, vec![operation]).await?;
    match written.results.into_iter().next() {
        Some(Ok(_)) => {}
        Some(Err(refusal)) => return Err(refused(&refusal)),
        None => return Err(Status::internal("the command has no outcome")),
    }
    let sentence = if crl_per_domain {
        format!("Workloads of entry {id} keep a store for each trust domain: they get CRLs beside foreign bundles.")
    } else {
        format!("Workloads of entry {id} keep one store: they get no CRLs while they get foreign bundles.")
    };
    let log_index = written.log_index;
    let answer = ChangeResponse { sentences: vec![sentence], warnings: Vec::new(), log_index };
    Ok(at_log_index(answer, Some(log_index)))
}

/// Tells it of several entries.
pub(super) async fn get(
    service: &RevocationsService,
    request: &Request<GetEntryCrlPerDomainRequest>,
) -> Result<Response<GetEntryCrlPerDomainResponse>, Status> {
    let state = service.reads.current(Consistency::of(request)?).await?;
    let ids = &request.get_ref().entry_ids;
    if ids.len() > BATCH_ITEMS_LIMIT {
        return Err(Status::invalid_argument(format!("entry_ids: give at most {BATCH_ITEMS_LIMIT}")));
    }
    let ids = ids.iter().map(|id| target::entry_id(id)).collect::<Result<Vec<_>, _>>()?;
    let found = state.read(|state| {
        let has_it = |id: &&quorate_proto_identity::EntryId| state.entry(id).is_some_and(|entry| entry.crl_per_domain);
        ids.iter().filter(has_it).map(ToString::to_string).collect()
    });
    Ok(at_applied_index(GetEntryCrlPerDomainResponse { entry_ids: found }, state.applied_index()))
}
