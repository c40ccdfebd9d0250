//! What the streams of all nodes bring: which roots a domain's own workloads have, which of them its peer's workloads have, and
//! how long one took to come from here to there.

use crate::invariants::inv_06;
use crate::load::workload::Workload;
use crate::run::lock;
use quorate_proto_api::workload::X509svidResponse;
use quorate_proto_identity::Certificate;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A node: which of the two domains, and which of its nodes.
pub(super) type Place = (usize, usize);

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// When a root was first in a stream of its own domain.
    published: BTreeMap<(usize, String), Instant>,
    /// When it was first in a stream of a node of the other one.
    arrived: BTreeMap<(Place, String), Instant>,
    /// The roots of the other domain that a node's stream has now.
    held: BTreeMap<Place, BTreeSet<String>>,
    checked: u64,
}

impl Arrivals {
    /// Follows a node's stream until it ends, and notes what it brings. What must not be, is told to `violated`.
    pub(super) async fn follow(
        &self,
        place: Place,
        socket: &Path,
        foreign: &str,
        violated: impl Fn(String),
    ) -> Result<(), String> {
        let mut stream = Workload::new(socket).x509_svids().await.map_err(|status| status.to_string())?;
        while let Some(answer) = stream.message().await.map_err(|status| status.to_string())? {
            let at = Instant::now();
            if let Some(what) = self.note(place, &answer, foreign, at)? {
                violated(what);
            }
        }
        Ok(())
    }

    /// Takes a message in. Gives what is wrong with it, if anything is (INV-05).
    fn note(
        &self,
        place @ (domain, _): Place,
        answer: &X509svidResponse,
        foreign: &str,
        at: Instant,
    ) -> Result<Option<String>, String> {
        let ids = |roots: &[u8]| -> Result<BTreeSet<String>, String> {
            let roots = Certificate::parse_concatenated(roots).map_err(|error| error.to_string())?;
            Ok(roots.iter().map(|root| root.authority_id().to_string()).collect())
        };
        let Some(svid) = answer.svids.first() else { return Ok(None) };
        let own = ids(&svid.bundle)?;
        let theirs = answer.federated_bundles.get(foreign).map(|roots| ids(roots)).transpose()?;
        let chain = Certificate::parse_concatenated(&svid.x509_svid).map_err(|error| error.to_string())?;
        let under = chain.get(1).map(inv_06::root_of).unwrap_or_default();

        let mut seen = lock(&self.0);
        for root in own {
            seen.published.entry((domain, root)).or_insert(at);
        }
        for root in theirs.iter().flatten() {
            seen.arrived.entry((place, root.clone())).or_insert(at);
        }
        match theirs {
            Some(theirs) => seen.held.insert(place, theirs),
            None => seen.held.remove(&place),
        };
        seen.checked += 1;
        let lacks = seen.held.iter().find(|((peer, _), roots)| *peer != domain && !roots.contains(&under));
        Ok(lacks.map(|((_, node), _)| {
            format!(
                "{} was handed out under root {under}, which the stream of node {} of {foreign} does not have",
                svid.spiffe_id,
                node + 1
            )
        }))
    }

    /// How many nodes of a domain have the other one's bundle in their streams.
    pub(super) fn holders(&self, domain: usize) -> usize {
        lock(&self.0).held.keys().filter(|(of, _)| *of == domain).count()
    }

    /// How many messages were checked.
    pub(super) fn checked(&self) -> u64 {
        lock(&self.0).checked
    }

    /// How long each root that was published since took to each node of the other domain; and how many have not come yet.
    pub(super) fn since(&self, begin: Instant, nodes: usize) -> (Vec<Duration>, usize) {
        let seen = lock(&self.0);
        let (mut took, mut missing) = (Vec::new(), 0);
        for ((domain, root), published) in seen.published.iter().filter(|(_, published)| **published >= begin) {
            let there = 1 - domain;
            for node in 0..nodes {
                match seen.arrived.get(&((there, node), root.clone())) {
                    Some(arrived) => took.push(arrived.saturating_duration_since(*published)),
                    None => missing += 1,
                }
            }
        }
        took.sort();
        (took, missing)
    }
}

/// The duration that so many hundredths of them do not exceed.
pub(super) fn percentile(sorted: &[Duration], hundredths: usize) -> Option<Duration> {
    let rank = (sorted.len() * hundredths).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_measured() {
        let millis: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&millis, 50), Some(Duration::from_millis(100)));
        assert_eq!(percentile(&millis, 99), Some(Duration::from_millis(198)));
        assert_eq!(percentile(&millis[..1], 99), Some(Duration::from_millis(1)));
        assert_eq!(percentile(&[], 99), None);
    }
}
