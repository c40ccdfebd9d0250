//! What the nodes of a demonstration say of the cluster, taken together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use quorate_proto_api::cluster::{RaftRole, Role, StatusResponse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::layout::NodeFiles;
use super::tour;

/// How long a node may take to answer: one that is stopped must not hold up what the others say.
const ANSWER_LIMIT: Duration = Duration::from_millis(700);

/// Most bytes of metrics that are read.
const METRICS_BYTES_LIMIT: u64 = 1 << 20;

/// The metric that counts what a node has signed.
const ISSUED: &str = "quorate_actors_svids_issued_total";

/// How many voters the default plan wants.
const PLANNED_VOTERS: usize = 3;

/// The cluster, as those say that answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outlook {
    /// Who says of itself that it leads, in the highest term that anybody knows.
    pub(super) leader: Option<String>,
    /// That term.
    pub(super) term: u64,
    /// The most that any of them has applied.
    pub(super) applied_index: u64,
}

impl Outlook {
    /// Asks all nodes.
    pub(super) async fn of(files: &[NodeFiles]) -> Self {
        let mut statuses = Vec::new();
        for files in files {
            if let Ok(Ok(status)) = timeout(ANSWER_LIMIT, tour::status(files)).await {
                statuses.push(status);
            }
        }
        Self::among(&statuses)
    }

    fn among(statuses: &[StatusResponse]) -> Self {
        let leader = statuses.iter().filter(|status| status.role() == Role::Leader).max_by_key(|status| status.term);
        Self {
            leader: leader.map(|status| status.node_name.clone()),
            term: statuses.iter().map(|status| status.term).max().unwrap_or_default(),
            applied_index: statuses.iter().map(|status| status.applied_index).max().unwrap_or_default(),
        }
    }
}

/// Whether as many members vote as the default plan wants of so many nodes.
pub(super) async fn has_voters(files: &NodeFiles, nodes: usize) -> bool {
    let wanted = nodes.min(PLANNED_VOTERS);
    let Ok(status) = tour::status(files).await else { return false };
    status.members.iter().filter(|member| member.raft_role() == RaftRole::Voter).count() >= wanted
}

/// How many SVIDs the nodes have signed since the demonstration began to look, through their restarts.
#[derive(Debug, Default)]
pub(super) struct Issued {
    /// Of each node: what processes before this one had signed, and what this one said last.
    nodes: BTreeMap<String, (u64, u64)>,
}

impl Issued {
    /// Asks the nodes that answer, and gives the sum.
    pub(super) async fn ask(&mut self, nodes: &[(String, SocketAddr)]) -> u64 {
        for (name, address) in nodes {
            if let Ok(Some(text)) = timeout(ANSWER_LIMIT, metrics(*address)).await {
                self.note(name, issued_in(&text));
            }
        }
        self.nodes.values().map(|(before, now)| before.saturating_add(*now)).sum()
    }

    fn note(&mut self, name: &str, count: u64) {
        let (before, now) = self.nodes.entry(name.to_owned()).or_default();
        if count < *now {
            // A new process counts from the beginning.
            *before = before.saturating_add(*now);
        }
        *now = count;
    }
}

/// The text of `/metrics`.
async fn metrics(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.ok()?;
    let mut text = String::new();
    stream.take(METRICS_BYTES_LIMIT).read_to_string(&mut text).await.ok()?;
    Some(text)
}

/// The sum over all labels.
fn issued_in(text: &str) -> u64 {
    let lines = text.lines().filter(|line| line.starts_with(ISSUED));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_in_the_highest_term_counts() {
        let status = |name: &str, role: Role, term, applied_index| StatusResponse {
            node_name: name.into(),
            role: role.into(),
            term,
            applied_index,
            ..StatusResponse::default()
        };
        let outlook = Outlook::among(&[
            status("a", Role::Leader, 3, 10),
            status("b", Role::Leader, 4, 12),
            status("c", Role::Follower, 4, 11),
        ]);
        assert_eq!(outlook, Outlook { leader: Some("b".into()), term: 4, applied_index: 12 });
        assert_eq!(Outlook::among(&[]), Outlook::default());
    }

    #[test]
    fn what_was_signed_is_counted_through_restarts() {
        let text = "# TYPE quorate_actors_svids_issued_total counter\n\
                    quorate_actors_svids_issued_total{kind=\"x509\",reason=\"workload\"} 3\n\
                    quorate_actors_svids_issued_total{kind=\"jwt\",reason=\"workload\"} 4\n\
                    quorate_actors_streams_open{kind=\"x509\"} 9\n";
        assert_eq!(issued_in(text), 7);
        let mut issued = Issued::default();
        for count in [5, 7, 2] {
            issued.note("a", count);
        }
        assert_eq!(issued.nodes["a"], (7, 2));
    }
}
