//! The trust domain's bundle: the part of SPIRE's Bundle service that has no federation in it (spire-api.md section 9).

use quorate_proto_api::convert::{jwt_key, x509_certificate};
use quorate_proto_api::spire::bundle::bundle_server::{Bundle as BundleApi, BundleServer};
use quorate_proto_api::spire::bundle::{
    AppendBundleRequest, BatchCreateFederatedBundleRequest, BatchCreateFederatedBundleResponse,
    BatchDeleteFederatedBundleRequest, BatchDeleteFederatedBundleResponse, BatchSetFederatedBundleRequest,
    BatchSetFederatedBundleResponse, BatchUpdateFederatedBundleRequest, BatchUpdateFederatedBundleResponse,
    CountBundlesRequest, CountBundlesResponse, GetBundleRequest, GetFederatedBundleRequest,
    ListFederatedBundlesRequest, ListFederatedBundlesResponse, PublishJwtAuthorityRequest, PublishJwtAuthorityResponse,
    PublishWitAuthorityRequest, PublishWitAuthorityResponse,
};
use quorate_proto_api::spire::types;
use quorate_proto_identity::TrustDomain;
use quorate_raft_machine::BundleContent;
use tonic::{Request, Response, Status};

use super::reads::{Consistency, NOT_FOUNDED, Reads, at_applied_index, look};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct BundleService {
    reads: Reads,
}

/// Puts the service together.
pub(super) fn service(reads: &Reads) -> BundleServer<BundleService> {
    BundleServer::new(BundleService { reads: reads.clone() })
}

/// The fields in the mask, or all without one; the trust domain always.
fn to_wire(trust_domain: &TrustDomain, bundle: &BundleContent, mask: Option<types::BundleMask>) -> types::Bundle {
    let everything = types::BundleMask {
        x509_authorities: true,
        jwt_authorities: true,
        refresh_hint: true,
        sequence_number: true,
        wit_authorities: true,
    };
    let mask = mask.unwrap_or(everything);
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

/// Why the calls about foreign bundles are not answered.
const NO_FEDERATION: &str = "this version of the node does not federate";

/// Why the calls of nested authorities are not answered.
const NO_NESTING: &str = "this version of the node takes no nested authorities";

#[tonic::async_trait]
impl BundleApi for BundleService {
    async fn get_bundle(&self, request: Request<GetBundleRequest>) -> Result<Response<types::Bundle>, Status> {
        let how = Consistency::of(&request)?;
        let mask = request.into_inner().output_mask;
        let read = |state: &quorate_raft_machine::State| {
            state.cluster().map(|cluster| (cluster.trust_domain.clone(), state.bundle()))
        };
        // Before the founding SPIRE's clients expect NotFound here, and wait.
        let (found, applied) = look(self.reads.caught_up(how).await?, read);
        let (trust_domain, bundle) =
            found.ok_or_else(|| Status::not_found(format!("bundle not found: {NOT_FOUNDED}")))?;
        Ok(at_applied_index(to_wire(&trust_domain, &bundle, mask), applied))
    }

    async fn count_bundles(
        &self,
        _request: Request<CountBundlesRequest>,
    ) -> Result<Response<CountBundlesResponse>, Status> {
        not_here("CountBundles", NO_FEDERATION)
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
        _request: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        not_here("ListFederatedBundles", NO_FEDERATION)
    }

    async fn get_federated_bundle(
        &self,
        _request: Request<GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        not_here("GetFederatedBundle", NO_FEDERATION)
    }

    async fn batch_create_federated_bundle(
        &self,
        _request: Request<BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<BatchCreateFederatedBundleResponse>, Status> {
        not_here("BatchCreateFederatedBundle", NO_FEDERATION)
    }

    async fn batch_update_federated_bundle(
        &self,
        _request: Request<BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<BatchUpdateFederatedBundleResponse>, Status> {
        not_here("BatchUpdateFederatedBundle", NO_FEDERATION)
    }

    async fn batch_set_federated_bundle(
        &self,
        _request: Request<BatchSetFederatedBundleRequest>,
    ) -> Result<Response<BatchSetFederatedBundleResponse>, Status> {
        not_here("BatchSetFederatedBundle", NO_FEDERATION)
    }

    async fn batch_delete_federated_bundle(
        &self,
        _request: Request<BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<BatchDeleteFederatedBundleResponse>, Status> {
        not_here("BatchDeleteFederatedBundle", NO_FEDERATION)
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
