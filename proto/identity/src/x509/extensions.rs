//! Extensions of certificates and requests (RFC 5280 section 4.2).

use crate::der::{self, Reader};
use crate::hex;

/// Content of OID 2.5.29.14.
pub(super) const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
/// Content of OID 2.5.29.15.
pub(super) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// Content of OID 2.5.29.17.
pub(super) const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// Content of OID 2.5.29.19.
pub(super) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// Content of OID 2.5.29.35.
pub(super) const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
/// Content of OID 2.5.29.37.
pub(super) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// GeneralName `[2]`, a DNS name.
pub(super) const DNS_NAME: u8 = 0x82;
/// GeneralName `[6]`, a URI.
pub(super) const URI_NAME: u8 = 0x86;

/// Most extensions that one document may carry. Certificates of any profile have under twenty; the check for repeats
/// compares each with each.
const EXTENSION_LIMIT: usize = 64;

/// The bits of a key usage extension (RFC 5280 section 4.2.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage {
    /// Bit 0 of the standard is the highest bit here.
    bits: u16,
    /// Whether the extension is critical (X509-19).
    pub critical: bool,
}

impl KeyUsage {
    /// Bit 0, digitalSignature.
    #[must_use]
    pub const fn digital_signature(self) -> bool {
        self.bits & 0x8000 != 0
    }

    /// Bit 2, keyEncipherment.
    #[must_use]
    pub const fn key_encipherment(self) -> bool {
        self.bits & 0x2000 != 0
    }

    /// Bit 5, keyCertSign.
    #[must_use]
    pub const fn key_cert_sign(self) -> bool {
        self.bits & 0x0400 != 0
    }

    /// Bit 6, cRLSign.
    #[must_use]
    pub const fn crl_sign(self) -> bool {
        self.bits & 0x0200 != 0
    }

    /// All bits, bit 0 of the standard the highest.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.bits
    }
}

/// The purposes of an extended key usage extension that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtendedKeyUsage {
    /// id-kp-serverAuth is listed.
    pub server_auth: bool,
    /// id-kp-clientAuth is listed.
    pub client_auth: bool,
    /// anyExtendedKeyUsage is listed.
    pub any: bool,
}

/// What the known extensions of a certificate or request say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions {
    /// URI names of the subject alternative name, in order.
    pub uri_names: Vec<String>,
    /// DNS names of the subject alternative name, in order.
    pub dns_names: Vec<String>,
    /// Whether the subject alternative name is critical; `None` if there is none.
    pub alternative_name_critical: Option<bool>,
    /// `cA` of the basic constraints; `None` if there are none.
    pub is_ca: Option<bool>,
    /// The path length of the basic constraints, if there is one.
    pub path_length: Option<u32>,
    /// The key usage, if there is one.
    pub key_usage: Option<KeyUsage>,
    /// The extended key usage, if there is one.
    pub extended_key_usage: Option<ExtendedKeyUsage>,
    /// The subject key identifier, if there is one.
    pub subject_key_id: Option<Vec<u8>>,
    /// The key identifier of the authority key identifier, if there is one.
    pub authority_key_id: Option<Vec<u8>>,
}

/// What is wrong with a list of extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExtensionFault {
    /// Not a list of extensions, or too many of them.
    Shape,
    /// The value of this one (OID content in hexadecimal) is malformed.
    Value(String),
    /// This one is there twice.
    Repeated(String),
}

impl Extensions {
    /// Reads the content of `SEQUENCE OF Extension`.
    pub(super) fn parse(list: Reader<'_>) -> Result<Self, ExtensionFault> {
        let mut extensions = Self::default();
        for Extension { oid, critical, value } in list_extensions(list)? {
            let mut reader = Reader::new(value);
            let read = match oid {
                SUBJECT_ALTERNATIVE_NAME => {
                    extensions.alternative_name_critical = Some(critical);
                    extensions.read_alternative_name(&mut reader)
                }
                BASIC_CONSTRAINTS => extensions.read_basic_constraints(&mut reader),
                KEY_USAGE => read_key_usage(&mut reader).map(|bits| {
                    extensions.key_usage = Some(KeyUsage { bits, critical });
                }),
                EXTENDED_KEY_USAGE => read_extended_key_usage(&mut reader).map(|usage| {
                    extensions.extended_key_usage = Some(usage);
                }),
                SUBJECT_KEY_IDENTIFIER => reader.read(der::OCTET_STRING).map(|id| {
                    extensions.subject_key_id = Some(id.to_vec());
                }),
                AUTHORITY_KEY_IDENTIFIER => read_authority_key_id(&mut reader).map(|id| {
                    extensions.authority_key_id = id.map(<[u8]>::to_vec);
                }),
                // What critical extensions mean that are unknown here is decided by the path builder, which refuses
                // those unknown to it (XC-28).
                _ => continue,
            };
            if read.is_none() || !reader.is_done() {
                return Err(ExtensionFault::Value(hex::encode(oid)));
            }
        }
        Ok(extensions)
    }

    fn read_alternative_name(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let mut names = reader.enter(der::SEQUENCE)?;
        while !names.is_done() {
            let (tag, content, _) = names.next_element()?;
            // IA5String: ASCII only. The other types of name are not ours to read (X509-04).
            match tag {
                URI_NAME => self.uri_names.push(ascii(content)?),
                DNS_NAME => self.dns_names.push(ascii(content)?),
                _ => {}
            }
        }
        Some(())
    }

    fn read_basic_constraints(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let mut fields = reader.enter(der::SEQUENCE)?;
        let is_ca = match fields.read_optional(der::BOOLEAN) {
            None | Some([0]) => false,
            Some([0xff]) => true,
            Some(_) => return None,
        };
        if !fields.is_done() {
            let digits = fields.read_unsigned()?;
            if digits.len() > 3 {
                return None;
            }
            let length = digits.iter().fold(0, |sum: u32, digit| (sum << 8) | u32::from(*digit));
            self.path_length = Some(length);
        }
        self.is_ca = Some(is_ca);
        fields.is_done().then_some(())
    }
}

/// One extension as it is written.
pub(super) struct Extension<'a> {
    /// The content of its OID.
    pub(super) oid: &'a [u8],
    pub(super) critical: bool,
    /// The content of its OCTET STRING.
    pub(super) value: &'a [u8],
}

/// Splits the content of `SEQUENCE OF Extension`; one that is there twice is refused (XC-30).
pub(super) fn list_extensions(mut list: Reader<'_>) -> Result<Vec<Extension<'_>>, ExtensionFault> {
    let mut extensions: Vec<Extension<'_>> = Vec::new();
    while !list.is_done() {
        let extension = read_extension(&mut list).ok_or(ExtensionFault::Shape)?;
        if extensions.len() >= EXTENSION_LIMIT {
            return Err(ExtensionFault::Shape);
        }
        if extensions.iter().any(|earlier| earlier.oid == extension.oid) {
            return Err(ExtensionFault::Repeated(hex::encode(extension.oid)));
        }
        extensions.push(extension);
    }
    Ok(extensions)
}

fn read_extension<'a>(list: &mut Reader<'a>) -> Option<Extension<'a>> {
    let mut fields = list.enter(der::SEQUENCE)?;
    let oid = fields.read(der::OBJECT_IDENTIFIER)?;
    let critical = match fields.read_optional(der::BOOLEAN) {
        None | Some([0]) => false,
        Some([0xff]) => true,
        Some(_) => return None,
    };
    let value = fields.read(der::OCTET_STRING)?;
    fields.is_done().then_some(Extension { oid, critical, value })
}

fn read_key_usage(reader: &mut Reader<'_>) -> Option<u16> {
    match reader.read(der::BIT_STRING)? {
        [0] => Some(0),
        [0..=7, first] => Some(u16::from(*first) << 8),
        [0..=7, first, second] => Some(u16::from(*first) << 8 | u16::from(*second)),
        _ => None,
    }
}

fn read_extended_key_usage(reader: &mut Reader<'_>) -> Option<ExtendedKeyUsage> {
    let mut usage = ExtendedKeyUsage::default();
    let mut purposes = reader.enter(der::SEQUENCE)?;
    while !purposes.is_done() {
        match purposes.read(der::OBJECT_IDENTIFIER)? {
            [0x2b, 6, 1, 5, 5, 7, 3, 1] => usage.server_auth = true,
            [0x2b, 6, 1, 5, 5, 7, 3, 2] => usage.client_auth = true,
            [0x55, 0x1d, 0x25, 0] => usage.any = true,
            _ => {}
        }
    }
    Some(usage)
}

/// The `[0]` of an AuthorityKeyIdentifier; issuer and serial, which may follow, are not used.
pub(super) fn read_authority_key_id<'a>(reader: &mut Reader<'a>) -> Option<Option<&'a [u8]>> {
    let mut fields = reader.enter(der::SEQUENCE)?;
    let id = fields.read_optional(0x80);
    while !fields.is_done() {
        fields.next_element()?;
    }
    Some(id)
}

fn ascii(bytes: &[u8]) -> Option<String> {
    if !bytes.is_ascii() {
        return None;
    }
    String::from_utf8(bytes.to_vec()).ok()
}
