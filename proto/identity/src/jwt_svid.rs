//! JWT-SVIDs: signed, and verified (JWT-SVID standard; ).

mod algorithm;
mod sign;
pub(crate) mod verify;

pub use algorithm::JwsAlgorithm;
pub use sign::{JwtClaims, JwtSignError, JwtSigner};
pub use verify::{JwtError, LEEWAY_SECONDS, VerifiedJwtSvid, verify_jwt_svid};

/// Longest token that is signed or read, in bytes (ATK-31). Servers commonly refuse headers above 8 to 16 KiB, so a
/// longer one could not be used; an ID of 2048 bytes, audiences and an RSA-4096 signature stay far below.
pub const TOKEN_LIMIT: usize = 16 * 1024;
