//! From a revocation on one node to the CRL in every open stream of all nodes.
//!
//! ```text
//!   streams of workloads that have nothing to do with it ──────────────► CRL in each
//!   victim, an SVID of each node in its streams ──► revoke --spiffe-id ──┘
//! ```
//!
//! The victim is another user: whose SVID is revoked gets another one at once, and its streams are not those counted.

use super::Options;
use crate::audience::{Audience, Goal};
use crate::callers::Caller;
use crate::clients::{Admin, Workload, entry, next, own_entry};
use crate::load::{histogram, note};
use crate::product::{Product, TRUST_DOMAIN};
use crate::report::{Figure, Report, Row, Verdict, median};
use crate::trouble::Trouble;
use hdrhistogram::Histogram;
use quorate_proto_api::workload::X509svidResponse;
use quorate_proto_identity::Certificate;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::time::{sleep_until, timeout};
use tonic::Streaming;

/// Streams of a full run, and how many share a connection.
const STREAMS: usize = 1_000;
const STREAMS_A_CONNECTION: usize = 4;

/// Revocations in a round. Each has a SPIFFE ID of its own.
const REVOCATIONS: usize = 10;

/// One a second: those of one issuer within a second share a CRL (CRL-04), and nobody revokes faster for long.
const PACE: Duration = Duration::from_secs(1);

/// Ninety-nine of a hundred streams have the CRL within so many milliseconds.
const P99_MS: f64 = 100.0;

/// How long anything may take before the measurement gives up.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Who is revoked: an SVID of each node for each of its entries.
struct Victim {
    _caller: Caller,
    clients: Vec<Workload>,
    /// Open, so that it is given others in their place.
    _streams: Vec<Streaming<X509svidResponse>>,
}

/// What the revocations came to.
struct Measured {
    /// From the call to the message, of every stream, in nanoseconds.
    streams: Histogram<u64>,
    /// From the call to its answer, and to the last stream, in milliseconds.
    answered: Vec<f64>,
    last: Vec<f64>,
    elapsed: Duration,
}

/// Revocations one after the other, with no CRLs handed out before the first.
pub(crate) async fn run(options: &Options) -> Result<Report, Trouble> {
    let product = options.cluster().await?;
    let mut admin = product.clients().admin();
    admin.create(vec![own_entry("/bench/revoke/listener")]).await?;
    let victim = Victim::register(&product, &mut admin, options.rounds * REVOCATIONS).await?;
    for node in 0..product.nodes() {
        product.served_by(node).await?;
    }
    let streams = ((STREAMS as f64 * options.scale) as usize).max(product.nodes());
    let mut audience = Audience::new();
    for connection in 0..streams.div_ceil(STREAMS_A_CONNECTION) {
        let socket = product.workload_socket_of(connection);
        let open = UnixStream::connect(&socket).await.map_err(Trouble::system(socket.display().to_string()))?;
        let client = Workload::over(open).await?;
        for _ in 0..STREAMS_A_CONNECTION.min(streams - connection * STREAMS_A_CONNECTION) {
            audience.admit(client.clone()).await?;
        }
    }
    let measured = revocations(&mut admin, &audience, &victim, options.rounds * REVOCATIONS).await?;
    product.stop().await?;
    let mut report = Report::new("revoke", options.rounds);
    report.rows.push(Row::beside_others("revoke to CRL in a stream", measured.elapsed, &measured.streams));
    let (first, others) = measured.last.split_first().map_or((f64::NAN, Vec::new()), |(a, b)| (*a, b.to_vec()));
    for (what, value) in [
        ("the first revocation, which turns CRLs on, to the last stream", first),
        ("further ones to the last stream, median", median(others.iter().copied())),
        ("further ones to the last stream, slowest", others.iter().copied().fold(f64::NAN, f64::max)),
        ("revoke to its answer, median", median(measured.answered.iter().copied())),
    ] {
        report.figures.push(Figure::new(what, value, "ms"));
    }
    let p99 = measured.streams.value_at_quantile(0.99) as f64 / 1e6;
    report.verdicts.push(Verdict::at_most(format!("revoke to CRL in one of {streams} streams, p99 ms"), p99, P99_MS));
    report.notes.push(format!(
        "{} revocations of one SPIFFE ID each, which had an SVID of every node; a stream counts when its CRLs list all of \
         them; the clock starts before the call",
        measured.last.len()
    ));
    Ok(report)
}

async fn revocations(
    admin: &mut Admin,
    audience: &Audience,
    victim: &Victim,
    count: usize,
) -> Result<Measured, Trouble> {
    let mut measured =
        Measured { streams: histogram()?, answered: Vec::new(), last: Vec::new(), elapsed: Duration::ZERO };
    let begin = Instant::now();
    for number in 0..count {
        let (id, serials) = (spiffe_id(number), victim.serials(number).await?);
        audience.aim(Goal::Lists(serials.into()));
        let start = Instant::now();
        let revoke = async {
            admin.revoke(id).await?;
            Ok::<_, Trouble>(start.elapsed())
        };
        let (answered, times) = tokio::try_join!(revoke, audience.reached(GIVE_UP))?;
        measured.answered.push(answered.as_secs_f64() * 1e3);
        let waited = |time: &Instant| time.saturating_duration_since(start);
        times.iter().map(waited).for_each(|waited| note(&mut measured.streams, waited));
        measured.last.push(times.last().map(waited).unwrap_or_default().as_secs_f64() * 1e3);
        sleep_until((start + PACE).into()).await;
    }
    measured.elapsed = begin.elapsed();
    Ok(measured)
}

fn path(number: usize) -> String {
    format!("/bench/revoke/victim/{number}")
}

fn spiffe_id(number: usize) -> String {
    format!("spiffe://{TRUST_DOMAIN}{}", path(number))
}

impl Victim {
    /// Registers it with so many entries, and has each node sign for all of them.
    async fn register(product: &Product, admin: &mut Admin, entries: usize) -> Result<Self, Trouble> {
        let caller = Caller::start(0)?;
        let entries = (0..entries).map(|number| entry(path(number), &[caller.selector()])).collect();
        let ids = admin.create(entries).await?;
        let (mut clients, mut streams) = (Vec::new(), Vec::new());
        for node in 0..product.nodes() {
            if let Some(last) = ids.last() {
                product.clients_of(node).admin().await_entry(last).await?;
            }
            let mut client = Workload::over(caller.connect(&product.workload_socket_of(node)).await?).await?;
            let mut stream = client.open().await?;
            next(&mut stream).await?;
            clients.push(client);
            streams.push(stream);
        }
        Ok(Self { _caller: caller, clients, _streams: streams })
    }

    /// The serial numbers of what every node has given to one of its SPIFFE IDs.
    async fn serials(&self, number: usize) -> Result<Vec<Vec<u8>>, Trouble> {
        let mut serials = Vec::new();
        for client in &self.clients {
            let late = |_| Err(Trouble::Unexpected(format!("no SVID after {GIVE_UP:?}")));
            let message = timeout(GIVE_UP, client.clone().first()).await.unwrap_or_else(late)?;
            let svid = message.svids.iter().find(|svid| svid.spiffe_id == spiffe_id(number));
            let chain = svid.map(|svid| Certificate::parse_concatenated(&svid.x509_svid));
            let leaf = chain.and_then(Result::ok).and_then(|chain| chain.into_iter().next());
            let leaf = leaf.ok_or_else(|| Trouble::Unexpected(format!("no SVID of {}", spiffe_id(number))))?;
            serials.push(leaf.serial().to_vec());
        }
        Ok(serials)
    }
}
