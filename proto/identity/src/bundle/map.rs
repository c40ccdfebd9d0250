//! The SPIFFE bundle map (F4): the bundles of several trust domains in one document.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::parse::from_object;
use super::{Bundle, BundleError, BundleSource, ParsedBundle};
use crate::json;
use crate::trust_domain::{TrustDomain, TrustDomainError};

/// Longest bundle map that is read, in bytes: eight of the longest bundles, or thousands of usual ones (a few KiB
/// each).
pub const BUNDLE_MAP_LIMIT: usize = 8 * super::BUNDLE_LIMIT;

/// Bundles by trust domain: the complete state of the world (BND-34).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BundleMap {
    bundles: BTreeMap<TrustDomain, Bundle>,
}

impl BundleMap {
    /// A map without any bundle.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a bundle map.
    ///
    /// It replaces the one held before as a whole: a trust domain that is no longer in it is no longer trusted (XB-36).
    /// Hints inside never say how often to fetch the map (BND-32).
    ///
    /// # Errors
    /// When it is too long, not JSON, holds a name twice (BND-30) or a key that is not a trust domain name (BND-28), or
    /// when a document in it is refused.
    pub fn parse(text: &[u8]) -> Result<Self, BundleMapError> {
        if text.len() > BUNDLE_MAP_LIMIT {
            return Err(BundleMapError::TooLong { length: text.len() });
        }
        let document = json::parse_object(text)?;
        let members = document.get("trust_domains").and_then(Value::as_object).ok_or(BundleMapError::TrustDomains)?;
        let mut map = Self::new();
        for (name, bundle) in members {
            let trust_domain = TrustDomain::new(name)
                .map_err(|source| BundleMapError::Name { name: name.chars().take(80).collect(), source })?;
            let fault = |source| BundleMapError::Bundle { trust_domain: trust_domain.clone(), source };
            let object = bundle.as_object().ok_or_else(|| fault(BundleError::Keys))?;
            let ParsedBundle { bundle, skipped: _ } = from_object(&trust_domain, object).map_err(fault)?;
            map.insert(bundle);
        }
        Ok(map)
    }

    /// The document, with sequences and without hints (BND-27, BND-31).
    #[must_use]
    pub fn to_json(&self) -> String {
        let members: Map<String, Value> = self
            .bundles
            .iter()
            .map(|(name, bundle)| (name.to_string(), Value::Object(bundle.to_object(false))))
            .collect();
        json!({ "trust_domains": members }).to_string()
    }

    /// Puts a bundle in the place of the one of the same trust domain, which is returned.
    pub fn insert(&mut self, bundle: Bundle) -> Option<Bundle> {
        self.bundles.insert(bundle.trust_domain().clone(), bundle)
    }

    /// Takes a trust domain out: its SVIDs verify no longer (FED-48).
    pub fn remove(&mut self, trust_domain: &TrustDomain) -> Option<Bundle> {
        self.bundles.remove(trust_domain)
    }

    /// The bundles in order of their trust domains' names.
    pub fn iter(&self) -> impl Iterator<Item = &Bundle> {
        self.bundles.values()
    }

    /// How many bundles there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bundles.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bundles.is_empty()
    }
}

impl BundleSource for BundleMap {
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<&Bundle> {
        self.bundles.get(trust_domain)
    }
}

impl FromIterator<Bundle> for BundleMap {
    fn from_iter<T: IntoIterator<Item = Bundle>>(bundles: T) -> Self {
        let mut map = Self::new();
        for bundle in bundles {
            map.insert(bundle);
        }
        map
    }
}

/// Why a bundle map is refused; the one held before stays.
#[derive(Debug, thiserror::Error)]
pub enum BundleMapError {
    /// Longer than [`BUNDLE_MAP_LIMIT`].
    #[error("the bundle map has {length} bytes, the most is {BUNDLE_MAP_LIMIT}")]
    TooLong {
        /// How many bytes there are.
        length: usize,
    },
    /// Not one JSON object, or an object in it has a member twice (BND-30).
    #[error("the bundle map is not a JSON object")]
    Json(#[from] serde_json::Error),
    /// `trust_domains` is missing or not an object (BND-27).
    #[error("the bundle map has no object of trust domains")]
    TrustDomains,
    /// A key is not a trust domain name (BND-28).
    #[error("{name:?} is not a trust domain name")]
    Name {
        /// The key, cut after 80 characters.
        name: String,
        /// The rule that it breaks.
        source: TrustDomainError,
    },
    /// The document of this trust domain is refused.
    #[error("the bundle of {trust_domain} is refused")]
    Bundle {
        /// Whose document it is.
        trust_domain: TrustDomain,
        /// Why.
        source: BundleError,
    },
}
