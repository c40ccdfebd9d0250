//! What will keep a node from signing, or from taking writes, unless somebody sees to it: a sentence each. `/ready`,
//! `quorate cluster status` and the metrics tell it from here.

use quorate_actors::IssuanceStatus;
use quorate_proto_identity::UnixSeconds;
use quorate_raft_consensus::{ClockVerdict, Contact};
use quorate_raft_machine::State;
use quorate_raft_machine::web::WebDomain;
use tokio::time::Instant;

use crate::duration::Seconds;
use crate::metrics::{CUT_OFF, LEASE_LEFT};
use crate::node::Node;

/// What threatens this node now.
pub(crate) fn of(node: &Node) -> Vec<String> {
    let consensus = node.consensus();
    let health = consensus.health();
    let mut warnings = Vec::new();
    if let Some(reason) = &health.stopped {
        warnings.push(format!("consensus has ended on this node until it is restarted: {reason}"));
    }
    let issuance = node.system().map(|system| system.issuance().borrow().clone());
    match issuance {
        Some(IssuanceStatus::Ready { warning: Some(warning), .. }) => warnings.push(warning.to_string()),
        Some(IssuanceStatus::Ready { .. } | IssuanceStatus::Starting | IssuanceStatus::Waiting { .. })
        | Some(IssuanceStatus::Ended { .. })
        | None => {
            if let Some(millis) = cut_off_millis(node).filter(|_| node.is_founded()) {
                let time = Seconds::new(i64::try_from(millis / 1_000).unwrap_or(i64::MAX));
                warnings.push(format!("this node has been cut off from the cluster for {time}"));
            }
        }
    }
    let clock = consensus.clock();
    let offset = clock.offset_to_median_millis.unwrap_or_default();
    match clock.verdict {
        ClockVerdict::Good => {}
        ClockVerdict::Warn => warnings.push(format!(
            "the clock of this node is {offset:+} ms beside the median of the members': set it right; at 5000 ms the node \
             neither leads nor signs"
        )),
        ClockVerdict::Refuse => warnings.push(format!(
            "the clock of this node is {offset:+} ms beside the median of the members': the node neither leads nor signs \
             until it is set right"
        )),
    }
    warnings.extend(consensus.state().read(|state| web_certificates(state, node.sources().now().seconds())));
    if let Some(free) = health.free_space_bytes.filter(|free| *free < health.space_reserve_bytes) {
        let reserve = health.space_reserve_bytes;
        warnings.push(format!(
            "the disk is nearly full: {free} bytes are free; below {reserve} only deletes, revocations and the \
             authority's own upkeep are taken"
        ));
    }
    if let Some(system) = node.system() {
        warnings.extend(system.federation().warnings());
    }
    warnings
}

/// Certificates of web authorities that could not be had. What was renewed in time is nothing to tell of.
fn web_certificates(state: &State, now: UnixSeconds) -> Vec<String> {
    let told = |known: &WebDomain| {
        let failure = known.failure.as_ref()?;
        let ends = known.certificate.as_ref().map(|certificate| certificate.validity.not_after());
        let stands = match ends {
            None => "there is none yet".to_owned(),
            Some(ends) if ends < now => "the one there was has ended".to_owned(),
            Some(ends) => format!("the one there is ends in {}", Seconds::new(ends.since(now))),
        };
        let domain = &known.domain;
        Some(format!(
            "no new web certificate for {domain} could be had, and {stands}: {}; `quorate acme order {domain}` tries again at once",
            failure.reason
        ))
    };
    state.web_domains().filter_map(told).collect()
}

/// How long this node has been cut off; nothing while it is connected.
pub(crate) fn cut_off_millis(node: &Node) -> Option<u64> {
    let now = Instant::now();
    let contact = *node.consensus().contact().borrow();
    if contact.is_connected_at(now) {
        return None;
    }
    let since = match contact {
        Contact::Connected { until } => until,
        Contact::CutOff { since } => since,
    };
    Some(u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX))
}

/// Sets the gauges of what moves by itself: called before they are read.
pub(crate) fn set_gauges(node: &Node) {
    let cut_off = cut_off_millis(node).filter(|_| node.is_founded());
    // Milliseconds of a process's life fit into a float exactly.
    metrics::gauge!(CUT_OFF).set(cut_off.map_or(0.0, |millis| millis as f64 / 1_000.0));
    let left = match node.system().map(|system| system.issuance().borrow().clone()) {
        Some(IssuanceStatus::Ready { until, .. }) => until.0.saturating_sub(node.sources().now().seconds().0).max(0),
        Some(IssuanceStatus::Starting | IssuanceStatus::Waiting { .. } | IssuanceStatus::Ended { .. }) | None => 0,
    };
    metrics::gauge!(LEASE_LEFT).set(left as f64);
}
