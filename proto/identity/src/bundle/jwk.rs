//! Public keys as JSON Web Keys (RFC 7517, RFC 7518; Ed25519 by RFC 8037) and back.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::key::{KeyError, PublicKey, PublicKeyKind};

/// Members that only private and symmetric keys have (RFC 7518 sections 6.2.2, 6.3.2 and 6.4).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Why a JWK is no public key of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JwkFault {
    /// `kty` or `crv` is missing or unknown here.
    UnknownType,
    /// A member of a private or symmetric key is there.
    Private,
    /// The key's own members are missing or malformed.
    Malformed,
}

impl From<KeyError> for JwkFault {
    fn from(_: KeyError) -> Self {
        Self::Malformed
    }
}

/// The public key of a JWK; members that do not belong to the key are not looked at.
pub(super) fn from_jwk(jwk: &Map<String, Value>) -> Result<PublicKey, JwkFault> {
    let kind = jwk.get("kty").and_then(Value::as_str);
    let curve = jwk.get("crv").and_then(Value::as_str);
    if kind == Some("oct") || PRIVATE_MEMBERS.iter().any(|member| jwk.contains_key(*member)) {
        return Err(JwkFault::Private);
    }
    match (kind, curve) {
        (Some("EC"), Some("P-256")) => ec(jwk, PublicKeyKind::EcP256, 32),
        (Some("EC"), Some("P-384")) => ec(jwk, PublicKeyKind::EcP384, 48),
        (Some("EC"), Some("P-521")) => ec(jwk, PublicKeyKind::EcP521, 66),
        (Some("RSA"), _) => Ok(PublicKey::from_rsa_parts(&member(jwk, "n")?, &member(jwk, "e")?)?),
        (Some("OKP"), Some("Ed25519")) => Ok(PublicKey::from_ed25519_bytes(&member(jwk, "x")?)?),
        _ => Err(JwkFault::UnknownType),
    }
}

/// The members of a JWK that make up this key: `kty` and what its type has.
pub(super) fn to_jwk(key: &PublicKey) -> Map<String, Value> {
    let mut jwk = Map::new();
    let mut set = |name: &str, value: String| jwk.insert(name.to_owned(), Value::String(value));
    let curve = match key.kind() {
        PublicKeyKind::EcP256 => "P-256",
        PublicKeyKind::EcP384 => "P-384",
        PublicKeyKind::EcP521 => "P-521",
        PublicKeyKind::Ed25519 => {
            set("kty", "OKP".to_owned());
            set("crv", "Ed25519".to_owned());
            set("x", URL_SAFE_NO_PAD.encode(key.key_bits()));
            return jwk;
        }
        PublicKeyKind::Rsa { .. } => {
            let (modulus, exponent) = key.rsa_parts().unwrap_or_default();
            set("kty", "RSA".to_owned());
            set("n", URL_SAFE_NO_PAD.encode(modulus));
            set("e", URL_SAFE_NO_PAD.encode(exponent));
            return jwk;
        }
    };
    // An uncompressed point: one octet 04, then both coordinates at the width of the curve.
    let point = key.key_bits().get(1..).unwrap_or_default();
    let (x, y) = point.split_at(point.len() / 2);
    set("kty", "EC".to_owned());
    set("crv", curve.to_owned());
    set("x", URL_SAFE_NO_PAD.encode(x));
    set("y", URL_SAFE_NO_PAD.encode(y));
    jwk
}

fn ec(jwk: &Map<String, Value>, kind: PublicKeyKind, width: usize) -> Result<PublicKey, JwkFault> {
    let (x, y) = (member(jwk, "x")?, member(jwk, "y")?);
    if x.len() != width || y.len() != width {
        return Err(JwkFault::Malformed);
    }
    Ok(PublicKey::from_ec_point(kind, &[&[0x04], x.as_slice(), &y].concat())?)
}

fn member(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, JwkFault> {
    let text = jwk.get(name).and_then(Value::as_str).ok_or(JwkFault::Malformed)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JwkFault::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyType, PrivateKey};

    #[test]
    fn every_key_reads_back_from_its_jwk() {
        for key_type in KeyType::ALL {
            let key = PrivateKey::generate(key_type).unwrap();
            let jwk = to_jwk(key.public_key());
            assert_eq!(&from_jwk(&jwk).unwrap(), key.public_key());
        }
    }

    #[test]
    fn coordinates_have_the_width_of_the_curve() {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let mut jwk = to_jwk(key.public_key());
        jwk.insert("x".to_owned(), Value::String(URL_SAFE_NO_PAD.encode([1; 31])));
        assert_eq!(from_jwk(&jwk), Err(JwkFault::Malformed));
    }
}
