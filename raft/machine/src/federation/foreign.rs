//! Foreign bundles: what SVIDs of other trust domains are verified with.

use std::sync::Arc;

use quorate_proto_identity::{Bundle, TrustDomain, UnixSeconds};

/// Most foreign bundles: one for each relationship, and as many again that operators keep by hand.
pub const FOREIGN_BUNDLES_LIMIT: usize = 2 * super::RELATIONSHIPS_LIMIT;

/// Most bytes of one foreign bundle in its stored form, which is shorter than the document that it came in: 1 MiB
/// (ATK-36), some thousand roots.
pub const FOREIGN_BUNDLE_BYTES_LIMIT: usize = 1024 * 1024;

/// Most bytes of all foreign bundles together: 64 KiB for each relationship there may be. A usual bundle has 2 to 4 KiB.
pub const FOREIGN_BUNDLES_BYTES_LIMIT: usize = 64 * 1024 * super::RELATIONSHIPS_LIMIT;

/// Most entries that one deletion of a bundle removes or unlinks, so that no command holds up `apply`; the bundle goes
/// with the last of them.
pub const ENTRIES_PER_BUNDLE_DELETION: usize = crate::entry::PRUNED_ENTRIES_PER_OPERATION;

/// The bundle of a foreign trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignBundle {
    /// Whose it is (BND-04).
    pub trust_domain: TrustDomain,
    /// Its authorities. Shared, because every answer to every workload that federates with it is made from it.
    pub bundle: Arc<Bundle>,
    /// How it came here.
    pub origin: ForeignOrigin,
    /// `spiffe_sequence` of the last one that was fetched: one that is fetched and older is not taken (ATK-39). An
    /// operator's override does not set it, and one that is fetched without a sequence leaves it.
    pub fetched_sequence: Option<u64>,
    /// When its content was last changed, in the log's time.
    pub changed_at: UnixSeconds,
    /// Given by a counter of the whole state, one higher at each change of any foreign bundle, its removal included: what
    /// was rendered from one version is good for as long as the number stays.
    pub version: u64,
}

/// How a foreign bundle came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum ForeignOrigin {
    /// From the endpoint of its relationship.
    Fetched = 1,
    /// From an operator; it stands until the next one that is fetched (FED-10).
    Operator = 2,
}

impl ForeignOrigin {
    /// The origin that a stored number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Fetched, Self::Operator].into_iter().find(|origin| *origin as u32 == number)
    }

    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Operator => "operator",
        }
    }
}

/// A foreign bundle to be put in place. It says itself whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewForeignBundle {
    /// The bundle, whole: it replaces what is there, and is never merged with it (BND-06). For [`SetHow::Update`] alone it
    /// needs no more than the fields that are named there.
    pub bundle: Bundle,
    /// On what condition.
    pub how: SetHow,
}

/// On what condition a foreign bundle is put in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetHow {
    /// It was fetched: taken if it is no older than the last that was fetched.
    Fetched {
        /// The revision of the relationship that it was fetched by: another one, or none, and it is refused.
        relationship_revision: u64,
        /// Whether it is taken even if it is older: an operator asked for that, because the peer was rebuilt.
        accept_older: bool,
    },
    /// By an operator, if there is none yet.
    Create,
    /// By an operator, if there is one: these fields are taken, and of the others stays what is held by then.
    Update(BundleFields),
    /// By an operator, either way.
    Set,
}

/// Which fields of a foreign bundle an operator changes. What is left is looked up when the change is applied: whoever changes
/// another field at the same time undoes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleFields {
    /// The roots, all of them.
    pub x509_authorities: bool,
    /// The token keys, all of them.
    pub jwt_authorities: bool,
    /// `spiffe_refresh_hint`.
    pub refresh_hint: bool,
    /// `spiffe_sequence`.
    pub sequence: bool,
}

impl BundleFields {
    /// Every field: the bundle is replaced.
    pub const ALL: Self = Self { x509_authorities: true, jwt_authorities: true, refresh_hint: true, sequence: true };

    /// A bundle with these fields of `given`, and the others of `held`.
    pub(crate) fn taken_over(self, given: &Bundle, held: &Bundle) -> Bundle {
        let from = |is_given| if is_given { given } else { held };
        let mut bundle = Bundle::new(held.trust_domain().clone());
        for certificate in from(self.x509_authorities).x509_authorities() {
            bundle.add_x509_authority(certificate.clone());
        }
        for authority in from(self.jwt_authorities).jwt_authorities() {
            bundle.add_jwt_authority(authority.clone());
        }
        bundle.set_refresh_hint(from(self.refresh_hint).refresh_hint());
        bundle.set_sequence(from(self.sequence).sequence());
        bundle
    }

    /// The names of these fields, for the audit trail.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let Self { x509_authorities, jwt_authorities, refresh_hint, sequence } = self;
        [
            (x509_authorities, "x509_authorities"),
            (jwt_authorities, "jwt_authorities"),
            (refresh_hint, "refresh_hint"),
            (sequence, "sequence"),
        ]
        .into_iter()
        .filter_map(|(is_given, name)| is_given.then_some(name))
    }
}

/// What becomes of entries that federate with a bundle that is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum ForeignDeletion {
    /// If there are any, the bundle stays, and the deletion is refused.
    Restrict = 1,
    /// They are deleted too.
    Delete = 2,
    /// They are unlinked from it.
    Dissociate = 3,
}

impl ForeignDeletion {
    /// The mode that a stored number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Restrict, Self::Delete, Self::Dissociate].into_iter().find(|mode| *mode as u32 == number)
    }

    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restrict => "restrict",
            Self::Delete => "delete",
            Self::Dissociate => "dissociate",
        }
    }
}

/// Most bytes that the content of a bundle takes: certificates, keys and their IDs.
pub(crate) fn bundle_bytes(bundle: &Bundle) -> usize {
    let certificates = bundle.x509_authorities().iter().map(|certificate| certificate.der().len());
    let keys = bundle.jwt_authorities().iter();
    let keys = keys.map(|key| key.key_id.len().saturating_add(key.public_key.spki_der().len()));
    certificates.chain(keys).fold(0, usize::saturating_add)
}
