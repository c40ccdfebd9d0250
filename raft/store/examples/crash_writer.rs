//! Writes numbered entries as fast as it can and prints each number once it is durable, until it is
//! killed: what the crash test runs, for a person to watch.
//!
//! `cargo run -p quorate-raft-store --example crash_writer -- DIR`

#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

use bytes::Bytes;
use quorate_raft_store::disk::RealDisk;
use quorate_raft_store::log::{OpenError, Wal, WalOptions};
use quorate_raft_store::{LogId, Record, WalIdentity};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// Enough that the writer always finds a group to write.
const IN_FLIGHT: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(std::env::args().nth(1).ok_or("usage: crash_writer DIR")?);
    let identity = WalIdentity { cluster: [7; 16], member: 1 };
    let options = WalOptions::default();
    let disk = Arc::new(RealDisk);
    let opened = Wal::open(disk.clone(), &directory, identity, options);
    let (wal, recovered) = match opened {
        Err(OpenError::Empty { .. }) => Wal::create(disk, &directory, identity, options)?,
        result => result?,
    };
    println!("recovered {:?}", recovered.entries);
    let (permit, permits) = sync_channel(IN_FLIGHT);
    (0..IN_FLIGHT).try_for_each(|_| permit.send(()))?;
    for index in recovered.entries.end.. {
        permits.recv()?;
        let permit = permit.clone();
        let log_id = LogId { term: 1, node: 1, index };
        let body = Bytes::from(index.to_string());
        let callback = move |result: Result<(), _>| {
            match result {
                Ok(()) => println!("{index}"),
                Err(error) => println!("{error}"),
            }
            // Nobody listens any more when the loop has ended.
            permit.send(()).unwrap_or(());
        };
        wal.append(vec![Record { log_id, kind: 0, body }], Box::new(callback))?;
    }
    Ok(())
}
