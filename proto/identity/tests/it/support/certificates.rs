//! A writer of certificates that checks nothing, so that it can write what no library would.

use quorate_proto_identity::{PrivateKey, PublicKey, UnixSeconds};

use super::now;

/// One DER element.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=0x7f => out.push(length as u8),
        length @ 0x80..=0xff => out.extend([0x81, length as u8]),
        length => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend(content);
    out
}

/// An object identifier from its numbers, each under 2^21.
pub(crate) fn oid(numbers: &[u32]) -> Vec<u8> {
    let mut content = vec![(numbers[0] * 40 + numbers[1]) as u8];
    for number in &numbers[2..] {
        if *number >= 1 << 14 {
            content.push(0x80 | (number >> 14) as u8);
        }
        if *number >= 1 << 7 {
            content.push(0x80 | (number >> 7 & 0x7f) as u8);
        }
        content.push((number & 0x7f) as u8);
    }
    tlv(6, &content)
}

/// A name with a common name, or without anything.
pub(crate) fn name(common_name: &str) -> Vec<u8> {
    if common_name.is_empty() {
        return tlv(0x30, &[]);
    }
    let attribute = [oid(&[2, 5, 4, 3]), tlv(0x0c, common_name.as_bytes())].concat();
    tlv(0x30, &tlv(0x31, &tlv(0x30, &attribute)))
}

/// One extension: OID, critical, value.
#[derive(Clone, PartialEq)]
pub(crate) struct Extension {
    pub(crate) oid: Vec<u8>,
    pub(crate) critical: bool,
    pub(crate) value: Vec<u8>,
}

impl Extension {
    pub(crate) fn new(numbers: &[u32], critical: bool, value: Vec<u8>) -> Self {
        Self { oid: oid(numbers), critical, value }
    }

    /// Subject alternative name of pre-tagged names.
    pub(crate) fn san(names: &[Vec<u8>]) -> Self {
        Self::new(&[2, 5, 29, 17], false, tlv(0x30, &names.concat()))
    }

    pub(crate) fn uri_san(uris: &[&str]) -> Self {
        Self::san(&uris.iter().map(|uri| tlv(0x86, uri.as_bytes())).collect::<Vec<_>>())
    }

    /// Key usage, as the one or two octets of its BIT STRING with the number of unused bits in front.
    pub(crate) fn key_usage(bits: &[u8]) -> Self {
        Self::new(&[2, 5, 29, 15], true, tlv(3, bits))
    }

    /// Extended key usage by the last number of id-kp.
    pub(crate) fn extended_key_usage(purposes: &[u32]) -> Self {
        let list: Vec<u8> = purposes.iter().flat_map(|purpose| oid(&[1, 3, 6, 1, 5, 5, 7, 3, *purpose])).collect();
        Self::new(&[2, 5, 29, 37], false, tlv(0x30, &list))
    }

    pub(crate) fn not_a_ca() -> Self {
        Self::new(&[2, 5, 29, 19], true, tlv(0x30, &[]))
    }

    pub(crate) fn ca(path_length: Option<u8>) -> Self {
        let mut content = vec![1, 1, 0xff];
        if let Some(length) = path_length {
            content.extend([2, 1, length]);
        }
        Self::new(&[2, 5, 29, 19], true, tlv(0x30, &content))
    }

    fn der(&self) -> Vec<u8> {
        let critical: &[u8] = if self.critical { &[1, 1, 0xff] } else { &[] };
        tlv(0x30, &[&self.oid, critical, &tlv(4, &self.value)].concat())
    }
}

/// Everything that goes into a certificate.
#[derive(Clone)]
pub(crate) struct CertificateSpec {
    pub(crate) version_3: bool,
    pub(crate) issuer: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) not_before: UnixSeconds,
    pub(crate) not_after: UnixSeconds,
    pub(crate) public_key: PublicKey,
    pub(crate) extensions: Vec<Extension>,
    /// AlgorithmIdentifier, where it is not the signer's own.
    pub(crate) algorithm: Option<Vec<u8>>,
}

impl CertificateSpec {
    /// A signing certificate as section 15.4 describes R and I.
    pub(crate) fn authority(common_name: &str, uris: &[&str], key: &PrivateKey) -> Self {
        let mut extensions = vec![Extension::ca(None), Extension::key_usage(&[1, 0x06])];
        if !uris.is_empty() {
            extensions.push(Extension::uri_san(uris));
        }
        Self {
            version_3: true,
            issuer: name(common_name),
            subject: name(common_name),
            not_before: now().minus(3600),
            not_after: now().plus(24 * 3600),
            public_key: key.public_key().clone(),
            extensions,
            algorithm: None,
        }
    }

    /// A leaf as section 15.4 describes L.
    pub(crate) fn leaf(issuer: &str, id: &str, key: &PrivateKey) -> Self {
        Self {
            version_3: true,
            issuer: name(issuer),
            subject: name("workload"),
            not_before: now().minus(30),
            not_after: now().plus(3600),
            public_key: key.public_key().clone(),
            extensions: vec![
                Extension::uri_san(&[id]),
                Extension::not_a_ca(),
                Extension::key_usage(&[7, 0x80]),
                Extension::extended_key_usage(&[1, 2]),
            ],
            algorithm: None,
        }
    }

    /// Puts this extension in the place of the one with the same OID, or at the end.
    pub(crate) fn set(&mut self, extension: Extension) {
        match self.extensions.iter_mut().find(|earlier| earlier.oid == extension.oid) {
            Some(earlier) => *earlier = extension,
            None => self.extensions.push(extension),
        }
    }

    /// Takes the extension with this OID out.
    pub(crate) fn unset(&mut self, numbers: &[u32]) {
        let wanted = oid(numbers);
        self.extensions.retain(|extension| extension.oid != wanted);
    }

    pub(crate) fn sign(&self, key: &PrivateKey) -> Vec<u8> {
        use rcgen::PublicKeyData as _;
        let algorithm = self.algorithm.clone().unwrap_or_else(|| {
            if key.algorithm() == &rcgen::PKCS_RSA_SHA256 {
                tlv(0x30, &[oid(&[1, 2, 840, 113_549, 1, 1, 11]), vec![5, 0]].concat())
            } else {
                tlv(0x30, &oid(&[1, 2, 840, 10045, 4, 3, 2]))
            }
        });
        let version: &[u8] = if self.version_3 { &[0xa0, 3, 2, 1, 2] } else { &[] };
        let validity = [time(self.not_before), time(self.not_after)].concat();
        let mut body = [
            version,
            &[2, 2, 0x12, 0x34],
            &algorithm,
            &self.issuer,
            &tlv(0x30, &validity),
            &self.subject,
            self.public_key.spki_der(),
        ]
        .concat();
        if self.version_3 {
            let list: Vec<u8> = self.extensions.iter().flat_map(Extension::der).collect();
            body.extend(tlv(0xa3, &tlv(0x30, &list)));
        }
        let body = tlv(0x30, &body);
        let signature = key.sign(&body).unwrap();
        tlv(0x30, &[body, algorithm, tlv(3, &[&[0], signature.as_slice()].concat())].concat())
    }
}

/// A UTCTime.
fn time(instant: UnixSeconds) -> Vec<u8> {
    let text = instant.to_string();
    let digits: String = text[2..].chars().filter(char::is_ascii_digit).collect();
    tlv(0x17, format!("{digits}Z").as_bytes())
}
