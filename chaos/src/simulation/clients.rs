//! Clients of a node: they write, read and look, and tell the world what they asked and were told.
//!
//! ```text
//!   writers   shared keys: create, update, delete ── history ──► linearizability (INV-02)
//!             entries of their own, once          ── kept ─────► is each still there at the end? (INV-01)
//!   reader    shared keys, by a read index        ── history
//!   prober    after the healing: does this node write and read again? (INV-13)
//! ```
//!
//! A client lives beside its node and dies with it: an operation that it had under way is then one that nobody answered.

use super::{
    chance,
    world::{Phase, World},
};
use crate::history::{Kind, Op};
use quorate_proto_identity::{EntryId, Selector, SelectorSet, SpiffeId, TrustDomain};
use quorate_raft_consensus::{Applied, Handle, Proposal, ProposeError};
use quorate_raft_machine::{Caller, Done, EntryChange, EntryDraft, Operation, RefusalCode, State};
use rand::{Rng, rngs::SmallRng};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Keys that everybody writes and reads. Few, so that clients meet.
pub(crate) const SHARED_KEYS: u64 = 4;

/// Writers beside each node.
const WRITERS: u64 = 2;

/// How long a client waits for an answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(1_500);

/// The pause of a client between two operations, in milliseconds: least and most.
const THOUGHT_MILLIS: (u64, u64) = (10, 80);

/// How often a write of unknown outcome is repeated under its origin.
const REPEATS: u32 = 2;

/// How often clients look whether they may begin.
const LOOK: Duration = Duration::from_millis(20);

/// The name of a shared key.
pub(crate) fn shared_key(number: u64) -> String {
    format!("shared-{number}")
}

/// Lets the clients of a boot of a node loose.
pub(crate) fn start(world: &Arc<World>, node: usize, boot: u64, handle: &Handle) {
    for number in 0..=WRITERS {
        let client = Client {
            world: Arc::clone(world),
            node,
            handle: handle.clone(),
            random: chance::stream(world.seed(), "client", node as u64, boot * (WRITERS + 1) + number),
            process: world.new_process(),
            made: 0,
        };
        if number < WRITERS {
            tokio::spawn(client.write_on());
        } else {
            tokio::spawn(client.read_on());
        }
    }
    tokio::spawn(probe(Arc::clone(world), node, handle.clone()));
}

struct Client {
    world: Arc<World>,
    node: usize,
    handle: Handle,
    random: SmallRng,
    process: u64,
    made: i64,
}

/// What became of a write.
enum Written {
    /// It was answered; whether for what the state was it was refused.
    Answered { refused: bool },
    /// It was not done and will not be.
    NotDone,
    /// Nobody knows.
    Unknown,
}

impl Client {
    async fn write_on(mut self) {
        while self.may_go_on().await {
            if self.world.lock().writers_pause {
                continue;
            }
            let mark = self.mark();
            if self.random.gen_ratio(1, 3) {
                let key = format!("kept-{}-{mark}", self.process);
                if let Written::Answered { refused: false } = self.write(Op::Create, &key, Some(mark)).await {
                    self.world.keeps(key, mark);
                }
                continue;
            }
            let key = shared_key(self.random.gen_range(0..SHARED_KEYS));
            let (op, value) = match self.random.gen_range(0..10) {
                0..=3 => (Op::Create, Some(mark)),
                4..=6 => (Op::Update, Some(mark)),
                _ => (Op::Delete, None),
            };
            self.write(op, &key, value).await;
        }
    }

    async fn read_on(mut self) {
        while self.may_go_on().await {
            let key = shared_key(self.random.gen_range(0..SHARED_KEYS));
            self.world.record(self.process, Kind::Invoke, Op::Read, &key, None, false);
            match self.handle.read_index(Instant::now() + ANSWER_LIMIT).await {
                Ok(_reached) => {
                    let value = self.handle.state().read(|state| mark_of(state, &key));
                    self.world.record(self.process, Kind::Ok, Op::Read, &key, value, false);
                    if self.world.phase() == Phase::Faults {
                        self.world.lock().counts.reads += 1;
                    }
                }
                Err(_refused) => self.world.record(self.process, Kind::Fail, Op::Read, &key, None, false),
            }
        }
    }

    /// Waits for the client's next turn; there is none when the run is ending.
    async fn may_go_on(&mut self) -> bool {
        let (least, most) = THOUGHT_MILLIS;
        sleep(chance::millis(&mut self.random, least, most)).await;
        while self.world.phase() == Phase::Beginning {
            sleep(LOOK).await;
        }
        self.world.phase() != Phase::Ending
    }

    /// A mark that nobody else writes.
    fn mark(&mut self) -> i64 {
        self.made += 1;
        i64::try_from(self.process).unwrap_or(0) * 10_000 + self.made
    }

    async fn write(&mut self, op: Op, key: &str, value: Option<i64>) -> Written {
        self.world.record(self.process, Kind::Invoke, op, key, value, false);
        let written = self.ask(op, key, value).await;
        match written {
            Written::Answered { refused } => self.world.record(self.process, Kind::Ok, op, key, value, refused),
            Written::NotDone => self.world.record(self.process, Kind::Fail, op, key, value, false),
            Written::Unknown => {
                self.world.record(self.process, Kind::Info, op, key, value, false);
                self.world.lock().counts.unknown += 1;
                self.process = self.world.new_process();
                self.made = 0;
            }
        }
        written
    }

    async fn ask(&self, op: Op, key: &str, value: Option<i64>) -> Written {
        let Some(operation) = operation(op, key, value) else { return Written::NotDone };
        let proposal =
            |operation: &Operation| Proposal::new(Caller::node(), vec![operation.clone()]).within(ANSWER_LIMIT);
        let mut answer = self.handle.propose(proposal(&operation)).await;
        for _ in 0..REPEATS {
            let Err(ProposeError::OutcomeUnknown { unresolved, .. }) = answer else { break };
            self.world.lock().counts.repeats += 1;
            answer = self.handle.repeat(unresolved, proposal(&operation)).await;
        }
        match answer {
            Ok(applied) => self.answered(op, key, &applied, true),
            Err(ProposeError::NotEverywhere { applied, .. }) => self.answered(op, key, &applied, false),
            Err(ProposeError::OutcomeUnknown { .. }) => Written::Unknown,
            Err(_refused) => Written::NotDone,
        }
    }

    /// Reads an answer, and holds it against what is applied where at this very moment.
    fn answered(&self, op: Op, key: &str, applied: &Applied, everywhere: bool) -> Written {
        let here = self.handle.state().applied_index();
        if here < applied.log_index {
            self.world.broken(format!(
                "INV-01: node {} answered for index {} and has applied {here}",
                self.node, applied.log_index
            ));
        }
        let refused = match applied.outcome.results.first() {
            Some(Ok(Done::EntryExists { .. })) => true,
            Some(Ok(_)) => false,
            Some(Err(refusal)) if matches!(refusal.code, RefusalCode::NotFound | RefusalCode::AlreadyExists) => true,
            Some(Err(refusal)) if refusal.code == RefusalCode::OutcomeForgotten => return Written::Unknown,
            Some(Err(refusal)) => {
                self.world.broken(format!("{op:?} of {key} was refused without a reason in the state: {refusal}"));
                return Written::NotDone;
            }
            None => {
                self.world.broken(format!("{op:?} of {key} has no result"));
                return Written::Unknown;
            }
        };
        if everywhere && !refused && matches!(op, Op::Update | Op::Delete) {
            withdrawn(&self.world, key, applied.log_index, op);
        }
        if self.world.phase() == Phase::Faults {
            self.world.lock().counts.writes += 1;
        }
        Written::Answered { refused }
    }
}

/// A withdrawal was acknowledged: whoever is connected has applied it (design section 2, property 5; INV-07).
pub(crate) fn withdrawn(world: &World, key: &str, index: u64, op: Op) {
    let handles = world.handles().into_iter();
    let connected: Vec<(usize, u64)> = handles
        .filter(|(node, handle)| world.is_connected(*node, handle))
        .map(|(node, handle)| (node, handle.state().applied_index()))
        .collect();
    world.lock().counts.withdrawals += 1;
    for (node, applied) in connected {
        if applied < index {
            world.broken(format!(
                "INV-07: {op:?} of {key} at index {index} was acknowledged, and node {node}, which is connected, has applied \
                 {applied}"
            ));
        }
    }
}

/// After the healing, tries until this node writes and reads again.
async fn probe(world: Arc<World>, node: usize, handle: Handle) {
    while world.phase() < Phase::Healing {
        sleep(LOOK).await;
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let key = format!("probe-{node}-{tries}");
        let Some(operation) = operation(Op::Create, &key, Some(tries)) else { return };
        let proposal = Proposal::new(Caller::node(), vec![operation]).within(ANSWER_LIMIT);
        let written = handle.propose(proposal).await.is_ok();
        if written && handle.read_index(Instant::now() + ANSWER_LIMIT).await.is_ok() {
            world.has_recovered(node);
            return;
        }
        sleep(LOOK).await;
    }
}

/// The operation of the state machine that stands for an operation on a key.
fn operation(op: Op, key: &str, value: Option<i64>) -> Option<Operation> {
    let id = EntryId::new(key).ok()?;
    let hint = value.map_or_else(String::new, |mark| mark.to_string());
    Some(match op {
        Op::Create => {
            let domain = TrustDomain::new("example.org").ok()?;
            let spiffe_id = SpiffeId::from_path(&domain, &format!("/{key}")).ok()?;
            let parent_id = SpiffeId::from_path(&domain, "/spire/nodes").ok()?;
            let selectors = SelectorSet::new([Selector::new("unix", &format!("user:{key}")).ok()?]);
            Operation::CreateEntry(Box::new(EntryDraft {
                hint,
                ..EntryDraft::new(id, spiffe_id, parent_id, selectors)
            }))
        }
        Op::Update => {
            Operation::UpdateEntry { id, change: Box::new(EntryChange { hint: Some(hint), ..EntryChange::default() }) }
        }
        Op::Delete => Operation::DeleteEntry { id, revoke: None },
        Op::Read => return None,
    })
}

/// The mark of a key in a state.
pub(crate) fn mark_of(state: &State, key: &str) -> Option<i64> {
    state.entry(&EntryId::new(key).ok()?)?.hint.parse().ok()
}
