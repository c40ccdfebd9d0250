//! A foreign bundle given to a command: the SPIFFE bundle document, or X.509 authorities as PEM (FED-34).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate_proto_identity::x509::Certificate;
use quorate_proto_identity::{Bundle, TrustDomain};

use super::failure::Failure;
use super::files::STANDARD_INPUT;
use super::output::complain;
use quorate_proto_identity::bundle::BUNDLE_LIMIT;

const BEGIN: &str = "-----BEGIN ";
const BEGIN_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const END_CERTIFICATE: &str = "-----END CERTIFICATE-----";

/// Reads the bundle of this trust domain from a file, or from standard input when the path is `-`. A document does not say
/// whose it is (BND-04): whoever gives it says so.
///
/// # Errors
///
/// When it cannot be read, is in neither form, or nothing in it can be used.
pub(super) fn read(path: &Path, trust_domain: &TrustDomain) -> Result<Bundle, Failure> {
    let failed = |cause| Failure::Given { path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    // PEM has a third more bytes than what it holds.
    let limit = 2 * BUNDLE_LIMIT as u64 + 1;
    if path == Path::new(STANDARD_INPUT) {
        io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(failed)?;
    }
    let wrong = |what: String| Failure::Usage(format!("{}: {what}", path.display()));
    let bundle = match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains(BEGIN) => from_pem(trust_domain, text).map_err(wrong)?,
        Ok(_) | Err(_) => {
            let parsed = Bundle::parse(trust_domain, &bytes).map_err(|error| {
                wrong(format!("{error}: a SPIFFE bundle document is wanted, or X.509 authorities as PEM"))
            })?;
            for skipped in &parsed.skipped {
                complain(&format!("Note: key {} of {} is left out: {}", skipped.index, path.display(), skipped.reason));
            }
            parsed.bundle
        }
    };
    if bundle.x509_authorities().is_empty() && bundle.jwt_authorities().is_empty() {
        return Err(wrong("there is no authority in it that can be used".to_owned()));
    }
    Ok(bundle)
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
