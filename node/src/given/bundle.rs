//! A foreign bundle: the SPIFFE bundle document, or X.509 authorities as PEM (FED-34).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate_proto_identity::bundle::{BUNDLE_LIMIT, SkippedKey};
use quorate_proto_identity::x509::Certificate;
use quorate_proto_identity::{Bundle, TrustDomain};

use super::{GivenError, STANDARD_INPUT};

const BEGIN: &str = "-----BEGIN ";
const BEGIN_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const END_CERTIFICATE: &str = "-----END CERTIFICATE-----";

/// A bundle that was given.
#[derive(Debug)]
pub(crate) struct GivenBundle {
    /// The bundle.
    pub(crate) bundle: Bundle,
    /// What whoever gave it should know: keys that are left out; a sentence each.
    pub(crate) notes: Vec<String>,
}

/// Reads the bundle of this trust domain from a file, or from standard input when the path is `-`. A document does not say
/// whose it is (BND-04): whoever gives it says so.
///
/// # Errors
///
/// When it cannot be read, is in neither form, or nothing in it can be used.
pub(crate) fn read(path: &Path, trust_domain: &TrustDomain) -> Result<GivenBundle, GivenError> {
    let failed = GivenError::unreadable(path);
    let mut bytes = Vec::new();
    // PEM has a third more bytes than what it holds.
    let limit = 2 * BUNDLE_LIMIT as u64 + 1;
    if path == Path::new(STANDARD_INPUT) {
        io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(&failed)?;
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(&failed)?;
    }
    parse(&bytes, trust_domain).map_err(|what| GivenError::wrong(path, what))
}

fn parse(bytes: &[u8], trust_domain: &TrustDomain) -> Result<GivenBundle, String> {
    let given = match std::str::from_utf8(bytes) {
        Ok(text) if text.contains(BEGIN) => GivenBundle { bundle: from_pem(trust_domain, text)?, notes: Vec::new() },
        Ok(_) | Err(_) => {
            let parsed = Bundle::parse(trust_domain, bytes)
                .map_err(|error| format!("{error}: a SPIFFE bundle document is wanted, or X.509 authorities as PEM"))?;
            let note = |key: &SkippedKey| format!("Key {} of the bundle is left out: {}.", key.index, key.reason);
            GivenBundle { notes: parsed.skipped.iter().map(note).collect(), bundle: parsed.bundle }
        }
    };
    if given.bundle.x509_authorities().is_empty() && given.bundle.jwt_authorities().is_empty() {
        return Err("there is no authority in it that can be used".to_owned());
    }
    Ok(given)
}

fn from_pem(trust_domain: &TrustDomain, text: &str) -> Result<Bundle, String> {
    let mut bundle = Bundle::new(trust_domain.clone());
    for (position, block) in text.split(BEGIN_CERTIFICATE).skip(1).enumerate() {
        let wrong = |what: &str| format!("certificate {position}: {what}");
        let (body, _) = block.split_once(END_CERTIFICATE).ok_or_else(|| wrong("it does not end"))?;
        let joined: String = body.split_whitespace().collect();
        let der = STANDARD.decode(joined).map_err(|_| wrong("this is not base64"))?;
        let certificate = Certificate::parse(&der).map_err(|error| wrong(&error.to_string()))?;
        if !certificate.is_signing_certificate() {
            return Err(wrong("this is no certificate of an authority"));
        }
        bundle.add_x509_authority(certificate);
    }
    Ok(bundle)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use quorate_proto_identity::{JwtAuthority, KeyType, PrivateKey};

    use super::*;

    fn two() -> TrustDomain {
        TrustDomain::new("two.example").unwrap()
    }

    fn document() -> String {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let mut bundle = Bundle::new(two());
        bundle.add_jwt_authority(JwtAuthority { key_id: "k1".into(), public_key: key.public_key().clone() });
        bundle.to_json()
    }

    /// Accepts: FED-34, BND-04, BND-18, BND-26. Refuses: FED-34, BND-08, BND-17.
    #[test]
    fn a_bundle_is_taken_as_the_standards_document_and_what_is_none_is_told_by_its_file() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("two.json");
        fs::write(&path, document()).unwrap();
        let given = read(&path, &two()).unwrap();
        assert_eq!((given.bundle.trust_domain(), given.bundle.jwt_authorities().len()), (&two(), 1));
        assert!(given.notes.is_empty());
        let strange = document().replace("\"keys\":[", "\"keys\":[{\"use\":\"sig\"},");
        let given = parse(strange.as_bytes(), &two()).unwrap();
        assert_eq!((given.bundle.jwt_authorities().len(), given.notes.len()), (1, 1), "{:?}", given.notes);
        for text in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[]}", "-----BEGIN CERTIFICATE-----\nAA", "text"] {
            fs::write(&path, text).unwrap();
            let error = read(&path, &two()).unwrap_err().to_string();
            assert!(error.contains("two.json: "), "{text}: {error}");
        }
    }
}
