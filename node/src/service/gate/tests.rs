use std::convert::Infallible;
use std::time::Duration;

use quorate_proto_api::channel::{Address, channel};
use quorate_proto_api::workload::X509svidRequest;
use tonic::Code;
use tonic::server::NamedService;
use tonic_prost::ProstCodec;

use super::*;
use crate::listeners::admission::Admission;
use crate::listeners::{Bound, Serving, UnixSettings};

fn headers(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(WORKLOAD_HEADER, value.parse().unwrap());
    }
    headers
}

#[test]
fn the_header_is_needed_once_with_exactly_this_value_sb_01_sb_02() {
    let path = "/SpiffeWorkloadAPI/FetchX509SVID";
    assert!(header_is_right(path, &headers(&["true"])));
    for wrong in [&[][..], &["TRUE"], &["1"], &[""], &["true", "true"], &["true, true"]] {
        assert!(!header_is_right(path, &headers(wrong)), "{wrong:?}");
    }
}

#[test]
fn reflection_needs_the_header_and_other_services_do_not() {
    for path in ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/SpiffeWorkloadAPI/Unknown"] {
        assert!(!header_is_right(path, &headers(&[])), "{path}");
    }
    assert!(header_is_right("/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets", &headers(&[])));
}

/// A service with faults of the kind a program should not have.
#[derive(Clone)]
struct Faulty;

impl NamedService for Faulty {
    const NAME: &'static str = "test.Faulty";
}

impl tower::Service<Request<Body>> for Faulty {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match request.uri().path() {
            "/test.Faulty/AtOnce" => panic!("at once"),
            "/test.Faulty/Later" => Box::pin(async { panic!("later") }),
            "/test.Faulty/InTheStream" => Box::pin(async {
                let mut response = Response::new(Body::new(PanickingBody));
                response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
                Ok(response)
            }),
            "/test.Faulty/Never" => Box::pin(std::future::pending()),
            _ => Box::pin(async { Ok(Status::not_found("as always").into_http()) }),
        }
    }
}

struct PanickingBody;

impl HttpBody for PanickingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        panic!("in the stream")
    }
}

/// Serves the faulty service on a socket in a new directory.
fn serve(most_calls: usize) -> (tempfile::TempDir, Address, Serving) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let settings = UnixSettings {
        name: "test",
        mode: 0o600,
        group: None,
        admission: Admission::new("test", 16, most_calls),
        drain: Duration::from_millis(100),
    };
    let gate = Gate::new("test", Routes::new(Faulty));
    let serving = Bound::bind(&path, settings).unwrap().serve(gate).unwrap();
    (directory, Address::Unix(path), serving)
}

async fn call(channel: &tonic::transport::Channel, method: &str) -> Code {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = format!("/test.Faulty/{method}").parse().unwrap();
    let codec: ProstCodec<X509svidRequest, X509svidRequest> = ProstCodec::default();
    match client.unary(tonic::Request::new(X509svidRequest {}), path, codec).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

#[tokio::test]
async fn a_panic_is_answered_and_the_connection_with_its_other_calls_lives_on_sim_07() {
    let (_directory, address, serving) = serve(16);
    let channel = channel(&address);
    let waiting = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "Never").await }
    });
    for fault in ["AtOnce", "Later", "InTheStream"] {
        assert_eq!(call(&channel, fault).await, Code::Internal, "{fault}");
        assert_eq!(call(&channel, "Well").await, Code::NotFound, "after {fault}");
    }
    assert!(!waiting.is_finished(), "a call of the same connection is not concerned");
    waiting.abort();
    serving.stop().await;
}

#[tokio::test]
async fn a_call_over_the_users_limit_is_shed_and_its_place_is_free_again_atk_20() {
    let (_directory, address, serving) = serve(1);
    let channel = channel(&address);
    let within = Duration::from_secs(30);
    // Sent first on the one connection, so it is counted first.
    let mut held = Box::pin(call(&channel, "Never"));
    let shed = async { while call(&channel, "Well").await != Code::Unavailable {} };
    tokio::select! {
        biased;
        code = &mut held => panic!("it is never answered, and yet: {code:?}"),
        shed = tokio::time::timeout(within, shed) => shed.unwrap(),
    }
    drop(held);
    let served = async { while call(&channel, "Well").await != Code::NotFound {} };
    tokio::time::timeout(within, served).await.unwrap();
    serving.stop().await;
}

#[tokio::test]
async fn a_stopped_listener_lets_nobody_in_and_cuts_what_does_not_end() {
    let (_directory, address, serving) = serve(16);
    let channel = channel(&address);
    let waiting = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "Never").await }
    });
    assert_eq!(call(&channel, "Well").await, Code::NotFound);
    serving.stop().await;
    assert_ne!(waiting.await.unwrap(), Code::Ok);
    let Address::Unix(path) = &address else { unreachable!("it is a unix socket") };
    assert!(!path.exists(), "the socket file is gone");
}
