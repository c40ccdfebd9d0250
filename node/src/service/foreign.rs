//! What the services about foreign trust domains have in common: their names, their bundles on the wire, pages of lists.

use prost::Message;
use quorate_proto_api::spire::types;
use quorate_proto_identity::{Bundle, Certificate, JwtAuthority, PublicKey, PublicKeyKind, TrustDomain};
use quorate_raft_machine::{BundleFields, State};
use tonic::Status;

use super::reads::NOT_FOUNDED;

/// Encoded bytes after which a page ends, full or not: gRPC clients take answers of 4 MiB. A single bundle may have 1 MiB.
const PAGE_BYTES: usize = 3 * 1024 * 1024;

/// Encoded bytes of an answer with everything (`page_size` 0). Beyond it the call is refused: a list cut short would look
/// like the whole.
const WHOLE_BYTES_LIMIT: usize = 64 * 1024 * 1024;

/// The name of our own trust domain.
///
/// # Errors
///
/// `Unavailable` before the founding.
pub(super) fn own(state: &State) -> Result<TrustDomain, Status> {
    state.cluster().map(|cluster| cluster.trust_domain.clone()).ok_or_else(|| Status::unavailable(NOT_FOUNDED))
}

/// Takes the name of a foreign trust domain, plain or as an ID.
///
/// # Errors
///
/// `InvalidArgument` when it is malformed, or our own (spire-api.md section 9, SF-04).
pub(super) fn name(text: &str, own: &TrustDomain) -> Result<TrustDomain, Status> {
    let name = TrustDomain::parse_name_or_id(text)
        .map_err(|error| Status::invalid_argument(format!("trust domain argument is not valid: {text:?}: {error}")))?;
    if name == *own {
        return Err(Status::invalid_argument(format!(
            "trust domain argument is not valid: {name} is this server's own trust domain"
        )));
    }
    Ok(name)
}

/// Every field of a bundle.
pub(super) const fn whole_bundle() -> types::BundleMask {
    types::BundleMask {
        x509_authorities: true,
        jwt_authorities: true,
        refresh_hint: true,
        sequence_number: true,
        wit_authorities: true,
    }
}

/// A foreign bundle for an answer: the fields in the mask, or all without one; the trust domain always.
///
/// A bundle document says nothing of the end of a token key, or of taint: neither is told.
pub(super) fn bundle_to_wire(bundle: &Bundle, mask: Option<&types::BundleMask>) -> types::Bundle {
    let mask = mask.copied().unwrap_or_else(whole_bundle);
    let mut wire =
        types::Bundle { trust_domain: bundle.trust_domain().as_str().to_owned(), ..types::Bundle::default() };
    if mask.x509_authorities {
        let certificate = |certificate: &Certificate| types::X509Certificate {
            asn1: certificate.der().to_vec().into(),
            tainted: false,
        };
        wire.x509_authorities = bundle.x509_authorities().iter().map(certificate).collect();
    }
    if mask.jwt_authorities {
        let key = |authority: &JwtAuthority| types::JwtKey {
            public_key: authority.public_key.spki_der().to_vec().into(),
            key_id: authority.key_id.clone(),
            expires_at: 0,
            tainted: false,
        };
        wire.jwt_authorities = bundle.jwt_authorities().iter().map(key).collect();
    }
    if mask.refresh_hint {
        wire.refresh_hint = bundle.refresh_hint().unwrap_or_default();
    }
    if mask.sequence_number {
        wire.sequence_number = bundle.sequence().unwrap_or_default();
    }
    wire
}

/// The fields that a mask names.
pub(super) const fn fields(mask: &types::BundleMask) -> BundleFields {
    BundleFields {
        x509_authorities: mask.x509_authorities,
        jwt_authorities: mask.jwt_authorities,
        refresh_hint: mask.refresh_hint,
        sequence: mask.sequence_number,
    }
}

/// Takes these fields of the bundle of this trust domain. Others are not looked at, and are empty. WIT authorities are not
/// kept, and 0 stands for no hint and no sequence number.
///
/// # Errors
///
/// `InvalidArgument` when a field that is looked at does not hold what it should.
pub(super) fn bundle_from_wire(
    trust_domain: &TrustDomain,
    wire: &types::Bundle,
    fields: BundleFields,
) -> Result<Bundle, Status> {
    let mut bundle = Bundle::new(trust_domain.clone());
    if fields.x509_authorities {
        for (position, authority) in wire.x509_authorities.iter().enumerate() {
            bundle.add_x509_authority(x509_authority(&authority.asn1).map_err(at("x509_authorities", position))?);
        }
    }
    if fields.jwt_authorities {
        for (position, key) in wire.jwt_authorities.iter().enumerate() {
            let authority = jwt_authority(key).map_err(at("jwt_authorities", position))?;
            if !bundle.add_jwt_authority(authority) {
                return Err(at("jwt_authorities", position)(format!("the key ID {:?} is there twice", key.key_id)));
            }
        }
    }
    if fields.refresh_hint {
        bundle.set_refresh_hint(match wire.refresh_hint {
            0 => None,
            1.. => Some(wire.refresh_hint),
            _ => return Err(Status::invalid_argument(format!("refresh_hint: {} is negative", wire.refresh_hint))),
        });
    }
    if fields.sequence {
        bundle.set_sequence((wire.sequence_number != 0).then_some(wire.sequence_number));
    }
    Ok(bundle)
}

fn at(field: &'static str, position: usize) -> impl Fn(String) -> Status {
    move |problem| Status::invalid_argument(format!("{field}[{position}]: {problem}"))
}

fn x509_authority(der: &[u8]) -> Result<Certificate, String> {
    let certificate = Certificate::parse(der).map_err(|error| error.to_string())?;
    if !certificate.is_signing_certificate() {
        return Err("this is no certificate of an authority: it may not sign others".to_owned());
    }
    Ok(certificate)
}

fn jwt_authority(key: &types::JwtKey) -> Result<JwtAuthority, String> {
    if key.key_id.is_empty() {
        return Err("missing key ID".to_owned());
    }
    let public_key = PublicKey::from_spki_der(&key.public_key).map_err(|error| error.to_string())?;
    if public_key.kind() == PublicKeyKind::Ed25519 {
        return Err("no JWT-SVID algorithm fits an Ed25519 key".to_owned());
    }
    Ok(JwtAuthority { key_id: key.key_id.clone(), public_key })
}

/// One page of a list in the order of names, or all of it.
#[derive(Debug)]
pub(super) struct Paging {
    size: usize,
    after: Option<TrustDomain>,
}

impl Paging {
    /// What a request asks for. The token is the name of the last item of the page before, so it is the same on every node.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a negative size, or a token that no listing gave.
    pub(super) fn of(page_size: i32, page_token: &str) -> Result<Self, Status> {
        let size = usize::try_from(page_size)
            .map_err(|_| Status::invalid_argument(format!("page_size: {page_size} is negative")))?;
        if size == 0 || page_token.is_empty() {
            return Ok(Self { size, after: None });
        }
        let after = TrustDomain::new(page_token)
            .map_err(|_| Status::invalid_argument("page_token: not a token that a listing gave"))?;
        Ok(Self { size, after: Some(after) })
    }

    /// Cuts the page out of all there are, which are in the order of their names. `to_wire` may leave one out.
    ///
    /// # Errors
    ///
    /// `ResourceExhausted` when everything is asked for, and is too much for one answer.
    pub(super) fn cut<T, W: Message>(
        &self,
        all: impl Iterator<Item = T>,
        name: impl Fn(&T) -> &TrustDomain,
        to_wire: impl Fn(&T) -> Option<W>,
    ) -> Result<(Vec<W>, String), Status> {
        let (mut items, mut bytes, mut token) = (Vec::new(), 0_usize, String::new());
        for item in all.skip_while(|item| self.after.as_ref().is_some_and(|after| name(item) <= after)) {
            let Some(wire) = to_wire(&item) else { continue };
            bytes = bytes.saturating_add(wire.encoded_len());
            if self.size == 0 && bytes > WHOLE_BYTES_LIMIT {
                return Err(Status::resource_exhausted(format!(
                    "the list is longer than {} MiB: ask for it in pages, with a page_size",
                    WHOLE_BYTES_LIMIT >> 20
                )));
            }
            items.push(wire);
            if self.size > 0 {
                token = name(&item).as_str().to_owned();
                if items.len() >= self.size || bytes >= PAGE_BYTES {
                    break;
                }
            }
        }
        Ok((items, token))
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{KeyType, PrivateKey};
    use tonic::Code;

    use super::*;

    fn domain(name: &str) -> TrustDomain {
        TrustDomain::new(name).unwrap()
    }

    fn key(id: &str) -> types::JwtKey {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        types::JwtKey {
            public_key: key.public_key().spki_der().to_vec().into(),
            key_id: id.into(),
            ..types::JwtKey::default()
        }
    }

    fn wire() -> types::Bundle {
        types::Bundle {
            trust_domain: "two.example".into(),
            jwt_authorities: vec![key("k1"), key("k2")],
            refresh_hint: 60,
            sequence_number: u64::MAX,
            ..types::Bundle::default()
        }
    }

    /// Accepts: BND-04, BND-13.
    #[test]
    fn a_bundle_keeps_what_it_has_on_its_way_in_and_out() {
        let wire = wire();
        let bundle = bundle_from_wire(&domain("two.example"), &wire, BundleFields::ALL).unwrap();
        assert_eq!(bundle_to_wire(&bundle, None), wire);
        let mask = types::BundleMask { refresh_hint: true, ..types::BundleMask::default() };
        let expected =
            types::Bundle { trust_domain: "two.example".into(), refresh_hint: 60, ..types::Bundle::default() };
        assert_eq!(bundle_to_wire(&bundle, Some(&mask)), expected);
    }

    #[test]
    fn fields_outside_a_mask_are_not_even_looked_at() {
        let broken = types::Bundle { jwt_authorities: vec![types::JwtKey::default()], refresh_hint: 5, ..wire() };
        let mask = types::BundleMask { refresh_hint: true, ..types::BundleMask::default() };
        let bundle = bundle_from_wire(&domain("two.example"), &broken, fields(&mask)).unwrap();
        assert_eq!((bundle.refresh_hint(), bundle.sequence(), bundle.jwt_authorities()), (Some(5), None, &[][..]));
        assert_eq!(fields(&whole_bundle()), BundleFields::ALL);
    }

    #[test]
    fn what_is_wrong_is_told_by_the_name_of_its_field() {
        let certificate = types::X509Certificate { asn1: "no DER".into(), tainted: false };
        for (wire, said) in [
            (types::Bundle { x509_authorities: vec![certificate], ..wire() }, "x509_authorities[0]: "),
            (types::Bundle { jwt_authorities: vec![key("")], ..wire() }, "jwt_authorities[0]: missing key ID"),
            (types::Bundle { jwt_authorities: vec![key("k"), key("k")], ..wire() }, "jwt_authorities[1]: the key ID"),
            (types::Bundle { refresh_hint: -1, ..wire() }, "refresh_hint: -1"),
        ] {
            let status = bundle_from_wire(&domain("two.example"), &wire, BundleFields::ALL).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().starts_with(said), "{}", status.message());
        }
    }

    /// Accepts: BND-28. Refuses: BND-28, FED-27, FED-43.
    #[test]
    fn our_own_name_and_malformed_ones_are_no_foreign_trust_domain_sf_04() {
        let own = domain("one.example");
        assert_eq!(name("two.example", &own).unwrap(), domain("two.example"));
        assert_eq!(name("spiffe://two.example", &own).unwrap(), domain("two.example"));
        for text in ["one.example", "spiffe://one.example", "", "Two.example", "spiffe://two.example/a"] {
            assert_eq!(name(text, &own).unwrap_err().code(), Code::InvalidArgument, "{text:?}");
        }
    }

    #[test]
    fn a_list_is_cut_into_pages_by_the_name_of_the_last_item() {
        let all = ["a.example", "b.example", "c.example"].map(domain);
        let cut = |paging: &Paging| {
            let wire = |name: &&TrustDomain| {
                Some(types::Bundle { trust_domain: name.as_str().to_owned(), ..types::Bundle::default() })
            };
            let (items, token) = paging.cut(all.iter(), |name| name, wire).unwrap();
            (items.into_iter().map(|item| item.trust_domain).collect::<Vec<_>>(), token)
        };
        assert_eq!(
            cut(&Paging::of(0, "").unwrap()),
            (vec!["a.example".into(), "b.example".into(), "c.example".into()], String::new())
        );
        let (first, token) = cut(&Paging::of(2, "").unwrap());
        assert_eq!((first, token.as_str()), (vec!["a.example".into(), "b.example".into()], "b.example"));
        let (second, token) = cut(&Paging::of(2, &token).unwrap());
        assert_eq!((second, token.as_str()), (vec!["c.example".into()], "c.example"));
        assert_eq!(cut(&Paging::of(2, &token).unwrap()), (Vec::<String>::new(), String::new()));
        for (size, token) in [(-1, ""), (2, "Not a name")] {
            assert_eq!(Paging::of(size, token).unwrap_err().code(), Code::InvalidArgument);
        }
    }
}
