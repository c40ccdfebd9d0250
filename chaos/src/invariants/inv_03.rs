//! INV-03: members at the same applied index have the same state hash (design, property 8).

use super::Name;
use std::collections::BTreeMap;

/// Its name.
pub(crate) const NAME: Name = Name(3);

/// Indexes that are kept in mind: a member that stood still says what it had applied then, and the others were there
/// thousands of writes ago.
const KEPT: usize = 100_000;

/// The hashes that members told.
#[derive(Debug, Default)]
pub(crate) struct Hashes {
    told: BTreeMap<u64, (String, String)>,
    compared: u64,
}

impl Hashes {
    /// A member said what its state hashes to at an index.
    pub(crate) fn saw(&mut self, member: &str, index: u64, hash: &str) -> Result<(), String> {
        if index == 0 || hash.is_empty() {
            return Ok(());
        }
        if let Some((by, earlier)) = self.told.get(&index) {
            if earlier != hash {
                return Err(format!("at index {index} {by} has state {earlier}, and {member} has {hash}"));
            }
            if by != member {
                self.compared += 1;
            }
            return Ok(());
        }
        self.told.insert(index, (member.to_owned(), hash.to_owned()));
        if self.told.len() > KEPT {
            self.told.pop_first();
        }
        Ok(())
    }

    /// What the state hashes to at an index, if a member told.
    pub(crate) fn at(&self, index: u64) -> Option<&str> {
        self.told.get(&index).map(|(_, hash)| hash.as_str())
    }

    /// How often two members were at the same index.
    pub(crate) fn compared(&self) -> u64 {
        self.compared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_03_two_hashes_at_one_index_are_a_violation_also_when_one_member_told_both() {
        let mut hashes = Hashes::default();
        hashes.saw("node-1", 5, "aa").unwrap();
        hashes.saw("node-2", 5, "aa").unwrap();
        hashes.saw("node-2", 6, "bb").unwrap();
        assert_eq!(hashes.compared(), 1);
        assert!(hashes.saw("node-3", 5, "ab").is_err());
        assert!(hashes.saw("node-2", 6, "bc").is_err());
    }
}
