//! INV-02: the history of registration reads and writes that ask for it is linearizable (design, property 2).

use super::Name;
use crate::history::History;
use crate::linearizability::{self, Checked, NotLinearizable};

/// Its name.
pub(crate) const NAME: Name = Name(2);

/// Looks for an order of the operations, key by key.
pub(crate) fn check(history: &History) -> Result<Checked, NotLinearizable> {
    linearizability::check(history)
}
