//! An invitation into a cluster: one string that a newcomer is given, and everything it needs to get in.
//!
//! ```text
//!   quorate1.<base64url, no padding>
//!             |
//!             body ‖ first 8 bytes of SHA-256("quorate invitation 1" ‖ body)
//!
//!   body  = part(trust domain) part(node name) secret[32]
//!           count[1], 1 to 7 times:  part(identity key of a member)
//!                                    count[1], 1 to 16 times: part(address)
//!   part  = length[2, big endian] bytes
//! ```
//!
//! The checksum finds what was cut off or mistyped on the way; it is no protection. What protects is that the secret
//! has 256 bits, works once, for one name and for a short time (ATK-07, ATK-46), and that the newcomer speaks to nobody
//! but the owner of one of the keys. The string itself is a secret until it was used: it is wiped when dropped and has
//! no `Debug`.

mod file;

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use quorate_proto_identity::key::PublicKey;
use quorate_proto_identity::{NodeName, TrustDomain};
use quorate_raft_machine::members::{ADDRESSES_PER_MEMBER, MEMBER_KEY_LIMIT};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::peer::address::{AddressError, PeerAddress};

pub use file::{InvitationFile, InvitationFileError};

/// What every invitation that this version can read begins with.
const PREFIX: &str = "quorate1.";

/// What invitations of all versions begin with.
const ANY_PREFIX: &str = "quorate";

/// Bytes of the secret: 256 bits cannot be guessed (ATK-07).
pub const SECRET_BYTES: usize = 32;

/// Bytes of the checksum.
const CHECKSUM_BYTES: usize = 8;

/// What the checksum is of, beside the body, so that it is no checksum of anything else.
const CHECKSUM_DOMAIN: &[u8] = b"quorate invitation 1";

/// Most members that an invitation names. One that answers is enough; seven are the most voters there can be.
pub const MOST_PEERS: usize = 7;

/// Longest invitation that is read, in bytes of text. With every name at its longest one has 72 KiB; usual ones have
/// half a KiB.
pub const LONGEST_TEXT: usize = 96 * 1024;

/// The secret of an invitation. Wiped when dropped; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct InvitationSecret([u8; SECRET_BYTES]);

impl InvitationSecret {
    /// Takes random bytes.
    #[must_use]
    pub fn from_random(random: [u8; SECRET_BYTES]) -> Self {
        Self(random)
    }

    /// The secret itself, for the newcomer's one call.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// Its SHA-256, which is all that the cluster keeps (ATK-07).
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        sha256(&[&self.0])
    }
}

impl fmt::Debug for InvitationSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvitationSecret(..)")
    }
}

/// A member that a newcomer can turn to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvitingPeer {
    /// Its identity key: subjectPublicKeyInfo, DER. Whoever answers has to prove it.
    pub key: Bytes,
    /// Where it is reached, in order of preference.
    pub addresses: Vec<PeerAddress>,
}

/// An invitation, checked.
#[derive(Clone, Debug)]
pub struct Invitation {
    trust_domain: TrustDomain,
    name: NodeName,
    secret: InvitationSecret,
    peers: Vec<InvitingPeer>,
}

/// Why a text is no invitation, or why none can be made. Never carries a part of the text, which may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// It does not begin like one.
    #[error("this is no invitation: one begins with {PREFIX:?}; give the line that `quorate cluster invite` printed")]
    NotOne,
    /// It was made by a later version of the program.
    #[error("the invitation is of a later form than this program ({}) knows: run the version that the cluster runs", env!("CARGO_PKG_VERSION"))]
    Newer,
    /// It is far longer than any invitation.
    #[error("this is no invitation: it is longer than {LONGEST_TEXT} bytes")]
    TooLong,
    /// A part of it was lost or changed on the way.
    #[error("the invitation is damaged: a part of it was lost or changed on the way; copy it whole, on one line")]
    Damaged,
    /// It is whole, and what it says cannot be.
    #[error("the invitation holds a {what} that cannot be used")]
    Invalid {
        /// Which part.
        what: &'static str,
    },
    /// It names nobody, or too many.
    #[error("an invitation names 1 to {MOST_PEERS} members with 1 to {ADDRESSES_PER_MEMBER} addresses each")]
    Peers,
    /// A member has an address that nobody can dial.
    #[error("the address of a member cannot be dialled")]
    Address(#[from] AddressError),
}

impl Invitation {
    /// Puts an invitation together.
    ///
    /// # Errors
    /// When `peers` are none or too many, or one of them has no usable key or no address.
    pub fn new(
        trust_domain: TrustDomain,
        name: NodeName,
        secret: InvitationSecret,
        peers: Vec<InvitingPeer>,
    ) -> Result<Self, InvitationError> {
        if peers.is_empty() || peers.len() > MOST_PEERS {
            return Err(InvitationError::Peers);
        }
        for peer in &peers {
            if peer.addresses.is_empty() || peer.addresses.len() > ADDRESSES_PER_MEMBER {
                return Err(InvitationError::Peers);
            }
            if peer.key.len() > MEMBER_KEY_LIMIT || PublicKey::from_spki_der(&peer.key).is_err() {
                return Err(InvitationError::Invalid { what: "member's key" });
            }
        }
        Ok(Self { trust_domain, name, secret, peers })
    }

    /// The trust domain of the cluster.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The name that the newcomer is to have.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// The secret that admits, once.
    #[must_use]
    pub fn secret(&self) -> &InvitationSecret {
        &self.secret
    }

    /// The members that the newcomer can turn to.
    #[must_use]
    pub fn peers(&self) -> &[InvitingPeer] {
        &self.peers
    }

    /// The text that is handed to the newcomer: one line, without its end.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut body = Zeroizing::new(Vec::with_capacity(1024));
        put_part(&mut body, self.trust_domain.as_str().as_bytes());
        put_part(&mut body, self.name.as_str().as_bytes());
        body.extend_from_slice(self.secret.as_bytes());
        put_count(&mut body, self.peers.len());
        for peer in &self.peers {
            put_part(&mut body, &peer.key);
            put_count(&mut body, peer.addresses.len());
            for address in &peer.addresses {
                put_part(&mut body, address.as_str().as_bytes());
            }
        }
        let checksum = checksum(&body);
        body.extend_from_slice(&checksum);
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + body.len() * 2));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(body.as_slice(), &mut text);
        text
    }

    /// Reads what [`Invitation::to_text`] wrote. White space around it is passed over, nothing else is.
    ///
    /// # Errors
    /// When it is none, or not whole.
    pub fn parse(text: &str) -> Result<Self, InvitationError> {
        if text.len() > LONGEST_TEXT {
            return Err(InvitationError::TooLong);
        }
        let text = text.trim_ascii();
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            return Err(if is_later_form(text) { InvitationError::Newer } else { InvitationError::NotOne });
        };
        // The engine refuses padding, foreign letters and bits that stand for nothing: one text for one invitation.
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map(Zeroizing::new).map_err(|_any| InvitationError::Damaged)?;
        let at = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(InvitationError::Damaged)?;
        let (body, sum) = bytes.split_at_checked(at).ok_or(InvitationError::Damaged)?;
        if sum != checksum(body) {
            return Err(InvitationError::Damaged);
        }
        Self::read(Reader(body))
    }

    fn read(mut body: Reader<'_>) -> Result<Self, InvitationError> {
        let invalid = |what| InvitationError::Invalid { what };
        let trust_domain = TrustDomain::new(body.text()?).map_err(|_any| invalid("trust domain"))?;
        let name = NodeName::new(body.text()?).map_err(|_any| invalid("node name"))?;
        let secret = body.take(SECRET_BYTES)?.try_into().map_err(|_any| InvitationError::Damaged)?;
        let secret = InvitationSecret::from_random(secret);
        let mut peers = Vec::new();
        for _ in 0..body.count(MOST_PEERS)? {
            let key = Bytes::copy_from_slice(body.part()?);
            let mut addresses = Vec::new();
            for _ in 0..body.count(ADDRESSES_PER_MEMBER)? {
                addresses.push(PeerAddress::new(body.text()?)?);
            }
            peers.push(InvitingPeer { key, addresses });
        }
        if !body.0.is_empty() {
            return Err(invalid("end"));
        }
        Self::new(trust_domain, name, secret, peers)
    }
}

/// Whether a text begins as a later form would: `quorate`, another number, a dot.
fn is_later_form(text: &str) -> bool {
    let number = text.strip_prefix(ANY_PREFIX).and_then(|rest| rest.split_once('.'));
    number.is_some_and(|(number, _)| {
        !number.is_empty() && number.len() < 4 && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// What is left to read.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], InvitationError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(InvitationError::Invalid { what: "length" })?;
        self.0 = rest;
        Ok(taken)
    }

    fn part(&mut self) -> Result<&'b [u8], InvitationError> {
        let length = self.take(2)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        self.take(length)
    }

    fn text(&mut self) -> Result<&'b str, InvitationError> {
        std::str::from_utf8(self.part()?).map_err(|_any| InvitationError::Invalid { what: "text" })
    }

    fn count(&mut self, most: usize) -> Result<usize, InvitationError> {
        let count = self.take(1)?.first().copied().map_or(0, usize::from);
        if (1..=most).contains(&count) { Ok(count) } else { Err(InvitationError::Peers) }
    }
}

/// Lengths and counts were checked when the invitation was put together: each fits its field.
fn put_part(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    body.extend_from_slice(bytes);
}

fn put_count(body: &mut Vec<u8>, count: usize) {
    body.push(u8::try_from(count).unwrap_or(u8::MAX));
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = sha256(&[CHECKSUM_DOMAIN, body]);
    digest.first_chunk().copied().unwrap_or_default()
}

/// SHA-256 of all the parts, one after the other.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    // The digest has as many bytes: SHA-256.
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests;
