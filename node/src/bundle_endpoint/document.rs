//! The bundle document as it goes out: rendered once for each bundle, and the same bytes for all who ask.

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use quorate_proto_identity::TrustDomain;
use quorate_proto_identity::bundle::{Bundle, JwtAuthority};
use quorate_proto_identity::key::PublicKey;
use quorate_proto_identity::x509::Certificate;
use quorate_raft_machine::{BundleContent, State};

/// Bytes of the document's hash that its tag has: enough that no two documents of one trust domain ever share a tag.
const TAG_BYTES: usize = 12;

/// Of the refresh hint, the part that caches between may keep an answer for: a quarter, so that with it a peer is still
/// behind by less than the three hints that a new authority waits (FED-03).
const CACHE_PART: u32 = 4;

/// One bundle, ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Document {
    /// The SPIFFE bundle document, UTF-8 JSON.
    pub body: Bytes,
    /// The strong entity tag of these bytes.
    pub etag: HeaderValue,
    /// `Cache-Control` for them.
    pub cache_control: HeaderValue,
    /// `spiffe_sequence`.
    pub sequence: u64,
    /// `spiffe_refresh_hint`, in seconds.
    pub refresh_hint: u32,
}

impl Document {
    /// Renders a bundle. None where an authority cannot be read; a fault of the program, which issues from none such.
    #[must_use]
    pub fn render(trust_domain: &TrustDomain, content: &BundleContent) -> Option<Self> {
        let body = Bytes::from(bundle(trust_domain, content)?.to_json());
        let mut tag = format!("\"{}-", content.sequence);
        for byte in digest(&SHA256, &body).as_ref().iter().take(TAG_BYTES) {
            let _ = write!(tag, "{byte:02x}");
        }
        tag.push('"');
        let cache = format!("public, max-age={}, must-revalidate", content.refresh_hint / CACHE_PART);
        Some(Self {
            body,
            etag: HeaderValue::try_from(tag).ok()?,
            cache_control: HeaderValue::try_from(cache).ok()?,
            sequence: content.sequence,
            refresh_hint: content.refresh_hint,
        })
    }
}

/// The trust domain's bundle as the state has it, in the form of the standard.
#[must_use]
pub fn bundle(trust_domain: &TrustDomain, content: &BundleContent) -> Option<Bundle> {
    let mut bundle = Bundle::new(trust_domain.clone());
    for root in &content.x509_authorities {
        bundle.add_x509_authority(Certificate::parse(&root.certificate).ok()?);
    }
    for key in &content.jwt_authorities {
        let public_key = PublicKey::from_spki_der(&key.public_key).ok()?;
        bundle.add_jwt_authority(JwtAuthority { key_id: key.id.to_string(), public_key });
    }
    bundle.set_sequence(Some(content.sequence));
    bundle.set_refresh_hint(Some(i64::from(content.refresh_hint)));
    Some(bundle)
}

/// The newest document. Whoever asks first after a change renders it, and all others share it.
#[derive(Debug, Default)]
pub struct Documents(Mutex<Option<(Arc<BundleContent>, Arc<Document>)>>);

impl Documents {
    /// The document of the bundle as it is applied here now; none before the founding.
    #[must_use]
    pub fn current(&self, state: &State) -> Option<Arc<Document>> {
        let content = state.bundle();
        let mut rendered = self.0.lock();
        if let Some((of, document)) = &*rendered
            && Arc::ptr_eq(of, &content)
        {
            return Some(Arc::clone(document));
        }
        let document = Arc::new(Document::render(&state.cluster()?.trust_domain, &content)?);
        *rendered = Some((content, Arc::clone(&document)));
        Some(document)
    }
}
