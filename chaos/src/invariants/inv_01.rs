//! INV-01: no acknowledged write is lost (design, property 1).
//!
//! Every member's entries are held against what was acknowledged, path by path; and against each other's, since a write
//! without an answer may be there or not, but it may not be there on one member and missing on another.

use super::Name;
use crate::oracle::{Oracle, Value};
use std::collections::BTreeMap;

/// Its name.
pub(crate) const NAME: Name = Name(1);

/// What one member lists, by path.
pub(crate) type Listing = BTreeMap<String, Value>;

/// Holds the listings of all members against the oracle and each other; every violation in words.
pub(crate) fn check(oracle: &mut Oracle, listings: &[(String, Listing)]) -> Vec<String> {
    let mut broken = Vec::new();
    let Some(((first_name, first), others)) = listings.split_first() else { return broken };
    broken.extend(oracle.compare(first.clone()).into_iter().map(|what| format!("on {first_name}: {what}")));
    for (name, listing) in others {
        for path in first.keys().chain(listing.keys()) {
            let (here, there) = (first.get(path), listing.get(path));
            if here != there {
                broken.push(format!("{path} is {here:?} on {first_name} and {there:?} on {name}"));
            }
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(path: &str, mark: i32) -> Listing {
        BTreeMap::from([(path.to_owned(), Value { id: "1".to_owned(), mark })])
    }

    #[test]
    fn inv_01_an_acknowledged_write_that_one_member_lacks_is_a_violation() {
        let mut oracle = Oracle::default();
        oracle.acknowledged("/a", Some(Value { id: "1".to_owned(), mark: 7 }));
        let all = [("node-1".to_owned(), listing("/a", 7)), ("node-2".to_owned(), listing("/a", 7))];
        assert!(check(&mut oracle, &all).is_empty());
        let lost = [("node-1".to_owned(), listing("/a", 7)), ("node-2".to_owned(), Listing::new())];
        assert_eq!(check(&mut oracle, &lost).len(), 1);
        assert!(!check(&mut oracle, &[("node-1".to_owned(), Listing::new())]).is_empty());
    }
}
