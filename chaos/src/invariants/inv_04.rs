//! INV-04: at most one leader for each term.
//!
//! That a commit needs a majority cannot be seen from outside; the simulation looks at it, and here a commit without one
//! would be a lost write (INV-01) or another state (INV-03).

use super::Name;
use std::collections::BTreeMap;

/// Its name.
pub(crate) const NAME: Name = Name(4);

/// Who said that it leads.
#[derive(Debug, Default)]
pub(crate) struct Leaders(BTreeMap<u64, String>);

impl Leaders {
    /// A member said that it leads in a term.
    pub(crate) fn saw(&mut self, member: &str, term: u64) -> Result<(), String> {
        let first = self.0.entry(term).or_insert_with(|| member.to_owned());
        if first == member {
            return Ok(());
        }
        Err(format!("{first} and {member} both lead in term {term}"))
    }

    /// How many terms had a leader that was seen.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_04_two_leaders_in_one_term_are_a_violation_and_one_in_two_terms_is_not() {
        let mut leaders = Leaders::default();
        leaders.saw("node-1", 1).unwrap();
        leaders.saw("node-1", 1).unwrap();
        leaders.saw("node-1", 2).unwrap();
        assert!(leaders.saw("node-2", 2).is_err());
        assert_eq!(leaders.count(), 2);
    }
}
