//! Bundles, our own and those of foreign trust domains: SPIRE's Bundle service (spire-api.md section 9).
//!
//! Lists are in the order of the trust domains' names, which is the same on every node. A foreign bundle that was put in place
//! here stands until the next one that is fetched (FED-10), and sets no floor for its sequence number (ATK-39).

mod federated;

use quorate_proto_api::convert::{jwt_key, x509_certificate};
use quorate_proto_api::spire::bundle::batch_delete_federated_bundle_request::Mode;
use quorate_proto_api::spire::bundle::bundle_server::{Bundle as BundleApi, BundleServer};
use quorate_proto_api::spire::bundle::{
    AppendBundleRequest, BatchCreateFederatedBundleRequest, BatchCreateFederatedBundleResponse,
    BatchDeleteFederatedBundleRequest, BatchDeleteFederatedBundleResponse, BatchSetFederatedBundleRequest,
    BatchSetFederatedBundleResponse, BatchUpdateFederatedBundleRequest, BatchUpdateFederatedBundleResponse,
    CountBundlesRequest, CountBundlesResponse, GetBundleRequest, GetFederatedBundleRequest,
    ListFederatedBundlesRequest, ListFederatedBundlesResponse, PublishJwtAuthorityRequest, PublishJwtAuthorityResponse,
    PublishWitAuthorityRequest, PublishWitAuthorityResponse, batch_create_federated_bundle_response,
    batch_delete_federated_bundle_response, batch_set_federated_bundle_response,
    batch_update_federated_bundle_response,
};
use quorate_proto_api::spire::types;
use quorate_proto_identity::TrustDomain;
use quorate_raft_machine::{BundleContent, BundleFields, SetHow, State};
use tonic::{Request, Response, Status};

use super::foreign::{self, bundle_to_wire, whole_bundle};
use super::reads::{Consistency, NOT_FOUNDED, Reads, at_applied_index, look};
use super::writes::{Writes, at_log_index};
use crate::node::Node;

/// The service.
#[derive(Debug, Clone)]
pub(super) struct BundleService {
    reads: Reads,
    writes: Writes,
}

/// Puts the service together.
pub(super) fn service(node: &Node, reads: &Reads) -> BundleServer<BundleService> {
    BundleServer::new(BundleService { reads: reads.clone(), writes: Writes::new(node) })
}

/// The fields in the mask, or all without one; the trust domain always.
fn to_wire(trust_domain: &TrustDomain, bundle: &BundleContent, mask: Option<types::BundleMask>) -> types::Bundle {
    let mask = mask.unwrap_or_else(whole_bundle);
    let mut wire = types::Bundle { trust_domain: trust_domain.as_str().to_owned(), ..types::Bundle::default() };
    if mask.x509_authorities {
        let roots = bundle.x509_authorities.iter();
        wire.x509_authorities = roots.map(|root| x509_certificate(root.certificate.clone(), root.tainted)).collect();
    }
    if mask.jwt_authorities {
        let keys = bundle.jwt_authorities.iter();
        wire.jwt_authorities =
            keys.map(|key| jwt_key(&key.id, key.public_key.clone(), key.expires_at, key.tainted)).collect();
    }
    if mask.refresh_hint {
        wire.refresh_hint = i64::from(bundle.refresh_hint);
    }
    if mask.sequence_number {
        wire.sequence_number = bundle.sequence;
    }
    wire
}

fn not_here<T>(method: &str, why: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!("{method}: {why}")))
}

/// Why the calls of nested authorities are not answered.
const NO_NESTING: &str = "this version of the node takes no nested authorities";

#[tonic::async_trait]
impl BundleApi for BundleService {
    async fn get_bundle(&self, request: Request<GetBundleRequest>) -> Result<Response<types::Bundle>, Status> {
        let how = Consistency::of(&request)?;
        let mask = request.into_inner().output_mask;
        let read = |state: &State| state.cluster().map(|cluster| (cluster.trust_domain.clone(), state.bundle()));
        // Before the founding SPIRE's clients expect NotFound here, and wait.
        let (found, applied) = look(self.reads.caught_up(how).await?, read);
        let (trust_domain, bundle) =
            found.ok_or_else(|| Status::not_found(format!("bundle not found: {NOT_FOUNDED}")))?;
        Ok(at_applied_index(to_wire(&trust_domain, &bundle, mask), applied))
    }

    async fn count_bundles(
        &self,
        request: Request<CountBundlesRequest>,
    ) -> Result<Response<CountBundlesResponse>, Status> {
        let how = Consistency::of(&request)?;
        let count = |state: &State| state.foreign_bundles().count().saturating_add(1);
        let (count, applied) = look(self.reads.current(how).await?, count);
        Ok(at_applied_index(CountBundlesResponse { count: i32::try_from(count).unwrap_or(i32::MAX) }, applied))
    }

    async fn append_bundle(&self, _request: Request<AppendBundleRequest>) -> Result<Response<types::Bundle>, Status> {
        not_here("AppendBundle", "this version of the node takes no authorities from outside")
    }

    async fn publish_jwt_authority(
        &self,
        _request: Request<PublishJwtAuthorityRequest>,
    ) -> Result<Response<PublishJwtAuthorityResponse>, Status> {
        not_here("PublishJWTAuthority", NO_NESTING)
    }

    async fn publish_wit_authority(
        &self,
        _request: Request<PublishWitAuthorityRequest>,
    ) -> Result<Response<PublishWitAuthorityResponse>, Status> {
        not_here("PublishWITAuthority", NO_NESTING)
    }

    async fn list_federated_bundles(
        &self,
        request: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        let how = Consistency::of(&request)?;
        let request = request.into_inner();
        let (list, applied) = look(self.reads.current(how).await?, |state| federated::list(state, &request));
        list.map(|list| at_applied_index(list, applied))
    }

    async fn get_federated_bundle(
        &self,
        request: Request<GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let how = Consistency::of(&request)?;
        let GetFederatedBundleRequest { trust_domain, output_mask } = request.into_inner();
        let (found, applied) = look(self.reads.current(how).await?, |state| {
            let name = foreign::name(&trust_domain, &foreign::own(state)?)?;
            let held = state.foreign_bundle(&name).cloned();
            held.ok_or_else(|| Status::not_found(format!("bundle not found: none of trust domain {name} is held")))
        });
        found.map(|held| at_applied_index(bundle_to_wire(&held.bundle, output_mask.as_ref()), applied))
    }

    async fn batch_create_federated_bundle(
        &self,
        request: Request<BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<BatchCreateFederatedBundleResponse>, Status> {
        self.reads.current(Consistency::of(&request)?).await?;
        let caller = self.writes.caller(&request);
        let BatchCreateFederatedBundleRequest { bundle, output_mask } = request.into_inner();
        let answered = federated::put(self, caller, &bundle, SetHow::Create, output_mask.as_ref());
        let (answered, log_index) = answered.await?;
        let result = |(status, bundle)| batch_create_federated_bundle_response::Result { status: Some(status), bundle };
        let results = answered.into_iter().map(result).collect();
        Ok(at_log_index(BatchCreateFederatedBundleResponse { results }, log_index))
    }

    async fn batch_update_federated_bundle(
        &self,
        request: Request<BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<BatchUpdateFederatedBundleResponse>, Status> {
        self.reads.current(Consistency::of(&request)?).await?;
        let caller = self.writes.caller(&request);
        let BatchUpdateFederatedBundleRequest { bundle, input_mask, output_mask } = request.into_inner();
        let fields = input_mask.as_ref().map_or(BundleFields::ALL, foreign::fields);
        let answered = federated::put(self, caller, &bundle, SetHow::Update(fields), output_mask.as_ref());
        let (answered, log_index) = answered.await?;
        let result = |(status, bundle)| batch_update_federated_bundle_response::Result { status: Some(status), bundle };
        let results = answered.into_iter().map(result).collect();
        Ok(at_log_index(BatchUpdateFederatedBundleResponse { results }, log_index))
    }

    async fn batch_set_federated_bundle(
        &self,
        request: Request<BatchSetFederatedBundleRequest>,
    ) -> Result<Response<BatchSetFederatedBundleResponse>, Status> {
        self.reads.current(Consistency::of(&request)?).await?;
        let caller = self.writes.caller(&request);
        let BatchSetFederatedBundleRequest { bundle, output_mask } = request.into_inner();
        let answered = federated::put(self, caller, &bundle, SetHow::Set, output_mask.as_ref());
        let (answered, log_index) = answered.await?;
        let result = |(status, bundle)| batch_set_federated_bundle_response::Result { status: Some(status), bundle };
        let results = answered.into_iter().map(result).collect();
        Ok(at_log_index(BatchSetFederatedBundleResponse { results }, log_index))
    }

    async fn batch_delete_federated_bundle(
        &self,
        request: Request<BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<BatchDeleteFederatedBundleResponse>, Status> {
        self.reads.current(Consistency::of(&request)?).await?;
        let caller = self.writes.caller(&request);
        let request = request.into_inner();
        let mode = Mode::try_from(request.mode)
            .map_err(|_| Status::invalid_argument(format!("mode: there is no mode {}", request.mode)))?;
        let (answered, log_index) = federated::delete(self, caller, &request.trust_domains, mode).await?;
        let result = |(status, trust_domain)| batch_delete_federated_bundle_response::Result {
            status: Some(status),
            trust_domain,
        };
        let results = answered.into_iter().map(result).collect();
        Ok(at_log_index(BatchDeleteFederatedBundleResponse { results }, log_index))
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{AuthorityId, UnixSeconds};
    use quorate_raft_machine::{BundleJwtAuthority, BundleX509Authority};

    use super::*;

    fn content() -> BundleContent {
        let id = AuthorityId::new("aa").unwrap();
        BundleContent {
            x509_authorities: vec![BundleX509Authority { id: id.clone(), certificate: "root".into(), tainted: false }],
            jwt_authorities: vec![BundleJwtAuthority {
                id,
                public_key: "key".into(),
                expires_at: UnixSeconds(9),
                tainted: true,
            }],
            refresh_hint: 300,
            sequence: 4,
        }
    }

    #[test]
    fn without_a_mask_everything_is_answered() {
        let trust_domain = TrustDomain::new("example.org").unwrap();
        let expected = types::Bundle {
            trust_domain: "example.org".into(),
            x509_authorities: vec![types::X509Certificate { asn1: "root".into(), tainted: false }],
            jwt_authorities: vec![types::JwtKey {
                public_key: "key".into(),
                key_id: "aa".into(),
                expires_at: 9,
                tainted: true,
            }],
            refresh_hint: 300,
            sequence_number: 4,
            wit_authorities: Vec::new(),
        };
        assert_eq!(to_wire(&trust_domain, &content(), None), expected);
    }

    #[test]
    fn a_mask_leaves_the_trust_domain_and_what_it_names() {
        let trust_domain = TrustDomain::new("example.org").unwrap();
        let mask = types::BundleMask { sequence_number: true, ..types::BundleMask::default() };
        let expected =
            types::Bundle { trust_domain: "example.org".into(), sequence_number: 4, ..types::Bundle::default() };
        assert_eq!(to_wire(&trust_domain, &content(), Some(mask)), expected);
    }
}
