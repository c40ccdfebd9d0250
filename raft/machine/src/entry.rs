//! Registration entries: which workloads get which SPIFFE ID, as the state holds them.

use std::collections::BTreeSet;

use quorate_proto_identity::{EntryId, SelectorSet, SpiffeId, TrustDomain, UnixSeconds};

/// Most selectors of an entry. Workload attestors make a few dozen; an entry needs two or three of them.
pub const SELECTORS_PER_ENTRY: usize = 128;

/// Most DNS names of an entry. Each goes into every certificate, which peers read whole in each handshake.
pub const DNS_NAMES_PER_ENTRY: usize = 128;

/// Most trust domains that an entry federates with: every one is a bundle in each answer to the workload.
pub const FEDERATES_WITH_PER_ENTRY: usize = 128;

/// Longest hint, in bytes: no more than that need a client of the Workload API take (WAPI-56, SB-13). The registration API
/// counts characters (spire-api.md section 7), which in UTF-8 can be four times as many bytes, so the stricter one counts.
pub const HINT_LIMIT: usize = 1_024;

/// Most bytes of all texts of an entry together: what is larger could not travel beside others in a batch of 256 KiB
/// (design section 4), and one million of them would not fit any machine.
pub const ENTRY_BYTES_LIMIT: usize = 128 * 1024;

/// Shortest lifetime of X509-SVIDs that an entry may ask for, in seconds, but for 0, which leaves it to the policy: times
/// are whole seconds and renewal is due at half life, so with one second there would be gaps.
pub const SHORTEST_X509_SVID_TTL: u32 = crate::policy::SHORTEST_LIFETIME;

/// Longest lifetime that an entry may ask for, in seconds: what the registration API can say (`int32`).
pub const TTL_LIMIT: u32 = i32::MAX as u32;

/// Most entries that one `PruneExpiredEntries` removes, so that no single command holds up `apply`.
pub const PRUNED_ENTRIES_PER_OPERATION: usize = 1_000;

/// Last segments of the SPIFFE ID that every node matches as a parent: `spiffe://<trust domain>/spire/nodes` (design
/// section 5). It is virtual: never listed, impossible as an entry's own ID.
pub const NODES_PARENT_PATH: &str = "/spire/nodes";

/// Path of the parent that marks an entry as a node alias (spire-api.md section 4).
pub const ALIAS_PARENT_PATH: &str = "/spire/server";

/// A registration entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its ID, chosen by the caller or by the node that took the call.
    pub id: EntryId,
    /// The identity that it gives.
    pub spiffe_id: SpiffeId,
    /// Whose workloads it is about: a node, an alias, or another workload.
    pub parent_id: SpiffeId,
    /// What a workload must have, all of it.
    pub selectors: SelectorSet,
    /// Lifetime of X509-SVIDs in seconds; 0 means the policy's.
    pub x509_svid_ttl: u32,
    /// Lifetime of JWT-SVIDs in seconds; 0 means the policy's.
    pub jwt_svid_ttl: u32,
    /// Foreign trust domains whose bundles the workload gets.
    pub federates_with: BTreeSet<TrustDomain>,
    /// Whether the workload may call the registration API over TCP.
    pub admin: bool,
    /// Whether the workload may have a signing authority of its own.
    pub downstream: bool,
    /// When it ends, if ever.
    pub expires_at: Option<UnixSeconds>,
    /// DNS names in X509-SVIDs, in the given order.
    pub dns_names: Vec<String>,
    /// How often it was updated.
    pub revision_number: u64,
    /// Whether its SVIDs are to be put into a secret store.
    pub store_svid: bool,
    /// What tells the workload which of its SVIDs this is.
    pub hint: String,
    /// When it was created, in whole seconds of the log's time.
    pub created_at: UnixSeconds,
    /// Attributes that came later to the API.
    pub additional_attributes: Option<AdditionalAttributes>,
    /// Its place in listings: given in `apply`, never given again.
    pub creation_number: u64,
    /// Whether the workload keeps a store of trusted authorities and CRLs for each trust domain, so that it can be given
    /// our CRLs beside foreign bundles (CRL-10). An attribute of ours, which SPIRE's API does not have.
    pub crl_per_domain: bool,
}

impl Entry {
    /// Bytes of all its texts together.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let selectors = self.selectors.iter().map(|selector| selector.as_str().len());
        let domains = self.federates_with.iter().map(|domain| domain.as_str().len());
        let names = self.dns_names.iter().map(String::len);
        let single = [self.id.as_str(), self.spiffe_id.as_str(), self.parent_id.as_str(), &self.hint];
        selectors.chain(domains).chain(names).chain(single.map(str::len)).fold(0, usize::saturating_add)
    }
}

/// Attributes that came later to the registration API (`Entry.AdditionalAttributes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdditionalAttributes {
    /// SVIDs are made only when asked for.
    pub disable_x509_svid_prefetch: bool,
    /// Tokens carry a `jti`.
    pub jwt_svid_include_jti: bool,
}

/// An entry as a caller wants it; the rest is given in `apply`. Fields as in [`Entry`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryDraft {
    /// Its ID.
    pub id: EntryId,
    /// The identity that it gives.
    pub spiffe_id: SpiffeId,
    /// Whose workloads it is about.
    pub parent_id: SpiffeId,
    /// What a workload must have.
    pub selectors: SelectorSet,
    /// Lifetime of X509-SVIDs in seconds; 0 means the policy's.
    pub x509_svid_ttl: u32,
    /// Lifetime of JWT-SVIDs in seconds; 0 means the policy's.
    pub jwt_svid_ttl: u32,
    /// Foreign trust domains whose bundles the workload gets.
    pub federates_with: BTreeSet<TrustDomain>,
    /// Whether the workload may call the registration API.
    pub admin: bool,
    /// Whether the workload may have a signing authority of its own.
    pub downstream: bool,
    /// When it ends, if ever.
    pub expires_at: Option<UnixSeconds>,
    /// DNS names in X509-SVIDs.
    pub dns_names: Vec<String>,
    /// Whether its SVIDs are to be put into a secret store.
    pub store_svid: bool,
    /// What tells the workload which of its SVIDs this is.
    pub hint: String,
    /// Attributes that came later to the API.
    pub additional_attributes: Option<AdditionalAttributes>,
    /// Whether the workload keeps a store for each trust domain (CRL-10).
    pub crl_per_domain: bool,
}

impl EntryDraft {
    /// A draft with everything optional left out.
    #[must_use]
    pub fn new(id: EntryId, spiffe_id: SpiffeId, parent_id: SpiffeId, selectors: SelectorSet) -> Self {
        Self {
            id,
            spiffe_id,
            parent_id,
            selectors,
            x509_svid_ttl: 0,
            jwt_svid_ttl: 0,
            federates_with: BTreeSet::new(),
            admin: false,
            downstream: false,
            expires_at: None,
            dns_names: Vec::new(),
            store_svid: false,
            hint: String::new(),
            additional_attributes: None,
            crl_per_domain: false,
        }
    }

    /// The entry that this draft becomes.
    #[must_use]
    pub fn into_entry(self, created_at: UnixSeconds, creation_number: u64) -> Entry {
        Entry {
            id: self.id,
            spiffe_id: self.spiffe_id,
            parent_id: self.parent_id,
            selectors: self.selectors,
            x509_svid_ttl: self.x509_svid_ttl,
            jwt_svid_ttl: self.jwt_svid_ttl,
            federates_with: self.federates_with,
            admin: self.admin,
            downstream: self.downstream,
            expires_at: self.expires_at,
            dns_names: self.dns_names,
            revision_number: 0,
            store_svid: self.store_svid,
            hint: self.hint,
            created_at,
            additional_attributes: self.additional_attributes,
            creation_number,
            crl_per_domain: self.crl_per_domain,
        }
    }
}

/// Which fields of an entry to change, and to what: the input mask of the registration API and the values in one. A
/// field that is `None` stays as it is, and is not looked at (spire-api.md section 4, input masks).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EntryChange {
    /// The identity that it gives.
    pub spiffe_id: Option<SpiffeId>,
    /// Whose workloads it is about.
    pub parent_id: Option<SpiffeId>,
    /// What a workload must have.
    pub selectors: Option<SelectorSet>,
    /// Lifetime of X509-SVIDs in seconds; 0 means the policy's.
    pub x509_svid_ttl: Option<u32>,
    /// Lifetime of JWT-SVIDs in seconds; 0 means the policy's.
    pub jwt_svid_ttl: Option<u32>,
    /// Foreign trust domains whose bundles the workload gets.
    pub federates_with: Option<BTreeSet<TrustDomain>>,
    /// Whether the workload may call the registration API.
    pub admin: Option<bool>,
    /// Whether the workload may have a signing authority of its own.
    pub downstream: Option<bool>,
    /// When it ends; the inner `None` is never.
    pub expires_at: Option<Option<UnixSeconds>>,
    /// DNS names in X509-SVIDs.
    pub dns_names: Option<Vec<String>>,
    /// Whether its SVIDs are to be put into a secret store.
    pub store_svid: Option<bool>,
    /// What tells the workload which of its SVIDs this is.
    pub hint: Option<String>,
    /// Attributes that came later to the API; the inner `None` takes them away.
    pub additional_attributes: Option<Option<AdditionalAttributes>>,
    /// Whether the workload keeps a store for each trust domain (CRL-10).
    pub crl_per_domain: Option<bool>,
}

impl EntryChange {
    /// Replaces every field of SPIRE's API that a draft has, but for the ID.
    #[must_use]
    pub fn everything(draft: EntryDraft) -> Self {
        let EntryDraft {
            id: _,
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
            store_svid,
            hint,
            additional_attributes,
            crl_per_domain: _,
        } = draft;
        Self {
            spiffe_id: Some(spiffe_id),
            parent_id: Some(parent_id),
            selectors: Some(selectors),
            x509_svid_ttl: Some(x509_svid_ttl),
            jwt_svid_ttl: Some(jwt_svid_ttl),
            federates_with: Some(federates_with),
            admin: Some(admin),
            downstream: Some(downstream),
            expires_at: Some(expires_at),
            dns_names: Some(dns_names),
            store_svid: Some(store_svid),
            hint: Some(hint),
            additional_attributes: Some(additional_attributes),
            // SPIRE's API does not know it, so what replaces all that this API says leaves it alone.
            crl_per_domain: None,
        }
    }

    /// Writes the given fields into an entry; its revision number is not touched.
    pub(crate) fn write_to(&self, entry: &mut Entry) {
        fn set<T: Clone>(field: &mut T, value: Option<&T>) {
            if let Some(value) = value {
                field.clone_from(value);
            }
        }
        let Self {
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
            store_svid,
            hint,
            additional_attributes,
            crl_per_domain,
        } = self;
        set(&mut entry.spiffe_id, spiffe_id.as_ref());
        set(&mut entry.parent_id, parent_id.as_ref());
        set(&mut entry.selectors, selectors.as_ref());
        set(&mut entry.x509_svid_ttl, x509_svid_ttl.as_ref());
        set(&mut entry.jwt_svid_ttl, jwt_svid_ttl.as_ref());
        set(&mut entry.federates_with, federates_with.as_ref());
        set(&mut entry.admin, admin.as_ref());
        set(&mut entry.downstream, downstream.as_ref());
        set(&mut entry.expires_at, expires_at.as_ref());
        set(&mut entry.dns_names, dns_names.as_ref());
        set(&mut entry.store_svid, store_svid.as_ref());
        set(&mut entry.hint, hint.as_ref());
        set(&mut entry.additional_attributes, additional_attributes.as_ref());
        set(&mut entry.crl_per_domain, crl_per_domain.as_ref());
    }
}
