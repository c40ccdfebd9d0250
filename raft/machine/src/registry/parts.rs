//! An entry taken apart: what a record is made of, borrowed from wherever it is.

use quorate_proto_identity::{Selector, TrustDomain};

use crate::entry::{AdditionalAttributes, Entry};

/// The fields of an entry, its IDs as paths in the trust domain of the state. Whoever makes one has checked every text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntryParts<'a> {
    /// Its ID.
    pub(crate) id: &'a str,
    /// Path of its SPIFFE ID.
    pub(crate) spiffe_path: &'a str,
    /// Path of its parent.
    pub(crate) parent_path: &'a str,
    /// Its selectors, in order.
    pub(crate) selectors: Vec<&'a str>,
    /// Lifetime of X509-SVIDs; 0 means the policy's.
    pub(crate) x509_svid_ttl: u32,
    /// Lifetime of JWT-SVIDs; 0 means the policy's.
    pub(crate) jwt_svid_ttl: u32,
    /// Foreign trust domains, in order.
    pub(crate) federates_with: Vec<&'a str>,
    /// Whether it is an administrator's.
    pub(crate) admin: bool,
    /// Whether it is for a downstream authority.
    pub(crate) downstream: bool,
    /// When it ends, if ever.
    pub(crate) expires_at: Option<i64>,
    /// DNS names.
    pub(crate) dns_names: Vec<&'a str>,
    /// How often it was changed.
    pub(crate) revision_number: u64,
    /// Whether its SVIDs are to be put into a secret store.
    pub(crate) store_svid: bool,
    /// Its hint.
    pub(crate) hint: &'a str,
    /// When it was created.
    pub(crate) created_at: i64,
    /// Attributes that came later to the API.
    pub(crate) additional_attributes: Option<AdditionalAttributes>,
    /// Its place in listings.
    pub(crate) creation_number: u64,
    /// Whether its workload keeps a store for each trust domain.
    pub(crate) crl_per_domain: bool,
}

impl<'a> EntryParts<'a> {
    /// The parts of an entry.
    pub(crate) fn of(entry: &'a Entry) -> Self {
        let Entry {
            id,
            spiffe_id,
            parent_id,
            selectors,
            x509_svid_ttl,
            jwt_svid_ttl,
            federates_with,
            admin,
            downstream,
            expires_at,
            dns_names,
            revision_number,
            store_svid,
            hint,
            created_at,
            additional_attributes,
            creation_number,
            crl_per_domain,
        } = entry;
        Self {
            id: id.as_str(),
            spiffe_path: spiffe_id.path(),
            parent_path: parent_id.path(),
            selectors: selectors.iter().map(Selector::as_str).collect(),
            x509_svid_ttl: *x509_svid_ttl,
            jwt_svid_ttl: *jwt_svid_ttl,
            federates_with: federates_with.iter().map(TrustDomain::as_str).collect(),
            admin: *admin,
            downstream: *downstream,
            expires_at: expires_at.map(|end| end.0),
            dns_names: dns_names.iter().map(String::as_str).collect(),
            revision_number: *revision_number,
            store_svid: *store_svid,
            hint,
            created_at: created_at.0,
            additional_attributes: *additional_attributes,
            creation_number: *creation_number,
            crl_per_domain: *crl_per_domain,
        }
    }
}
