//! Vectors of section 15.4: X509-SVIDs verified (X509-01 to X509-43, A-08 to A-14, ATK-40).

use quorate_proto_identity::x509::Purpose;
use quorate_proto_identity::{Bundle, BundleMap, SpiffeId, TrustDomain};

use crate::support::{CertificateSpec, Extension, Scene, bundle_of, name, now, oid, tlv};

const SAN: [u32; 4] = [2, 5, 29, 17];
const KEY_USAGE: [u32; 4] = [2, 5, 29, 15];
const BASIC_CONSTRAINTS: [u32; 4] = [2, 5, 29, 19];
const EXTENDED_KEY_USAGE: [u32; 4] = [2, 5, 29, 37];
const ID: &str = "spiffe://example.org/workload";

/// A vector: its number, how its refusal begins when printed with `Debug`, and the one change.
type Refused = (&'static str, &'static str, fn(&mut Scene));

fn set_uris(scene: &mut Scene, uris: &[&str]) {
    scene.leaf.set(Extension::uri_san(uris));
}

fn only_bundle(scene: &mut Scene, bundle: Bundle) {
    scene.bundles = Some(BundleMap::from_iter([bundle]));
}

/// Names, profile and dates of the leaf: XC-01 to XC-18, XC-28, XC-35 to XC-41.
/// X509-02 by XC-01 to XC-03, X509-03 by XC-04 to XC-07, X509-33 by XC-06, X509-34 by XC-08, X509-31 by XC-09, X509-32
/// by XC-10 and XC-11, X509-29 by XC-13, XC-17, XC-18, XC-21 and XC-28, X509-30 and X509-43 by XC-14 and XC-15.
const LEAVES_REFUSED: &[Refused] = &[
    ("XC-01", "UriNames { count: 2", |scene| set_uris(scene, &[ID, "spiffe://example.org/other"])),
    ("XC-02", "UriNames { count: 2", |scene| set_uris(scene, &[ID, "https://example.org/"])),
    ("XC-02 the other way round", "UriNames { count: 2", |scene| set_uris(scene, &["https://example.org/", ID])),
    ("XC-03", "UriNames { count: 2", |scene| set_uris(scene, &[ID, ID])),
    ("XC-04", "UriNames { count: 0", |scene| {
        scene.leaf.unset(&SAN);
        scene.leaf.subject = name(ID);
    }),
    ("XC-05", "UriNames { count: 0", |scene| scene.leaf.set(Extension::san(&[tlv(0x82, b"example.org")]))),
    ("XC-06", "SpiffeId(Scheme", |scene| set_uris(scene, &["https://example.org/workload"])),
    ("XC-07 slash", "SpiffeId(EmptySegment", |scene| set_uris(scene, &["spiffe://example.org/workload/"])),
    ("XC-07 case", "SpiffeId(TrustDomain", |scene| set_uris(scene, &["spiffe://Example.org/workload"])),
    ("XC-07 escape", "SpiffeId(PathByte", |scene| set_uris(scene, &["spiffe://example.org/a%2Fb"])),
    ("XC-07 query", "SpiffeId(PathByte", |scene| set_uris(scene, &["spiffe://example.org/a?x"])),
    ("XC-08", "NoPath", |scene| set_uris(scene, &["spiffe://example.org"])),
    ("XC-09", "Authority", |scene| scene.leaf.set(Extension::ca(None))),
    ("XC-10", "SigningKeyUsage", |scene| scene.leaf.set(Extension::key_usage(&[2, 0x84]))),
    ("XC-11", "SigningKeyUsage", |scene| scene.leaf.set(Extension::key_usage(&[1, 0x82]))),
    ("XC-13", "Path(InvalidSignatureForPublicKey", |scene| scene.leaf_signer = scene.other_root_key.clone()),
    ("XC-14", "NoBundle", |scene| set_uris(scene, &["spiffe://nobundle.org/workload"])),
    ("XC-15", "NoAuthority", |scene| only_bundle(scene, bundle_of("example.org", &[]))),
    ("XC-17", "Path(CertExpired", |scene| scene.leaf.not_after = now().minus(1)),
    ("XC-18", "Path(CertNotValidYet", |scene| scene.leaf.not_before = now().plus(10)),
    ("XC-21", "Path(UnknownIssuer", |scene| {
        scene.leaf.issuer = scene.leaf.subject.clone();
        scene.leaf_signer = scene.leaf_key.clone();
    }),
    ("XC-28", "Path(UnsupportedCriticalExtension", |scene| {
        scene.leaf.set(Extension::new(&[1, 3, 6, 1, 4, 1, 99999, 1], true, tlv(5, &[])));
    }),
    ("XC-30", "Certificate(RepeatedExtension", |scene| {
        scene.leaf.extensions.push(Extension::uri_san(&["spiffe://example.org/other"]));
    }),
    ("XC-31", "Certificate(Version", |scene| scene.leaf.version_3 = false),
    ("XC-35", "NoDigitalSignature", |scene| scene.leaf.unset(&KEY_USAGE)),
    ("XC-36", "NoDigitalSignature", |scene| scene.leaf.set(Extension::key_usage(&[3, 0x08]))),
    ("XC-37", "Purpose", |scene| {
        scene.leaf.set(Extension::extended_key_usage(&[1]));
        scene.purpose = Purpose::Client;
    }),
    ("XC-37 the other way round", "Purpose", |scene| {
        scene.leaf.set(Extension::extended_key_usage(&[2]));
        scene.purpose = Purpose::Server;
    }),
    ("XC-38", "Purpose", |scene| scene.leaf.set(Extension::extended_key_usage(&[3]))),
    ("XC-39", "NoAuthority", |scene| {
        scene.root.not_before = now().minus(7200);
        scene.root.not_after = now().minus(1);
    }),
    ("XC-40", "SpiffeId(TooLong", |scene| {
        let long = format!("spiffe://example.org/{}", "a".repeat(2028));
        scene.leaf.set(Extension::uri_san(&[&long]));
    }),
    ("XC-41", "Path(UnsupportedSignatureAlgorithm", |scene| {
        scene.leaf.algorithm = Some(tlv(0x30, &oid(&[1, 2, 840, 10045, 4, 1])));
    }),
    ("the anchor is not a signing certificate (A-13)", "NoAuthority", |scene| {
        scene.root.set(Extension::not_a_ca());
    }),
    ("the anchor's key usage lacks keyCertSign (A-13)", "NoAuthority", |scene| {
        scene.root.set(Extension::key_usage(&[1, 0x02]));
    }),
];

/// What is wrong above the leaf: XC-22 to XC-29.
/// X509-29; X509-08 by XC-23 and XC-24, X509-14 by XC-26, X509-18 by XC-29.
const PATHS_REFUSED: &[Refused] = &[
    ("XC-22", "Path(CertExpired", |scene| {
        scene.intermediate.not_after = now().minus(1);
        scene.use_intermediate();
    }),
    ("XC-23 cA FALSE", "Path(EndEntityUsedAsCa", |scene| {
        scene.intermediate.set(Extension::not_a_ca());
        scene.use_intermediate();
    }),
    ("XC-23 no basic constraints", "Path(EndEntityUsedAsCa", |scene| {
        scene.intermediate.unset(&BASIC_CONSTRAINTS);
        scene.use_intermediate();
    }),
    ("XC-24", "Path(EndEntityUsedAsCa", |scene| {
        scene.intermediate.set(Extension::key_usage(&[1, 0x02]));
        scene.use_intermediate();
    }),
    ("XC-25", "Path(EndEntityUsedAsCa", |scene| {
        let issuer = CertificateSpec::leaf("R", "spiffe://example.org/issuer", &scene.intermediate_key);
        scene.sent = vec![issuer.sign(&scene.root_key)];
        scene.leaf.issuer = issuer.subject;
        scene.leaf_signer = scene.intermediate_key.clone();
    }),
    ("XC-26", "Path(PathLenConstraintViolated", |scene| {
        scene.intermediate.set(Extension::ca(Some(0)));
        let mut below = CertificateSpec::authority("J", &[], &scene.other_root_key);
        below.issuer = name("I");
        scene.sent = vec![below.sign(&scene.intermediate_key), scene.intermediate_der()];
        scene.leaf.issuer = name("J");
        scene.leaf_signer = scene.other_root_key.clone();
    }),
    ("XC-27", "Path(UnknownIssuer", |scene| {
        scene.use_intermediate();
        scene.sent.clear();
    }),
    ("XC-29", "Path(NameConstraintViolation", |scene| {
        let host = tlv(0x30, &tlv(0x86, b"prod.example.net"));
        let value = tlv(0x30, &tlv(0xa0, &host));
        scene.intermediate.set(Extension::new(&[2, 5, 29, 30], true, value));
        scene.use_intermediate();
    }),
    ("XC-38 below an intermediate with the right usage", "Purpose", |scene| {
        scene.intermediate.set(Extension::extended_key_usage(&[1, 2]));
        scene.leaf.set(Extension::extended_key_usage(&[3]));
        scene.use_intermediate();
    }),
    ("more certificates than a path can have", "ChainTooLong", |scene| {
        scene.sent = vec![scene.intermediate_der(); 7];
    }),
];

fn check_refused(vectors: &[Refused]) {
    for (number, wanted, change) in vectors {
        let mut scene = Scene::new();
        change(&mut scene);
        let verified = format!("{:?}", scene.verify().map(drop));
        assert!(verified.starts_with(&format!("Err({wanted}")), "{number}: {verified}");
    }
}

/// ATK-40 by XC-09 and XC-10.
///
/// Refuses: X509-01 and X509-02 by XC-01 to XC-03, X509-03 by XC-04 to XC-07, X509-04 by XC-05 since no other name stands
/// in for the URI, X509-16 and X509-31 by XC-09, X509-19 by XC-35, X509-22 and X509-23 by XC-36, X509-24, X509-25 and
/// X509-32 by XC-10 and XC-11, X509-26 by XC-38, X509-27 by XC-37, X509-29 by XC-13, X509-30 by XC-14, X509-33 by XC-06,
/// X509-34 by XC-08.
#[test]
fn leaves_wrong_in_one_way_are_refused_for_just_that() {
    check_refused(LEAVES_REFUSED);
}

/// ATK-40 by XC-23 to XC-25 and XC-29.
///
/// Refuses: X509-12 by XC-25 and XC-27, X509-14 by XC-26, X509-15 by XC-23, X509-17 and X509-18 by XC-29, X509-20 by XC-24,
/// X509-28 by an intermediate whose extended key usage does not stand in for the leaf's, X509-29 by XC-22.
#[test]
fn paths_wrong_in_one_way_are_refused() {
    check_refused(PATHS_REFUSED);
}

/// The changes of [`PATHS_REFUSED`] are refused for what they change: with the intermediate left alone the path holds.
///
/// Accepts: X509-14 by paths within the length, X509-15 and X509-20 by AC-07.
#[test]
fn paths_by_an_intermediate_are_accepted_when_nothing_is_changed() {
    let mut scene = Scene::new();
    scene.use_intermediate();
    scene.verify().unwrap();
    // XC-26 without the path length.
    let mut below = CertificateSpec::authority("J", &[], &scene.other_root_key);
    below.issuer = name("I");
    scene.sent = vec![below.sign(&scene.intermediate_key), scene.intermediate_der()];
    scene.leaf.issuer = name("J");
    scene.leaf_signer = scene.other_root_key.clone();
    scene.verify().unwrap();
}

/// XC-12, XC-33.
/// X509-05, X509-13: only a leaf authenticates anybody.
///
/// Refuses: X509-05 and X509-13 by XC-12 and XC-33.
#[test]
fn an_authority_is_never_a_peer() {
    let scene = Scene::new();
    let refused = format!("{:?}", scene.verify_chain(&[scene.root_der()]).unwrap_err());
    assert_eq!(refused, "Authority");
    let mut scene = Scene::new();
    scene.use_intermediate();
    let chain = [scene.intermediate_der(), scene.leaf_der()];
    assert_eq!(format!("{:?}", scene.verify_chain(&chain).unwrap_err()), "Authority");
}

/// XC-16: an update that takes the root out ends trust at once.
/// BND-06.
#[test]
fn a_root_taken_out_of_the_bundle_is_no_longer_trusted() {
    let mut scene = Scene::new();
    scene.verify().unwrap();
    let successor = CertificateSpec::authority("R", &["spiffe://example.org"], &scene.other_root_key);
    let successor = successor.sign(&scene.other_root_key);
    only_bundle(&mut scene, bundle_of("example.org", &[successor]));
    assert!(scene.verify().is_err());
}

/// XC-19, XC-20; `properties.rs` flips a bit of every byte.
#[test]
fn one_flipped_bit_is_refused() {
    let scene = Scene::new();
    let good = scene.leaf_der();
    let mut signature = good.clone();
    *signature.last_mut().unwrap() ^= 1;
    assert!(format!("{:?}", scene.verify_der(&signature).unwrap_err()).starts_with("Path(InvalidSignature"));
    let id = good.windows(8).position(|window| window == b"workload").unwrap();
    let mut body = good;
    body[id] ^= 1;
    assert!(format!("{:?}", scene.verify_der(&body).unwrap_err()).starts_with("Path(InvalidSignature"));
}

/// XC-32, XC-34.
#[test]
fn no_certificate_and_bytes_left_over_are_refused() {
    let scene = Scene::new();
    assert_eq!(format!("{:?}", scene.verify_chain(&[]).unwrap_err()), "NoCertificate");
    let mut longer = scene.leaf_der();
    longer.push(0);
    assert_eq!(format!("{:?}", scene.verify_der(&longer).unwrap_err()), "Certificate(Shape)");
}

/// XC-42: verification says who the peer is; which exact ID is expected is compared afterwards.
#[test]
fn the_verified_id_is_compared_as_a_whole() {
    let verified = Scene::new().verify().unwrap();
    assert_eq!(verified.spiffe_id().as_str(), ID);
    assert_ne!(verified.spiffe_id(), &SpiffeId::parse("spiffe://example.org/other").unwrap());
}

/// A vector that is accepted: its number and the one change.
type Accepted = (&'static str, fn(&mut Scene));

/// AC-01 to AC-17.
/// X509-04 by AC-02, X509-07 by AC-03, X509-26 by AC-05, X509-23 by AC-06, X509-12 by AC-07 and AC-13,
/// X509-09 by AC-09.
const ACCEPTED: &[Accepted] = &[
    ("AC-01", |_| {}),
    ("AC-02", |scene| {
        scene.leaf.set(Extension::san(&[
            tlv(0x82, b"api.example.org"),
            tlv(0x86, ID.as_bytes()),
            tlv(0x87, &[127, 0, 0, 1]),
            tlv(0x81, b"a@example.org"),
        ]));
    }),
    ("AC-03", |scene| {
        scene.leaf.subject = name("");
        let mut names = Extension::uri_san(&[ID]);
        names.critical = true;
        scene.leaf.set(names);
    }),
    ("AC-04", |scene| scene.leaf.unset(&EXTENDED_KEY_USAGE)),
    ("AC-05", |scene| {
        let mut usage = Extension::extended_key_usage(&[1, 2]);
        usage.critical = true;
        scene.leaf.set(usage);
        scene.purpose = Purpose::Client;
    }),
    ("AC-06", |scene| scene.leaf.set(Extension::key_usage(&[3, 0xa8]))),
    ("AC-07", Scene::use_intermediate),
    ("AC-08", |scene| {
        scene.use_intermediate();
        scene.sent.clear();
        only_bundle(scene, bundle_of("example.org", &[scene.intermediate_der()]));
    }),
    ("AC-09", |scene| scene.root.unset(&SAN)),
    ("AC-10: there is no host name to compare", |scene| scene.purpose = Purpose::Server),
    ("AC-11", |scene| {
        let twin = CertificateSpec::authority("R", &["spiffe://example.org"], &scene.other_root_key);
        let roots = [twin.sign(&scene.other_root_key), scene.root_der()];
        only_bundle(scene, bundle_of("example.org", &roots));
    }),
    ("AC-12", |scene| {
        scene.root.set(Extension::uri_san(&["spiffe://my_domain.-x"]));
        set_uris(scene, &["spiffe://my_domain.-x/workload"]);
        only_bundle(scene, bundle_of("my_domain.-x", &[scene.root_der()]));
    }),
    ("AC-13", |scene| {
        scene.intermediate.set(Extension::uri_san(&["spiffe://other.org"]));
        scene.use_intermediate();
    }),
    ("AC-14", |scene| scene.leaf.unset(&BASIC_CONSTRAINTS)),
    ("AC-15", |scene| scene.root.set(Extension::uri_san(&["spiffe://example.org/"]))),
    ("AC-16", |scene| {
        let mut usage = Extension::key_usage(&[7, 0x80]);
        usage.critical = false;
        scene.leaf.set(usage);
    }),
    ("AC-17", |scene| {
        scene.intermediate.set(Extension::key_usage(&[1, 0x86]));
        scene.use_intermediate();
    }),
    ("the intermediate's constraints are of a form that no SPIFFE ID has (XC-29)", |scene| {
        let host = tlv(0x30, &tlv(0x82, b"example.net"));
        let value = tlv(0x30, &tlv(0xa0, &host));
        scene.intermediate.set(Extension::new(&[2, 5, 29, 30], true, value));
        scene.use_intermediate();
    }),
    ("the intermediate's extended key usage allows what the leaf's does", |scene| {
        scene.intermediate.set(Extension::extended_key_usage(&[1, 2]));
        scene.use_intermediate();
    }),
];

/// Accepts: X509-02, X509-03, X509-05, X509-13, X509-22 and X509-29 to X509-34 by AC-01, X509-04 by AC-02, X509-07 by AC-03,
/// X509-26 by AC-04 and AC-05, X509-23 by AC-06, X509-12 by AC-07 and AC-13, X509-09 by AC-09, BND-01 by AC-11, X509-17 and
/// X509-18 by an intermediate whose constraints are for DNS names, X509-28 by one whose extended key usage allows the leaf's.
#[test]
fn variants_that_the_standard_allows_are_accepted() {
    for (number, change) in ACCEPTED {
        let mut scene = Scene::new();
        change(&mut scene);
        let verified = scene.verify().unwrap_or_else(|error| panic!("{number}: {error:?}"));
        assert_eq!(verified.spiffe_id().path(), "/workload", "{number}");
    }
}

/// X509-30, FED-51: each ID verifies under the bundle of its own trust domain and no other.
/// BND-05, ATK-35.
#[test]
fn bundles_are_never_pooled() {
    let mut scene = Scene::new();
    set_uris(&mut scene, &["spiffe://other.org/workload"]);
    assert!(scene.verify().is_err());
    scene.leaf_signer = scene.other_root_key.clone();
    scene.verify().unwrap();
    let mine = bundle_of("example.org", &[scene.root_der()]);
    assert_eq!(mine.trust_domain(), &TrustDomain::new("example.org").unwrap());
    only_bundle(&mut scene, mine);
    assert!(scene.verify().is_err());
}
