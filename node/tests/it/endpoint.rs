//! The endpoint itself: header, codes before there is an answer, unknown methods, reflection.

use quorate_proto_api::WORKLOAD_HEADER;
use quorate_proto_api::workload::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, WitBundlesRequest, WitsvidRequest, X509BundlesRequest,
    X509svidRequest,
};
use tonic::{Code, Request};

use crate::node::TestNode;

/// A request with these values of the header.
fn with_header<T>(message: T, values: &[&str]) -> Request<T> {
    let mut request = Request::new(message);
    for value in values {
        request.metadata_mut().append(WORKLOAD_HEADER, value.parse().unwrap());
    }
    request
}

/// The code of each of the seven RPCs, called with these header values and valid arguments.
async fn codes(node: &TestNode, values: &[&str]) -> Vec<Code> {
    let mut client = node.bare_workload();
    let audience = vec!["a".to_owned()];
    let jwt = JwtsvidRequest { audience, spiffe_id: String::new() };
    let validate = ValidateJwtsvidRequest { audience: "a".to_owned(), svid: "a.b.c".to_owned() };
    macro_rules! code {
        ($call:expr) => {
            match $call.await {
                Ok(_) => Code::Ok,
                Err(status) => status.code(),
            }
        };
    }
    macro_rules! stream_code {
        ($call:expr) => {
            match $call.await {
                Ok(stream) => match stream.into_inner().message().await {
                    Ok(_) => Code::Ok,
                    Err(status) => status.code(),
                },
                Err(status) => status.code(),
            }
        };
    }
    vec![
        stream_code!(client.fetch_x509svid(with_header(X509svidRequest {}, values))),
        stream_code!(client.fetch_x509_bundles(with_header(X509BundlesRequest {}, values))),
        code!(client.fetch_jwtsvid(with_header(jwt, values))),
        stream_code!(client.fetch_jwt_bundles(with_header(JwtBundlesRequest {}, values))),
        code!(client.validate_jwtsvid(with_header(validate, values))),
        stream_code!(client.fetch_witsvid(with_header(WitsvidRequest::default(), values))),
        stream_code!(client.fetch_wit_bundles(with_header(WitBundlesRequest {}, values))),
    ]
}

/// EP-08, EP-09.
#[tokio::test]
async fn without_the_header_every_rpc_is_an_invalid_argument_sb_01_sb_02() {
    let node = TestNode::ready().await;
    node.register("/w").await;
    for wrong in [&[][..], &["TRUE"], &["1"], &[""], &["true", "true"]] {
        assert_eq!(codes(&node, wrong).await, vec![Code::InvalidArgument; 7], "{wrong:?}");
    }
}

/// EP-21, WAPI-23, WAPI-27, WAPI-34, WAPI-39; for WIT EP-23, WAPI-03, WAPI-44.
#[tokio::test]
async fn an_unregistered_caller_is_denied_and_wit_is_unimplemented_sb_05_sb_06() {
    let node = TestNode::ready().await;
    let codes = codes(&node, &["true"]).await;
    let denied = Code::PermissionDenied;
    assert_eq!(codes[..4], [denied, denied, denied, denied]);
    assert_eq!(codes[5..], [Code::Unimplemented, Code::Unimplemented]);
}

/// EP-19.
#[tokio::test]
async fn before_the_founding_the_answer_is_unavailable_sb_04() {
    let node = TestNode::waiting().await;
    let codes = codes(&node, &["true"]).await;
    assert_eq!(codes[..5], [Code::Unavailable; 5]);
    let status = node.status().await.unwrap();
    assert!(!status.founded && !status.ready);
    assert!(!status.reasons.is_empty());
}

/// EP-23, WAPI-04.
#[tokio::test]
async fn an_unknown_method_is_unimplemented_sb_26() {
    let node = TestNode::ready().await;
    for path in ["/SpiffeWorkloadAPI/FetchEverything", "/Other/Method"] {
        let mut client = tonic::client::Grpc::new(node.workload_channel());
        client.ready().await.unwrap();
        let codec: tonic_prost::ProstCodec<X509svidRequest, X509svidRequest> = tonic_prost::ProstCodec::default();
        let request = with_header(X509svidRequest {}, &["true"]);
        let status = client.unary(request, path.parse().unwrap(), codec).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
    }
}

/// EP-25, EP-26: what is more than the standard's service has a name of its own.
#[tokio::test]
async fn reflection_lists_exactly_what_is_served_and_asks_for_the_header_sb_24() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

    let node = TestNode::waiting().await;
    let ask = || {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        tokio_stream::once(ServerReflectionRequest { host: String::new(), message_request })
    };
    let mut client = ServerReflectionClient::new(node.workload_channel());
    let refused = client.server_reflection_info(ask()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    let mut request = Request::new(ask());
    request.metadata_mut().insert(WORKLOAD_HEADER, "true".parse().unwrap());
    let mut answers = client.server_reflection_info(request).await.unwrap().into_inner();
    let ServerReflectionResponse { message_response, .. } = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = message_response else { panic!("{message_response:?}") };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    assert_eq!(names, quorate_node::service::reflection::SERVICES);
}
