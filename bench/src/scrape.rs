//! Figures from a node's metrics.

use crate::trouble::Trouble;
use std::fs;
use std::path::Path;
use std::str::FromStr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The counter of a node's syncs of its log.
const LOG_SYNCS: &str = "quorate_consensus_log_syncs_total";

/// How often the node of this configuration has synced its log; none when it does not tell.
pub(crate) async fn log_syncs(configuration: &Path) -> Result<Option<u64>, Trouble> {
    Ok(metrics(configuration).await?.and_then(|metrics| value(&metrics, LOG_SYNCS)))
}

/// How the snapshots of a node stand since it was started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Snapshots {
    /// Log index of the last entry that the node has applied.
    pub(crate) applied: u64,
    /// Snapshots built of its own state.
    pub(crate) built: u64,
    /// Snapshots taken over from another node.
    pub(crate) installed: u64,
    /// Snapshots of both kinds, and those given up.
    pub(crate) count: u64,
    /// Seconds that all of them took.
    pub(crate) seconds: f64,
}

/// How the snapshots of the node of this configuration stand. Fails when it does not tell, as one that is down.
pub(crate) async fn snapshots(configuration: &Path) -> Result<Snapshots, Trouble> {
    let silent = || Trouble::Unexpected(format!("{}: the node serves no metrics", configuration.display()));
    let metrics = metrics(configuration).await?.ok_or_else(silent)?;
    // A counter is there from the first time on that it counts.
    let counter = |name| value(&metrics, name).unwrap_or(0);
    Ok(Snapshots {
        applied: counter("quorate_consensus_applied_index"),
        built: counter("quorate_consensus_snapshots_total{how=\"built\"}"),
        installed: counter("quorate_consensus_snapshots_total{how=\"installed\"}"),
        count: counter("quorate_consensus_snapshot_seconds_count"),
        seconds: value(&metrics, "quorate_consensus_snapshot_seconds_sum").unwrap_or(0.0),
    })
}

/// All metrics of the node of this configuration; none when it serves none.
async fn metrics(configuration: &Path) -> Result<Option<String>, Trouble> {
    let text = fs::read_to_string(configuration).map_err(Trouble::system(configuration.display().to_string()))?;
    let Some(address) = operations(&text) else { return Ok(None) };
    let mut stream = TcpStream::connect(address).await.map_err(Trouble::system(address))?;
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.map_err(Trouble::system(address))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(Trouble::system(address))?;
    Ok(Some(answer))
}

/// Where operations listen, by the table of that name as the demo writes it.
fn operations(configuration: &str) -> Option<&str> {
    let (_, table) = configuration.split_once("[operations]")?;
    let (_, rest) = table.split_once("listen = \"")?;
    rest.split_once('"').map(|(address, _)| address)
}

/// The value of a metric, whose name has its labels with it.
fn value<T: FromStr>(metrics: &str, name: &str) -> Option<T> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_among_others() {
        let metrics = "# TYPE a_total counter\na_total_more 3\na_total 42\na_total{how=\"b\"} 7\n";
        assert_eq!(value(metrics, "a_total"), Some(42));
        assert_eq!(value(metrics, "a_total{how=\"b\"}"), Some(7));
        assert_eq!(value::<u64>(metrics, "b_total"), None);
        assert_eq!(operations("[peer]\nlisten = \"x\"\n[operations]\nlisten = \"127.0.0.1:1\"\n"), Some("127.0.0.1:1"));
    }
}
