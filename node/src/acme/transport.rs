//! What instant-acme sends, by way of the guarded client.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use quorate_proto_identity::EndpointUrl;

use crate::outbound::{Limits, Outbound, ServerCheck, Target};

/// Most bytes of an answer: chains are under 32 KiB, directories and orders under 4.
const ANSWER_LIMIT: usize = 256 * 1024;

/// How long one request may take. Authorities hold one that finalizes an order for a while.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// An authority, reached through the guarded client.
pub(super) struct Guarded {
    outbound: Outbound,
    /// What the operator named: the host of this URL may be private, every other one that the authority names may not.
    directory: EndpointUrl,
}

impl Guarded {
    pub(super) fn new(outbound: Outbound, directory: EndpointUrl) -> Self {
        Self { outbound, directory }
    }
}

impl HttpClient for Guarded {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (outbound, directory) = (self.outbound.clone(), self.directory.clone());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let url = EndpointUrl::parse(&parts.uri.to_string()).map_err(|error| Error::Other(Box::new(error)))?;
            let is_named = (url.host(), url.port()) == (directory.host(), directory.port());
            let target = if is_named { Target::of_operator(url) } else { Target::discovered(url) };
            let limits = Limits { body_bytes: ANSWER_LIMIT, time: REQUEST_LIMIT };
            let request = Request::from_parts(parts, body);
            let sent = outbound.send(&target, &ServerCheck::web(), None, request, limits).await;
            let answer = sent.map_err(|error| Error::Other(Box::new(error)))?;
            let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            if !answer.status.is_success() && !kind.starts_with("application/problem+json") {
                // A proxy's page, or nothing: no problem document, whose lack would hide the status.
                return Err(Error::Other(format!("the authority answered {}", answer.status).into()));
            }
            let mut response = Response::new(());
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            let (parts, ()) = response.into_parts();
            Ok(BytesResponse { parts, body: Box::new(answer.body) })
        })
    }
}
