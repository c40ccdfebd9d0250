//! Creating entries on a cluster, one a call by few and by many writers, and many a call; what an entry costs in syncs
//! and holds of memory.

use super::Options;
use crate::clients::{Admin, BATCH, entries_of_others, entry};
use crate::floors;
use crate::load::{Window, closed_loop};
use crate::product::Product;
use crate::report::{Figure, Report, Row, Verdict, median, median_rate};
use crate::trouble::Trouble;
use std::time::Duration;
use tokio::time::sleep;

/// Connections that writers share, over all nodes in turn.
const CONNECTIONS: usize = 9;

/// Syncs of the floor in a round.
const SYNCS: u64 = 400;

/// One writer reaches this part of the disk's own rate, alone and as one of a cluster's clients: there a write is synced
/// on two nodes, with the way to and fro between the syncs.
const ONE_WRITER_ALONE: f64 = 0.35;
const ONE_WRITER: f64 = 0.25;

/// All writers together reach this many times one.
const MANY_WRITERS: f64 = 12.0;

/// Entries a second that writers reach who send them by the batch.
const BATCHED: f64 = 30_000.0;

/// How often a node publishes its counters, and a little more.
const COUNTERS: Duration = Duration::from_millis(1_500);

/// Entries made to see what one holds of memory.
const MEMORY_ENTRIES: usize = 200_000;

/// Bytes that an entry may take with all indexes (design section 4). What is seen from outside has log and allocator in
/// it, so this asks more of the process than the design does of the state.
const ENTRY_BYTES: f64 = 256.0;

/// Megabytes of resident memory that a million entries may add (design section 4).
const MILLION_MEGABYTES: f64 = 300.0;

/// Through whom writers write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Through {
    /// The node that leads.
    Leader,
    /// One that does not.
    Follower,
    /// All nodes in turn.
    All,
}

/// What some writers do in a window.
#[derive(Clone, Copy, Debug)]
struct Work {
    through: Through,
    writers: usize,
    calls: u64,
    /// Entries a call.
    batch: usize,
}

impl Work {
    fn name(&self, nodes: usize) -> String {
        let writers = if self.writers == 1 { "1 writer".to_owned() } else { format!("{} writers", self.writers) };
        let batch = if self.batch == 1 { String::new() } else { format!(", {} a call", self.batch) };
        let through = match self.through {
            _ if nodes == 1 => "",
            Through::Leader => ", through the leader",
            Through::Follower => ", through a follower",
            Through::All => ", through all nodes",
        };
        format!("{writers}{batch}{through}")
    }
}

/// The work, in the order of the report.
fn works(nodes: usize) -> Vec<Work> {
    let one = |through| Work { through, writers: 1, calls: 400, batch: 1 };
    let mut works = vec![one(Through::Leader)];
    if nodes > 1 {
        works.push(one(Through::Follower));
    }
    works.push(Work { through: Through::All, writers: 16, calls: 150, batch: 1 });
    works.push(Work { through: Through::All, writers: 256, calls: 60, batch: 1 });
    works.push(Work { through: Through::All, writers: 12, calls: 5, batch: BATCH });
    works
}

/// A kind of work, its windows so far, and its syncs and entries.
struct Measured {
    work: Work,
    windows: Vec<Window>,
    syncs: Option<u64>,
    entries: u64,
}

/// Writers in turn, beside the disk's own rate.
pub(crate) async fn run(options: &Options) -> Result<Report, Trouble> {
    let product = options.cluster().await?;
    let nodes = product.nodes();
    let mut floors = Vec::new();
    let mut all: Vec<Measured> = works(nodes)
        .into_iter()
        .map(|work| Measured { work, windows: Vec::new(), syncs: Some(0), entries: 0 })
        .collect();
    for round in 0..options.rounds {
        floors.push(floors::sync(&product.directory(), SYNCS)?);
        for (number, measured) in all.iter_mut().enumerate() {
            let before = product.syncs().await?;
            let window = write(&product, measured.work, &format!("{round}/{number}")).await?;
            measured.entries += window.operations;
            measured.windows.push(window);
            // A counter is published now and then.
            sleep(COUNTERS).await;
            let after = product.syncs().await?;
            let synced = after.zip(before).map(|(after, before)| after.saturating_sub(before));
            measured.syncs = measured.syncs.zip(synced).map(|(so_far, more)| so_far + more);
        }
    }
    let mut report = Report::new("entries", options.rounds);
    report.rows.push(Row::floor("floor: append 256 bytes + fdatasync", SYNCS * options.rounds as u64, &floors));
    for measured in &all {
        report.rows.push(Row::of(measured.work.name(nodes), &measured.windows));
    }
    for measured in &all {
        if let Some(syncs) = measured.syncs {
            let what = format!("fsyncs of the log on all nodes per committed entry, {}", measured.work.name(nodes));
            report.figures.push(Figure::new(what, syncs as f64 / measured.entries as f64, ""));
        }
    }
    judge(&mut report, &all, nodes, 1e6 / median(floors));
    let bytes = memory(&product).await?;
    report.verdicts.push(Verdict::at_most("resident bytes an entry", bytes, ENTRY_BYTES));
    report.verdicts.push(Verdict::at_most("resident MB that a million entries would add", bytes, MILLION_MEGABYTES));
    report.notes.push(format!(
        "{nodes} nodes on one machine and one disk, synced for real; the floor is one thread's, with the disk to itself; \
         the nodes' processor time is that of all together"
    ));
    report.notes.push(format!(
        "an entry's bytes: growth of a node's memory over {MEMORY_ENTRIES} entries, with log and allocator"
    ));
    product.stop().await?;
    Ok(report)
}

fn judge(report: &mut Report, all: &[Measured], nodes: usize, disk: f64) {
    let rate = |wanted: fn(&Work) -> bool| {
        all.iter().find(|measured| wanted(&measured.work)).map_or(f64::NAN, |measured| median_rate(&measured.windows))
    };
    let one = rate(|work| work.writers == 1 && work.through == Through::Leader);
    let many = rate(|work| work.writers == 256);
    let batched = rate(|work| work.batch == BATCH);
    let limit = if nodes == 1 { ONE_WRITER_ALONE } else { ONE_WRITER };
    report.verdicts.push(Verdict::at_least("one writer to the fdatasync rate", one / disk, limit));
    report.verdicts.push(Verdict::at_least("256 writers to one writer", many / one, MANY_WRITERS));
    report.verdicts.push(Verdict::at_least("entries a second in batches of 500", batched, BATCHED));
}

async fn write(product: &Product, work: Work, prefix: &str) -> Result<Window, Trouble> {
    let leader = product.leader().await?;
    let connections: Vec<Admin> = match work.through {
        Through::Leader => vec![product.clients_of(leader).admin()],
        Through::Follower => vec![product.clients_of(leader + 1).admin()],
        Through::All => (0..CONNECTIONS).map(|node| product.clients_of(node).admin()).collect(),
    };
    let callers: Vec<(usize, Admin)> = connections.iter().cycle().take(work.writers).cloned().enumerate().collect();
    let prefix = prefix.to_owned();
    let mut window = closed_loop(callers, work.calls, product.process(), move |(writer, mut admin), call| {
        let prefix = prefix.clone();
        async move {
            let entries = (0..work.batch).map(|item| {
                let path = format!("/bench/write/{prefix}/{writer}/{call}/{item}");
                entry(path, &[("unix", format!("uid:{}", 2_000_000_000_u64 + call))])
            });
            admin.create(entries.collect()).await.map(drop)
        }
    })
    .await?;
    window.operations *= work.batch as u64;
    Ok(window)
}

/// Bytes of memory that one more entry holds on a node.
async fn memory(product: &Product) -> Result<f64, Trouble> {
    let mut admin = product.clients().admin();
    let before = product.process().memory()?;
    // Their numbers begin behind those that may be there already.
    let entries = entries_of_others(MEMORY_ENTRIES * 2).into_iter().skip(MEMORY_ENTRIES).collect();
    admin.create(entries).await?;
    let after = product.process().memory()?;
    Ok(after.saturating_sub(before) as f64 / MEMORY_ENTRIES as f64 / product.nodes() as f64)
}
