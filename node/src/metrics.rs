//! The metrics of this crate: their names, and what they count.

use metrics::{describe_counter, describe_gauge};

/// Connections held at present, by `listener`.
pub(crate) const CONNECTIONS: &str = "quorate_node_connections";

/// When the process started, in seconds since 1970, with its `version`.
pub(crate) const START_TIME: &str = "quorate_node_start_time_seconds";

/// Whether the node may sign now: 1 or 0.
pub(crate) const READY: &str = "quorate_node_ready";

/// For how long the node has been cut off from the cluster.
pub(crate) const CUT_OFF: &str = "quorate_node_cut_off_seconds";

/// For how long it may sign without another word from the cluster.
pub(crate) const LEASE_LEFT: &str = "quorate_node_lease_left_seconds";

/// Connections that were closed at once, by `listener`.
pub(crate) const CONNECTIONS_REFUSED: &str = "quorate_node_connections_refused_total";

/// Times the system could not accept a connection, by `listener`.
pub(crate) const ACCEPT_ERRORS: &str = "quorate_node_accept_errors_total";

/// Handshakes at the peer port, by `result`.
pub(crate) const PEER_HANDSHAKES: &str = "quorate_node_peer_handshakes_total";

/// Calls answered without being served, by `listener` and `reason`.
pub(crate) const CALLS_REFUSED: &str = "quorate_node_calls_refused_total";

/// Handshakes of the HTTPS servers for other trust domains, by `listener` and `result`.
pub(crate) const HTTPS_HANDSHAKES: &str = "quorate_node_https_handshakes_total";

/// Requests of the HTTPS servers for other trust domains, by `listener` and `status`.
pub(crate) const HTTPS_REQUESTS: &str = "quorate_node_https_requests_total";

/// When a web certificate from files ends, by `listener`.
pub(crate) const WEB_CERTIFICATE_END: &str = "quorate_node_web_certificate_end_seconds";

/// Calls of the Federation API, by `call`, `proof` and `result`.
pub(crate) const FEDERATION_CALLS: &str = "quorate_node_federation_calls_total";

/// Watches of our bundle at this node.
pub(crate) const FEDERATION_WATCHES: &str = "quorate_node_federation_watches";

/// When a web certificate that the cluster has by ACME ends, by `domain`: at most 16.
pub(crate) const ACME_CERTIFICATE_END: &str = "quorate_node_acme_certificate_end_seconds";

/// Handlers that panicked, by `listener`.
pub(crate) const HANDLER_PANICS: &str = "quorate_node_handler_panics_total";

/// Every metric with its labels and its meaning, for `/metrics` and the reference page. The names of
/// counters end in `_total`; the others are gauges.
pub(crate) const DESCRIPTIONS: &[(&str, &str, &str)] = &[
    (CONNECTIONS, "listener", "Connections held at present."),
    (START_TIME, "version", "When the process started, in seconds since 1970."),
    (READY, "", "1 while the node may sign and holds the token keys, as /ready says; 0 otherwise."),
    (CUT_OFF, "", "For how long this node has been cut off from the cluster; 0 while it is not."),
    (LEASE_LEFT, "", "For how long this node may sign without another word from the cluster; 0 when it may not."),
    (
        CONNECTIONS_REFUSED,
        "listener",
        "Connections closed at once, because the socket or the user had as many as it may.",
    ),
    (ACCEPT_ERRORS, "listener", "Times the system could not accept a connection, for want of descriptors mostly."),
    (
        PEER_HANDSHAKES,
        "result",
        "Handshakes at the peer port: \"established\", \"failed\", \"timeout\", \"pushed_out\" by newer ones in a flood, \
         \"full\" when the key or all have as many connections as they may, \"not_taken\" while consensus is busy.",
    ),
    (
        CALLS_REFUSED,
        "listener, reason",
        "Calls answered without being served: reason \"header\" is a missing security header, \"calls\" a user with \
         as many in flight as it may have.",
    ),
    (
        HTTPS_HANDSHAKES,
        "listener, result",
        "Handshakes of the servers for other trust domains: \"established\", \"failed\", \"timeout\", \"challenge\" for \
         ACME's, \"no_certificate\" while there is none to show.",
    ),
    (
        FEDERATION_CALLS,
        "call, proof, result",
        "Calls of the Federation API: proof is how the peer proved who it is (\"mutual_tls\", \"api_key\", \"oauth\", \
         \"nothing\", \"several\"), result is \"granted\" or the reason of the refusal.",
    ),
    (FEDERATION_WATCHES, "", "Watches of our bundle that are open at this node."),
    (
        HTTPS_REQUESTS,
        "listener, status",
        "Requests to the servers for other trust domains, by status: the common ones, else their class as in \"4xx\".",
    ),
    (WEB_CERTIFICATE_END, "listener", "When the web certificate that was read from files ends, in seconds since 1970."),
    (
        ACME_CERTIFICATE_END,
        "domain",
        "When the web certificate that the cluster has by ACME for this domain ends, in seconds since 1970.",
    ),
    (HANDLER_PANICS, "listener", "Handlers that panicked. Each is a fault of this program: please report it."),
];

/// Tells the registry what each metric means.
pub(crate) fn describe() {
    for (name, _, meaning) in DESCRIPTIONS {
        if name.ends_with("_total") {
            describe_counter!(*name, *meaning);
        } else {
            describe_gauge!(*name, *meaning);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Words in quotes that begin like a metric of ours, in all sources below a directory.
    fn names_in(directory: &Path, names: &mut BTreeSet<String>) {
        for item in fs::read_dir(directory).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                names_in(&path, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let quoted = text.split('"').filter(|word| is_name(word));
                names.extend(quoted.map(ToOwned::to_owned));
            }
        }
    }

    fn is_name(word: &str) -> bool {
        ["quorate_node_", "quorate_actors_", "quorate_consensus_", "quorate_store_"].iter().any(|start| {
            word.strip_prefix(start).is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            })
        })
    }

    #[test]
    fn the_reference_page_lists_exactly_the_metrics_there_are() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut used = BTreeSet::new();
        for sources in ["node/src", "actors/src", "raft/consensus/src", "raft/store/src"] {
            names_in(&root.join(sources), &mut used);
        }
        used.retain(|name| !name.ends_with('_'));
        let page = fs::read_to_string(root.join("docs/reference/metrics.md")).unwrap();
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let listed: BTreeSet<String> = rows.map(|(name, _)| name.to_owned()).filter(|name| is_name(name)).collect();
        let listed_for_watching = |name: &String| page.contains(&format!("| `{name}` |"));
        assert_eq!(listed.into_iter().filter(listed_for_watching).collect::<BTreeSet<_>>(), used);
    }

    #[test]
    fn the_page_says_what_the_registry_says() {
        let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/metrics.md"));
        let page = page.unwrap();
        for (name, labels, _) in DESCRIPTIONS {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap();
            for label in labels.split(", ").filter(|label| !label.is_empty()) {
                assert!(row.contains(&format!("`{label}`")), "{row}");
            }
        }
    }
}
