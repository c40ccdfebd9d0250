//! Operations over HTTP, read only: `/metrics`, `/live`, `/ready`, `/crl`.
//!
//! ```text
//!   /live     200: the process answers
//!   /ready    200: this node may sign now and holds the token keys; 503 and the reasons otherwise; with it, what threatens
//!             that: cut off from the others, a lease that is not renewed, a clock that is wrong, a full disk
//!   /metrics  Prometheus text
//!   /crl      the complete set of CRLs in PEM (/crl.der: in DER), for consumers that read files; 404 while none are handed out,
//!             503 while there is no complete set, and never an empty body with 200
//! ```
//!
//! Nothing secret is shown and nothing can be changed, so the socket has no authentication; it is on
//! loopback by default. A web page must still not read it through a visitor's browser: requests
//! must name a host that is ours, and none from another origin is answered (ATK-19).

mod crls;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use self::crls::Crls;
use crate::listeners::accept::accept_loop;
use crate::metrics::READY;
use crate::shutdown::{Stop, Stopping, stop_signal};

/// Connections at once: a scraper or two, a probe, a person. One more takes the place of the oldest, so that those who
/// connect and ask nothing cannot keep a probe out: whoever asks is answered at once and goes.
const MAX_CONNECTIONS: usize = 64;

/// Bytes of request line and headers.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Headers of a request.
const MAX_HEADERS: usize = 64;

/// How long the head of a request may take to arrive (slowloris).
const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// How long a connection may take altogether: it carries one request.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);

/// How long open answers may take when the process stops.
const DRAIN: Duration = Duration::from_secs(1);

/// How often histograms are drained when nobody scrapes, so that they do not grow.
const UPKEEP: Duration = Duration::from_secs(10);

/// Whether the node may sign now, and if not, why; and what threatens that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether it may.
    pub ready: bool,
    /// What is missing, in words; empty when ready.
    pub reasons: Vec<String>,
    /// What will end its readiness unless somebody sees to it, in words.
    pub warnings: Vec<String>,
}

impl Readiness {
    /// Ready when there is no reason against it.
    #[must_use]
    pub fn from_reasons(reasons: Vec<String>) -> Self {
        Self { ready: reasons.is_empty(), reasons, warnings: Vec::new() }
    }

    /// The same, with what threatens it.
    #[must_use]
    pub fn with_warnings(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }
}

/// What the operations socket shows.
pub struct Shown {
    /// The metrics registry.
    pub metrics: PrometheusHandle,
    /// Asked at each `/ready`.
    pub readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
    /// Called before each `/metrics`: sets the gauges that nobody sets as they change.
    pub look: Box<dyn Fn() + Send + Sync>,
    /// Asked at each `/crl`.
    pub crls: Box<dyn Fn() -> Crls + Send + Sync>,
    /// Host names that requests may be addressed to, in lower case, beside localhost and plain IP
    /// addresses.
    pub hosts: Vec<String>,
}

/// The operations socket, serving.
#[derive(Debug)]
pub struct Operations {
    address: SocketAddr,
    stop: Stop,
    task: JoinHandle<()>,
    upkeep: JoinHandle<()>,
}

impl Operations {
    /// Listens and serves. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(listen: SocketAddr, shown: Shown) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let (stop, stopping) = stop_signal();
        let upkeep = tokio::spawn(keep_up(shown.metrics.clone()));
        let shown = Arc::new(shown);
        let mut connections = Connections::default();
        let admit = move |stream: TcpStream, stopping| {
            let place = connections.place();
            let shown = Arc::clone(&shown);
            Some(async move {
                tokio::select! {
                    () = serve(stream, shown, stopping) => {}
                    // The sender only ever goes.
                    _ = place => tracing::debug!("an operations connection made room for another"),
                }
            })
        };
        let task = tokio::spawn(accept_loop("operations", listener, admit, stopping, DRAIN));
        Ok(Self { address, stop, task, upkeep })
    }

    /// The address in use: the port is real even when 0 was configured.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it.
    pub async fn stop(self) {
        self.upkeep.abort();
        self.stop.ask();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the operations socket ended badly");
        }
    }
}

/// The connections there are, the oldest first. Each waits on the other end, which turns when its place is taken.
#[derive(Default)]
struct Connections(VecDeque<oneshot::Sender<Infallible>>);

impl Connections {
    /// A place for a new one; the oldest loses its own if there are too many.
    fn place(&mut self) -> oneshot::Receiver<Infallible> {
        self.0.retain(|connection| !connection.is_closed());
        while self.0.len() >= MAX_CONNECTIONS {
            self.0.pop_front();
        }
        let (kept, place) = oneshot::channel();
        self.0.push_back(kept);
        place
    }
}

async fn keep_up(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

async fn serve(stream: TcpStream, shown: Arc<Shown>, mut stopping: Stopping) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = respond(&shown, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let whole = async {
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopping.asked() => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        }
    };
    match timeout(CONNECTION_LIMIT, whole).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an operations connection ended with an error"),
        Err(_) => tracing::debug!("an operations connection took too long"),
    }
}

/// The answer to one request.
fn respond<B>(shown: &Shown, request: &Request<B>) -> Response<Full<Bytes>> {
    if let Err((status, reason)) = admit(request, &shown.hosts) {
        return answer(status, TEXT, reason.to_owned());
    }
    // The body of an answer to HEAD is left out by hyper.
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused =
            answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are served here\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/live" => answer(StatusCode::OK, TEXT, "live\n".to_owned()),
        "/ready" => {
            let readiness = (shown.readiness)();
            let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            answer(status, JSON, serde_json::to_string(&readiness).unwrap_or_default())
        }
        "/metrics" => {
            (shown.look)();
            let ready = if (shown.readiness)().ready { 1.0 } else { 0.0 };
            metrics::gauge!(READY).set(ready);
            answer(StatusCode::OK, PROMETHEUS, shown.metrics.render())
        }
        path @ ("/crl" | "/crl.der") => match (shown.crls)() {
            Crls::Complete(set) if path == "/crl" => answer(StatusCode::OK, PEM, crls::pem(&set)),
            Crls::Complete(set) => answer(StatusCode::OK, DER, crls::der(&set)),
            Crls::Off(why) => answer(StatusCode::NOT_FOUND, TEXT, format!("{why}\n")),
            Crls::NotNow(why) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
        },
        _ => answer(StatusCode::NOT_FOUND, TEXT, "there are /metrics, /live, /ready, /crl and /crl.der\n".to_owned()),
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const PEM: &str = "application/x-pem-file";
const DER: &str = "application/octet-stream";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "same-origin"),
        ("content-security-policy", "default-src 'none'"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// Refuses what a browser may have been tricked into: a name that only looks like ours (DNS
/// rebinding), or a request from another page.
fn admit<B>(request: &Request<B>, hosts: &[String]) -> Result<(), (StatusCode, &'static str)> {
    let mut named = request.headers().get_all(HOST).iter();
    let host = named.next().and_then(|value| value.to_str().ok());
    let (Some(host), None) = (host, named.next()) else {
        return Err((StatusCode::BAD_REQUEST, "one Host header is needed\n"));
    };
    if !host_is_ours(host, hosts) || request.uri().host().is_some_and(|host| !host_is_ours(host, hosts)) {
        return Err((
            StatusCode::MISDIRECTED_REQUEST,
            "this host name is not served here; operations.hosts can allow it\n",
        ));
    }
    let site = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    let foreign_page = !matches!(site, None | Some(b"none" | b"same-origin"));
    if foreign_page || request.headers().contains_key(ORIGIN) {
        return Err((StatusCode::FORBIDDEN, "requests of other web pages are not answered\n"));
    }
    Ok(())
}

fn host_is_ours(host: &str, hosts: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        Some(_) | None => host,
    };
    let plain = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let lower = plain.to_ascii_lowercase();
    plain.parse::<IpAddr>().is_ok() || lower == "localhost" || hosts.contains(&lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(reasons: &[&str]) -> Shown {
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        Shown {
            metrics: crate::telemetry::metrics().unwrap(),
            readiness: Box::new(move || Readiness::from_reasons(reasons.clone())),
            look: Box::new(|| {}),
            crls: Box::new(|| Crls::Off("nothing is revoked".to_owned())),
            hosts: vec!["metrics.example".to_owned()],
        }
    }

    fn request(path: &str) -> http::request::Builder {
        Request::get(path).header(HOST, "127.0.0.1:8083")
    }

    fn status(request: http::request::Builder) -> StatusCode {
        respond(&shown(&[]), &request.body(()).unwrap()).status()
    }

    async fn body(response: Response<Full<Bytes>>) -> String {
        use http_body_util::BodyExt as _;
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn ready_says_what_is_missing() {
        let ready = respond(&shown(&[]), &request("/ready").body(()).unwrap());
        assert_eq!(ready.status(), StatusCode::OK);
        assert_eq!(body(ready).await, r#"{"ready":true,"reasons":[],"warnings":[]}"#);
        let waiting = respond(&shown(&["no authority is founded yet"]), &request("/ready").body(()).unwrap());
        assert_eq!(waiting.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body(waiting).await, r#"{"ready":false,"reasons":["no authority is founded yet"],"warnings":[]}"#);
    }

    /// CRL-05, CRL-08: the complete set or none, and none is never an empty file.
    #[tokio::test]
    async fn crl_08_without_a_complete_set_there_is_no_file_but_a_reason() {
        let with = |crls: fn() -> Crls| Shown { crls: Box::new(crls), ..shown(&[]) };
        for path in ["/crl", "/crl.der"] {
            let asked = || request(path).body(()).unwrap();
            let off = respond(&with(|| Crls::Off("nothing is revoked".to_owned())), &asked());
            assert_eq!(off.status(), StatusCode::NOT_FOUND);
            assert_eq!(body(off).await, "nothing is revoked\n");
            let not_now = respond(&with(|| Crls::of(&quorate_raft_machine::State::new())), &asked());
            assert_eq!(not_now.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(body(not_now).await, "no authority is founded yet\n");
        }
    }

    #[test]
    fn only_get_and_only_the_paths_there_are() {
        for path in ["/live", "/ready", "/metrics"] {
            assert_eq!(status(request(path)), StatusCode::OK);
            assert_eq!(status(request(path).method("HEAD")), StatusCode::OK);
            assert_eq!(status(request(path).method("POST")), StatusCode::METHOD_NOT_ALLOWED);
        }
        assert_eq!(status(request("/")), StatusCode::NOT_FOUND);
        assert_eq!(status(request("/metrics/../live")), StatusCode::NOT_FOUND);
    }

    #[test]
    fn a_browser_is_not_made_to_read_for_another_page_atk_19() {
        for good in
            ["localhost", "localhost:8083", "127.0.0.1", "[::1]:8083", "::1", "10.0.0.7:1", "METRICS.example:80"]
        {
            assert!(host_is_ours(good, &["metrics.example".to_owned()]), "{good}");
        }
        for bad in ["evil.example", "127.0.0.1.evil.example:8083", "localhost.evil.example", "", ":8083", "[::1].evil"]
        {
            assert!(!host_is_ours(bad, &["metrics.example".to_owned()]), "{bad}");
        }
        let rebound = Request::get("/metrics").header(HOST, "evil.example:8083");
        assert_eq!(status(rebound), StatusCode::MISDIRECTED_REQUEST);
        assert_eq!(status(Request::get("/metrics")), StatusCode::BAD_REQUEST);
        assert_eq!(status(request("/metrics").header(HOST, "localhost")), StatusCode::BAD_REQUEST);
        assert_eq!(status(request("/metrics").header(ORIGIN, "https://evil.example")), StatusCode::FORBIDDEN);
        assert_eq!(status(request("/metrics").header("sec-fetch-site", "cross-site")), StatusCode::FORBIDDEN);
        assert_eq!(status(request("http://evil.example/metrics")), StatusCode::MISDIRECTED_REQUEST);
    }

    #[tokio::test]
    async fn connections_that_ask_nothing_keep_no_probe_out() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let operations = Operations::start("127.0.0.1:0".parse().unwrap(), shown(&[])).await.unwrap();
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            idle.push(TcpStream::connect(operations.address()).await.unwrap());
        }
        let mut probe = TcpStream::connect(operations.address()).await.unwrap();
        probe.write_all(b"HEAD /live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert_eq!(idle.remove(0).read(&mut [0]).await.unwrap(), 0, "the oldest made room");
        drop(idle);
        operations.stop().await;
    }

    #[tokio::test]
    async fn it_answers_over_tcp_and_ends_when_told() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let operations = Operations::start("127.0.0.1:0".parse().unwrap(), shown(&[])).await.unwrap();
        let mut stream = TcpStream::connect(operations.address()).await.unwrap();
        stream.write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("live\n"), "{answer}");
        let address = operations.address();
        operations.stop().await;
        TcpStream::connect(address).await.unwrap_err();
    }
}
