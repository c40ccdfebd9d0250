//! What is answered to a request for the bundle (FED-23 to FED-25, FED-38).

use std::sync::Arc;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use super::document::Document;
use crate::https::{Body, full};

/// Whoever is told that there is nothing at the moment comes again after this, in seconds: an election is over by then.
const RETRY_SECONDS: &str = "10";

/// What there is to serve at this moment.
#[derive(Debug)]
pub enum Served {
    /// The bundle.
    Document(Arc<Document>),
    /// The node is not caught up or may not sign, for this reason.
    NotNow(String),
    /// The administrator has switched anonymous serving off.
    NotAnonymous,
}

/// The answer to a request; `served` is asked for once the request is one for the bundle.
pub fn answer<B>(request: &Request<B>, path: &str, served: impl FnOnce() -> Served) -> Response<Body> {
    if request.uri().path() != path {
        return refusal(StatusCode::NOT_FOUND, "there is no bundle at this path\n");
    }
    let is_head = request.method() == Method::HEAD;
    if !is_head && request.method() != Method::GET {
        let mut refused = refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let document = match served() {
        Served::Document(document) => document,
        Served::NotNow(reason) => {
            let words =
                format!("no bundle is served by this node at the moment: {reason}; ask again, or another node\n");
            let mut refused = refusal(StatusCode::SERVICE_UNAVAILABLE, words);
            refused.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
            return refused;
        }
        Served::NotAnonymous => {
            return refusal(
                StatusCode::FORBIDDEN,
                "the administrator of this trust domain gives its bundle only to those who prove who they are: \
                 use its Federation API\n",
            );
        }
    };
    let mut response = if is_known(request.headers(), &document.etag) {
        let mut unchanged = Response::new(full(""));
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        unchanged
    } else {
        let length = document.body.len();
        let mut whole = Response::new(if is_head { full("") } else { full(document.body.clone()) });
        whole.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        whole.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        whole
    };
    response.headers_mut().insert(ETAG, document.etag.clone());
    response.headers_mut().insert(CACHE_CONTROL, document.cache_control.clone());
    harden(response.headers_mut());
    response
}

/// Whether the client has these bytes already (RFC 9110 section 13.1.2: weak comparison).
fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let tags = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|list| list.split(',')).map(str::trim).any(|tag| {
        let strong = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || strong.as_bytes() == etag.as_bytes()
    })
}

fn refusal(status: StatusCode, words: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(full(words.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    harden(response.headers_mut());
    response
}

fn harden(headers: &mut HeaderMap) {
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
}
