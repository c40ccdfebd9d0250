//! Our bundle in the forms and with the metadata in which the API hands it out.

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use parking_lot::Mutex;
use quorate_proto_api::federation::{Bundle, BundleFormat, Issuer, Metadata, Unchanged};
use quorate_proto_identity::{TrustDomain, UnixSeconds};
use quorate_raft_machine::{BundleContent, State};
use tonic::Status;

use crate::bundle_endpoint;
use crate::pem;

/// Bytes of a document's hash that its tag has: enough that no two documents of one trust domain ever share a tag.
const TAG_BYTES: usize = 16;

/// The path of the SPIFFE ID that our servers have.
const SERVER_PATH: &str = "/spire/server";

/// A document and its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    document: Bytes,
    etag: String,
}

impl Written {
    /// The tag says which form it is of, so that one is never taken for the other.
    fn new(form: &str, document: String) -> Self {
        let mut etag = format!("{form}-");
        for byte in digest(&SHA256, document.as_bytes()).as_ref().iter().take(TAG_BYTES) {
            let _ = write!(etag, "{byte:02x}");
        }
        Self { document: document.into(), etag }
    }
}

/// One bundle, written in each form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    trust_domain: TrustDomain,
    pub(super) sequence: u64,
    pub(super) refresh_hint: u32,
    spiffe: Written,
    pem: Written,
}

/// The newest content. Whoever asks first after a change writes it, and all others share it.
#[derive(Debug, Default)]
pub(super) struct Contents(Mutex<Option<(Arc<BundleContent>, Arc<Content>)>>);

impl Contents {
    /// The bundle as it is applied here; none before the founding.
    pub(super) fn current(&self, state: &State) -> Option<Arc<Content>> {
        let bundle = state.bundle();
        let mut written = self.0.lock();
        if let Some((of, content)) = &*written
            && Arc::ptr_eq(of, &bundle)
        {
            return Some(Arc::clone(content));
        }
        let content = Arc::new(Content::write(&state.cluster()?.trust_domain, &bundle)?);
        *written = Some((bundle, Arc::clone(&content)));
        Some(content)
    }
}

/// Who says what is said, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// The name of this node.
    pub(super) node: String,
    /// The X.509 authority that signs; none before the founding.
    pub(super) authority_id: Option<String>,
    /// Now.
    pub(super) at: UnixSeconds,
}

impl Content {
    /// None where an authority cannot be read; a fault of the program, which issues from none such.
    fn write(trust_domain: &TrustDomain, content: &BundleContent) -> Option<Self> {
        let bundle = bundle_endpoint::bundle(trust_domain, content)?;
        let certificates = content.x509_authorities.iter().map(|root| pem::pem("CERTIFICATE", &root.certificate));
        Some(Self {
            trust_domain: trust_domain.clone(),
            sequence: content.sequence,
            refresh_hint: content.refresh_hint,
            spiffe: Written::new("spiffe", bundle.to_json()),
            pem: Written::new("pem", certificates.collect()),
        })
    }

    fn written(&self, format: BundleFormat) -> &Written {
        match format {
            BundleFormat::Unspecified | BundleFormat::Spiffe => &self.spiffe,
            BundleFormat::X509Pem => &self.pem,
        }
    }

    /// Whether somebody with this tag has it already.
    pub(super) fn is_known(&self, format: BundleFormat, etag: &str) -> bool {
        self.written(format).etag == etag
    }

    /// The tag in this form.
    pub(super) fn etag(&self, format: BundleFormat) -> &str {
        &self.written(format).etag
    }

    /// The bundle as a message.
    pub(super) fn bundle(&self, format: BundleFormat, said: &Said) -> Bundle {
        let Written { document, etag } = self.written(format);
        let format = if format == BundleFormat::Unspecified { BundleFormat::Spiffe } else { format };
        Bundle {
            trust_domain: self.trust_domain.to_string(),
            format: format.into(),
            document: document.clone(),
            sequence: self.sequence,
            etag: etag.clone(),
            metadata: Some(self.metadata(said)),
        }
    }

    /// That it has not changed.
    pub(super) fn unchanged(&self, said: &Said) -> Unchanged {
        Unchanged { sequence: self.sequence, metadata: Some(self.metadata(said)) }
    }

    fn metadata(&self, said: &Said) -> Metadata {
        let Said { node, authority_id, at } = said;
        let issuer = Issuer {
            node: node.clone(),
            spiffe_id: server_id(&self.trust_domain),
            authority_id: authority_id.clone().unwrap_or_default(),
        };
        Metadata {
            issued_at: at.0,
            fresh_until: at.plus(i64::from(self.refresh_hint)).0,
            refresh_hint: self.refresh_hint,
            issuer: Some(issuer),
        }
    }
}

/// The SPIFFE ID of our servers.
pub(super) fn server_id(trust_domain: &TrustDomain) -> String {
    format!("{}{SERVER_PATH}", trust_domain.id())
}

/// The form that a caller asks for.
pub(super) fn format(number: i32) -> Result<BundleFormat, Status> {
    BundleFormat::try_from(number).map_err(|_unknown| {
        Status::invalid_argument(format!("format: this version writes no bundles in the format of number {number}"))
    })
}

#[cfg(test)]
mod tests {
    use quorate_raft_machine::BundleX509Authority;

    use super::*;

    fn root() -> BundleX509Authority {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        BundleX509Authority {
            id: "0a".parse().unwrap(),
            certificate: Bytes::copy_from_slice(certificate.der()),
            tainted: false,
        }
    }

    fn content(sequence: u64) -> BundleContent {
        BundleContent { x509_authorities: vec![root()], jwt_authorities: Vec::new(), refresh_hint: 300, sequence }
    }

    #[test]
    fn both_forms_hold_the_same_authorities_and_have_tags_of_their_own() {
        let trust_domain = TrustDomain::new("one.example").unwrap();
        let content = Content::write(&trust_domain, &content(4)).unwrap();
        let said = Said { node: "node-1".into(), authority_id: Some("0a".into()), at: UnixSeconds(1_000) };
        let spiffe = content.bundle(BundleFormat::Unspecified, &said);
        assert_eq!(
            (spiffe.format(), spiffe.sequence, spiffe.trust_domain.as_str()),
            (BundleFormat::Spiffe, 4, "one.example")
        );
        let read = quorate_proto_identity::Bundle::parse(&trust_domain, &spiffe.document).unwrap().bundle;
        assert_eq!((read.sequence(), read.x509_authorities().len()), (Some(4), 1));
        let pem = content.bundle(BundleFormat::X509Pem, &said);
        assert!(pem.document.starts_with(b"-----BEGIN CERTIFICATE-----"));
        assert_ne!(spiffe.etag, pem.etag);
        assert!(content.is_known(BundleFormat::X509Pem, &pem.etag));
        assert!(!content.is_known(BundleFormat::X509Pem, &spiffe.etag));
        let metadata = spiffe.metadata.unwrap();
        assert_eq!((metadata.issued_at, metadata.fresh_until, metadata.refresh_hint), (1_000, 1_300, 300));
        let issuer = metadata.issuer.unwrap();
        assert_eq!((issuer.node.as_str(), issuer.spiffe_id.as_str()), ("node-1", "spiffe://one.example/spire/server"));
        assert_eq!(content.unchanged(&said).sequence, 4);
    }

    #[test]
    fn a_form_that_is_not_known_is_refused_by_its_number() {
        assert_eq!(format(0).unwrap(), BundleFormat::Unspecified);
        assert_eq!(format(2).unwrap(), BundleFormat::X509Pem);
        assert_eq!(format(9).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
