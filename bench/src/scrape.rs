//! One figure from a node's metrics.

use crate::trouble::Trouble;
use std::fs;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The counter of a node's syncs of its log.
const LOG_SYNCS: &str = "quorate_consensus_log_syncs_total";

/// How often the node of this configuration has synced its log; none when it does not tell.
pub(crate) async fn log_syncs(configuration: &Path) -> Result<Option<u64>, Trouble> {
    let text = fs::read_to_string(configuration).map_err(Trouble::system(configuration.display().to_string()))?;
    let Some(address) = operations(&text) else { return Ok(None) };
    let mut stream = TcpStream::connect(address).await.map_err(Trouble::system(address))?;
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.map_err(Trouble::system(address))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(Trouble::system(address))?;
    Ok(value(&answer, LOG_SYNCS))
}

/// Where operations listen, by the table of that name as the demo writes it.
fn operations(configuration: &str) -> Option<&str> {
    let (_, table) = configuration.split_once("[operations]")?;
    let (_, rest) = table.split_once("listen = \"")?;
    rest.split_once('"').map(|(address, _)| address)
}

/// The value of a counter without labels.
fn value(metrics: &str, name: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_among_others() {
        let metrics = "# TYPE a_total counter\na_total_more 3\na_total 42\n";
        assert_eq!(value(metrics, "a_total"), Some(42));
        assert_eq!(value(metrics, "b_total"), None);
        assert_eq!(operations("[peer]\nlisten = \"x\"\n[operations]\nlisten = \"127.0.0.1:1\"\n"), Some("127.0.0.1:1"));
    }
}
