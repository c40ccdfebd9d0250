//! INV-07: a request that began after a delete was acknowledged gets no SVID for the entry from a connected node
//! (design, properties 4 and 5).

use super::Name;
use std::time::Duration;

/// Its name.
pub(crate) const NAME: Name = Name(7);

/// How long a node must have been left alone to count as connected, whatever the machine does besides: `CONTACT_LIMIT`
/// (design, section 2), and time to be heard again after a pause.
pub(crate) const CONNECTED_AFTER: Duration = Duration::from_secs(3);

/// What a request that began after the acknowledgement was given.
pub(crate) fn check(member: &str, deleted: &str, given: &[String]) -> Result<(), String> {
    if given.iter().any(|spiffe_id| spiffe_id == deleted) {
        return Err(format!("{member} handed out an SVID for {deleted} to a request that began after its delete"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_07_an_svid_for_a_deleted_entry_is_a_violation_and_one_for_another_is_not() {
        let given = ["spiffe://a/x".to_owned(), "spiffe://a/y".to_owned()];
        check("node-1", "spiffe://a/z", &given).unwrap();
        assert!(check("node-1", "spiffe://a/y", &given).is_err());
    }
}
