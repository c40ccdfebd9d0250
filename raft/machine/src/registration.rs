//! Rules of registration entries, which hold on every member (spire-api.md section 7, validation).

use std::collections::BTreeSet;

use quorate_proto_identity::dns_name::check_dns_name;
use quorate_proto_identity::{Selector, SelectorSet, SpiffeId, TrustDomain};

use crate::entry::{
    DNS_NAMES_PER_ENTRY, ENTRY_BYTES_LIMIT, Entry, EntryChange, EntryDraft, FEDERATES_WITH_PER_ENTRY,
    SELECTORS_PER_ENTRY, SHORTEST_X509_SVID_TTL, TTL_LIMIT,
};
use crate::outcome::{Refusal, RefusalCode};
use crate::versions::hint_limit;

/// The path that is reserved for the authority's own IDs, and so is everything below it.
const RESERVED_PATH: &str = "/spire";

/// Checks a draft's fields, each by itself, as the version that the cluster works by wants them.
pub(crate) fn check_draft(draft: &EntryDraft, trust_domain: &TrustDomain, version: u32) -> Result<(), Refusal> {
    // First what somebody wrote: the parent is often filled in, and from this ID's trust domain.
    check_spiffe_id(&draft.spiffe_id, trust_domain)?;
    check_parent_id(&draft.parent_id, trust_domain)?;
    check_selectors(&draft.selectors)?;
    check_x509_svid_ttl(draft.x509_svid_ttl)?;
    check_ttl("jwt_svid_ttl", draft.jwt_svid_ttl)?;
    check_dns_names(&draft.dns_names)?;
    check_hint(&draft.hint, version)?;
    check_federates_with(&draft.federates_with, trust_domain)
}

/// Checks the fields that a change gives, each by itself.
pub(crate) fn check_change(change: &EntryChange, trust_domain: &TrustDomain, version: u32) -> Result<(), Refusal> {
    if let Some(parent_id) = &change.parent_id {
        check_parent_id(parent_id, trust_domain)?;
    }
    if let Some(spiffe_id) = &change.spiffe_id {
        check_spiffe_id(spiffe_id, trust_domain)?;
    }
    if let Some(selectors) = &change.selectors {
        check_selectors(selectors)?;
    }
    if let Some(ttl) = change.x509_svid_ttl {
        check_x509_svid_ttl(ttl)?;
    }
    if let Some(ttl) = change.jwt_svid_ttl {
        check_ttl("jwt_svid_ttl", ttl)?;
    }
    if let Some(names) = &change.dns_names {
        check_dns_names(names)?;
    }
    if let Some(hint) = &change.hint {
        check_hint(hint, version)?;
    }
    match &change.federates_with {
        Some(domains) => check_federates_with(domains, trust_domain),
        None => Ok(()),
    }
}

/// Checks what fields of an entry say together, and how large it is.
pub(crate) fn check_whole(entry: &Entry) -> Result<(), Refusal> {
    if entry.store_svid {
        let mut kinds = entry.selectors.iter().map(Selector::kind);
        let first = kinds.next();
        if kinds.any(|kind| Some(kind) != first) {
            return Err(Refusal::invalid("selector types must be the same when store_svid is set"));
        }
        if entry.additional_attributes.is_some_and(|attributes| attributes.disable_x509_svid_prefetch) {
            return Err(Refusal::invalid("store_svid and disable_x509_svid_prefetch exclude each other"));
        }
    }
    let bytes = entry.text_bytes();
    if bytes > ENTRY_BYTES_LIMIT {
        return Err(Refusal::invalid(format!("the entry's texts have {bytes} bytes, the most is {ENTRY_BYTES_LIMIT}")));
    }
    Ok(())
}

/// Checks an entry of the state against all rules, but for those that depend on what else is there.
pub(crate) fn check_stored(entry: &Entry, trust_domain: &TrustDomain, version: u32) -> Result<(), Refusal> {
    check_parent_id(&entry.parent_id, trust_domain)?;
    check_spiffe_id(&entry.spiffe_id, trust_domain)?;
    check_selectors(&entry.selectors)?;
    check_x509_svid_ttl(entry.x509_svid_ttl)?;
    check_ttl("jwt_svid_ttl", entry.jwt_svid_ttl)?;
    check_dns_names(&entry.dns_names)?;
    check_hint(&entry.hint, version)?;
    check_whole(entry)
}

/// A parent is any ID of the trust domain: a node, an alias, `/spire/server`, `/spire/nodes`, or a workload.
fn check_parent_id(parent_id: &SpiffeId, trust_domain: &TrustDomain) -> Result<(), Refusal> {
    check_member_id("parent_id", parent_id, trust_domain)
}

/// An entry gives an ID that the authority does not keep for itself: nothing at or below `/spire`, which also makes
/// the virtual parent of all nodes impossible.
fn check_spiffe_id(spiffe_id: &SpiffeId, trust_domain: &TrustDomain) -> Result<(), Refusal> {
    check_member_id("spiffe_id", spiffe_id, trust_domain)?;
    let below_reserved = spiffe_id.path().strip_prefix(RESERVED_PATH);
    if below_reserved.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Err(Refusal::invalid(format!(
            "spiffe_id {spiffe_id} is not that of a workload: {RESERVED_PATH} and what is below it are reserved"
        )));
    }
    Ok(())
}

fn check_member_id(field: &str, id: &SpiffeId, trust_domain: &TrustDomain) -> Result<(), Refusal> {
    if !id.is_member_of(trust_domain) {
        return Err(Refusal::invalid(format!("{field} {id} is not a member of trust domain {trust_domain}")));
    }
    if id.is_trust_domain_id() {
        return Err(Refusal::invalid(format!("{field} {id} has no path: it names the trust domain itself")));
    }
    Ok(())
}

fn check_selectors(selectors: &SelectorSet) -> Result<(), Refusal> {
    match selectors.len() {
        0 => Err(Refusal::invalid("selectors: an entry needs at least one")),
        1..=SELECTORS_PER_ENTRY => Ok(()),
        many => Err(Refusal::invalid(format!("selectors: the entry has {many}, the most is {SELECTORS_PER_ENTRY}"))),
    }
}

fn check_x509_svid_ttl(ttl: u32) -> Result<(), Refusal> {
    if (1..SHORTEST_X509_SVID_TTL).contains(&ttl) {
        return Err(Refusal::invalid(format!(
            "x509_svid_ttl is {ttl} s, too short to be renewed without a gap: ask for {SHORTEST_X509_SVID_TTL} s or more, or \
             for 0, which is what the policy says"
        )));
    }
    check_ttl("x509_svid_ttl", ttl)
}

fn check_ttl(field: &str, ttl: u32) -> Result<(), Refusal> {
    if ttl > TTL_LIMIT {
        return Err(Refusal::invalid(format!("{field} is {ttl} s, the most is {TTL_LIMIT} s")));
    }
    Ok(())
}

fn check_hint(hint: &str, version: u32) -> Result<(), Refusal> {
    let limit = hint_limit(version);
    if hint.len() > limit {
        return Err(Refusal::invalid(format!("hint has {} bytes, the most is {limit}", hint.len())));
    }
    Ok(())
}

fn check_dns_names(names: &[String]) -> Result<(), Refusal> {
    if names.len() > DNS_NAMES_PER_ENTRY {
        return Err(Refusal::invalid(format!(
            "dns_names: the entry has {}, the most is {DNS_NAMES_PER_ENTRY}",
            names.len()
        )));
    }
    for name in names {
        check_dns_name(name).map_err(|error| Refusal::invalid(format!("dns_names: {error}")))?;
    }
    Ok(())
}

/// The trust domains that an entry federates with; whether bundles of them are known, the state says
/// ([`no_bundle_of`]).
fn check_federates_with(domains: &BTreeSet<TrustDomain>, trust_domain: &TrustDomain) -> Result<(), Refusal> {
    if domains.len() > FEDERATES_WITH_PER_ENTRY {
        return Err(Refusal::invalid(format!(
            "federates_with: the entry has {}, the most is {FEDERATES_WITH_PER_ENTRY}",
            domains.len()
        )));
    }
    if domains.contains(trust_domain) {
        return Err(Refusal::invalid(format!("federates_with: {trust_domain} is our own trust domain")));
    }
    Ok(())
}

/// Refuses to federate with a trust domain of which no bundle is known: it may be a slip of the pen, and its workloads
/// could not be verified.
pub(crate) fn no_bundle_of(domain: &TrustDomain) -> Refusal {
    Refusal::new(
        RefusalCode::WrongState,
        format!("federates_with: no bundle of trust domain {domain} is known here: set its bundle first"),
    )
}
