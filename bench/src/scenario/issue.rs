//! The issuer alone: key, PKCS#8, certificate, signature, in this process and without a socket.

use super::Options;
use crate::floors::{Floors, cost};
use crate::product::TRUST_DOMAIN;
use crate::report::{Report, Row, Verdict, median};
use crate::trouble::Trouble;
use quorate_proto_identity::x509::{
    AuthorityTemplate, LeafIssuer, LeafTemplate, build_issuing_certificate, build_root,
};
use quorate_proto_identity::{KeyType, PrivateKey, SerialNumber, SpiffeId, TrustDomain, UnixSeconds, Validity};
use std::hint::black_box;
use std::thread;

/// SVIDs in a round and thread.
const OPERATIONS: u64 = 3_000;

/// The issuer reaches this part of the floor's rate.
const LIMIT: f64 = 0.75;

/// An instant in the middle of the validities made here; no clock is asked.
const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

/// Lives of root, issuing certificate and leaf in seconds.
const LIVES: [i64; 3] = [30 * 86_400, 86_400, 3_600];

/// One thread, then one a core, each beside the floor.
pub(crate) fn run(options: &Options) -> Result<Report, Trouble> {
    let floors = Floors::new()?;
    let bench = Bench::new()?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (mut floor, mut alone, mut together, mut floor_together) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        floor.push(floors.issue(OPERATIONS)?);
        alone.push(bench.issue()?);
        floor_together.push(on_threads(cores, || floors.issue(OPERATIONS))?);
        together.push(on_threads(cores, || bench.issue())?);
    }
    let operations = OPERATIONS * options.rounds as u64;
    let mut report = Report::new("issue", options.rounds);
    report.rows.push(Row::floor("floor: key + PKCS#8 + signature, one thread", operations, &floor));
    report.rows.push(Row::floor("issuer, one thread", operations, &alone));
    report.rows.push(Row::floor(format!("floor, each of {cores} threads"), operations, &floor_together));
    report.rows.push(Row::floor(format!("issuer, each of {cores} threads"), operations, &together));
    let ratio = median(floor) / median(alone);
    report.verdicts.push(Verdict::at_least("issuer to the floor, one thread", ratio, LIMIT));
    let ratio = median(floor_together) / median(together);
    report.verdicts.push(Verdict::at_least("issuer to the floor, a thread on each core", ratio, LIMIT));
    report.notes.push("every leaf has a key and a serial of its own; `srv us` is the time of one".to_owned());
    Ok(report)
}

/// Does the same on several threads at once; the median of what each measured.
fn on_threads(threads: usize, work: impl Fn() -> Result<f64, Trouble> + Sync) -> Result<f64, Trouble> {
    let costs: Result<Vec<f64>, Trouble> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        let joined = running.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(Trouble::Unexpected("a measuring thread panicked".to_owned())))
        });
        joined.collect()
    });
    costs.map(median)
}

/// An issuer as a node has one.
struct Bench {
    issuer: LeafIssuer,
    spiffe_id: SpiffeId,
}

impl Bench {
    fn new() -> Result<Self, Trouble> {
        let trust_domain = TrustDomain::new(TRUST_DOMAIN).map_err(Trouble::crypto("trust domain"))?;
        let spiffe_id = SpiffeId::from_segments(&trust_domain, &["ns", "payments", "sa", "checkout"])
            .map_err(Trouble::crypto("SPIFFE ID"))?;
        let [root_life, issuing_life, _] = LIVES;
        let authority = |number, life| -> Result<AuthorityTemplate<'_>, Trouble> {
            Ok(AuthorityTemplate { trust_domain: &trust_domain, serial: serial(number), validity: validity(life)? })
        };
        let root_key = key()?;
        let root = build_root(&authority(1, root_life)?, &root_key).map_err(Trouble::crypto("root"))?;
        let issuing_key = key()?;
        let template = authority(2, issuing_life)?;
        let issuing = build_issuing_certificate(&template, issuing_key.public_key(), &root, &root_key)
            .map_err(Trouble::crypto("issuing certificate"))?;
        let issuer = LeafIssuer::new(issuing.der(), issuing_key).map_err(Trouble::crypto("issuer"))?;
        Ok(Self { issuer, spiffe_id })
    }

    /// Microseconds of processor time for one leaf with a new key.
    fn issue(&self) -> Result<f64, Trouble> {
        let [_, _, life] = LIVES;
        let validity = validity(life)?;
        cost(OPERATIONS, |number| {
            let key = key()?;
            let template = LeafTemplate {
                spiffe_id: &self.spiffe_id,
                dns_names: &[],
                subject: None,
                public_key: key.public_key(),
                serial: serial(number),
                validity,
            };
            black_box(self.issuer.issue(&template).map_err(Trouble::crypto("leaf"))?);
            black_box(key.pkcs8());
            Ok(())
        })
    }
}

fn key() -> Result<PrivateKey, Trouble> {
    PrivateKey::generate(KeyType::EcP256).map_err(Trouble::crypto("key"))
}

fn validity(life: i64) -> Result<Validity, Trouble> {
    let begin = NOW.minus(30);
    Validity::new(begin, begin.plus(life)).map_err(Trouble::crypto("validity"))
}

/// A serial of the usual length.
fn serial(number: u64) -> SerialNumber {
    SerialNumber::from_random((u128::from(number) << 64 | 0x5a5a).to_be_bytes())
}
