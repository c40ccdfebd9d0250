//! A workload's post at one node: its stream, and the last that the stream brought.

use super::judge::Judge;
use crate::consumers::{Chain, View};
use crate::load::workload::Workload;
use crate::node::LOOK;
use quorate_proto_api::workload::X509svidResponse;
use quorate_proto_identity::Certificate;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::{Instant, sleep};

/// Views are counted over all posts, so that a consumer can tell any two apart.
static VIEWS: AtomicU64 = AtomicU64::new(1);

/// What was seen at a post.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Whether its stream is open; if not, it knows nothing new since then.
    pub(crate) open: bool,
    /// When that changed last.
    pub(crate) since: Instant,
    /// What consumers are given here; none before the first message.
    pub(crate) view: Option<View>,
    /// The chains by the paths of their SPIFFE IDs.
    pub(crate) chains: BTreeMap<String, Held>,
}

/// A chain, and since when it is the one.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) chain: Arc<Chain>,
    pub(crate) since: Instant,
}

impl Default for Seen {
    fn default() -> Self {
        Self { open: false, since: Instant::now(), view: None, chains: BTreeMap::new() }
    }
}

impl Seen {
    /// The chain of a path, while the stream is open.
    pub(crate) fn current(&self, path: &str) -> Option<&Held> {
        self.chains.get(path).filter(|_| self.open)
    }

    /// Takes a message over. Says what is wrong with its form.
    fn take(&mut self, message: &X509svidResponse, server: &str) -> Result<(), String> {
        let now = Instant::now();
        if !self.open {
            (self.open, self.since) = (true, now);
        }
        let mut chains = BTreeMap::new();
        for svid in &message.svids {
            let path = svid.spiffe_id.splitn(4, '/').nth(3).unwrap_or_default();
            let chain = Certificate::parse_concatenated(&svid.x509_svid).map_err(|error| error.to_string())?;
            let [leaf, issuing] = chain.as_slice() else {
                return Err(format!("{} certificates for /{path}, and not two (CRL-09)", chain.len()));
            };
            let key = svid.x509_svid_key.to_vec();
            let chain = Chain { leaf: leaf.der().to_vec(), issuing: issuing.der().to_vec(), key };
            let path = format!("/{path}");
            let held = match self.chains.remove(&path) {
                Some(held) if *held.chain == chain => held,
                Some(_) | None => Held { chain: Arc::new(chain), since: now },
            };
            chains.insert(path, held);
        }
        self.chains = chains;
        let (Some(first), Some(server)) = (message.svids.first(), self.chains.get(server)) else {
            return Err("a message without the server's SVID".to_owned());
        };
        let roots = Certificate::parse_concatenated(&first.bundle).map_err(|error| error.to_string())?;
        self.view = Some(View {
            number: VIEWS.fetch_add(1, Ordering::Relaxed),
            roots: roots.iter().map(|root| root.der().to_vec()).collect(),
            crls: message.crl.iter().map(|crl| crl.to_vec()).collect(),
            server: server.chain.as_ref().clone(),
        });
        Ok(())
    }
}

/// Reads the stream of a post for as long as the run lasts, and opens it again whenever it ended.
pub(super) async fn read(judge: Arc<Judge>, index: usize, socket: PathBuf) {
    loop {
        let mut workload = Workload::new(&socket);
        if let Ok(mut stream) = workload.x509_svids().await {
            while let Ok(Some(message)) = stream.message().await {
                let mut seen = judge.seen(index);
                let taken = seen.take(&message, super::acts::SERVER);
                judge.saw(index, seen, taken);
            }
        }
        let mut seen = judge.seen(index);
        if seen.open {
            (seen.open, seen.since) = (false, Instant::now());
            judge.saw(index, seen, Ok(()));
        }
        sleep(LOOK).await;
    }
}
