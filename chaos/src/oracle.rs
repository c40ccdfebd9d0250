//! What may be there after a crash: for every entry the states that are allowed, from what was asked and answered.

use std::collections::BTreeMap;

/// An entry as far as the oracle looks: its ID, and the one field that updates change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    /// The entry's ID, which the node gave.
    pub(crate) id: String,
    /// Lifetime of its JWT-SVIDs in seconds; every update sets another.
    pub(crate) mark: i32,
}

/// What is known of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// Acknowledged: this, or no such entry.
    Certain(Option<Value>),
    /// A create was sent and not answered: no entry, or one of this mark under an ID that nobody was told.
    Creating(i32),
    /// An update was sent and not answered: the old mark or the new one.
    Updating(Value, i32),
    /// A delete was sent and not answered: still there, or gone.
    Deleting(Value),
}

/// The model of one node's entries, by path.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    entries: BTreeMap<String, Known>,
    acknowledged: u64,
    kept: u64,
    lost: u64,
}

impl Oracle {
    /// A create goes out.
    pub(crate) fn creating(&mut self, path: &str, mark: i32) {
        self.entries.insert(path.to_owned(), Known::Creating(mark));
    }

    /// An update goes out.
    pub(crate) fn updating(&mut self, path: &str, before: Value, mark: i32) {
        self.entries.insert(path.to_owned(), Known::Updating(before, mark));
    }

    /// A delete goes out.
    pub(crate) fn deleting(&mut self, path: &str, before: Value) {
        self.entries.insert(path.to_owned(), Known::Deleting(before));
    }

    /// A write was answered: this is what there is from now on.
    pub(crate) fn acknowledged(&mut self, path: &str, value: Option<Value>) {
        self.acknowledged += 1;
        self.entries.insert(path.to_owned(), Known::Certain(value));
    }

    /// Writes that were answered, over all rounds.
    pub(crate) fn acknowledged_so_far(&self) -> u64 {
        self.acknowledged
    }

    /// Writes without an answer that turned out to be there, and not to be there.
    pub(crate) fn unanswered(&self) -> (u64, u64) {
        (self.kept, self.lost)
    }

    /// The entries of a writer that are certain to be there.
    pub(crate) fn certain(&self, prefix: &str) -> Vec<(String, Value)> {
        let from_prefix = self.entries.range(prefix.to_owned()..);
        from_prefix
            .take_while(|(path, _)| path.starts_with(prefix))
            .filter_map(|(path, known)| match known {
                Known::Certain(Some(value)) => Some((path.clone(), value.clone())),
                Known::Certain(None) | Known::Creating(_) | Known::Updating(..) | Known::Deleting(_) => None,
            })
            .collect()
    }

    /// Holds what is there against what may be there, and takes it as certain from now on. Returns every promise that
    /// was broken, in words.
    pub(crate) fn compare(&mut self, mut found: BTreeMap<String, Value>) -> Vec<String> {
        let mut broken = Vec::new();
        let (mut kept, mut lost) = (0, 0);
        for (path, known) in &mut self.entries {
            let found = found.remove(path);
            match (&*known, &found) {
                (Known::Certain(wanted), _) if *wanted == found => {}
                (Known::Certain(wanted), _) => {
                    broken.push(format!("{path}: acknowledged {wanted:?}, found {found:?}"));
                }
                (Known::Creating(_), None) => lost += 1,
                (Known::Creating(mark), Some(value)) if value.mark == *mark => kept += 1,
                (Known::Updating(before, _), Some(value)) if value == before => lost += 1,
                (Known::Updating(before, mark), Some(value)) if value.id == before.id && value.mark == *mark => {
                    kept += 1;
                }
                (Known::Deleting(_), None) => kept += 1,
                (Known::Deleting(before), Some(value)) if value == before => lost += 1,
                (Known::Creating(_) | Known::Updating(..) | Known::Deleting(_), _) => {
                    broken.push(format!("{path}: in flight as {known:?}, found {found:?}"));
                }
            }
            *known = Known::Certain(found);
        }
        self.kept += kept;
        self.lost += lost;
        // What is gone for good need not be remembered: no path is used twice, and what comes back is not asked for.
        self.entries.retain(|_, known| *known != Known::Certain(None));
        broken.extend(found.into_iter().map(|(path, value)| format!("{path}: nobody asked for it, found {value:?}")));
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(id: &str, mark: i32) -> Value {
        Value { id: id.to_owned(), mark }
    }

    fn found(entries: &[(&str, Value)]) -> BTreeMap<String, Value> {
        entries.iter().map(|(path, value)| ((*path).to_owned(), value.clone())).collect()
    }

    #[test]
    fn an_acknowledged_write_that_is_gone_is_a_broken_promise() {
        let mut oracle = Oracle::default();
        oracle.creating("/a", 1);
        oracle.acknowledged("/a", Some(value("1", 1)));
        assert_eq!(oracle.compare(found(&[])).len(), 1);
    }

    #[test]
    fn an_acknowledged_write_with_another_value_is_a_broken_promise() {
        let mut oracle = Oracle::default();
        oracle.acknowledged("/a", Some(value("1", 2)));
        assert_eq!(oracle.compare(found(&[("/a", value("1", 1))])).len(), 1);
    }

    #[test]
    fn a_deleted_entry_that_comes_back_is_a_broken_promise_also_rounds_later() {
        let mut oracle = Oracle::default();
        oracle.acknowledged("/a", None);
        assert!(oracle.compare(found(&[])).is_empty());
        assert_eq!(oracle.compare(found(&[("/a", value("1", 1))])).len(), 1);
    }

    #[test]
    fn a_write_without_an_answer_may_be_there_or_not_but_only_whole() {
        for (there, broken) in [(vec![], 0), (vec![("/a", value("1", 7))], 0), (vec![("/a", value("1", 8))], 1)] {
            let mut oracle = Oracle::default();
            oracle.creating("/a", 7);
            assert_eq!(oracle.compare(found(&there)).len(), broken, "{there:?}");
        }
        for (mark, broken) in [(1, 0), (2, 0), (3, 1)] {
            let mut oracle = Oracle::default();
            oracle.updating("/a", value("1", 1), 2);
            assert_eq!(oracle.compare(found(&[("/a", value("1", mark))])).len(), broken, "{mark}");
        }
    }

    #[test]
    fn what_was_found_is_certain_from_then_on() {
        let mut oracle = Oracle::default();
        oracle.creating("/a", 7);
        assert!(oracle.compare(found(&[("/a", value("1", 7))])).is_empty());
        assert_eq!(oracle.unanswered(), (1, 0));
        assert_eq!(oracle.compare(found(&[])).len(), 1);
    }

    #[test]
    fn an_entry_that_nobody_asked_for_is_a_broken_promise() {
        assert_eq!(Oracle::default().compare(found(&[("/x", value("1", 1))])).len(), 1);
    }
}
