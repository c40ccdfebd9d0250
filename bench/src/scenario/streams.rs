//! Memory of streams that nothing happens on.

use super::Options;
use crate::bare::{Bare, Sizes};
use crate::clients::{Workload, next};
use crate::process::Process;
use crate::report::{Figure, Report, Verdict};
use crate::trouble::Trouble;
use prost::Message;
use quorate_proto_api::workload::X509svidResponse;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::Streaming;

/// Bytes that a stream on a connection of its own may hold.
const OWN_CONNECTION: f64 = 32.0 * 1024.0;

/// Bytes that a further stream on a connection may hold.
const FURTHER: f64 = 10.0 * 1024.0;

/// Bytes of a mebibyte.
const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// Connections that are opened at a time; the listen queue has room for more.
const AT_A_TIME: usize = 64;

/// How long the node is left alone before its processor time at rest is looked at.
const REST: Duration = Duration::from_secs(5);

/// A stream, with the client that keeps its connection open.
type Open = (Workload, Streaming<X509svidResponse>);

/// Many idle streams: a connection each, then a second one on every connection; to a bare server, then to the node.
pub(crate) async fn run(options: &Options) -> Result<Report, Trouble> {
    let product = options.product().await?;
    super::calls::have_identity(&product).await?;
    let x509 = product.clients().workload().first().await?.encoded_len();
    let bare = Bare::start(Sizes { x509, ..Sizes::default() }).await?;
    let floor = memory(bare.socket(), bare.process(), options.streams).await?;
    bare.stop().await?;
    let node = memory(&product.workload_socket(), product.process(), options.streams).await?;
    product.stop().await?;
    let mut report = Report::new("streams", 1);
    for (whose, memory) in [("bare server", &floor), ("node", &node)] {
        let figures = [
            ("before", memory.before / MEBIBYTE, "MiB"),
            ("with all streams", memory.after / MEBIBYTE, "MiB"),
            ("a stream on a connection of its own", memory.own, "bytes"),
            ("a further stream", memory.further, "bytes"),
            ("processor time at rest, of a core", memory.rest * 100.0, "%"),
        ];
        report.figures.extend(figures.map(|(what, value, unit)| Figure::new(format!("{whose}, {what}"), value, unit)));
    }
    report.verdicts.push(Verdict::at_most("bytes a stream on a connection of its own", node.own, OWN_CONNECTION));
    report.verdicts.push(Verdict::at_most("bytes a further stream on a connection", node.further, FURTHER));
    report.notes.push(format!("{0} connections with a stream each, then {0} further streams on them", options.streams));
    Ok(report)
}

/// What a server holds, in bytes.
struct Memory {
    before: f64,
    after: f64,
    own: f64,
    further: f64,
    rest: f64,
}

async fn memory(socket: &Path, server: Process, streams: usize) -> Result<Memory, Trouble> {
    let before = server.memory()? as f64;
    let own = open(socket, streams).await?;
    let with_connections = server.memory()? as f64;
    let rest = at_rest(&server).await?;
    let further = open_further(&own).await?;
    let after = server.memory()? as f64;
    drop((own, further));
    let count = streams as f64;
    Ok(Memory {
        before,
        after,
        own: (with_connections - before) / count,
        further: (after - with_connections) / count,
        rest,
    })
}

/// Part of one core that the node uses while nothing happens.
async fn at_rest(node: &Process) -> Result<f64, Trouble> {
    let before = node.cpu()?;
    sleep(REST).await;
    Ok(node.cpu()?.saturating_sub(before).as_secs_f64() / REST.as_secs_f64())
}

/// Opens streams, a connection each, and takes their first messages.
async fn open(socket: &Path, count: usize) -> Result<Vec<Open>, Trouble> {
    let mut streams = Vec::with_capacity(count);
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        if tasks.len() >= AT_A_TIME {
            streams.extend(settle(&mut tasks).await?);
        }
        let socket = socket.to_path_buf();
        tasks.spawn(async move { begin(quiet_client(&socket).await?).await });
    }
    while !tasks.is_empty() {
        streams.extend(settle(&mut tasks).await?);
    }
    Ok(streams)
}

/// Opens a second stream on each of these connections.
async fn open_further(own: &[Open]) -> Result<Vec<Open>, Trouble> {
    let mut streams = Vec::with_capacity(own.len());
    let mut tasks = JoinSet::new();
    for (client, _) in own {
        if tasks.len() >= AT_A_TIME {
            streams.extend(settle(&mut tasks).await?);
        }
        tasks.spawn(begin(client.clone()));
    }
    while !tasks.is_empty() {
        streams.extend(settle(&mut tasks).await?);
    }
    Ok(streams)
}

async fn settle(tasks: &mut JoinSet<Result<Open, Trouble>>) -> Result<Option<Open>, Trouble> {
    tasks.join_next().await.map(|opened| opened?).transpose()
}

async fn begin(mut client: Workload) -> Result<Open, Trouble> {
    let mut stream = client.open().await?;
    next(&mut stream).await?;
    Ok((client, stream))
}

/// A client as most libraries make it: without the keep-alive that our own programs use, which would keep ten thousand
/// connections busy and hide what an idle one costs.
async fn quiet_client(socket: &Path) -> Result<Workload, Trouble> {
    let connection = UnixStream::connect(socket).await.map_err(Trouble::system(socket.display().to_string()))?;
    Workload::over(connection).await
}
