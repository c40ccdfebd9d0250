//! HTTP-01 (RFC 8555 section 8.3): the file by which an authority sees that a name is ours. Plain HTTP, on a listener that
//! serves nothing else.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use quorate_raft_consensus::StateReader;
use quorate_raft_machine::State;
use quorate_raft_machine::web::AcmeChallenge;

use crate::config::ServerLimits;
use crate::https::{
    AnswerFuture, Body, CertificateSource, Handler, HttpsError, HttpsServer, HttpsSettings, Peer, full,
};
use crate::node::Node;

/// What clients may take: authorities come from a few places at once, a few times in three months.
const LIMITS: ServerLimits = ServerLimits { max_connections: 64, requests_per_second: 20 };

/// How long one answer may take to be sent.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Where the files are.
const FOLDER: &str = "/.well-known/acme-challenge/";

/// Serves the key authorizations of open challenges, from whatever this node has applied.
#[derive(Debug)]
pub struct Http01 {
    state: StateReader,
}

impl Http01 {
    /// From this node's state.
    #[must_use]
    pub fn new(state: StateReader) -> Self {
        Self { state }
    }
}

/// Listens, if the configuration wants that.
///
/// # Errors
/// When the address cannot be had.
pub async fn start(node: &Node) -> Result<Option<HttpsServer>, HttpsError> {
    let Some(listen) = node.config().acme.http_listen else { return Ok(None) };
    let settings = HttpsSettings {
        name: "acme",
        certificate: CertificateSource::Plain,
        client_certificates: None,
        challenges: None,
        limits: LIMITS,
        answer_limit: Some(ANSWER_LIMIT),
        drain: ANSWER_LIMIT,
    };
    let server = HttpsServer::start(listen, settings, Arc::new(Http01::new(node.consensus().state()))).await?;
    tracing::info!(address = %server.address(), "HTTP-01 challenges are answered");
    Ok(Some(server))
}

impl Handler for Http01 {
    fn handle(&self, _peer: &Arc<Peer>, request: Request<Body>) -> AnswerFuture {
        let answer = self.state.read(|state| respond(state, request.method(), request.uri().path()));
        Box::pin(std::future::ready(answer))
    }
}

fn respond(state: &State, method: &Method, path: &str) -> Response<Body> {
    if method != Method::GET && method != Method::HEAD {
        return answer(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n".to_owned());
    }
    let token = path.strip_prefix(FOLDER).unwrap_or_default();
    match authorization(state, token) {
        Some(authorization) => answer(StatusCode::OK, authorization),
        None => answer(StatusCode::NOT_FOUND, "only open ACME challenges are served here\n".to_owned()),
    }
}

fn authorization(state: &State, token: &str) -> Option<String> {
    let open = state.web_domains().filter_map(|domain| domain.order.as_ref()?.challenge.as_ref());
    let mut asked = open.filter(|challenge| challenge.kind == AcmeChallenge::Http01 && challenge.token == token);
    asked.next().map(|challenge| challenge.key_authorization.clone())
}

fn answer(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_served_but_open_challenges() {
        let state = State::new();
        for path in ["/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/abc", "/ready"] {
            assert_eq!(respond(&state, &Method::GET, path).status(), StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(respond(&state, &Method::POST, "/").status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
