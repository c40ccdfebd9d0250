//! What the log should hold, kept in plain memory, and a random life for it.

use crate::support::*;
use parking_lot::Mutex;
use quorate_raft_store::disk::{Seeded, SimulatedDisk};
use quorate_raft_store::log::{Callback, Drive, OpenError, Recovered, Wal, WalOptions};
use quorate_raft_store::{LogId, Record, Vote};
use std::collections::VecDeque;
use std::sync::Arc;

/// The whole of a log at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct State {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
    pub(crate) entries: VecDeque<Record>,
}

impl State {
    fn next_index(&self) -> u64 {
        self.last.map_or(0, |last| last.index + 1)
    }

    pub(crate) fn of(wal: &Wal, recovered: &Recovered) -> Self {
        let entries = wal.read(recovered.entries.clone(), usize::MAX).unwrap().into();
        let Recovered { vote, committed, purged, last, .. } = *recovered;
        Self { vote, committed, purged, last, entries }
    }
}

/// A log and every state it has been in since it was opened. A state is named by how many calls led to it.
pub(crate) struct Life {
    pub(crate) disk: SimulatedDisk,
    pub(crate) wal: Wal,
    pub(crate) history: Vec<State>,
    /// The last call that was answered with Ok: nothing up to it may be lost.
    acknowledged: Arc<Mutex<usize>>,
    term: u64,
    options: WalOptions,
}

/// Small segments and a cache of almost nothing, groups made by hand.
pub(crate) const OPTIONS: WalOptions = WalOptions { drive: Drive::Manual, segment_bytes: 3000, cache_bytes: 700 };

impl Life {
    pub(crate) fn begin() -> Self {
        Self::begin_with(OPTIONS)
    }

    pub(crate) fn begin_with(options: WalOptions) -> Self {
        let disk = SimulatedDisk::new(ROOT);
        let (wal, recovered) = Wal::create(shared(&disk), &directory(), IDENTITY, options).unwrap();
        Self::continued(disk, wal, &recovered, 1, options)
    }

    fn continued(disk: SimulatedDisk, wal: Wal, recovered: &Recovered, term: u64, options: WalOptions) -> Self {
        let history = vec![State::of(&wal, recovered)];
        Self { disk, wal, history, acknowledged: Arc::default(), term, options }
    }

    /// How many calls were answered with Ok.
    pub(crate) fn acknowledged(&self) -> usize {
        *self.acknowledged.lock()
    }

    /// Appends and writes.
    pub(crate) fn append(&mut self, new: Vec<Record>) {
        let mut state = self.history.last().unwrap().clone();
        state.last = new.last().map(|record| record.log_id);
        state.entries.extend(new.clone());
        let callback = self.callback();
        if self.wal.append(new, callback).is_ok() {
            self.history.push(state);
        }
        self.wal.run_queued();
    }

    fn callback(&self) -> Callback {
        let number = self.history.len();
        let acknowledged = Arc::clone(&self.acknowledged);
        Box::new(move |result| {
            if result.is_ok() {
                *acknowledged.lock() = number;
            }
        })
    }

    /// One random call, perhaps not yet run. False once the log has failed.
    pub(crate) fn call(&mut self, random: &mut Seeded) -> bool {
        let mut state = self.history.last().unwrap().clone();
        let callback = self.callback();
        let result = match random.below(16) {
            0..9 => {
                let count = 1 + random.below(4);
                let size = if random.one_in(12) { 9000 } else { random.below(500) };
                let start = state.next_index();
                let new = records(self.term, start..start + count, usize::try_from(size).unwrap());
                state.last = new.last().map(|record| record.log_id);
                state.entries.extend(new.clone());
                self.wal.append(new, callback)
            }
            9 | 10 => {
                self.term += 1;
                state.vote = Some(Vote { term: self.term, node: random.below(5), committed: random.one_in(2) });
                self.wal.save_vote(state.vote.unwrap(), callback)
            }
            11 | 12 => {
                let Some(last) = state.last else { return true };
                state.committed = Some(last);
                self.wal.save_committed(last)
            }
            13 => {
                let Some(place) = random.below(state.entries.len() as u64 + 1).checked_sub(1) else { return true };
                let from = state.entries[usize::try_from(place).unwrap()].log_id;
                state.entries.truncate(usize::try_from(place).unwrap());
                state.last = state.entries.back().map(|record| record.log_id).or(state.purged);
                self.term += 1;
                self.wal.truncate(from)
            }
            _ => {
                let past = random.one_in(6);
                let upto = if past {
                    self.term += 1;
                    LogId { term: self.term, node: 1, index: state.next_index() + random.below(50) }
                } else {
                    let Some(place) = random.below(state.entries.len() as u64 + 1).checked_sub(1) else { return true };
                    state.entries[usize::try_from(place).unwrap()].log_id
                };
                state.entries.retain(|record| record.log_id.index > upto.index);
                state.purged = Some(upto);
                if state.last.is_none_or(|last| last.index < upto.index) {
                    state.last = Some(upto);
                }
                self.wal.purge(upto, callback)
            }
        };
        // A call that was refused may not show; one that was taken may, even if the log failed under it.
        if result.is_ok() {
            self.history.push(state);
        }
        result.is_ok() && self.wal.failure().is_none()
    }

    /// A stretch of calls, in groups of random size. Stops when the log fails.
    pub(crate) fn live(&mut self, random: &mut Seeded, calls: u64) {
        for _ in 0..calls {
            if !self.call(random) {
                return;
            }
            if random.one_in(2) {
                self.wal.run_queued();
            }
            if random.one_in(20) {
                drop(self.wal.settle(Box::new(|_| {})));
            }
        }
    }

    /// Opens `disk` and checks that what it holds is what the log was after some call, not before the last
    /// that was answered.
    pub(crate) fn reopened(&self, disk: &SimulatedDisk) -> Result<Self, Trouble> {
        let opened = Wal::open(shared(disk), &directory(), IDENTITY, self.options);
        let (wal, recovered) = opened.map_err(Trouble::Refused)?;
        let found = State::of(&wal, &recovered);
        let legal = &self.history[self.acknowledged()..];
        if !legal.contains(&found) {
            let position = self.history.iter().rposition(|state| *state == found);
            return Err(Trouble::Lost { acknowledged: self.acknowledged(), found: position });
        }
        Ok(Self::continued(disk.clone(), wal, &recovered, self.term + 1, self.options))
    }
}

/// What a log may not come to after a legal accident.
#[derive(Debug)]
pub(crate) enum Trouble {
    Refused(#[expect(dead_code, reason = "shown by Debug")] OpenError),
    Lost {
        #[expect(dead_code, reason = "shown by Debug")]
        acknowledged: usize,
        #[expect(dead_code, reason = "shown by Debug")]
        found: Option<usize>,
    },
}
