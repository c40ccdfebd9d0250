//! The bundles of foreign trust domains: listed, put in place, deleted.

use prost::Message as _;
use quorate_proto_api::convert::ok;
use quorate_proto_api::spire::bundle::batch_delete_federated_bundle_request::Mode;
use quorate_proto_api::spire::bundle::{ListFederatedBundlesRequest, ListFederatedBundlesResponse};
use quorate_proto_api::spire::types;
use quorate_proto_identity::{Bundle, TrustDomain};
use quorate_raft_machine::{BundleFields, Caller, Done, ForeignDeletion, NewForeignBundle, Operation, SetHow, State};
use tonic::Status;

use super::BundleService;
use crate::service::batch::{Fate, Item, carry_out, check_batch, unexpected};
use crate::service::foreign::{self, Paging, bundle_from_wire, bundle_to_wire};
use crate::service::writes::refused;

/// What became of the items of a batch, in their order, and where in the log the last of them stands.
pub(super) type Answered<T> = (Vec<(types::Status, T)>, Option<u64>);

/// A page of the bundles, in the order of the names of their trust domains.
pub(super) fn list(
    state: &State,
    request: &ListFederatedBundlesRequest,
) -> Result<ListFederatedBundlesResponse, Status> {
    let paging = Paging::of(request.page_size, &request.page_token)?;
    let (bundles, next_page_token) = paging.cut(
        state.foreign_bundles(),
        |held| &held.trust_domain,
        |held| Some(bundle_to_wire(&held.bundle, request.output_mask.as_ref())),
    )?;
    Ok(ListFederatedBundlesResponse { bundles, next_page_token })
}

/// Puts bundles in place, or the fields of them that are to be updated.
///
/// # Errors
///
/// When nothing of the batch was applied.
pub(super) async fn put(
    service: &BundleService,
    caller: Caller,
    bundles: &[types::Bundle],
    how: SetHow,
    output_mask: Option<&types::BundleMask>,
) -> Result<Answered<Option<types::Bundle>>, Status> {
    check_batch(bundles.len())?;
    let fields = match how {
        SetHow::Update(fields) => fields,
        SetHow::Create | SetHow::Set | SetHow::Fetched { .. } => BundleFields::ALL,
    };
    let state = service.reads.applied();
    let own = state.read(foreign::own)?;
    let items = bundles
        .iter()
        .map(|wire| match taken(wire, &own, fields) {
            Ok(bundle) => {
                let new = NewForeignBundle { bundle: bundle.clone(), how };
                Item::Operation(Operation::SetForeignBundle(Box::new(new)), wire.encoded_len(), bundle)
            }
            Err(status) => Item::Finished(status.into()),
        })
        .collect();
    let (fates, log_index) = carry_out(&service.writes, caller, items).await?;
    let answered = fates.into_iter().map(|fate| match fate {
        Fate::Finished(status) => (status, None),
        Fate::Carried(Ok(Done::ForeignBundleSet { version, .. }), _, given) => {
            let whole = if fields == BundleFields::ALL {
                Some(bundle_to_wire(&given, output_mask))
            } else {
                state.read(|state| left(state, given.trust_domain(), version, output_mask))
            };
            (ok(), whole)
        }
        Fate::Carried(Ok(other), ..) => (unexpected(&other), None),
        Fate::Carried(Err(refusal), ..) => (refused(&refusal).into(), None),
    });
    Ok((answered.collect(), log_index))
}

/// What is to be put in place of a bundle.
fn taken(wire: &types::Bundle, own: &TrustDomain, fields: BundleFields) -> Result<Bundle, Status> {
    bundle_from_wire(&foreign::name(&wire.trust_domain, own)?, wire, fields)
}

/// The bundle that an update of some fields left behind. None when it is another one by now: then nothing is said rather than
/// something wrong.
fn left(
    state: &State,
    trust_domain: &TrustDomain,
    version: u64,
    output_mask: Option<&types::BundleMask>,
) -> Option<types::Bundle> {
    let held = state.foreign_bundle(trust_domain).filter(|held| held.version == version)?;
    Some(bundle_to_wire(&held.bundle, output_mask))
}

/// Deletes bundles, and does with the entries that federate with them what the mode says.
///
/// # Errors
///
/// When nothing of the batch was applied.
pub(super) async fn delete(
    service: &BundleService,
    caller: Caller,
    names: &[String],
    mode: Mode,
) -> Result<Answered<String>, Status> {
    check_batch(names.len())?;
    let mode = match mode {
        Mode::Restrict => ForeignDeletion::Restrict,
        Mode::Delete => ForeignDeletion::Delete,
        Mode::Dissociate => ForeignDeletion::Dissociate,
    };
    let own = service.reads.applied().read(foreign::own)?;
    let items = names
        .iter()
        .map(|text| match foreign::name(text, &own) {
            Ok(name) => {
                let delete = Operation::DeleteForeignBundle { trust_domain: name.clone(), mode };
                Item::Operation(delete, text.len(), name)
            }
            Err(status) => Item::Finished(status.into()),
        })
        .collect();
    let (fates, mut log_index) = carry_out(&service.writes, caller.clone(), items).await?;
    let mut answered = Vec::with_capacity(names.len());
    for (fate, text) in fates.into_iter().zip(names) {
        let status = match fate {
            Fate::Finished(status) => status,
            Fate::Carried(Ok(Done::ForeignBundleDeleted { more, .. }), index, name) => {
                log_index = log_index.max(Some(index));
                if more { delete_rest(service, &caller, &name, mode, &mut log_index).await } else { ok() }
            }
            Fate::Carried(Ok(other), ..) => unexpected(&other),
            Fate::Carried(Err(refusal), ..) => refused(&refusal).into(),
        };
        answered.push((status, text.clone()));
    }
    Ok((answered, log_index))
}

/// One command changes so many entries and no more: as many further commands as are needed, until the bundle is gone.
async fn delete_rest(
    service: &BundleService,
    caller: &Caller,
    name: &TrustDomain,
    mode: ForeignDeletion,
    log_index: &mut Option<u64>,
) -> types::Status {
    loop {
        let delete = Operation::DeleteForeignBundle { trust_domain: name.clone(), mode };
        let written = match service.writes.write(caller.clone(), vec![delete]).await {
            Ok(written) => written,
            Err(status) => return status.into(),
        };
        *log_index = Some(written.log_index);
        match written.results.into_iter().next() {
            Some(Ok(Done::ForeignBundleDeleted { more: true, .. })) => {}
            Some(Ok(Done::ForeignBundleDeleted { more: false, .. })) => return ok(),
            Some(Ok(other)) => return unexpected(&other),
            Some(Err(refusal)) => return refused(&refusal).into(),
            None => return Status::internal("the command has no outcome").into(),
        }
    }
}
