//! The chain on disk: what a verification tells of a trail that somebody has had in hand, and what a crash leaves of one.

mod crashes;
mod tampering;

use std::{path::Path, sync::Arc};

use quorate_proto_identity::UnixMillis;
use quorate_raft_consensus::disk::Disk;

use super::{
    chain::{Chain, ChainError, Limits, Owner},
    record::{Kind, Position, Record},
    verify::{Anchor, Verification, verify},
    walk::Head,
};

/// So small that a few records fill a file.
const LIMITS: Limits = Limits { file_bytes: 1_000, keep_bytes: 1 << 20 };

const NOW: UnixMillis = UnixMillis(1_795_435_200_000);

fn owner() -> Owner {
    Owner { node: "node-1".into(), member: 1, cluster: "c".into() }
}

fn open(disk: &Arc<dyn Disk>, directory: &Path, limits: Limits) -> Result<Chain, ChainError> {
    Chain::open(Arc::clone(disk), directory, limits, owner(), NOW)
}

/// The record of an operation at this log index.
fn act(index: u64) -> Record {
    let mut record = Record::new(NOW, Kind::Administrative, "entry.create").with("selectors", 1);
    (record.index, record.command, record.operation) = (Some(index), Some(0), Some(0));
    record.who = Some("unix:uid=0,gid=0,pid=1".into());
    record
}

fn append(chain: &mut Chain, records: impl IntoIterator<Item = Record>) -> Result<usize, ChainError> {
    let mut records: Vec<Record> = records.into_iter().collect();
    Ok(chain.append(&mut records, NOW)?.records)
}

/// A trail of acts at log indexes 1 to `last`, written one by one, with the head after each record.
fn trail(disk: &Arc<dyn Disk>, directory: &Path, limits: Limits, last: u64) -> (Chain, Vec<Head>) {
    let mut chain = open(disk, directory, limits).unwrap();
    let mut heads = vec![chain.head()];
    for index in 1..=last {
        append(&mut chain, [act(index)]).unwrap();
        heads.push(chain.head());
    }
    chain.sync().unwrap();
    (chain, heads)
}

fn anchor(head: Head) -> Anchor {
    Anchor { name: format!("the anchor at record {}", head.records), head }
}

fn judged(disk: &Arc<dyn Disk>, directory: &Path, anchors: &[Head]) -> Verification {
    let anchors: Vec<Anchor> = anchors.iter().copied().map(anchor).collect();
    verify(disk.as_ref(), directory, &anchors).unwrap()
}

/// The log indexes of the acts in a trail, in order.
fn acts_in(disk: &Arc<dyn Disk>, directory: &Path) -> Vec<Position> {
    let mut reader = super::reader::Reader::new(Arc::clone(disk), directory, 1);
    let mut acts = Vec::new();
    loop {
        let read = reader.read(u64::MAX).unwrap();
        if read.is_empty() {
            return acts;
        }
        acts.extend(read.iter().filter_map(|shown| shown.record.position()));
    }
}
