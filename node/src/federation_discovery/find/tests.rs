//! DNS that tells the truth, and DNS that lies.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::records::Looking;
use super::*;

/// A zone, or what somebody wants us to take for it.
#[derive(Default)]
struct Zone {
    pointers: BTreeMap<Name, Vec<Name>>,
    services: BTreeMap<Name, Vec<Service>>,
    texts: BTreeMap<Name, Vec<Vec<Vec<u8>>>>,
    /// Names whose records nobody vouches for, though the zone is signed.
    unsigned: Vec<Name>,
    signed: bool,
    bogus: Vec<Name>,
    asked: AtomicUsize,
}

fn name(text: &str) -> Name {
    let mut name = Name::from_str(text).unwrap();
    name.set_fqdn(true);
    name
}

fn domain() -> TrustDomain {
    TrustDomain::new("a.example").unwrap()
}

const ALL: &str = "_spiffe-fed._tcp.a.example";

impl Zone {
    fn instance(mut self, label: &str, target: &str, port: u16, text: &[&str]) -> Self {
        let instance = name(&format!("{label}.{ALL}"));
        self.pointers.entry(name(ALL)).or_default().push(instance.clone());
        self.place(&instance, 0, 0, target, port);
        self.texts.insert(instance, vec![text.iter().map(|string| string.as_bytes().to_vec()).collect()]);
        self
    }

    fn place(&mut self, at: &Name, priority: u16, weight: u16, target: &str, port: u16) {
        let service = Service { priority, weight, port, target: name(target) };
        self.services.entry(at.clone()).or_default().push(service);
    }

    fn answer<T: Clone>(&self, of: &BTreeMap<Name, Vec<T>>, asked: &Name) -> Result<Answer<T>, RecordsError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.bogus.contains(asked) {
            return Err(RecordsError::Bogus { name: asked.to_string() });
        }
        let records = of.get(asked).cloned().unwrap_or_default();
        let vouched = self.signed && !records.is_empty() && !self.unsigned.contains(asked);
        Ok(Answer { records, vouched })
    }

    async fn find(&self) -> Findings {
        find(&domain(), self).await.unwrap()
    }
}

impl Records for Zone {
    fn pointers<'a>(&'a self, name: &'a Name) -> Looking<'a, Name> {
        Box::pin(async move { self.answer(&self.pointers, name) })
    }

    fn services<'a>(&'a self, name: &'a Name) -> Looking<'a, Service> {
        Box::pin(async move { self.answer(&self.services, name) })
    }

    fn texts<'a>(&'a self, name: &'a Name) -> Looking<'a, Vec<Vec<u8>>> {
        Box::pin(async move { self.answer(&self.texts, name) })
    }
}

fn urls(findings: &Findings) -> Vec<&str> {
    findings.found.iter().map(|found| found.url.as_str()).collect()
}

#[tokio::test]
async fn instances_are_found_with_profile_path_and_spiffe_id() {
    let zone = Zone { signed: true, ..Zone::default() }
        .instance("spiffe", "bundle.a.example", 8443, &["profile=https_spiffe", "id=spiffe://a.example/s", "path=/b"])
        .instance("web", "a.example", 443, &["profile=https_web"]);
    let findings = zone.find().await;
    let id = quorate_proto_identity::SpiffeId::parse("spiffe://a.example/s").unwrap();
    let spiffe = Found {
        by: FoundBy::Instance("spiffe".to_owned()),
        url: EndpointUrl::parse("https://bundle.a.example:8443/b").unwrap(),
        kind: Some(Kind::Spiffe { path: "/b".to_owned(), id }),
        vouched: true,
    };
    assert_eq!(findings.found[0], spiffe);
    assert_eq!(urls(&findings), ["https://bundle.a.example:8443/b", "https://a.example/"]);
    assert_eq!(findings.remarks, Vec::<String>::new());
}

#[tokio::test]
async fn without_instances_the_services_own_records_are_taken_those_wanted_most_first() {
    let mut zone = Zone::default();
    zone.place(&name(ALL), 20, 0, "c.a.example", 3);
    zone.place(&name(ALL), 10, 1, "b.a.example", 2);
    zone.place(&name(ALL), 10, 9, "a.a.example", 1);
    let findings = zone.find().await;
    assert_eq!(urls(&findings), ["https://a.a.example:1/", "https://b.a.example:2/", "https://c.a.example:3/"]);
    assert!(findings.found.iter().all(|found| found.by == FoundBy::Service && !found.vouched));
}

/// Refuses: FED-50
#[tokio::test]
async fn a_service_without_a_profile_is_found_and_its_profile_left_open() {
    let mut zone = Zone::default();
    zone.place(&name(ALL), 0, 0, "a.example", 443);
    assert_eq!(zone.find().await.found[0].kind, None);
    zone.texts.insert(name(ALL), vec![vec![b"profile=https_web".to_vec()]]);
    assert_eq!(zone.find().await.found[0].kind, Some(Kind::Web { path: "/".to_owned() }));
    // An instance that keeps silent, or says what cannot be understood, is none.
    let zone = Zone::default().instance("x", "a.example", 443, &["path=/b"]);
    assert_eq!(zone.find().await.found, []);
}

/// DNS is not trust: whatever a record says, a host elsewhere needs more than it.
#[test]
fn a_host_is_within_the_trust_domain_by_whole_labels_only() {
    for host in ["a.example", "b.a.example", "c.b.a.example", "B.A.EXAMPLE"] {
        assert_eq!(standing(&domain(), host, false), Standing::Within, "{host}");
    }
    for host in ["nota.example", "a.example.evil.example", "example", "a.example.", "", ".example", "127.0.0.1"] {
        assert_eq!(standing(&domain(), host, false), Standing::Elsewhere, "{host}");
        assert_eq!(standing(&domain(), host, true), Standing::Vouched, "{host}");
    }
}

/// ATK-37: a lying SRV record.
#[tokio::test]
async fn a_target_that_is_an_address_or_no_host_name_leads_nowhere() {
    for target in ["127.0.0.1", "169.254.169.254", "0x7f.1", "2130706433", "*.a.example", "a_b.a.example", "."] {
        let zone = Zone::default().instance("x", target, 443, &["profile=https_web"]);
        let findings = zone.find().await;
        assert_eq!(findings.found, [], "{target}");
        assert!(findings.remarks[0].contains("SRV record"), "{:?}", findings.remarks);
    }
    let zone = Zone::default().instance("x", "a.example", 0, &["profile=https_web"]);
    assert_eq!(zone.find().await.found, []);
}

#[tokio::test]
async fn one_bad_place_does_not_spoil_the_other() {
    let mut zone = Zone::default().instance("x", "10.0.0.1", 443, &["profile=https_web"]);
    zone.place(&name(&format!("x.{ALL}")), 7, 0, "b.a.example", 443);
    assert_eq!(urls(&zone.find().await), ["https://b.a.example/"]);
}

#[tokio::test]
async fn dnssec_vouches_only_when_it_does_for_every_record_on_the_way() {
    let signed =
        || Zone { signed: true, ..Zone::default() }.instance("x", "b.other.example", 443, &["profile=https_web"]);
    assert!(signed().find().await.found[0].vouched);
    let instance = format!("x.{ALL}");
    for weak in [ALL, &instance] {
        let zone = Zone { unsigned: vec![name(weak)], ..signed() };
        assert!(!zone.find().await.found[0].vouched, "{weak}");
    }
}

#[tokio::test]
async fn what_dnssec_calls_false_is_not_used_and_said() {
    let zone = Zone { signed: true, ..Zone::default() }.instance("x", "a.example", 443, &["profile=https_web"]);
    let zone = Zone { bogus: vec![name(&format!("x.{ALL}"))], ..zone };
    let findings = zone.find().await;
    assert_eq!(findings.found, []);
    assert!(findings.remarks[0].contains("not genuine"), "{:?}", findings.remarks);
}

#[tokio::test]
async fn pointers_that_lead_in_a_circle_or_elsewhere_end_at_once() {
    let mut zone = Zone::default();
    let (one, two) = (name(&format!("one.{ALL}")), name(&format!("two.{ALL}")));
    zone.pointers
        .insert(name(ALL), vec![name(ALL), one.clone(), one.clone(), two.clone(), name("x._http._tcp.a.example")]);
    zone.pointers.insert(one.clone(), vec![two.clone()]);
    zone.pointers.insert(two, vec![one]);
    let findings = zone.find().await;
    assert_eq!(findings.found, []);
    // PTR once; SRV of the two that may be instances; SRV of the service itself.
    assert_eq!(zone.asked.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn however_many_records_there_are_the_look_ups_have_a_bound() {
    let mut zone = Zone::default();
    for number in 0..200 {
        zone = zone.instance(&format!("i{number}"), "a.example", 443, &["profile=https_web"]);
        let instance = name(&format!("i{number}.{ALL}"));
        for port in 1..100 {
            zone.place(&instance, 0, 0, "a.example", port);
        }
    }
    let findings = zone.find().await;
    assert_eq!(findings.found.len(), INSTANCES_LIMIT * PLACES_LIMIT);
    assert_eq!(zone.asked.load(Ordering::Relaxed), 1 + 2 * INSTANCES_LIMIT);
    assert!(findings.remarks[0].contains("of 200 instances"), "{:?}", findings.remarks);
}

/// ATK-36.
#[tokio::test]
async fn an_oversize_text_record_is_passed_over_with_a_reason() {
    let long = "x=".to_owned() + &"y".repeat(250);
    let mut text = vec!["profile=https_web"];
    text.extend(std::iter::repeat_n(long.as_str(), 30));
    let findings = Zone::default().instance("x", "a.example", 443, &text).find().await;
    assert_eq!(findings.found, []);
    assert!(findings.remarks[0].contains("TXT record has"), "{:?}", findings.remarks);
}

#[tokio::test]
async fn a_trust_domain_that_is_no_dns_name_is_not_looked_for() {
    for text in ["a_b", "-a.example", "a..example"] {
        if let Ok(domain) = TrustDomain::new(text) {
            let error = find(&domain, &Zone::default()).await.unwrap_err();
            assert!(error.to_string().contains("by hand"), "{error}");
        }
    }
}
