//! Custody of private keys: who holds them, how they are sealed to others, and where a node keeps its own.
//!
//! ```text
//!   root and JWT keys   sealed (HPKE) to each member that may open them ── in the log and in snapshots, never plain
//!   identity, sealing   a node's own: `data_dir` (mode 0600), systemd credentials, later a token or a key service
//!   issuing key         in the memory of one process, see `issuer`
//!   secrets             sealed as JWT keys are: credentials for other trust domains, keys of web certificates
//!   recovery key        its private half offline; its public half a further recipient of all that is sealed, and of backups
//! ```
//!
//! The decision, with what was refused, is `docs/decisions/0004-custody-of-authority-keys.md`.

mod context;
mod custody;
mod file;
mod hpke;
mod recovery;

pub use context::{SealContext, SealedItem};
pub use custody::{CustodyError, CustodyFuture, KeyCustody, SealedPart, open_key, open_secret, seal_key, seal_secret};
pub use file::{FileCustody, FileCustodyError, IDENTITY_KEY_FILE, SEALING_KEY_FILE, WhenMissing};
pub use hpke::SUITE_X25519_SHA256_AES256;
pub(crate) use recovery::seal_to_recovery_key;
pub use recovery::{RecoveryPrivateKey, new_recovery_key};
