//! First SVIDs of new entries: nothing is there yet, so each costs a key, a certificate and a signature.

use super::Options;
use crate::clients::{next, own_entry};
use crate::floors::Floors;
use crate::load::{Meter, Window, histogram, note};
use crate::product::Product;
use crate::report::{Report, Row, Verdict, median, server_cost};
use crate::trouble::Trouble;
use std::collections::BTreeSet;
use std::time::Instant;

/// New entries in a round: one message carries their SVIDs, and stays below the limit of identities a caller has.
const NEW_ENTRIES: usize = 900;

/// Operations of the floor in a round.
const FLOOR_OPERATIONS: u64 = 2_000;

/// A first SVID: no more than this times key, PKCS#8 and signature.
const LIMIT: f64 = 2.5;

/// How much more it may cost beside the most entries than beside the fewest.
const FLATNESS: f64 = 1.2;

/// New entries, then a stream whose first message has an SVID of each.
pub(crate) async fn run(options: &Options) -> Result<Report, Trouble> {
    let products = options.products().await?;
    let floors = Floors::new()?;
    let mut costs = Vec::new();
    let mut windows: Vec<Vec<Window>> = products.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds {
        costs.push(floors.issue(FLOOR_OPERATIONS)?);
        for ((_, product), windows) in products.iter().zip(&mut windows) {
            windows.push(first(product, round).await?);
        }
    }
    let mut report = Report::new("first", options.rounds);
    let operations = FLOOR_OPERATIONS * options.rounds as u64;
    report.rows.push(Row::floor("floor: key + PKCS#8 + signature", operations, &costs));
    let floor = median(costs);
    for ((entries, _), windows) in products.iter().zip(&windows) {
        report.rows.push(Row::of(format!("quorate, {entries} other entries"), windows));
        let what = format!("server CPU to key + PKCS#8 + signature, {entries} other entries");
        report.verdicts.push(Verdict::at_most(what, server_cost(windows) / floor, LIMIT));
    }
    if let [few, .., many] = windows.as_slice() {
        let what = "server CPU with the most entries to that with the fewest";
        report.verdicts.push(Verdict::at_most(what, server_cost(many) / server_cost(few), FLATNESS));
    }
    report.notes.push(format!(
        "{NEW_ENTRIES} new entries a round, made before the clocks start; as many distinct serials in the first message; \
         latency is that of the whole message"
    ));
    for (_, product) in products {
        product.stop().await?;
    }
    Ok(report)
}

async fn first(product: &Product, round: usize) -> Result<Window, Trouble> {
    let mut admin = product.clients().admin();
    let entries = (0..NEW_ENTRIES).map(|number| own_entry(format!("/bench/first/{round}/{number}"))).collect();
    let ids = admin.create(entries).await?;
    let mut workload = product.clients().workload();
    let mut latencies = histogram()?;
    let meter = Meter::start(product.process())?;
    let start = Instant::now();
    let mut stream = workload.open().await?;
    let message = next(&mut stream).await?;
    note(&mut latencies, start.elapsed());
    let window = meter.stop(NEW_ENTRIES as u64, latencies)?;
    let prefix = format!("/bench/first/{round}/");
    let new: Vec<_> = message.svids.iter().filter(|svid| svid.spiffe_id.contains(&prefix)).collect();
    // A leaf is told from every other by its serial: equal certificates would be equal bytes.
    let distinct: BTreeSet<&[u8]> = new.iter().map(|svid| svid.x509_svid.as_ref()).collect();
    if distinct.len() != NEW_ENTRIES {
        return Err(Trouble::Unexpected(format!("{} distinct SVIDs of {NEW_ENTRIES} new entries", distinct.len())));
    }
    drop(stream);
    admin.delete(ids).await?;
    Ok(window)
}
