//! How many entries a second the log makes durable, beside a plain file with `write` and `fdatasync` in
//! the same run: 1, 16 and 256 in flight. Trust the ratios, not the figures.
//!
//! `cargo run --release -p quorate-raft-store --example log_rate -- DIR [SECONDS]`

#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

use bytes::Bytes;
use quorate_raft_store::disk::RealDisk;
use quorate_raft_store::log::{Wal, WalOptions};
use quorate_raft_store::{LogId, Record, WalIdentity};
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// As the throughput figures of the stack were taken.
const BODY_BYTES: usize = 200;
/// Odd, so that there is a median.
const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("usage: log_rate DIR [SECONDS]")?);
    let seconds = arguments.next().map_or(Ok(1.0), |text| text.parse())?;
    let duration = Duration::from_secs_f64(seconds);
    println!("in flight      log/s    plain/s   ratio (medians of {RUNS} interleaved runs)");
    for in_flight in [1, 16, 256] {
        let mut rates = Vec::new();
        for run in 0..RUNS {
            let plain = plain(&directory.join("plain"), in_flight, duration)?;
            let log = log(&directory.join(format!("log-{in_flight}-{run}")), in_flight, duration)?;
            rates.push((log / plain, log, plain));
        }
        rates.sort_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((ratio, log, plain)) = rates.get(RUNS / 2) {
            println!("{in_flight:9} {log:10.0} {plain:10.0} {ratio:7.2}");
        }
    }
    Ok(())
}

/// A loop that writes as many records as are in flight and syncs them.
fn plain(path: &Path, in_flight: usize, duration: Duration) -> Result<f64, Box<dyn Error>> {
    let mut file = File::create(path)?;
    let group = vec![7; BODY_BYTES * in_flight];
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < duration {
        file.write_all(&group)?;
        file.sync_data()?;
        count += in_flight;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Single entries, each appended when one before it is durable.
fn log(directory: &Path, in_flight: usize, duration: Duration) -> Result<f64, Box<dyn Error>> {
    let identity = WalIdentity { cluster: [7; 16], member: 1 };
    let options = WalOptions::default();
    let (wal, _) = Wal::create(Arc::new(RealDisk), directory, identity, options)?;
    let (permit, permits) = sync_channel(in_flight);
    (0..in_flight).try_for_each(|_| permit.send(()))?;
    let body = Bytes::from(vec![7; BODY_BYTES]);
    let start = Instant::now();
    let mut index = 0;
    while start.elapsed() < duration {
        permits.recv()?;
        let permit = permit.clone();
        let log_id = LogId { term: 1, node: 1, index };
        let record = Record { log_id, kind: 0, body: body.clone() };
        // The receiver lives until all permits are back.
        wal.append(vec![record], Box::new(move |_| permit.send(()).unwrap_or(())))?;
        index += 1;
    }
    for _ in 0..in_flight {
        permits.recv()?;
    }
    let rate = index as f64 / start.elapsed().as_secs_f64();
    wal.close()?;
    std::fs::remove_dir_all(directory)?;
    Ok(rate)
}
