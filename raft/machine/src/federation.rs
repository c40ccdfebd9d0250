//! Foreign trust domains: how their bundles are to be had, the bundles themselves, and the secrets that fetching them or
//! serving ours takes (design section 6; FED, BND).
//!
//! ```text
//!   operator, configuration, discovery          a peer's endpoint                        operator
//!              |                                       |  fetched by the leader             |
//!              v                                       v                                    v
//!      Relationship --- revision ---> Set: Fetched, not below the floor       Set: Create, Update, Set
//!              |                                       \                                   /
//!              | deleted: withdrawn together (FED-48)   +--> one ForeignBundle a domain <-+
//!              +-----------------------------------------------^      |
//!                                                                     v event: sessions of entries that federate
//! ```
//!
//! A foreign bundle lies under the name of its trust domain and is never merged with another (BND-04, FED-11, FED-51).
//! When it was last asked for, and with what success, is no part of the state: only changes are.

mod foreign;
mod relationship;
mod secret;

pub(crate) use foreign::bundle_bytes;
pub use foreign::{
    BundleFields, ENTRIES_PER_BUNDLE_DELETION, FOREIGN_BUNDLE_BYTES_LIMIT, FOREIGN_BUNDLES_BYTES_LIMIT,
    FOREIGN_BUNDLES_LIMIT, ForeignBundle, ForeignDeletion, ForeignOrigin, NewForeignBundle, SetHow,
};
pub use relationship::{
    ApiCredential, ApiServer, CREDENTIAL_TEXT_LIMIT, Endpoint, EndpointPins, NewRelationship, PINS_LIMIT,
    POLL_FLOOR_LIMIT, PollSettings, RELATIONSHIPS_LIMIT, Relationship, RelationshipChange, RelationshipOrigin,
};
pub use secret::{SECRET_NAME_LIMIT, SECRETS_LIMIT, Secret, SecretName, SecretNameError};
