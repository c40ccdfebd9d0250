//! A few entries that clients of all nodes write and read, each operation noted: the history of INV-02.
//!
//! An entry is a register: its ID is the key, the life of its tokens the mark. Every few seconds the keys change, so that
//! the writes without an answer, each of which may take effect at any later time, do not pile up on a key.

use super::{CALLS_PER_CONNECTION, did_nothing};
use crate::history::{Kind, Op};
use crate::registrar::{Registrar, Settled};
use crate::run::Run;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;

/// Keys at a time: few enough that clients meet.
const KEYS: u32 = 6;

/// How long keys are in use.
const KEYS_FOR: Duration = Duration::from_secs(15);

/// How long an operation may take until its outcome counts as unknown.
const LIMIT: Duration = Duration::from_secs(5);

/// How long a client waits between two operations, and after one that failed.
const PACE: Duration = Duration::from_millis(8);

/// No two writes of a run write the same mark, so that a read tells which write it saw. Any positive number is a life.
static MARK: AtomicI32 = AtomicI32::new(60);

/// One client of one node, until the load ends.
pub(crate) async fn operate(run: Arc<Run>, node: usize, seed: u64) {
    let Ok(member) = run.fleet.member(node) else { return };
    let mut client = Client { run: &run, process: run.recorder.process(), registrar: member.registrar() };
    let mut random = SmallRng::seed_from_u64(seed);
    let mut operations = 0_u64;
    while run.goes_on() {
        operations += 1;
        if operations.is_multiple_of(CALLS_PER_CONNECTION) {
            client.registrar = member.registrar();
        }
        let era = run.clock.elapsed().as_secs() / KEYS_FOR.as_secs();
        let key = format!("register-{era}-{}", random.gen_range(0..KEYS));
        let op = match random.gen_range(0..20) {
            0..5 => Op::Create,
            5..10 => Op::Update,
            10..13 => Op::Delete,
            _ => Op::Read,
        };
        // The invocation is noted, so its end must be, whether or not the load is over by then.
        client.operate(op, &key).await;
        if !run.pause(PACE).await {
            break;
        }
    }
}

struct Client<'a> {
    run: &'a Run,
    process: u64,
    registrar: Registrar,
}

/// How an operation ended.
struct End {
    kind: Kind,
    value: Option<i64>,
    refused: bool,
}

impl Client<'_> {
    async fn operate(&mut self, op: Op, key: &str) {
        let mark = match op {
            Op::Create | Op::Update => Some(MARK.fetch_add(1, Ordering::Relaxed)),
            Op::Delete | Op::Read => None,
        };
        let asked = mark.map(i64::from);
        let recorder = &self.run.recorder;
        recorder.note(self.process, Kind::Invoke, (op, key), asked, false);
        let end = match timeout(LIMIT, self.call(op, key, mark.unwrap_or_default())).await {
            Ok(Ok(end)) => end,
            Ok(Err(status)) if did_nothing(&status) => End { kind: Kind::Fail, value: asked, refused: false },
            Ok(Err(_)) | Err(_) => End { kind: Kind::Info, value: asked, refused: false },
        };
        recorder.note(self.process, end.kind, (op, key), end.value, end.refused);
        if end.kind == Kind::Info {
            self.process = recorder.process();
            self.run.tally.unanswered.add();
        }
    }

    async fn call(&mut self, op: Op, key: &str, mark: i32) -> Result<End, Status> {
        let written = (op != Op::Delete).then_some(i64::from(mark));
        let settled = match op {
            Op::Create => self.registrar.create_register(key, mark).await?,
            Op::Update => self.registrar.update_register(key, mark).await?,
            Op::Delete => self.registrar.delete_register(key).await?,
            Op::Read => {
                let found = self.registrar.read_register(key).await?;
                return Ok(End { kind: Kind::Ok, value: found.map(i64::from), refused: false });
            }
        };
        Ok(match settled {
            Settled::Done => End { kind: Kind::Ok, value: written, refused: false },
            Settled::Refused => End { kind: Kind::Ok, value: written, refused: true },
            Settled::Unknown => End { kind: Kind::Info, value: written, refused: false },
        })
    }
}
