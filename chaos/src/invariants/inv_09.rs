//! INV-09: serial numbers and key IDs are unique in the trust domain; a bundle's sequence number only grows, on every node.
//!
//! Entry IDs are looked at by the oracle, which knows each that was given (INV-01). A sequence number is looked at where a
//! node is ready: before that it has not applied what it knew before it was started.

use super::Name;
use quorate_proto_identity::{Certificate, PublicKey};
use std::collections::BTreeMap;

/// Its name.
pub(crate) const NAME: Name = Name(9);

/// What was given a number or a name of its own.
#[derive(Debug, Default)]
pub(crate) struct Uniques {
    /// What was signed, by its serial number.
    serials: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The public key of each issuing certificate, by its key ID.
    keys: BTreeMap<String, PublicKey>,
    sequences: BTreeMap<String, u64>,
}

impl Uniques {
    /// A chain was handed out: leaf first, one DER behind the other.
    pub(crate) fn saw_chain(&mut self, chain: &[u8]) -> Result<(), String> {
        let certificates = Certificate::parse_concatenated(chain).map_err(|error| error.to_string())?;
        for certificate in &certificates {
            let serial = certificate.serial().to_vec();
            // Two of them signed the same hold the same; another one of the same number is the violation.
            let first = self.serials.entry(serial).or_insert_with(|| certificate.der().to_vec());
            if first != certificate.der() {
                let hex: String = certificate.serial().iter().map(|byte| format!("{byte:02x}")).collect();
                return Err(format!("two certificates have the serial number {hex}"));
            }
        }
        for issuing in certificates.iter().skip(1) {
            let id = issuing.authority_id().to_string();
            let first = self.keys.entry(id.clone()).or_insert_with(|| issuing.public_key().clone());
            if first != issuing.public_key() {
                return Err(format!("two keys have the ID {id}"));
            }
        }
        Ok(())
    }

    /// A node that is ready told its bundle's sequence number.
    pub(crate) fn saw_sequence(&mut self, member: &str, sequence: u64) -> Result<(), String> {
        let highest = self.sequences.entry(member.to_owned()).or_default();
        if sequence < *highest {
            return Err(format!("the sequence number of {member} fell from {highest} to {sequence}"));
        }
        *highest = sequence;
        Ok(())
    }

    /// How many certificates were told apart.
    pub(crate) fn certificates(&self) -> usize {
        self.serials.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_09_a_sequence_number_that_falls_on_a_node_is_a_violation_and_two_nodes_may_differ() {
        let mut uniques = Uniques::default();
        uniques.saw_sequence("node-1", 4).unwrap();
        uniques.saw_sequence("node-1", 4).unwrap();
        uniques.saw_sequence("node-2", 3).unwrap();
        assert!(uniques.saw_sequence("node-1", 3).is_err());
        assert_eq!(uniques.certificates(), 0);
    }
}
