//! From a change of an entry to the stream of the workload that it concerns.

use super::Options;
use crate::clients::{Admin, next, own_entry};
use crate::load::{Meter, Window, histogram, note};
use crate::product::Product;
use crate::report::{Report, Row, Verdict, percentiles};
use crate::trouble::Trouble;
use quorate_proto_api::workload::X509svidResponse;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tonic::Streaming;

/// Entries created and deleted in a round.
const CHANGES: u64 = 100;

/// The longest that a change may take before the measurement gives up.
const GIVE_UP: Duration = Duration::from_secs(10);

/// Half of the changes arrive within this many milliseconds.
const P50_MS: f64 = 5.0;

/// Ninety-nine of a hundred within this many.
const P99_MS: f64 = 20.0;

/// The same where one node takes the change and another one has the stream, all on one machine.
const CLUSTER_P99_MS: f64 = 50.0;

/// Entry created on the first node: its SVID is in the stream that is open on the last. Entry deleted: it is gone from
/// there.
pub(crate) async fn run(options: &Options) -> Result<Report, Trouble> {
    let product = options.cluster().await?;
    let (nodes, leader) = (product.nodes(), product.leader().await?);
    super::calls::have_identity(&product).await?;
    let mut created = Vec::new();
    let mut deleted = Vec::new();
    for round in 0..options.rounds {
        let (appearing, vanishing) = changes(&product, round).await?;
        created.push(appearing);
        deleted.push(vanishing);
    }
    let mut report = Report::new("propagate", options.rounds);
    for (name, windows) in [("created to SVID in the stream", &created), ("deleted to gone from the stream", &deleted)]
    {
        report.rows.push(Row::of(name, windows));
        let latency = percentiles(windows);
        let p99 = if nodes == 1 { P99_MS } else { CLUSTER_P99_MS };
        if nodes == 1 {
            report.verdicts.push(Verdict::at_most(format!("{name}, p50 ms"), latency.p50 / 1e3, P50_MS));
        }
        report.verdicts.push(Verdict::at_most(format!("{name}, p99 ms"), latency.p99 / 1e3, p99));
    }
    if nodes > 1 {
        let (to, of) = (1, nodes);
        report.notes.push(format!("changed on node-{to}, the stream is on node-{of}, node-{} leads", leader + 1));
    }
    report.notes.push(
        "the clock starts before the call that creates or deletes, so commit and sync are within; one change at a time; \
         processor times are of creating and deleting together"
            .to_owned(),
    );
    product.stop().await?;
    Ok(report)
}

async fn changes(product: &Product, round: usize) -> Result<(Window, Window), Trouble> {
    let mut admin = product.clients().admin();
    let mut workload = product.clients_of(product.nodes() - 1).workload();
    let mut stream = workload.open().await?;
    next(&mut stream).await?;
    let mut appearing = histogram()?;
    let mut vanishing = histogram()?;
    let meter = Meter::start(product.process())?;
    let second = Meter::start(product.process())?;
    for change in 0..CHANGES {
        let path = format!("/bench/propagate/{round}/{change}");
        let start = Instant::now();
        let ids = in_stream(&mut stream, &path, true, create(admin.clone(), &path)).await?;
        note(&mut appearing, start.elapsed());
        let start = Instant::now();
        in_stream(&mut stream, &path, false, admin.delete(ids)).await?;
        note(&mut vanishing, start.elapsed());
    }
    Ok((meter.stop(CHANGES, appearing)?, second.stop(CHANGES, vanishing)?))
}

async fn create(mut admin: Admin, path: &str) -> Result<Vec<String>, Trouble> {
    admin.create(vec![own_entry(path)]).await
}

/// Makes the change and reads the stream beside it, until the ID is there, or is not; the change must be done too.
async fn in_stream<T>(
    stream: &mut Streaming<X509svidResponse>,
    path: &str,
    wanted: bool,
    change: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    let seen = async {
        loop {
            let message = next(stream).await?;
            if message.svids.iter().any(|svid| svid.spiffe_id.ends_with(path)) == wanted {
                return Ok::<(), Trouble>(());
            }
        }
    };
    let both = async { tokio::try_join!(change, seen) };
    match timeout(GIVE_UP, both).await {
        Ok(done) => done.map(|(done, ())| done),
        Err(_) => Err(Trouble::Unexpected(format!("{path}: nothing in the stream after {GIVE_UP:?}"))),
    }
}
