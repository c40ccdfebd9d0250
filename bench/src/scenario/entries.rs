//! Creating entries, one a call, by few and by many writers; and what an entry holds of memory.

use super::Options;
use crate::clients::{Admin, entries_of_others, entry};
use crate::floors;
use crate::load::{Window, closed_loop};
use crate::product::Product;
use crate::report::{Report, Row, Verdict, median, median_rate};
use crate::trouble::Trouble;

/// Writers, and how many entries each makes in a window.
const WRITERS: [(usize, u64); 3] = [(1, 400), (16, 150), (256, 60)];

/// Connections that writers share.
const CONNECTIONS: usize = 8;

/// Syncs of the floor in a round.
const SYNCS: u64 = 400;

/// One writer reaches this part of the disk's own rate.
const ONE_WRITER: f64 = 0.35;

/// All writers together reach this many times one.
const MANY_WRITERS: f64 = 12.0;

/// Entries made to see what one holds of memory.
const MEMORY_ENTRIES: usize = 200_000;

/// Bytes that an entry may take with all indexes (design section 4). What is seen from outside has log and allocator in
/// it, so this asks more of the process than the design does of the state.
const ENTRY_BYTES: f64 = 256.0;

/// Megabytes of resident memory that a million entries may add (design section 4).
const MILLION_MEGABYTES: f64 = 300.0;

/// Writers in turn, beside the disk's own rate.
pub(crate) async fn run(options: &Options) -> Result<Report, Trouble> {
    let product = options.product().await?;
    let mut syncs = Vec::new();
    let mut windows: Vec<Vec<Window>> = WRITERS.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds {
        syncs.push(floors::sync(&product.directory(), SYNCS)?);
        for ((writers, each), windows) in WRITERS.iter().zip(&mut windows) {
            windows.push(write(&product, *writers, *each, round).await?);
        }
    }
    let mut report = Report::new("entries", options.rounds);
    report.rows.push(Row::floor("floor: append 256 bytes + fdatasync", SYNCS * options.rounds as u64, &syncs));
    for ((writers, _), windows) in WRITERS.iter().zip(&windows) {
        report.rows.push(Row::of(format!("quorate, {writers} writers"), windows));
    }
    if let [one, .., many] = windows.as_slice() {
        let disk = 1e6 / median(syncs);
        let (one, many) = (median_rate(one), median_rate(many));
        report.verdicts.push(Verdict::at_least("one writer to the fdatasync rate", one / disk, ONE_WRITER));
        report.verdicts.push(Verdict::at_least("256 writers to one writer", many / one, MANY_WRITERS));
    }
    let bytes = memory(&product).await?;
    report.verdicts.push(Verdict::at_most("resident bytes an entry", bytes, ENTRY_BYTES));
    report.verdicts.push(Verdict::at_most("resident MB that a million entries would add", bytes, MILLION_MEGABYTES));
    report.notes.push(format!(
        "an entry's bytes: growth of the node's memory over {MEMORY_ENTRIES} entries, with log and allocator"
    ));
    product.stop().await?;
    Ok(report)
}

async fn write(product: &Product, writers: usize, each: u64, round: usize) -> Result<Window, Trouble> {
    let callers: Vec<(usize, Admin)> = product.clients().admins(writers, CONNECTIONS).into_iter().enumerate().collect();
    let window = closed_loop(callers, each, product.process(), move |(writer, mut admin), call| async move {
        let path = format!("/bench/write/{round}/{writers}/{writer}/{call}");
        let selectors = [("unix", format!("uid:{}", 2_000_000_000_u64 + call))];
        admin.create(vec![entry(path, &selectors)]).await.map(drop)
    });
    window.await
}

/// Bytes of memory that one more entry holds.
async fn memory(product: &Product) -> Result<f64, Trouble> {
    let mut admin = product.clients().admin();
    let before = product.process().memory()?;
    // Their numbers begin behind those that may be there already.
    let entries = entries_of_others(MEMORY_ENTRIES * 2).into_iter().skip(MEMORY_ENTRIES).collect();
    admin.create(entries).await?;
    let after = product.process().memory()?;
    Ok(after.saturating_sub(before) as f64 / MEMORY_ENTRIES as f64)
}
