//! INV-06: a node signs only with what is active in the state that it has applied, and never under a tainted root.
//!
//! Seen from outside: what a node hands out verifies with the bundle that it hands out beside it, so the root is one of
//! the state's; and its issuing key belongs to this node and to this life of it, since that key is never written and no
//! other process made it (design, property 4). Which of the roots is active, the simulation looks up in the state.

use super::Name;
use super::inv_05::{HandedOut, verify};
use quorate_proto_identity::{Certificate, UnixSeconds};
use std::collections::{BTreeMap, BTreeSet};

/// Its name.
pub(crate) const NAME: Name = Name(6);

/// A life of a node: its name, and how often it was started.
pub(crate) type Life = (String, u64);

/// How far in the past a leaf begins when it is signed, in seconds (design, section 3).
const BACKDATE: i64 = 30;

/// Which life has which issuing key, and under which roots they sign.
#[derive(Debug, Default)]
pub(crate) struct Signers {
    keys: BTreeMap<Vec<u8>, Life>,
    roots: BTreeSet<String>,
    /// Roots whose taint was acknowledged, with the second in which it was.
    tainted: BTreeMap<String, UnixSeconds>,
}

/// The root that an issuing certificate is under, by its ID: the key that it names as its issuer's.
pub(crate) fn root_of(issuing: &Certificate) -> String {
    let key_id = issuing.extensions().authority_key_id.as_deref().unwrap_or_default();
    key_id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The second in which the leaf of a chain was signed; none when it cannot be read.
pub(crate) fn signed_in(chain: &[u8]) -> Option<UnixSeconds> {
    Certificate::parse_concatenated(chain).ok()?.first().map(signed_at)
}

/// The second in which a leaf was signed.
pub(crate) fn signed_at(leaf: &Certificate) -> UnixSeconds {
    leaf.validity().not_before().plus(BACKDATE)
}

impl Signers {
    /// A node handed out an X509-SVID, and this bundle beside it, between these two instants: what it verifies at either
    /// has not been proven bad. An SVID near its end may have ended by the time that this program reads it.
    pub(crate) fn saw(
        &mut self,
        life: &Life,
        chain: &[u8],
        bundle: &[u8],
        (earliest, read): (UnixSeconds, UnixSeconds),
    ) -> Result<(), String> {
        let (name, number) = life;
        let svid = HandedOut::X509(chain.to_vec());
        verify(&svid, bundle, read)
            .or_else(|why| verify(&svid, bundle, earliest).map_err(|_| why))
            .map_err(|why| format!("what {name} handed out does not verify with the bundle beside it: {why}"))?;
        let certificates = Certificate::parse_concatenated(chain).map_err(|error| format!("{name}: {error}"))?;
        let Some(issuing) = certificates.get(1) else {
            return Err(format!("{name} handed out a leaf without an issuing certificate"));
        };
        let root = root_of(issuing);
        if let (Some(leaf), Some(tainted)) = (certificates.first(), self.tainted.get(&root)) {
            let signed = signed_at(leaf);
            if signed > *tainted {
                return Err(format!("{name} signed under {root} at {signed}, which was tainted by {tainted}"));
            }
        }
        self.roots.insert(root);
        let first = self.keys.entry(issuing.authority_id().as_str().into()).or_insert_with(|| life.clone());
        if first == life {
            return Ok(());
        }
        let (other, earlier) = first;
        Err(format!("{name} in its life {number} signs with the issuing key of {other} in its life {earlier}"))
    }

    /// The taint of a root was acknowledged at this instant; nobody signs under it later.
    pub(crate) fn tainted(&mut self, root: &str, at: UnixSeconds) {
        self.tainted.insert(root.to_owned(), at);
    }

    /// How many issuing keys were seen.
    pub(crate) fn count(&self) -> usize {
        self.keys.len()
    }

    /// How many roots signed them.
    pub(crate) fn roots(&self) -> usize {
        self.roots.len()
    }
}
