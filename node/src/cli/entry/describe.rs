//! Entries in words.

use std::collections::BTreeSet;
use std::fmt;

use quorate_proto_api::spire::types;
use quorate_proto_identity::UnixSeconds;

use crate::cli::text::Facts;
use crate::duration::Seconds;

/// Prints as one entry: a line each for what is set, and for what every entry has.
#[derive(Debug)]
pub(super) struct Described<'a>(pub(super) &'a types::Entry);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        facts(self.0).fmt(f)
    }
}

/// What is told of an entry, in its order.
pub(super) fn facts(entry: &types::Entry) -> Facts {
    let mut facts = Facts::new();
    facts.add("Entry ID", &entry.id);
    facts.add("SPIFFE ID", id(entry.spiffe_id.as_ref()));
    facts.add("Parent ID", id(entry.parent_id.as_ref()));
    facts.add("Revision", entry.revision_number);
    facts.add("X509-SVID TTL", ttl(entry.x509_svid_ttl));
    facts.add("JWT-SVID TTL", ttl(entry.jwt_svid_ttl));
    for selector in &entry.selectors {
        facts.add("Selector", format_args!("{}:{}", selector.r#type, selector.value));
    }
    for trust_domain in &entry.federates_with {
        facts.add("Federates with", trust_domain);
    }
    for name in &entry.dns_names {
        facts.add("DNS name", name);
    }
    facts.add_unless_empty("Hint", &entry.hint);
    let attributes = entry.additional_attributes.unwrap_or_default();
    for (name, set) in [
        ("Admin", entry.admin),
        ("Downstream", entry.downstream),
        ("Store SVID", entry.store_svid),
        ("No prefetch", attributes.disable_x509_svid_prefetch),
    ] {
        if set {
            facts.add(name, "yes");
        }
    }
    if entry.expires_at != 0 {
        facts.add("Expires", UnixSeconds(entry.expires_at));
    }
    if entry.created_at != 0 {
        facts.add("Created", UnixSeconds(entry.created_at));
    }
    facts
}

/// Many entries, an empty line between two. `crl_per_domain` has the IDs of those whose workloads keep a store for each trust
/// domain.
pub(super) fn listed(entries: &[types::Entry], crl_per_domain: &BTreeSet<String>) -> String {
    let told = |entry: &types::Entry| {
        let mut facts = facts(entry);
        if crl_per_domain.contains(&entry.id) {
            facts.add("CRL per domain", "yes");
        }
        facts.to_string()
    };
    entries.iter().map(told).collect::<Vec<_>>().join("\n")
}

/// A SPIFFE ID as text.
fn id(id: Option<&types::Spiffeid>) -> String {
    id.map_or_else(|| "(none)".to_owned(), |id| format!("spiffe://{}{}", id.trust_domain, id.path))
}

fn ttl(seconds: i32) -> String {
    match seconds {
        0 => "default".to_owned(),
        seconds => Seconds::new(i64::from(seconds)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_described_by_what_it_has() {
        let entry = types::Entry {
            id: "e-1".into(),
            spiffe_id: Some(types::Spiffeid { trust_domain: "example.org".into(), path: "/web".into() }),
            parent_id: Some(types::Spiffeid { trust_domain: "example.org".into(), path: "/spire/nodes".into() }),
            selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:1000".into() }],
            x509_svid_ttl: 5_400,
            hint: "in\u{1b}ternal".into(),
            admin: true,
            created_at: 1_700_000_000,
            ..types::Entry::default()
        };
        assert_eq!(
            Described(&entry).to_string(),
            "Entry ID       e-1\n\
             SPIFFE ID      spiffe://example.org/web\n\
             Parent ID      spiffe://example.org/spire/nodes\n\
             Revision       0\n\
             X509-SVID TTL  1h30m\n\
             JWT-SVID TTL   default\n\
             Selector       unix:uid:1000\n\
             Hint           in\\u{1b}ternal\n\
             Admin          yes\n\
             Created        2023-11-14T22:13:20Z\n"
        );
    }
}
