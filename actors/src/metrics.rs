//! Every metric of this crate, by name. `docs/reference/metrics.md` lists them for operators.
//!
//! Labels are fixed words; no SPIFFE ID, path or number of a process ever becomes one.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// Tells the recorder that is installed what each metric means.
pub(crate) fn describe() {
    describe_gauge!(
        "quorate_actors_lease_end_seconds",
        "Until when this node may sign, in seconds since 1970; 0 when it may not."
    );
    describe_gauge!(
        "quorate_actors_lease_left_ratio",
        "How much is left of the issuing certificate's life: 1 when it is new, 0 when this node may not sign."
    );
    describe_gauge!(
        "quorate_actors_clock_offset_seconds",
        "How far this node's clock is ahead of the median of the members' clocks."
    );
    describe_gauge!(
        "quorate_actors_clock_trusted",
        "Whether this node's clock is close enough to the others': 1 yes, 0 more than 5 s off, so that it signs nothing."
    );
    describe_counter!("quorate_actors_issuing_requests_total", "Requests for an issuing certificate.");
    describe_counter!(
        "quorate_actors_svids_issued_total",
        "SVIDs signed: kind is x509 or jwt, reason is workload, mint, or endpoint for what nodes show to other trust domains."
    );
    describe_gauge!("quorate_actors_cached_svids", "X509-SVIDs kept in memory.");
    describe_gauge!("quorate_actors_streams_open", "Open streams of the Workload API.");
    describe_counter!("quorate_actors_pushes_total", "Answers pushed to open streams.");
    describe_histogram!(
        "quorate_actors_refresh_seconds",
        "How long it took to find and sign what one set of selectors is entitled to."
    );
    describe_counter!(
        "quorate_actors_refusals_total",
        "Calls and streams refused or ended, by the code of the answer."
    );
    describe_counter!("quorate_actors_attestations_total", "Processes looked at.");
    describe_counter!(
        "quorate_actors_selectors_missing_total",
        "Selectors that could not be made, because the node may not read what they are made of."
    );
    describe_counter!(
        "quorate_actors_identities_left_out_total",
        "Identities left out of an answer: limit (too many for one caller), bytes (more than 3.5 MiB in one answer), hint (two with one hint) or banned (by a revocation)."
    );
    describe_counter!(
        "quorate_actors_foreign_bundles_left_out_total",
        "Foreign bundles left out of an answer, because a caller's have more than 2 MiB together: x509 or jwt."
    );
    describe_counter!(
        "quorate_actors_authority_steps_total",
        "Steps in the life of authorities that this node proposed."
    );
    describe_counter!(
        "quorate_actors_membership_steps_total",
        "Steps by which this node, while it led, brought the Raft group and the seals after the records of members."
    );
    describe_counter!(
        "quorate_actors_crls_signed_total",
        "CRLs that this node signed and had recorded: issuing_key or root."
    );
    describe_counter!(
        "quorate_actors_ledger_records_total",
        "Records of issued SVIDs: written, dropped because the ledger was behind, pruned."
    );
    describe_counter!("quorate_actors_ledger_set_aside_total", "Times the ledger was damaged and begun anew.");
    describe_counter!(
        "quorate_actors_audit_records_total",
        "Records of the audit trail: written, or dropped because there was no room for them."
    );
    describe_counter!("quorate_actors_audit_gaps_total", "Times log entries got no records in the audit trail.");
    describe_gauge!("quorate_actors_audit_blocked", "Whether the audit trail cannot be written: 1 if so.");
    describe_gauge!(
        "quorate_actors_audit_anchored_record",
        "Number of the last record of the audit trail that is anchored in the replicated state."
    );
    describe_counter!(
        "quorate_actors_audit_withheld_total",
        "SVIDs that were not handed out because their record was not on the disk in time."
    );
    describe_gauge!(
        "quorate_actors_endpoint_certificate_end_seconds",
        "Until when this node's endpoint certificate is valid, in seconds since 1970; 0 when it has none."
    );
    describe_counter!(
        "quorate_actors_foreign_bundles_fetched_total",
        "Retrievals of foreign bundles: changed, unchanged, older (not taken) or failed."
    );
    describe_counter!(
        "quorate_actors_foreign_bundles_pushed_total",
        "Foreign bundles that were pushed to this node: changed, unchanged or refused."
    );
    describe_gauge!(
        "quorate_actors_relationships",
        "Relationships with foreign trust domains that this node minds; 0 where it does not lead."
    );
    describe_gauge!(
        "quorate_actors_relationships_stale",
        "Relationships whose bundle was not fetched for three intervals; 0 where this node does not lead."
    );
    describe_gauge!(
        "quorate_actors_relationships_watching",
        "Relationships whose peer pushes its bundle at present; 0 where this node does not lead."
    );
    describe_counter!("quorate_actors_mailbox_full_total", "Messages refused because a mailbox was full.");
    describe_counter!("quorate_actors_restarts_total", "Actors that ended and were started again.");
}

/// A foreign bundle was asked for.
pub(crate) fn bundle_fetched(result: &'static str) {
    counter!("quorate_actors_foreign_bundles_fetched_total", "result" => result).increment(1);
}

/// A foreign bundle was pushed.
pub(crate) fn bundle_pushed(result: &'static str) {
    counter!("quorate_actors_foreign_bundles_pushed_total", "result" => result).increment(1);
}

/// How the relationships are that this node minds.
pub(crate) fn relationships(minded: usize, stale: usize, watching: usize) {
    gauge!("quorate_actors_relationships").set(minded as f64);
    gauge!("quorate_actors_relationships_stale").set(stale as f64);
    gauge!("quorate_actors_relationships_watching").set(watching as f64);
}

/// A mailbox was full and a message was refused.
pub(crate) fn mailbox_full(actor: &'static str) {
    counter!("quorate_actors_mailbox_full_total", "actor" => actor).increment(1);
}

/// An actor ended and is started again.
pub(crate) fn actor_restarted(actor: &'static str) {
    counter!("quorate_actors_restarts_total", "actor" => actor).increment(1);
}

/// A workload gets no selector of this kind, because it could not be read or vouched for.
pub(crate) fn selector_missing(selector: &'static str) {
    counter!("quorate_actors_selectors_missing_total", "selector" => selector).increment(1);
}

/// A process was attested, or not.
pub(crate) fn attestation(result: &'static str) {
    counter!("quorate_actors_attestations_total", "result" => result).increment(1);
}

/// SVIDs were signed: `kind` is `x509` or `jwt`, `reason` is `workload`, `mint` or `endpoint`.
pub(crate) fn issued(kind: &'static str, reason: &'static str) {
    counter!("quorate_actors_svids_issued_total", "kind" => kind, "reason" => reason).increment(1);
}

/// A call or stream was refused or ended, with the code of the answer.
pub(crate) fn refused(code: &'static str) {
    counter!("quorate_actors_refusals_total", "code" => code).increment(1);
}

/// Streams that are open now.
pub(crate) fn streams(kind: &'static str, change: f64) {
    gauge!("quorate_actors_streams_open", "kind" => kind).increment(change);
}

/// An answer was pushed to this many open streams.
pub(crate) fn pushed(streams: usize) {
    counter!("quorate_actors_pushes_total").increment(streams as u64);
}

/// A refresh of what one set of selectors is entitled to took so long, in seconds.
pub(crate) fn refreshed(seconds: f64) {
    histogram!("quorate_actors_refresh_seconds").record(seconds);
}

/// Identities were left out of an answer, because a caller may have no more or because hints collided.
pub(crate) fn identities_left_out(reason: &'static str, count: usize) {
    counter!("quorate_actors_identities_left_out_total", "reason" => reason).increment(count as u64);
}

/// Foreign bundles were left out of an answer, because together they have too many bytes.
pub(crate) fn foreign_bundles_left_out(kind: &'static str, count: usize) {
    counter!("quorate_actors_foreign_bundles_left_out_total", "kind" => kind).increment(count as u64);
}

/// X509-SVIDs kept in memory.
pub(crate) fn cached_svids(count: usize) {
    gauge!("quorate_actors_cached_svids").set(count as f64);
}

/// Until when this node may sign, in seconds since 1970; 0 when it may not.
pub(crate) fn lease_until(seconds: i64) {
    gauge!("quorate_actors_lease_end_seconds").set(seconds as f64);
}

/// Until when this node's endpoint certificate is valid, in seconds since 1970; 0 when it has none.
pub(crate) fn endpoint_certificate_end(seconds: i64) {
    gauge!("quorate_actors_endpoint_certificate_end_seconds").set(seconds as f64);
}

/// How much is left of the issuing certificate's life, as a part of it.
pub(crate) fn lease_left(part: f64) {
    gauge!("quorate_actors_lease_left_ratio").set(part);
}

/// How far this node's clock is off, and whether it is trusted.
pub(crate) fn clock(offset_seconds: f64, trusted: bool) {
    gauge!("quorate_actors_clock_offset_seconds").set(offset_seconds);
    gauge!("quorate_actors_clock_trusted").set(f64::from(u8::from(trusted)));
}

/// A request for an issuing certificate was answered, or failed.
pub(crate) fn issuing_request(result: &'static str) {
    counter!("quorate_actors_issuing_requests_total", "result" => result).increment(1);
}

/// A step of an authority's life was proposed.
pub(crate) fn authority_step(step: &'static str, result: &'static str) {
    counter!("quorate_actors_authority_steps_total", "step" => step, "result" => result).increment(1);
}

/// A CRL was signed and recorded.
pub(crate) fn crl_signed(issuer: &'static str) {
    counter!("quorate_actors_crls_signed_total", "issuer" => issuer).increment(1);
}

/// A step of the membership was taken.
pub(crate) fn membership_step(step: &'static str, result: &'static str) {
    counter!("quorate_actors_membership_steps_total", "step" => step, "result" => result).increment(1);
}

/// Records of issued SVIDs were written to the ledger, dropped because it was behind, or pruned.
pub(crate) fn ledger_records(result: &'static str, count: usize) {
    counter!("quorate_actors_ledger_records_total", "result" => result).increment(count as u64);
}

/// The ledger could not be used and was set aside.
pub(crate) fn ledger_set_aside() {
    counter!("quorate_actors_ledger_set_aside_total").increment(1);
}

/// Records were added to the audit trail, or found no room.
pub(crate) fn audit_records(result: &'static str, count: u64) {
    counter!("quorate_actors_audit_records_total", "result" => result).increment(count);
}

/// Log entries got no records in the audit trail.
pub(crate) fn audit_gap() {
    counter!("quorate_actors_audit_gaps_total").increment(1);
}

/// Whether the audit trail cannot be written.
pub(crate) fn audit_blocked(is_blocked: bool) {
    gauge!("quorate_actors_audit_blocked").set(f64::from(u8::from(is_blocked)));
}

/// The head of the audit trail was anchored.
pub(crate) fn audit_anchored(record: u64) {
    gauge!("quorate_actors_audit_anchored_record").set(record as f64);
}

/// An SVID was not handed out, for want of its record.
pub(crate) fn audit_withheld() {
    counter!("quorate_actors_audit_withheld_total").increment(1);
}
