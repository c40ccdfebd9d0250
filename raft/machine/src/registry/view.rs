//! The entries as they were at an instant.

use std::sync::Arc;

use quorate_proto_identity::TrustDomain;

use super::chunk::Chunk;
use super::packed::{Texts, unpack};
use crate::entry::Entry;

/// Pointers to chunks of records and texts. Whoever writes afterwards copies what it changes, so this stays what it is.
#[derive(Debug, Clone)]
pub(crate) struct RegistryView {
    trust_domain: Option<TrustDomain>,
    records: Vec<Arc<Chunk>>,
    paths: Vec<Arc<Chunk>>,
    selectors: Vec<Arc<Chunk>>,
    count: usize,
}

impl RegistryView {
    pub(super) const fn new(
        trust_domain: Option<TrustDomain>,
        records: Vec<Arc<Chunk>>,
        paths: Vec<Arc<Chunk>>,
        selectors: Vec<Arc<Chunk>>,
        count: usize,
    ) -> Self {
        Self { trust_domain, records, paths, selectors, count }
    }

    /// How many entries there are.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Every entry, in the order of creation.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> {
        let texts = self.trust_domain.as_ref().map(|trust_domain| Texts {
            trust_domain,
            paths: &self.paths,
            selectors: &self.selectors,
        });
        self.records.iter().flat_map(|chunk| chunk.iter()).filter_map(move |(_, record)| unpack(record, texts?))
    }
}
