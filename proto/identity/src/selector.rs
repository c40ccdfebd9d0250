//! Selector and selector set; the subset rule of attestation.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest selector type, in bytes. Types are names of attestors (`unix`, `k8s`); 255 is what the reference's stores
/// hold for one, and far above any in use.
pub const SELECTOR_TYPE_LIMIT: usize = 255;

/// Longest selector value, in bytes: four times the longest path that Linux hands out (`PATH_MAX`, 4096), the longest
/// value that an attestor of ours makes. An entry with several of them still fits a batch of commands (256 KiB).
pub const SELECTOR_VALUE_LIMIT: usize = 16 * 1024;

/// One fact about a workload or a node, as `type:value`: `unix:uid:1000` has type `unix` and value `uid:1000`.
///
/// The type holds no `:`, so the text splits in one way only, and two selectors are equal when their texts are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    text: Arc<str>,
    kind_length: u8,
}

impl Selector {
    /// Joins a type and a value.
    ///
    /// # Errors
    /// When the type is empty, holds `:` or is longer than [`SELECTOR_TYPE_LIMIT`]; when the value is empty or longer
    /// than [`SELECTOR_VALUE_LIMIT`].
    pub fn new(kind: &str, value: &str) -> Result<Self, SelectorError> {
        let kind_length = check(kind, value)?;
        Ok(Self { text: format!("{kind}:{value}").into(), kind_length })
    }

    /// Takes `type:value`, split at the first `:`.
    ///
    /// # Errors
    /// When there is no `:`, and as [`Selector::new`].
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let (kind, value) = text.split_once(':').ok_or(SelectorError::NoSeparator)?;
        let kind_length = check(kind, value)?;
        Ok(Self { text: text.into(), kind_length })
    }

    /// The type: which attestor says it.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text.get(..usize::from(self.kind_length)).unwrap_or_default()
    }

    /// The value: what that attestor says. It may hold `:`.
    #[must_use]
    pub fn value(&self) -> &str {
        self.text.get(usize::from(self.kind_length).saturating_add(1)..).unwrap_or_default()
    }

    /// The whole text, `type:value`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Selector({:?})", &*self.text)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Why a text is not a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// No `:` between type and value.
    #[error("the selector has no ':' between type and value")]
    NoSeparator,
    /// Nothing before the first `:`.
    #[error("the selector type is empty")]
    EmptyType,
    /// A type handed in by itself holds `:`, so that it would read back as another.
    #[error("the selector type holds ':'")]
    TypeSeparator,
    /// The type is longer than [`SELECTOR_TYPE_LIMIT`].
    #[error("the selector type has {length} bytes, the most is {SELECTOR_TYPE_LIMIT}")]
    TypeTooLong {
        /// How many bytes the type has.
        length: usize,
    },
    /// Nothing after the first `:`.
    #[error("the selector value is empty")]
    EmptyValue,
    /// The value is longer than [`SELECTOR_VALUE_LIMIT`].
    #[error("the selector value has {length} bytes, the most is {SELECTOR_VALUE_LIMIT}")]
    ValueTooLong {
        /// How many bytes the value has.
        length: usize,
    },
}

fn check(kind: &str, value: &str) -> Result<u8, SelectorError> {
    if kind.is_empty() {
        return Err(SelectorError::EmptyType);
    }
    if kind.contains(':') {
        return Err(SelectorError::TypeSeparator);
    }
    // SELECTOR_TYPE_LIMIT is the largest u8.
    let kind_length = u8::try_from(kind.len()).map_err(|_| SelectorError::TypeTooLong { length: kind.len() })?;
    if value.is_empty() {
        return Err(SelectorError::EmptyValue);
    }
    if value.len() > SELECTOR_VALUE_LIMIT {
        return Err(SelectorError::ValueTooLong { length: value.len() });
    }
    Ok(kind_length)
}

/// A set of selectors: sorted, each one once. Cloning costs a reference count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SelectorSet {
    selectors: Arc<[Selector]>,
}

impl SelectorSet {
    /// Collects selectors in any order; repeats count once.
    pub fn new(selectors: impl IntoIterator<Item = Selector>) -> Self {
        let mut selectors: Vec<Selector> = selectors.into_iter().collect();
        selectors.sort_unstable();
        selectors.dedup();
        Self { selectors: selectors.into() }
    }

    /// Whether every selector of this set is in `other`: the rule by which an entry entitles a workload.
    ///
    /// Both are sorted, so one walk over the longer one decides.
    #[must_use]
    pub fn is_subset_of(&self, other: &Self) -> bool {
        if self.len() > other.len() {
            return false;
        }
        let mut others = other.selectors.iter();
        self.selectors.iter().all(|wanted| {
            for found in others.by_ref() {
                match found.cmp(wanted) {
                    Ordering::Less => {}
                    Ordering::Equal => return true,
                    Ordering::Greater => return false,
                }
            }
            false
        })
    }

    /// Whether this selector is in the set.
    #[must_use]
    pub fn contains(&self, selector: &Selector) -> bool {
        self.selectors.binary_search(selector).is_ok()
    }

    /// The selectors in ascending order of their texts.
    pub fn iter(&self) -> std::slice::Iter<'_, Selector> {
        self.selectors.iter()
    }

    /// How many selectors there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.selectors.len()
    }

    /// Whether there are none. The empty set is a subset of every set, so an entry must never have it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.selectors.is_empty()
    }

    /// The selectors as a slice, in ascending order.
    #[must_use]
    pub fn as_slice(&self) -> &[Selector] {
        &self.selectors
    }
}

impl fmt::Debug for SelectorSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.selectors.iter().map(Selector::as_str)).finish()
    }
}

impl FromIterator<Selector> for SelectorSet {
    fn from_iter<T: IntoIterator<Item = Selector>>(selectors: T) -> Self {
        Self::new(selectors)
    }
}

impl<'a> IntoIterator for &'a SelectorSet {
    type Item = &'a Selector;
    type IntoIter = std::slice::Iter<'a, Selector>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> SelectorSet {
        texts.iter().map(|text| Selector::parse(text).unwrap()).collect()
    }

    #[test]
    fn splits_at_the_first_colon_only() {
        let selector = Selector::parse("unix:path:/usr/bin/a:b").unwrap();
        assert_eq!(selector.kind(), "unix");
        assert_eq!(selector.value(), "path:/usr/bin/a:b");
        assert_eq!(selector, Selector::new("unix", "path:/usr/bin/a:b").unwrap());
        assert_eq!(selector.to_string(), "unix:path:/usr/bin/a:b");
    }

    #[test]
    fn refuses_what_would_read_back_differently() {
        assert_eq!(Selector::parse("unix"), Err(SelectorError::NoSeparator));
        assert_eq!(Selector::parse(":x"), Err(SelectorError::EmptyType));
        assert_eq!(Selector::parse("unix:"), Err(SelectorError::EmptyValue));
        assert_eq!(Selector::new("", "x"), Err(SelectorError::EmptyType));
        assert_eq!(Selector::new("a:b", "x"), Err(SelectorError::TypeSeparator));
        assert_eq!(Selector::new("a", ""), Err(SelectorError::EmptyValue));
    }

    #[test]
    fn takes_lengths_up_to_the_limits_and_not_beyond() {
        let kind = "k".repeat(SELECTOR_TYPE_LIMIT);
        let value = "v".repeat(SELECTOR_VALUE_LIMIT);
        let selector = Selector::new(&kind, &value).unwrap();
        assert_eq!((selector.kind(), selector.value()), (kind.as_str(), value.as_str()));
        assert!(matches!(Selector::new(&format!("{kind}k"), "v"), Err(SelectorError::TypeTooLong { length: 256 })));
        assert!(matches!(
            Selector::new("k", &format!("{value}v")),
            Err(SelectorError::ValueTooLong { length: 16_385 })
        ));
    }

    #[test]
    fn a_set_is_sorted_and_holds_each_selector_once() {
        let selectors = set(&["unix:uid:2", "a-b:1", "a:1", "unix:uid:2"]);
        let texts: Vec<_> = selectors.iter().map(Selector::as_str).collect();
        assert_eq!(texts, ["a-b:1", "a:1", "unix:uid:2"]);
        assert_eq!(selectors, set(&["a:1", "unix:uid:2", "a-b:1"]));
    }

    #[test]
    fn subset_means_every_selector_is_in_the_other() {
        let workload = set(&["unix:gid:5", "unix:uid:1", "unix:user:a"]);
        assert!(set(&["unix:uid:1"]).is_subset_of(&workload));
        assert!(set(&["unix:gid:5", "unix:user:a"]).is_subset_of(&workload));
        assert!(workload.is_subset_of(&workload));
        assert!(set(&[]).is_subset_of(&workload));
        assert!(!set(&["unix:uid:2"]).is_subset_of(&workload));
        assert!(!set(&["unix:uid:1", "zz:1"]).is_subset_of(&workload));
        assert!(!set(&["aa:1", "unix:uid:1"]).is_subset_of(&workload));
        assert!(!workload.is_subset_of(&set(&["unix:uid:1"])));
    }
}
